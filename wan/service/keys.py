"""API keys, and the secrets that sign upload links and webhooks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from .problems import ApiError

KEY_VARIABLE = "WAN_LOCAL_API_KEY"
"""Environment variable that takes the place of the key file."""
_WEBHOOK_PREFIX = "whsec_"
"""As libraries that check such signatures expect a secret to begin."""

log = logging.getLogger("wan_local")


class Keys:
    """Who may use the API. Made by `Keys.load`; its keys are never printed or logged.

    Args:
        keys: texts that are accepted; with none, every request is refused.
        link_secret: signs upload links.
        webhook_secret: signs webhooks, as `whsec_` and base64.
        path: the key file, None if the keys came from elsewhere.
        is_new: whether the key file was made just now.
    """

    def __init__(
        self,
        keys: tuple[str, ...],
        link_secret: bytes,
        webhook_secret: str,
        path: Path | None = None,
        is_new: bool = False,
    ) -> None:
        self.path, self.is_new = path, is_new
        self.link_secret, self.webhook_secret = link_secret, webhook_secret
        # Digests have one length, so that comparing them tells nothing about that of a key.
        self._digests = {_digest(key): self._id(key) for key in keys}

    @classmethod
    def load(cls, folder: Path, environment: Mapping[str, str] = os.environ) -> Keys:
        """Read keys and secrets, and make those that are missing.

        Args:
            folder: the data folder. It gets `keys` (one key per line, # begins a comment),
                `link_secret` and `webhook_secret`, readable by their owner only.
            environment: WAN_LOCAL_API_KEY in it is the one key, and no key file is read or made.
        Raises:
            OSError: the folder cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        link_secret, _ = _read_or_make(folder / "link_secret", secrets.token_hex(32))
        new_secret = _WEBHOOK_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
        webhook_secret, _ = _read_or_make(folder / "webhook_secret", new_secret)
        rest = (link_secret.strip().encode(), webhook_secret.strip())
        given = environment.get(KEY_VARIABLE, "").strip()
        if given:
            return cls((given,), *rest)
        path = folder / "keys"
        text, is_new = _read_or_make(path, "inf_" + secrets.token_urlsafe(32))
        lines = (line.strip() for line in text.splitlines())
        return cls(tuple(k for k in lines if k and not k.startswith("#")), *rest, path, is_new)

    def check(self, header: str | None) -> str:
        """Who asks.

        Args:
            header: value of Authorization, "Bearer KEY".
        Returns:
            The key's id: a text that stays the same for a key and does not give it away.
        Raises:
            ApiError: unauthorized.
        """
        scheme, _, key = (header or "").strip().partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise _unauthorized(
                "The API key is missing. Send it as the header 'Authorization: Bearer KEY'; with "
                "the SDK, set INFERENCE_API_KEY."
            )
        asked, found = _digest(key.strip()), None
        for digest, key_id in self._digests.items():  # all of them, however early one fits
            if hmac.compare_digest(digest, asked):
                found = key_id
        if found is None:
            place = f"the file {self.path.name!r} of" if self.path else f"{KEY_VARIABLE} of"
            raise _unauthorized(f"The API key is wrong. The right one is in {place} the server.")
        return found

    def _id(self, key: str) -> str:
        # Keyed, so that a stolen database does not help to try out keys that people invented.
        return "key_" + hmac.new(self.link_secret, _bytes(key), hashlib.sha256).hexdigest()[:16]


def signing_bytes(webhook_secret: str) -> bytes:
    """The key of the HMAC that a webhook secret stands for: what follows `whsec_`, from base64; a
    text without that beginning stands for itself."""
    if webhook_secret.startswith(_WEBHOOK_PREFIX):
        return base64.b64decode(webhook_secret[len(_WEBHOOK_PREFIX) :])
    return webhook_secret.encode()


def _unauthorized(detail: str) -> ApiError:
    return ApiError("unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


def _bytes(key: str) -> bytes:
    return key.encode("utf8", "surrogateescape")


def _digest(key: str) -> bytes:
    return hashlib.sha256(_bytes(key)).digest()


def _read_or_make(path: Path, fresh: str) -> tuple[str, bool]:
    """Text of a private file, and whether it was made now with `fresh` in it."""
    text = path.read_text("utf8") if path.exists() else ""
    if not text.strip():
        _write_private(path, fresh + "\n")
        return fresh, True
    if os.name == "posix" and path.stat().st_mode & 0o077:
        log.warning("%s could be read by other users of this machine; closed it.", path)
        path.chmod(0o600)
    return text, False


def _write_private(path: Path, text: str) -> None:
    """Never, not even for a moment, half written or readable by others."""
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
