import asyncio
import socket
from contextlib import asynccontextmanager
from ipaddress import ip_address

import aiohttp
import pytest
from aiohttp import web
from file_records import settings
from wan_local.wan.service.guard import Guard
from wan_local.wan.service.problems import ApiError

PUBLIC = ["8.8.8.8", "2001:4860:4860::8888", "64:ff9b::808:808", "::ffff:8.8.8.8"]
PRIVATE = [
    "127.0.0.1",
    "127.9.9.9",
    "10.0.0.8",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "::1",
    "fd00::1",
    "::ffff:127.0.0.1",
    "2002:7f00:1::",
    "64:ff9b::a00:1",
    "::7f00:1",
]
NEVER = [
    "169.254.169.254",
    "169.254.1.1",
    "::ffff:169.254.169.254",
    "2002:a9fe:a9fe::",
    "64:ff9b::a9fe:a9fe",
    "::a9fe:a9fe",
    "2001:0:1:2:0:0:5601:5601",
    "fe80::1",
    "fd00:ec2::254",
    "100.100.100.200",
    "168.63.129.16",
    "0.0.0.0",
    "0.0.0.1",
    "::",
    "::ffff:0.0.0.0",
    "224.0.0.1",
    "ff02::1",
    "64:ff9b::e000:1",
    "255.255.255.255",
    "240.0.0.1",
]


def guard(tmp_path, local=True, names=None, allowed=()):
    async def lookup(host, port):
        if host not in (names or {}):
            raise socket.gaierror("unknown")
        return names[host]

    return Guard(
        settings(tmp_path, listens_on_loopback=local, allowed_hosts=tuple(allowed)), lookup
    )


def check(guard, url):
    return asyncio.run(guard.check_url(url))


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize(
    ("addresses", "from_loopback", "from_afar"),
    [(PUBLIC, True, True), (PRIVATE, True, False), (NEVER, False, False)],
)
def test_addresses(tmp_path, local, addresses, from_loopback, from_afar):
    expected = from_loopback if local else from_afar
    one = guard(tmp_path, local)
    assert {a: one.may_reach(ip_address(a)) for a in addresses} == dict.fromkeys(
        addresses, expected
    )


def test_the_teredo_example_above_hides_a_metadata_address():
    assert str(ip_address("2001:0:1:2:0:0:5601:5601").teredo[1]) == "169.254.169.254"


def test_single_hosts_can_be_allowed_but_never_metadata(tmp_path):
    one = guard(
        tmp_path,
        local=False,
        names={"nas.lan": ["10.0.0.5"], "other.lan": ["10.0.0.5"], "bad.lan": ["169.254.169.254"]},
        allowed=["NAS.lan", "10.0.0.7", "bad.lan", "[fd00::7]"],
    )
    for good in ("http://nas.lan/", "http://nas.LAN./", "http://10.0.0.7/", "http://[fd00::7]/"):
        check(one, good)
    for bad in ("http://other.lan/", "http://10.0.0.5/", "http://bad.lan/", "http://[fd00::8]/"):
        with pytest.raises(ApiError, match="must not reach"):
            check(one, bad)


def test_a_name_for_several_addresses_keeps_those_that_may_be_reached(tmp_path):
    names = {"mixed": ["127.0.0.1", "8.8.8.8", "169.254.169.254"], "bad": ["10.0.0.1"]}
    one = guard(tmp_path, local=False, names=names)
    assert asyncio.run(one.resolve("mixed", 80)) == ["8.8.8.8"]
    with pytest.raises(ApiError) as refusal:
        asyncio.run(one.resolve("bad", 80))
    assert refusal.value.status == 422
    with pytest.raises(OSError, match="unknown"):
        asyncio.run(one.resolve("nowhere", 80))
    check(one, "http://nowhere/hook")  # may be back when it is needed


@pytest.mark.parametrize(
    "url",
    [
        "",
        "cat.png",
        "ftp://8.8.8.8/x",
        "file:///etc/passwd",
        "gopher://8.8.8.8",
        "//8.8.8.8/x",
        "http://",
        "http:///x",
        "http://u:p@8.8.8.8/",
        "http://u@8.8.8.8/",
        "http://@127.0.0.1@8.8.8.8/",
        "http://8.8.8.8:99999/",
        "http://8.8.8.8:0/",
        "http://[::1",
        "http://8.8.8.8/\r\nHost: x",
        "http://8.8.8.8/\ud800",
        "http://8.8.8.8/" + "x" * 9000,
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:169.254.169.254]/",
        "http://[fe80::1%25eth0]/",
        "javascript:alert(1)",
    ],
)
def test_other_texts_are_refused_even_where_most_is_allowed(tmp_path, url):
    with pytest.raises(ApiError) as refusal:
        guard(tmp_path).parse(url)
    assert refusal.value.status == 422


@pytest.mark.parametrize("host", ["127.1", "0x7f.1", "2130706433", "localhost", "017700000001"])
def test_other_spellings_of_loopback_are_found_by_the_systems_own_resolver(tmp_path, host):
    with pytest.raises(ApiError, match="must not reach"):
        check(Guard(settings(tmp_path, listens_on_loopback=False)), f"http://{host}/")


@asynccontextmanager
async def server(handler):
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield site._server.sockets[0].getsockname()[1]
    await runner.cleanup()


async def get(one, url):
    async with (
        aiohttp.ClientSession(connector=one.connector()) as session,
        session.get(url, allow_redirects=False) as answer,
    ):
        return await answer.text()


def test_a_connection_goes_to_the_address_that_was_checked(tmp_path):
    """A name that turns from a public into a private address between check and connection."""
    answers = [["8.8.8.8"], ["127.0.0.1"]]

    async def turning(host, port):
        return answers.pop(0)

    async def scene():
        async def handler(request):
            return web.Response(text=request.host)

        async with server(handler) as port:
            names = {"me.test": ["169.254.169.254", "127.0.0.1"]}
            url = f"http://me.test:{port}/"
            assert await get(guard(tmp_path, names=names), url) == f"me.test:{port}"

            one = Guard(settings(tmp_path, listens_on_loopback=False), turning)
            await one.check_url(url)
            with pytest.raises(ApiError, match="must not reach"):
                await get(one, url)

    asyncio.run(scene())


@pytest.mark.parametrize("host", ["127.0.0.1", "[::ffff:127.0.0.1]"])
def test_a_literal_address_is_checked_when_connecting_too(tmp_path, host):
    async def scene():
        async def handler(request):
            pytest.fail("was reached")

        async with server(handler) as port:
            with pytest.raises(ApiError, match="must not reach"):
                await get(guard(tmp_path, local=False), f"http://{host}:{port}/")

    asyncio.run(scene())
