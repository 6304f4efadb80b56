"""Addresses of files: signed links for one upload, and content addresses that nobody can guess."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Callable
from urllib.parse import quote, urlsplit

from .problems import ApiError
from .records import File
from .settings import Settings
from .sniff import suffix_of

_OWN = re.compile(r"/files/(file_[0-9a-f]{32})(?:/content(?:/[^/]*)?)?/?")
_ID = re.compile(r"file_[0-9a-f]{32}")


class Links:
    """Makes and reads the addresses of files.

    Args:
        settings: prefix and public address.
        secret: signs upload links; whoever has it can make them.
        clock: seconds since 1970, for tests.
    """

    def __init__(
        self, settings: Settings, secret: bytes, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings, self._secret, self._clock = settings, secret, clock

    def upload_url(self, origin: str, file: File) -> str:
        """Where the bytes of a declared file are put, once, without a key.

        Args:
            origin: scheme and host under which the request came.
            file: with `upload_expires`.
        """
        expires = str(file.upload_expires)
        return (
            f"{self._base(origin)}/files/{file.id}/upload/{expires}/{self._sign(file.id, expires)}"
        )

    def check_upload(self, file_id: str, expires: str, signature: str) -> None:
        """Refuse an upload link that is not ours or too old.

        Raises:
            ApiError: forbidden.
        """
        wanted = self._sign(file_id, expires).encode()
        if not hmac.compare_digest(wanted, signature.encode("utf8", "surrogateescape")):
            raise ApiError(
                "forbidden",
                "The signature of this upload link is wrong. Use the upload_url exactly as "
                "POST /files gave it.",
            )
        if int(expires) < self._clock():
            minutes = self._settings.upload_seconds / 60
            raise ApiError(
                "forbidden",
                f"This upload link has expired; they live for {minutes:g} minutes. Ask for a new "
                "one with POST /files.",
            )

    def content_url(self, origin: str, file: File) -> str:
        """Where the bytes can be read by everybody who knows the address.

        Args: as `upload_url`; the file may still be without its bytes.
        """
        name = quote(file.filename or "file" + suffix_of(file.content_type), safe="")
        return f"{self._base(origin)}/files/{file.id}/content/{name}"

    def file_id(self, address: str) -> str | None:
        """The id in a content address, an address below /files, or a bare id; None if it has none.

        The host is not looked at, since a machine has several names: whether the id is one of ours
        only the store can tell.
        """
        if _ID.fullmatch(address):
            return address
        try:
            path = urlsplit(address).path
        except ValueError:
            return None
        found = _OWN.search(path)
        return found[1] if found and found.end() == len(path) else None

    def is_own(self, address: str, origin: str) -> bool:
        """Whether an address lies under this service as the request or the settings name it."""
        return any(address.startswith(base + "/") for base in (origin, self._base(origin)) if base)

    def _base(self, origin: str) -> str:
        if self._settings.public_url:
            return self._settings.public_url.rstrip("/")
        return origin.rstrip("/") + self._settings.prefix

    def _sign(self, file_id: str, expires: str) -> str:
        message = f"{file_id}/{expires}".encode("utf8", "surrogateescape")
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()
