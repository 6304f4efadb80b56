"""Which addresses this service may talk to on behalf of others; the check that stops SSRF.

A name is resolved here, and the connection goes to the very address that was checked, so that a
name cannot point elsewhere a moment later.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from ..load.web import is_public
from .problems import ApiError
from .settings import Settings

Address = IPv4Address | IPv6Address
Lookup = Callable[[str, int], Awaitable[Sequence[str]]]
"""From name and port to addresses as text; raises OSError if there are none."""

_NAT64 = ip_network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address
_COMPATIBLE = ip_network("::/96")  # RFC 4291 2.5.5.1, deprecated; likewise
_THIS_HOST = ip_network("0.0.0.0/8")
_METADATA = {
    ip_address(text)
    for text in (
        "169.254.169.254",  # most clouds
        "fd00:ec2::254",  # AWS
        "fd20:ce::254",  # Google
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure's wire server, a public address
        "192.0.0.192",  # Oracle
    )
}
_LOOKUP_SECONDS = 5.0
_LONGEST_URL = 8000


class Guard:
    """Decides about addresses; made once per service.

    Args:
        settings: `listens_on_loopback` opens private networks and this machine itself,
            `allowed_hosts` single names and addresses in them.
        lookup: resolves names; only tests give another than the system's.
    """

    def __init__(self, settings: Settings, lookup: Lookup | None = None) -> None:
        self._settings = settings
        self._allowed = {host.strip("[]").lower().rstrip(".") for host in settings.allowed_hosts}
        self._lookup = lookup or _system_lookup

    def may_reach(self, address: Address, host: str = "") -> bool:
        """Whether connections to an address are in order.

        Args:
            address: IPv6 forms of IPv4 addresses count as those.
            host: the name that led there; matters for `allowed_hosts`.
        """
        inner = _unwrapped(address)
        if inner in _METADATA or inner.is_link_local or inner.is_multicast or inner.is_unspecified:
            return False
        if inner in _THIS_HOST or (inner.is_reserved and inner not in _COMPATIBLE):
            return False
        names = {host.lower().rstrip("."), str(address), str(inner)}
        return is_public(inner) or self._settings.listens_on_loopback or bool(names & self._allowed)

    def parse(self, url: str) -> URL:
        """The parts of an address that may be asked, as far as its text can tell.

        Raises:
            ApiError: validation_error; it is no http or https address, holds a password, or an
                address of a forbidden network.
        """
        if not isinstance(url, str) or len(url) > _LONGEST_URL or _has_controls(url):
            raise _refused("It is no address, too long, or holds control characters")
        try:
            parts = URL(url)
            host, port = parts.host, parts.port
        except ValueError:
            raise _refused("It is no valid address") from None
        if parts.scheme not in ("http", "https") or not host or not port:
            raise _refused("Only addresses that begin with http:// or https:// can be used")
        if parts.user is not None or parts.password is not None:
            raise _refused("An address must not hold a user name or password")
        literal = _literal(host)
        if literal is not None and not self.may_reach(literal, host):
            raise _forbidden(host)
        return parts

    async def check_url(self, url: str) -> URL:
        """As `parse`, and resolves the name too. A name that cannot be resolved now passes: a
        webhook's receiver may be away for a while, and a connection is checked again anyway.

        Raises:
            ApiError: as `parse`; or the name stands for forbidden addresses only.
        """
        parts = self.parse(url)
        with contextlib.suppress(OSError):
            await self.resolve(parts.host or "", parts.port or 0)
        return parts

    async def resolve(self, host: str, port: int) -> list[str]:
        """The addresses of a host to which connections may go.

        Raises:
            ApiError: validation_error; it has addresses, but none that may be reached.
            OSError: it has none, or the answer took over 5 seconds.
        """
        literal = _literal(host)
        if literal is not None:
            found: Sequence[str] = [host]
        else:
            try:
                found = await asyncio.wait_for(self._lookup(host, port), _LOOKUP_SECONDS)
            except asyncio.TimeoutError:
                raise OSError(f"the name {host!r} could not be resolved in time") from None
            except UnicodeError:
                raise OSError(f"{host!r} is no name") from None
        allowed = [a for a in found if (ip := _literal(a)) and self.may_reach(ip, host)]
        if found and not allowed:
            raise _forbidden(host)
        if not allowed:
            raise OSError(f"there is no host {host!r}")
        return allowed

    def connector(self) -> aiohttp.TCPConnector:
        """For an `aiohttp.ClientSession` whose connections all go to checked addresses. Each
        request has its own connection. The session must follow no redirects by itself, or they
        are checked only here, and must not take proxies from the environment (its default)."""
        return _Connector(
            self, resolver=_Resolver(self), use_dns_cache=False, force_close=True, limit=0
        )


class _Resolver(AbstractResolver):
    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """What aiohttp connects to."""
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await self._guard.resolve(host, port)
        ]

    async def close(self) -> None:
        """Nothing is held."""


class _Connector(aiohttp.TCPConnector):
    def __init__(self, guard: Guard, **options: Any) -> None:
        super().__init__(**options)
        self._guard = guard

    async def connect(self, req: Any, *args: Any, **options: Any) -> Any:
        """Addresses in place of names never come to the resolver: check them here."""
        self._guard.parse(str(req.url))
        return await super().connect(req, *args, **options)


async def _system_lookup(host: str, port: int) -> list[str]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None


def _unwrapped(address: Address) -> Address:
    """The IPv4 address within an IPv6 one, where it stands for one."""
    if isinstance(address, IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
    if inner is None and (address in _NAT64 or (address in _COMPATIBLE and int(address) > 0xFFFF)):
        inner = IPv4Address(int(address) & 0xFFFFFFFF)
    return inner or address


def _has_controls(text: str) -> bool:
    return any(c < " " or c == "\x7f" or "\ud800" <= c <= "\udfff" for c in text)


def _refused(why: str) -> ApiError:
    return ApiError("validation_error", f"{why}.")


def _forbidden(host: str) -> ApiError:
    return ApiError(
        "validation_error",
        f"'{host}' lies in a network that this server must not reach for others. Use a public "
        "address, or have the server's owner add the host to allowed_hosts.",
    )
