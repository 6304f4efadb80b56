"""When the service is on inside ComfyUI, and what its answers carry past ComfyUI's middleware."""

import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from wan_local.nodes.service.headers import finish, remembered
from wan_local.nodes.service.options import is_on, read_options


def options(tmp_path, content=None, **environment):
    path = tmp_path / "service.json"
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_options(path, environment)


@pytest.mark.parametrize(
    ("content", "switch", "is_local", "has_key", "expected"),
    [
        (None, None, True, False, True),
        (None, None, False, False, False),
        (None, None, False, True, True),
        (None, "0", True, True, False),
        (None, "1", False, False, True),
        ({"enabled": False}, None, True, True, False),
        ({"enabled": True}, None, False, False, True),
        ({"enabled": False}, "1", False, False, True),
        ("{", None, True, True, False),
        ({"max_queues": 5}, None, True, True, False),
        ({"max_queue": "many"}, None, True, True, False),
    ],
)
def test_when_it_is_on(tmp_path, content, switch, is_local, has_key, expected):
    found = options(tmp_path, content, **({"WAN_LOCAL_SERVICE": switch} if switch else {}))
    environment = {"WAN_LOCAL_API_KEY": "inf_x"} if has_key else {}
    assert is_on(found, is_local, tmp_path / "service", environment) is expected


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("127.0.0.1", True),
        ("127.0.0.1, ::1", True),
        ("localhost", True),
        ("0.0.0.0,::", False),
        ("127.0.0.1,192.168.1.5", False),
        ("127.example.org", False),
        ("", False),
    ],
)
def test_what_counts_as_this_machine_only(monkeypatch, listen, expected):
    from wan_local.nodes import host_server

    monkeypatch.setattr(host_server.args, "listen", listen, raising=False)
    assert host_server.listens_on_loopback() is expected


def test_a_key_file_counts_as_a_key(tmp_path):
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "keys").write_text("inf_x\n")
    assert is_on(options(tmp_path), False, tmp_path / "service", {})


def test_a_wrong_file_is_told(tmp_path, caplog):
    options(tmp_path, {"max_queues": 5})
    assert "max_queues is not a setting" in caplog.text and "max_queue" in caplog.text


def test_the_file_reaches_the_settings(tmp_path):
    found = options(tmp_path, {"max_queue": 3, "allowed_hosts": ["nas"], "models": "tiny"})
    settings = found.make_settings(tmp_path, False)
    assert (settings.max_queue, settings.allowed_hosts) == (3, ("nas",))
    assert settings.data == tmp_path and not settings.listens_on_loopback
    assert found.models == "tiny"
    assert options(tmp_path, WAN_LOCAL_SERVICE_MODELS="auto").models == "auto"


@web.middleware
async def like_the_host(request, handler):
    """What ComfyUI's middleware does to every answer that it gets back."""
    answer = await handler(request)
    if not answer.prepared:
        answer.headers["Content-Security-Policy"] = "script-src 'self'"
        answer.headers.setdefault("Cache-Control", "public, max-age=86400")
    return answer


async def plain(request):
    return web.json_response({})


async def content(request):
    headers = {"Content-Security-Policy": "sandbox", "Cache-Control": "private"}
    return web.Response(body=b"x", headers=headers)


async def refused(request):
    raise web.HTTPNotFound(headers={"Cache-Control": "no-store"})


async def stream(request):
    answer = web.StreamResponse(headers={"Cache-Control": "no-cache"})
    await answer.prepare(request)
    await answer.write_eof(b"{}\n")
    return answer


async def headers_of(path, origin=None):
    app = web.Application(middlewares=[like_the_host])
    for name, handler in {"p": plain, "c": content, "r": refused, "s": stream}.items():
        app.router.add_get(f"/infsh/{name}", remembered(handler))
        app.router.add_get(f"/infshother/{name}", handler)
    app.on_response_prepare.append(finish("/infsh", origin))
    async with TestClient(TestServer(app)) as client:
        return (await client.get(path)).headers


def run(path, origin=None):
    import asyncio

    return asyncio.run(headers_of(path, origin))


def test_headers_of_the_handlers_survive():
    assert run("/infsh/c")["Content-Security-Policy"] == "sandbox"
    assert run("/infsh/c")["Cache-Control"] == "private"
    assert run("/infsh/r")["Cache-Control"] == "no-store"
    assert run("/infsh/s")["Cache-Control"] == "no-cache"
    # A status must never be answered from a cache.
    assert "no-store" in run("/infsh/p")["Cache-Control"]
    for name in "pcs":
        assert run(f"/infsh/{name}")["X-Content-Type-Options"] == "nosniff"


def test_other_routes_are_left_alone():
    found = run("/infshother/c", "https://example.org")
    assert found["Content-Security-Policy"] == "script-src 'self'"
    assert "X-Content-Type-Options" not in found
    assert "Access-Control-Allow-Headers" not in found


def test_other_pages_may_send_what_the_sdk_sends_only_where_the_host_lets_them_in():
    assert "Access-Control-Allow-Origin" not in run("/infsh/s")
    found = run("/infsh/s", "https://example.org")
    assert found["Access-Control-Allow-Origin"] == "https://example.org"
    assert "X-Client-Source" in found["Access-Control-Allow-Headers"]
