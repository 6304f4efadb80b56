"""Older hosts know fewer schema arguments, and one unknown argument costs every later node."""

import dataclasses
import inspect
import logging

from comfy_api.latest import io

log = logging.getLogger("wan_local")
_SCHEMA_FIELDS = {field.name for field in dataclasses.fields(io.Schema)}


# Named like the host's own class: ComfyUI Manager finds nodes by a call spelled `Schema(...)`.
def Schema(**arguments) -> io.Schema:  # noqa: N802
    """The host's schema, without the arguments that this host does not know."""
    return io.Schema(**{k: v for k, v in arguments.items() if k in _SCHEMA_FIELDS})


def make_input(kind, *args, **arguments):
    """An input of the host, without the arguments that this host does not know.

    Args:
        kind: for example `io.Int.Input`.
    """
    known = inspect.signature(kind.__init__).parameters
    return kind(*args, **{k: v for k, v in arguments.items() if k in known})


def usable(node: type[io.ComfyNode]) -> bool:
    """Whether the node's schema can be built here; if not, the others still load."""
    try:
        node.GET_SCHEMA()
    except Exception:
        log.exception("%s does not work on this ComfyUI and is left out", node.__name__)
        return False
    return True
