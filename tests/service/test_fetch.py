import asyncio
import gzip
import io
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from file_records import Records, on_disk, settings
from PIL import Image
from wan_local.wan.service.fetch import fetch
from wan_local.wan.service.files import FileStore
from wan_local.wan.service.guard import Guard
from wan_local.wan.service.problems import ApiError


def png():
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6)).save(buffer, "PNG")
    return buffer.getvalue()


class Site:
    """A server on this machine whose answers a test chooses."""

    def __init__(self, folder, records, **changes):
        self.limits = settings(folder, **{"max_upload": 1_000_000, **changes})
        self.records, self.asked = records, []
        self.files = FileStore(folder, self.records, self.limits)

    async def answer(self, request):
        self.asked.append(request)
        return await getattr(self, request.path.split("/")[1].partition(".")[0])(request)

    async def picture(self, request):
        return web.Response(body=png(), content_type="text/html")

    async def page(self, request):
        return web.Response(text="<html>log in</html>", content_type="image/png")

    async def large(self, request):
        return web.Response(body=b"x" * 1_000_001)

    async def announced(self, request):
        response = web.StreamResponse(headers={"Content-Length": "1000001"})
        await response.prepare(request)
        await asyncio.sleep(60)

    async def endless(self, request):
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 100_000)

    async def slow(self, request):
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.02)

    async def cut(self, request):
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"x" * 500)
        request.transport.abort()
        return response

    async def packed(self, request):
        body = gzip.compress(b"\0" * 50_000_000)
        return web.Response(body=body, headers={"Content-Encoding": "gzip"})

    async def bomb(self, request):
        buffer = io.BytesIO()
        Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
        return web.Response(body=buffer.getvalue())

    async def nowhere(self, request):
        return web.Response(status=302)

    async def to(self, request):
        return web.Response(status=302, headers={"Location": request.query["u"]})

    async def hop(self, request):
        left = int(request.path.split("/")[2])
        location = f"/hop/{left - 1}" if left else "/picture.png"
        return web.Response(status=307, headers={"Location": location})

    @asynccontextmanager
    async def running(self):
        app = web.Application()
        app.router.add_get("/{path:.*}", self.answer)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
        await runner.cleanup()

    def fetch(self, path, guard=None):
        async def scene():
            async with self.running() as base:
                url = base + path.replace("BASE", base)
                return await fetch(url, self.files, guard or Guard(self.limits), self.limits, "k")

        return asyncio.run(scene())

    def refused(self, path, match, status=422, guard=None):
        with pytest.raises(ApiError, match=match) as refusal:
            self.fetch(path, guard)
        assert refusal.value.status == status
        assert on_disk(self.files.folder) == [] and self.records.kept == {}
        return refusal.value.detail


@pytest.fixture
def records(tmp_path):
    with Records.opened(tmp_path) as records:
        yield records


@pytest.fixture
def site(tmp_path, records):
    return Site(tmp_path / "files", records)


def test_a_file_is_kept_as_what_its_bytes_are(site):
    file = site.fetch("/picture.html?token=secret")
    assert (file.content_type, file.filename, file.key_id) == ("image/png", "picture.html", "k")
    assert site.files.path(file).read_bytes() == png()
    assert site.records.kept[file.id] == file
    assert site.asked[0].headers["Accept-Encoding"] == "identity"
    assert "Authorization" not in site.asked[0].headers


def test_a_page_in_place_of_a_picture_is_no_picture(site):
    assert site.fetch("/page.png").content_type == "application/octet-stream"


def test_three_redirects_are_followed(site):
    assert site.fetch("/hop/2").content_type == "image/png"
    assert len(site.asked) == 4


def test_a_fourth_is_not(site):
    site.refused("/hop/3", "redirected more than 3 times")
    assert len(site.asked) == 4


@pytest.mark.parametrize(
    ("target", "match"),
    [
        ("http://169.254.169.254/latest", "must not reach"),
        ("file:///etc/passwd", "http://"),
        ("http://user:pass@127.0.0.1/", "password"),
        ("http://[::1", "fetched"),
        ("//0.0.0.0/", "must not reach"),
    ],
)
def test_redirects_are_checked_like_the_address_itself(site, target, match):
    site.refused(f"/to?u={target}", match)
    assert len(site.asked) == 1


def test_a_redirect_from_an_allowed_host_to_this_machine_is_refused(site):
    limits = settings(site.files.folder, listens_on_loopback=False, allowed_hosts=("127.0.0.1",))

    async def lookup(host, port):
        return ["127.0.0.2"]

    site.refused("/to?u=http://inner.test:1/", "must not reach", guard=Guard(limits, lookup))
    assert len(site.asked) == 1


def test_this_machine_is_not_reached_for_others(site):
    guard = Guard(settings(site.files.folder, listens_on_loopback=False))
    site.refused("/picture", "must not reach", guard=guard)
    assert site.asked == []


@pytest.mark.parametrize("path", ["/large", "/announced", "/endless"])
def test_the_number_of_bytes_is_capped(site, path):
    site.refused(path, "1000000 bytes", 413)


def test_the_time_for_everything_is_capped(tmp_path, records):
    site = Site(tmp_path / "files", records, fetch_seconds=0.3)
    site.refused("/slow", "more than 0.3 seconds")


def test_a_cut_download_leaves_nothing(site):
    site.refused("/cut", "broke")


def test_what_is_packed_for_the_way_is_refused(site):
    site.refused("/packed", "compressed")


def test_a_picture_that_unpacks_to_too_much_is_refused(site):
    site.refused("/bomb", "pixels", 413)


def test_other_answers_are_named_without_the_query(site):
    detail = site.refused("/nowhere?token=secret", "302")
    assert "secret" not in detail


def test_a_server_that_is_not_there_is_named(site):
    async def scene():
        await fetch("http://127.0.0.1:9/x.png", site.files, Guard(site.limits), site.limits)

    with pytest.raises(ApiError, match="could not be fetched"):
        asyncio.run(scene())
