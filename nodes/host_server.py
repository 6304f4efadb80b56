"""The other half of the door to ComfyUI: its server, its queue and its folders for files."""

import ipaddress
import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import folder_paths
from comfy.cli_args import args
from comfy.model_management import interrupt_current_processing

log = logging.getLogger("wan_local")


def server():
    """The running server, or None where there is none, as in tests and headless tools."""
    try:
        from server import PromptServer
    except ImportError:
        return None
    return getattr(PromptServer, "instance", None)


# Taken now: newer hosts change the argument for each prompt.
_SHOWS_PREVIEWS = getattr(args.preview_method, "value", "none") != "none"


def preview_options() -> dict[str, str]:
    """What a prompt says to have previews where the host makes none by itself.

    Older hosts do not listen to it: there ComfyUI has to be started with --preview-method.
    """
    return {} if _SHOWS_PREVIEWS else {"preview_method": "latent2rgb"}


def listens_on_loopback() -> bool:
    """Whether only this machine can reach the server."""
    addresses = [part.strip() for part in (args.listen or "").split(",")]
    return all(map(_is_loopback, addresses))


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:  # a name
        return address == "localhost"


def has_tls() -> bool:
    """Whether what is sent to the server is encrypted."""
    return bool(getattr(args, "tls_keyfile", None) and getattr(args, "tls_certfile", None))


def cors_origin() -> str | None:
    """Whose pages may call the server beside its own; None: nobody's."""
    return getattr(args, "enable_cors_header", None) or None


def input_folder() -> Path:
    return Path(folder_paths.get_input_directory())


def output_folder() -> Path:
    return Path(folder_paths.get_output_directory())


def service_folder() -> Path:
    """Where the service keeps its database, uploads and keys."""
    return Path(folder_paths.get_user_directory(), "wan_local", "service")


def workflow_folders() -> list[Path]:
    """Where users of the page save their workflows; one folder a user."""
    return sorted(Path(folder_paths.get_user_directory()).glob("*/workflows"))


class _Request:
    """As much of a request as the handler of POST /prompt looks at."""

    def __init__(self, body: dict) -> None:
        self.headers: dict[str, str] = {}
        self._body = body

    async def json(self) -> dict:
        return self._body


async def queue_prompt(body: dict) -> tuple[int, dict]:
    """What POST /prompt does, without the way through the network.

    A login that another pack put before the server does not stand in the way here.

    Args:
        body: prompt, prompt_id (a lower-case UUID), client_id. The host keeps and changes it.
    Returns:
        HTTP status and answer.
    """
    routes = server().routes
    handler = next(r.handler for r in routes if (r.method, r.path) == ("POST", "/prompt"))
    answer = await handler(_Request(body))
    return answer.status, json.loads(answer.body)


def listen(client_id: str, socket) -> None:
    """Let an object with `send_json` and `send_bytes` have the events of a client's prompts."""
    instance = server()
    metadata = getattr(instance, "sockets_metadata", None)
    if metadata is not None:
        metadata[client_id] = {"feature_flags": {"supports_preview_metadata": True}}
    instance.sockets[client_id] = socket


def stop_listening(client_id: str) -> None:
    """Take it out again."""
    instance = server()
    instance.sockets.pop(client_id, None)
    getattr(instance, "sockets_metadata", {}).pop(client_id, None)


@dataclass(frozen=True)
class QueueState:
    """Ids of prompts."""

    running: tuple[str, ...]
    pending: tuple[str, ...]
    """Next one first."""


def queue_state() -> QueueState:
    """What is running and waiting now, whoever queued it."""
    running, pending = server().prompt_queue.get_current_queue_volatile()
    # Queue items are tuples of varying length; number and id lead them on every host. The list
    # is a heap, so that only its first item is in place.
    ordered = sorted(pending, key=lambda item: item[0])
    return QueueState(tuple(i[1] for i in running), tuple(i[1] for i in ordered))


def history(prompt_id: str) -> dict | None:
    """{"outputs", "status"} of an ended prompt, or None."""

    def kept(entry: dict) -> dict:
        return {"outputs": entry.get("outputs") or {}, "status": entry.get("status") or {}}

    return server().prompt_queue.get_history(prompt_id=prompt_id, map_function=kept).get(prompt_id)


def delete_pending(prompt_id: str) -> bool:
    """Take a waiting prompt out of the queue; False if it is not waiting."""
    return bool(server().prompt_queue.delete_queue_item(lambda item: item[1] == prompt_id))


def interrupt_running(prompt_id: str) -> bool:
    """Ask a running prompt to stop; False if it is not the one that runs.

    The host's flag knows no prompt, and each prompt clears it when it starts: so it is looked
    and set under the lock that keeps the next prompt from starting, and the caller repeats it.
    """
    queue = server().prompt_queue
    with queue.mutex:
        if all(item[1] != prompt_id for item in queue.currently_running.values()):
            return False
        interrupt_current_processing(True)
        return True


def add_routes(routes: Iterable, wrap: Callable) -> None:
    """Add aiohttp route definitions to the server; it serves each below /api too.

    Args:
        wrap: put around each handler.
    """
    table = server().routes
    for route in routes:
        # Without further arguments, such as a name: the host cannot repeat them below /api.
        table.route(route.method, route.path)(wrap(route.handler))


def application():
    """The aiohttp application, whose signals can be used until it starts."""
    return server().app
