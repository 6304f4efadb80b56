"""Fetch a file over https from the open internet, and from nowhere else.

Names are resolved here and the connection is made to the very address that was checked, so that
a name cannot point elsewhere a moment later. Redirects are checked like the first URL.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from ..errors import InputError, UnavailableError
from ..progress import Reporter, phase

_CHUNK = 1024**2
_REDIRECTS = 5
_SILENCE = 30.0  # seconds without a byte
_LONGEST = 3600.0  # seconds for the whole file
_NAT64 = ip_network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address
_AS_IT_IS = "%/:=&?~+!$,;'@()*"  # what a path or query may hold unescaped

Address = IPv4Address | IPv6Address


def is_public(address: Address) -> bool:
    """Whether an address is on the open internet: not private, loopback or link-local."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.teredo is not None or address.is_site_local:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


@dataclass(frozen=True)
class Web:
    """What may be fetched, and from where. Only tests use anything but the defaults."""

    schemes: tuple[str, ...] = ("https",)
    is_allowed: Callable[[Address], bool] = is_public


OPEN_WEB = Web()


@dataclass(frozen=True)
class Answer:
    """A file that a server has begun to send."""

    url: str
    """As it was asked for."""
    file_name: str
    """What the server calls it; empty where it does not."""
    _response: http.client.HTTPResponse

    def read(self, limit: int, reporter: Reporter, phase_name: str) -> Iterator[bytes]:
        """The content in chunks of a megabyte.

        Args:
            limit: most bytes that are taken.
            reporter: told once per chunk; may cancel.
            phase_name: what the user reads meanwhile.
        Raises:
            InputError: there are more bytes.
            UnavailableError: the connection broke, or it took more than an hour.
        """
        length = self._response.headers.get("Content-Length", "")
        expected = int(length) if length.isdigit() else None
        if expected is not None and expected > limit:
            raise self._too_large(limit)
        end, received = time.monotonic() + _LONGEST, 0
        with phase(reporter, phase_name, -(-(expected or limit) // _CHUNK)) as advance:
            while chunk := self._receive():
                received += len(chunk)
                if received > limit:
                    raise self._too_large(limit)
                if time.monotonic() > end:
                    raise _unreachable(self.url, f"it took more than {_LONGEST / 60:.0f} minutes")
                yield chunk
                advance()
        if expected is not None and received != expected:
            raise _unreachable(self.url, f"{received} of {expected} bytes came")

    def _receive(self) -> bytes:
        try:
            return self._response.read(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(self.url, str(error) or type(error).__name__) from None

    def _too_large(self, limit: int) -> InputError:
        return _refused(
            self.url,
            f"It is larger than {limit / 1024**3:.3g} GiB, so it is probably something else.",
            "Download the file yourself and give its path.",
        )


@contextmanager
def open_url(url: str, web: Web = OPEN_WEB) -> Iterator[Answer]:
    """Ask for a file and wait for its first bytes.

    Raises:
        InputError: the URL, or what it redirects to, is of another kind or in a private network.
        UnavailableError: the server cannot be reached, or has no such file.
    """
    target = url
    for _ in range(_REDIRECTS + 1):
        parts = check_url(target, web)
        connection = _Pinned(parts, _find_address(parts, web))
        try:
            response = _ask(connection, parts, url)
            if response.status == 200:
                disposition = response.headers.get("Content-Disposition", "")
                given = re.search(r'filename="?([^";]+)', disposition)
                yield Answer(url, given[1] if given else "", response)
                return
            location = response.headers.get("Location")
            if response.status not in (301, 302, 303, 307, 308) or not location:
                raise _unreachable(url, f"the server answered {response.status} {response.reason}")
            target = urljoin(target, location)
        finally:
            connection.close()
    raise _unreachable(url, f"more than {_REDIRECTS} redirects")


def check_url(url: str, web: Web = OPEN_WEB) -> SplitResult:
    """The parts of a URL that may be fetched; does not go to the network.

    Raises:
        InputError: it is not https, holds a password, or is no URL.
    """
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        raise _refused(url, "It is no URL.", "Check it in a browser.") from None
    if parts.scheme not in web.schemes or not parts.hostname or not has_port:
        why = "Files are fetched over https only."
        raise _refused(url, why, "Use a URL that begins with https://.")
    if parts.username or parts.password:
        why = "It holds a password, which would end up in logs."
        raise _refused(parts.hostname, why, "Download the file yourself.")
    return parts


class _Pinned(http.client.HTTPConnection):
    """A connection to a checked address under the name of its host."""

    def __init__(self, parts: SplitResult, address: str) -> None:
        super().__init__(parts.hostname or "", _port(parts), timeout=_SILENCE)
        if parts.port is None:
            self.default_port = self.port  # else the Host header would name it
        self._address, self._is_secure = address, parts.scheme == "https"

    def connect(self) -> None:
        """Ignore what the name stands for by now."""
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._is_secure:
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(self.sock, server_hostname=self.host)


def _ask(connection: _Pinned, parts: SplitResult, url: str) -> http.client.HTTPResponse:
    path = quote(parts.path or "/", _AS_IT_IS)
    query = "?" + quote(parts.query, _AS_IT_IS) if parts.query else ""
    try:
        connection.request("GET", path + query, headers={"User-Agent": "ComfyUI-WanLocal"})
        return connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(url, str(error) or type(error).__name__) from None


def _find_address(parts: SplitResult, web: Web) -> str:
    """The address to connect to. All that the name stands for must be allowed."""
    host = parts.hostname or ""
    try:
        found = socket.getaddrinfo(host, _port(parts), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise _unreachable(parts.geturl(), f"there is no host '{host}'") from None
    addresses = [str(entry[4][0]) for entry in found]
    if not all(web.is_allowed(ip_address(a.partition("%")[0])) for a in addresses):
        raise _refused(
            parts.geturl(),
            f"'{host}' is in a private network, which downloads must not reach.",
            "Download the file yourself and give its path.",
        )
    return addresses[0]


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _refused(url: str, why: str, fix: str) -> InputError:
    return InputError(what=f"'{url}' cannot be fetched.", why=why, fix=fix)


def _unreachable(url: str, reason: str) -> UnavailableError:
    return UnavailableError(
        what=f"'{url}' could not be downloaded: {reason}.",
        why="The run needs the file.",
        fix="Try again, check the URL in a browser, or download the file yourself.",
    )
