"""Whether the service is on, and how its owner set it."""

import dataclasses
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...wan.service.keys import KEY_VARIABLE
from ...wan.service.settings import Settings

log = logging.getLogger("wan_local")

SWITCH = "WAN_LOCAL_SERVICE"
"""Environment variable: 1 switches the service on, 0 off."""
MODELS = "WAN_LOCAL_SERVICE_MODELS"
"""Environment variable: "mini" or "tiny" for the miniatures that come with the pack."""
_OWN = ("enabled", "models")
# Decided by how ComfyUI was started, not by a file.
_FIXED = ("data", "prefix", "listens_on_loopback")


@dataclass(frozen=True)
class Options:
    """What the file `user/wan_local/service.json` and the environment say."""

    enabled: bool | None = None
    """None: nothing was said."""
    models: str = "auto"
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `Settings`."""

    def make_settings(self, data: Path, is_local: bool) -> Settings:
        """The service's settings.

        Args:
            data: its folder.
            is_local: whether only this machine can reach the server.
        """
        return Settings(data=data, listens_on_loopback=is_local, **self.settings)


def read_options(path: Path, environment: Mapping[str, str] = os.environ) -> Options:
    """Read the file, if it is there, and the environment, which counts more.

    A file that cannot be understood switches the service off and is told in the log.
    """
    found: dict[str, Any] = {}
    try:
        if path.exists():
            found = json.loads(path.read_text("utf-8"))
            _check(found)
    except (OSError, ValueError) as error:
        log.error("%s cannot be used, so the local service stays off: %s", path, error)
        return Options(enabled=False)
    switch = environment.get(SWITCH, "").strip()
    enabled = {"1": True, "0": False}.get(switch, found.get("enabled"))
    if switch not in ("", "0", "1"):
        log.warning("%s is %r; only 1 and 0 mean something.", SWITCH, switch)
    models = environment.get(MODELS) or found.get("models", "auto")
    return Options(enabled, models, {k: _plain(v) for k, v in found.items() if k not in _OWN})


def is_on(options: Options, is_local: bool, data: Path, environment=os.environ) -> bool:
    """Whether the service answers.

    Said nothing, it does while only this machine can reach ComfyUI; beyond that only with a key
    that was set by hand.
    """
    if options.enabled is not None:
        return options.enabled
    return is_local or bool(environment.get(KEY_VARIABLE)) or (data / "keys").exists()


def _check(found: Any) -> None:
    """Refuse what has no meaning.

    Raises:
        ValueError: says which entry.
    """
    if not isinstance(found, dict):
        raise ValueError("it does not hold an object {...}")
    fields = {f.name: f for f in dataclasses.fields(Settings) if f.name not in _FIXED}
    known = [*_OWN, *fields]
    for name, value in found.items():
        if name not in known:
            raise ValueError(f"{name} is not a setting; there are {', '.join(known)}")
        wanted = _kind(name, fields)
        if not _fits(value, wanted):
            raise ValueError(f"{name} is {json.dumps(value)}; it takes {wanted}")


def _kind(name: str, fields: Mapping[str, dataclasses.Field]) -> str:
    return {"enabled": "bool", "models": "str"}.get(name) or str(fields[name].type)


def _fits(value: Any, wanted: str) -> bool:
    if wanted == "bool":
        return isinstance(value, bool)
    if wanted in ("int", "float"):
        kinds = (int,) if wanted == "int" else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool) and value >= 0
    if wanted.startswith("tuple"):
        return isinstance(value, list) and all(isinstance(part, str) for part in value)
    return isinstance(value, str)


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
