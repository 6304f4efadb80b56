import asyncio
import errno
import io
import struct
import zlib
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp
import av
import numpy as np
import pytest
from aiohttp import web
from file_records import Records, on_disk, settings, stream
from PIL import Image
from wan_local.wan.service.files import FileStore, intake
from wan_local.wan.service.files.names import clean_name
from wan_local.wan.service.problems import ApiError
from wan_local.wan.service.records import File


def png(width=8, height=6):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(buffer, "PNG")
    return buffer.getvalue()


def bomb(width, height):
    """A PNG that says it is huge, in under a hundred bytes."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def video():
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        picture = output.add_stream("libx264", rate=8)
        picture.width, picture.height, picture.pix_fmt = 64, 32, "yuv420p"
        sound = output.add_stream("aac", rate=44100)
        sound.layout = "stereo"
        for _ in range(8):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 64, 3), np.uint8))
            output.mux(picture.encode(frame))
        samples = av.AudioFrame.from_ndarray(np.zeros((2, 44100), np.float32), "fltp", "stereo")
        samples.rate = 44100
        output.mux(sound.encode(samples))
        output.mux(picture.encode(None))
        output.mux(sound.encode(None))
    return buffer.getvalue()


@pytest.fixture
def records(tmp_path):
    with Records.opened(tmp_path) as records:
        yield records


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "files"


@pytest.fixture
def files(folder, records):
    return FileStore(folder, records, settings(folder, max_upload=5_000_000, max_pixels=10_000))


async def declared(files, size=None, filename="x.png", content_type="image/png"):
    return await files.declare(
        filename=filename, content_type=content_type, size=size, key_id="key_1"
    )


def refused(code, status, coroutine):
    with pytest.raises(ApiError) as refusal:
        asyncio.run(coroutine)
    assert (refusal.value.code, refusal.value.status) == (code, status)
    return refusal.value


def test_an_upload_is_kept_under_our_name_with_what_its_bytes_say(files, folder, records):
    async def scene():
        data = png()
        file = await declared(files, len(data), "../../up/ cat\n.html", "text/html; charset=x")
        assert (file.filename, file.content_type, file.size) == ("cat.html", "text/html", len(data))
        assert not file.is_there and file.upload_expires
        taken = await files.receive(file, stream(data[:10], b"", data[10:]), len(data))
        assert taken.content_type == "image/png"
        assert taken.metadata == {"type": "image", "width": 8, "height": 6}
        assert taken.upload_expires is None and taken.key_id == "key_1"
        assert records.kept[file.id] == taken
        assert files.path(taken) == folder / f"{file.id}.png"
        assert files.path(taken).read_bytes() == data
        assert on_disk(folder) == [f"{file.id}.png"]

    asyncio.run(scene())


def test_a_video_is_looked_at(files):
    taken = asyncio.run(files.add_bytes(video(), "clip.avi"))
    assert taken.content_type == "video/mp4" and taken.path.endswith(".mp4")
    facts = taken.metadata
    assert (facts["type"], facts["width"], facts["height"], facts["fps"]) == ("video", 64, 32, 8)
    assert (facts["codec"], facts["sample_rate"], facts["channels"]) == ("h264", 44100, 2)
    assert facts["duration"] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    "data", [b"", b"text", png()[:20], video()[:60], b"RIFF\0\0\0\0WAVE", b"GIF89a", b"OggS"]
)
def test_what_is_damaged_or_unknown_has_no_kind(files, data):
    taken = asyncio.run(files.add_bytes(data))
    assert taken.content_type == "application/octet-stream" and taken.metadata == {}
    assert files.path(taken).suffix == ".bin"


@pytest.mark.parametrize("came", [0, 99, 101, 300_000])
@pytest.mark.parametrize("announce", [True, False])
def test_another_size_than_declared_is_refused_and_may_be_tried_again(
    files, folder, records, came, announce
):
    file = asyncio.run(declared(files, 100))
    length = came if announce else None
    refused("invalid_request", 400, files.receive(file, stream(b"x" * came), length))
    assert on_disk(folder) == []
    again = asyncio.run(records.file(file.id))
    assert asyncio.run(files.receive(again, stream(b"x" * 100))).size == 100


def test_a_file_over_the_cap_is_refused_before_and_while_it_comes(files, folder):
    refused("limit_exceeded", 413, declared(files, 5_000_001))
    file = asyncio.run(declared(files))
    refused("limit_exceeded", 413, files.receive(file, stream(), 5_000_001))
    endless = stream(*[b"x" * 1_000_000] * 100)
    refused("limit_exceeded", 413, files.receive(file, endless))
    assert on_disk(folder) == []


def test_no_more_is_read_than_was_declared(files, folder):
    left = [b"x" * 60] * 10

    async def body():
        while left:
            yield left.pop()

    refused("invalid_request", 400, files.receive(asyncio.run(declared(files, 100)), body()))
    assert len(left) == 8


def test_a_link_serves_once(files, folder, records):
    file = asyncio.run(declared(files))
    asyncio.run(files.receive(file, stream(b"first")))
    refused("conflict", 409, files.receive(file, stream(b"second")))  # with the old record too
    refused("conflict", 409, files.receive(records.kept[file.id], stream(b"third")))
    assert files.path(records.kept[file.id]).read_bytes() == b"first"


def test_of_two_uploads_at_once_one_wins(files, folder):
    async def scene():
        file = await declared(files)
        both = [files.receive(file, stream(*[name * 400_000] * 8)) for name in (b"a", b"b")]
        ends = await asyncio.gather(*both, return_exceptions=True)
        lost = [end for end in ends if isinstance(end, ApiError)]
        won = [end for end in ends if not isinstance(end, ApiError)]
        assert [error.code for error in lost] == ["conflict"]
        assert len(set(files.path(won[0]).read_bytes())) == 1

    asyncio.run(scene())
    assert len(on_disk(folder)) == 1


@pytest.mark.parametrize("error", [ConnectionResetError(), aiohttp.ClientPayloadError()])
def test_a_cut_upload_leaves_nothing(files, folder, records, error):
    async def cut():
        yield b"x" * 2_000_000
        raise error

    file = asyncio.run(declared(files))
    refused("invalid_request", 400, files.receive(file, cut()))
    assert on_disk(folder) == []
    assert asyncio.run(files.receive(records.kept[file.id], stream(b"now"))).size == 3


@pytest.mark.parametrize("announced", [b"Content-Length: 5000", b"Transfer-Encoding: chunked"])
def test_a_client_that_goes_away_leaves_nothing(files, folder, records, announced):
    async def scene():
        file, ended = await declared(files, 5000), asyncio.Event()

        async def put(request):
            try:
                await files.receive(file, request.content.iter_any(), request.content_length)
            finally:
                ended.set()

        runner = web.ServerRunner(web.Server(put))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"PUT / HTTP/1.1\r\nHost: x\r\n" + announced + b"\r\n\r\nA\r\n0123456789\r\n")
        await writer.drain()
        while not on_disk(folder):
            await asyncio.sleep(0.01)
        writer.transport.abort()
        await asyncio.wait_for(ended.wait(), 20)
        await runner.cleanup()
        assert on_disk(folder) == []
        assert records.kept[file.id].upload_expires and not records.kept[file.id].is_there

    asyncio.run(scene())


def test_a_stalled_upload_is_given_up(folder, records):
    async def stalled():
        yield b"x"
        await asyncio.Event().wait()

    files = FileStore(folder, records, settings(folder), silence=0.05)
    error = refused("invalid_request", 400, files.receive(asyncio.run(declared(files)), stalled()))
    assert "0.05 seconds" in error.detail
    assert on_disk(folder) == []


def test_a_cancelled_upload_leaves_nothing(files, folder, records):
    async def scene():
        reached = asyncio.Event()

        async def hanging():
            yield b"x" * 2_000_000
            reached.set()
            await asyncio.Event().wait()

        file = await declared(files)
        upload = asyncio.create_task(files.receive(file, hanging()))
        await reached.wait()
        assert on_disk(folder) == [f".{file.id}.part"]
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
        assert on_disk(folder) == []
        assert records.kept[file.id].upload_expires

    asyncio.run(scene())


def test_a_full_disk_is_said(folder, records):
    files = FileStore(folder, records, settings(folder, min_free=1 << 60))
    assert "bytes are free" in refused("out_of_space", 507, declared(files, 1)).detail
    refused("out_of_space", 507, files.add_bytes(b"x"))
    assert on_disk(folder) == [] and records.kept == {}


def test_an_error_while_writing_is_said(files, folder, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(intake.os, "fsync", full)
    refused("out_of_space", 507, files.add_bytes(b"x"))
    assert on_disk(folder) == []


@pytest.mark.parametrize(
    "data", [bomb(101, 100), bomb(50_000, 50_000), bomb(2**31 - 1, 2**31 - 1), png(200, 100)]
)
def test_pictures_that_unpack_to_too_much_are_refused_undecoded(files, folder, data):
    refused("limit_exceeded", 413, files.add_bytes(data))
    assert on_disk(folder) == []


def test_a_picture_with_more_bytes_than_its_pixels_can_need_is_refused(files):
    refused("limit_exceeded", 413, files.add_bytes(png() + b"\0" * 50_000))


def test_a_video_with_too_many_pixels_is_refused(folder, records):
    files = FileStore(folder, records, settings(folder, max_pixels=1000))
    refused("limit_exceeded", 413, files.add_bytes(video()))


def test_a_result_stays_where_it_is_or_moves(files, folder, tmp_path):
    async def scene():
        path = tmp_path / "result_1.mp4"
        path.write_bytes(video())
        left = await files.add_path(path)
        assert (left.filename, left.size) == ("result_1.mp4", path.stat().st_size)
        assert files.path(left) == path and left.content_type == "video/mp4"
        moved = await files.add_path(path, "nice.mp4", move=True)
        assert files.path(moved) == folder / f"{moved.id}.mp4" and not path.exists()
        with pytest.raises(ApiError):
            await files.add_path(path)
        path.touch()
        with pytest.raises(ApiError, match="empty"):
            await files.add_path(path)

    asyncio.run(scene())


def test_paths_do_not_leave_their_folder(files, folder, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("s")
    (folder / "link.png").symlink_to(secret)
    (tmp_path / "away").symlink_to(secret)
    (folder / "sub").mkdir()
    (folder / "sub" / "x").write_text("x")
    for path in ("../secret", "link.png", "sub/../../secret", "sub/x", str(tmp_path / "away")):
        with pytest.raises(ApiError) as refusal:
            files.path(File("x", "image/png", path=path))
        assert refusal.value.status == 404
    asyncio.run(files.delete(File("x", "image/png", path="link.png")))
    assert secret.exists() and not (folder / "link.png").is_symlink()


def test_deleting_removes_bytes_and_record(files, folder, records):
    async def scene():
        file = await files.add_bytes(b"x")
        await files.delete(file)
        await files.delete(file)
        await files.delete(await declared(files))

    asyncio.run(scene())
    assert on_disk(folder) == [] and records.kept == {}


def test_sweeping_removes_only_what_no_record_knows(files, folder, records):
    async def scene():
        kept = await files.add_bytes(b"x")
        waiting = await declared(files)
        (folder / f".{waiting.id}.part").touch()
        (folder / f"{waiting.id}.png").touch()  # killed between renaming and recording
        (folder / f"{File('', '').id}.mp4").touch()
        (folder / "of_the_user.png").touch()
        assert await files.sweep() == 3
        assert on_disk(folder) == sorted([kept.path, "of_the_user.png"])

    asyncio.run(scene())


def test_an_arriving_file_is_not_swept(files, folder):
    async def scene():
        async def sweeping():
            yield b"x" * 2_000_000
            assert await files.sweep() == 0
            yield b"x"

        assert (await files.add_stream(sweeping())).size == 2_000_001

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        (None, ""),
        ("", ""),
        ("..", ""),
        ("a/..", ""),
        ("C:\\dir\\x.png", "x.png"),
        ("x\r\nSet-Cookie: a=b.png", "xSet-Cookie: a=b.png"),
        ("\u202egnp.exe", "gnp.exe"),
        ("katze \U0001f408 猫.png", "katze \U0001f408 猫.png"),
        ("\ud800.png", ".png"),
        ("y" * 300 + ".png", "y" * 196 + ".png"),
        ("y" * 300, "y" * 200),
    ],
)
def test_names_are_cleaned(name, clean):
    assert clean_name(name) == clean


@asynccontextmanager
async def served(files, file):
    async def content(request):
        try:
            return files.respond(file, request)
        except ApiError as error:
            return web.json_response(error.as_json(), status=error.status, headers=error.headers)

    app = web.Application()
    app.router.add_get("/", content)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield session
    await runner.cleanup()


def test_content_is_served_inert_and_in_ranges(files):
    async def scene():
        data = png()
        file = await files.add_bytes(data, 'a" é.png')
        async with served(files, file) as session:
            async with session.get("/") as answer:
                assert await answer.read() == data
                headers = answer.headers
            assert headers["Content-Type"] == "image/png"
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Content-Security-Policy"] == "sandbox"
            assert headers["Content-Length"] == str(len(data))
            assert headers["Cache-Control"].startswith("private")
            wanted = "inline; filename=\"a_ _.png\"; filename*=UTF-8''a%22%20%C3%A9.png"
            assert headers["Content-Disposition"] == wanted
            async with session.get("/", headers={"Range": "bytes=2-5"}) as answer:
                assert answer.status == 206 and await answer.read() == data[2:6]
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
            async with session.get("/", headers={"Range": "bytes=9999-"}) as answer:
                assert answer.status == 416
            async with session.head("/") as answer:
                assert answer.headers["Content-Length"] == str(len(data))

    asyncio.run(scene())


@pytest.mark.parametrize("data", [b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"<html>", b"{}"])
def test_pages_and_drawings_are_saved_not_shown(files, data):
    async def scene():
        file = await files.add_bytes(data, "page.html")
        lying = replace(file, content_type="image/svg+xml")  # as declared, were it not for sniffing
        for record in (file, lying):
            async with served(files, record) as session, session.get("/") as answer:
                assert answer.headers["Content-Type"] == "application/octet-stream"
                assert answer.headers["Content-Disposition"].startswith("attachment")
                assert await answer.read() == data

    asyncio.run(scene())


def test_missing_content_is_kept_in_no_cache(files):
    async def scene():
        gone = await files.add_bytes(b"x")
        files.path(gone).unlink()
        for file in (gone, await declared(files)):
            async with served(files, file) as session, session.get("/") as answer:
                assert answer.status == 404 and answer.headers["Cache-Control"] == "no-store"

    asyncio.run(scene())
