"""A LoRA is found by path, name or URL; nothing leads out of the folders or into a network."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

import pytest
import torch
from safetensors.torch import save
from wan_local.wan.errors import InputError, MissingFileError, ModelError, UnavailableError
from wan_local.wan.load import fetch
from wan_local.wan.load.fetch import download_lora, downloads_allowed, resolve_lora
from wan_local.wan.load.web import OPEN_WEB, Web, check_url, is_public
from wan_local.wan.progress import Silent

LOOPBACK = Web(schemes=("http",), is_allowed=lambda address: address.is_loopback)
CONTENT = save({"blocks.0.self_attn.q.diff": torch.zeros(48, 48)})


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "loras"
    (root / "style").mkdir(parents=True)
    (root / "a.safetensors").write_bytes(CONTENT)
    (root / "style" / "b.safetensors").write_bytes(CONTENT)
    (tmp_path / "outside.safetensors").write_bytes(CONTENT)
    return root


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("a.safetensors", "a.safetensors"),
        (" a ", "a.safetensors"),
        ("style/b.safetensors", "style/b.safetensors"),
        ("style\\b.safetensors", "style/b.safetensors"),
        ("style\\b", "style/b.safetensors"),
    ],
)
@pytest.mark.parametrize("only_folders", [True, False])
def test_a_name_is_found_below_a_folder(folder, tmp_path, value, found, only_folders):
    folders = [tmp_path / "none", folder]
    assert resolve_lora(value, folders, only_folders=only_folders) == folder / found


def test_a_path_is_found_anywhere_for_the_owner_of_the_machine(folder, tmp_path, monkeypatch):
    outside = tmp_path / "outside.safetensors"
    assert resolve_lora(str(outside), [folder]) == outside
    assert resolve_lora("../outside.safetensors", [folder]) == folder / "../outside.safetensors"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_lora("~/outside.safetensors", []) == outside


@pytest.mark.parametrize(
    "value",
    [
        "../outside.safetensors",
        "..\\outside.safetensors",
        "style/../../outside.safetensors",
        "{tmp}/outside.safetensors",
        "{tmp}/loras/../outside.safetensors",
        "C:\\outside.safetensors",
        "C:outside.safetensors",
        "\\\\server\\share\\outside.safetensors",
        "/etc/passwd",
    ],
)
def test_a_request_cannot_name_files_outside(folder, tmp_path, value):
    with pytest.raises(InputError, match="only name files in the LoRA folders"):
        resolve_lora(value.format(tmp=tmp_path), [folder], only_folders=True)


def test_a_request_may_give_the_whole_path_of_a_file_inside(folder):
    path = folder / "style" / "b.safetensors"
    assert resolve_lora(str(path), [folder], only_folders=True) == path


@pytest.mark.parametrize("value", ["", "  ", "/", ".", "a\0b"])
def test_a_value_that_names_nothing_is_refused(folder, value):
    with pytest.raises(InputError, match="names no file"):
        resolve_lora(value, [folder])


@pytest.mark.parametrize("value", ["gone", "style", "~", "x" * 5000])
def test_a_missing_file_names_those_that_are_there(folder, value):
    with pytest.raises(MissingFileError, match=r"a\.safetensors, style/b\.safetensors"):
        resolve_lora(value, [folder], only_folders=True)


def test_a_url_is_refused_and_told_how_to_allow_it(folder):
    with pytest.raises(UnavailableError, match="WAN_LOCAL_ALLOW_DOWNLOADS=1"):
        resolve_lora("https://example.com/x.safetensors", [folder])


def test_downloads_are_off_unless_the_environment_says_so(monkeypatch):
    monkeypatch.delenv("WAN_LOCAL_ALLOW_DOWNLOADS", raising=False)
    assert not downloads_allowed()
    monkeypatch.setenv("WAN_LOCAL_ALLOW_DOWNLOADS", "1")
    assert downloads_allowed()


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/x.safetensors",
        "file:///etc/passwd.safetensors",
        "ftp://example.com/x.safetensors",
        "https:///x.safetensors",
        "https://user:secret@example.com/x.safetensors",
        "https://example.com:99999/x.safetensors",
        "https://[::1/x.safetensors",
    ],
)
def test_only_plain_https_urls_are_fetched(folder, url):
    with pytest.raises(InputError) as caught:
        resolve_lora(url, [folder], allow_download=True)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "10.0.0.1", "192.168.1.1", "169.254.169.254", "2130706433"],
)
def test_private_hosts_are_refused(folder, host):
    with pytest.raises(InputError, match="private network"):
        resolve_lora(f"https://{host}/x.safetensors", [folder], allow_download=True)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("0.0.0.0", False),
        ("100.64.0.1", False),
        ("172.16.0.1", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::808:808", True),
        ("2002:7f00:1::", False),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", False),
    ],
)
def test_public_addresses(address, expected):
    assert is_public(ip_address(address)) is expected


@pytest.fixture
def server():
    """Answers by path; `seen` are the requests that came."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            server.seen.append((self.path, self.headers["Host"]))
            path = self.path.partition("?")[0]
            if path in server.redirects:
                self.send_response(302)
                self.send_header("Location", server.redirects[path])
                self.end_headers()
                return
            if path not in server.files:
                self.send_error(404)
                return
            content, headers = server.files[path]
            self.send_response(200)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen, server.redirects = [], {}
    server.files = {
        "/x.safetensors": (CONTENT, {}),
        "/login.safetensors": (b"<html>Log in</html>" * 50, {}),
        "/cut.safetensors": (CONTENT[:-8], {}),
        "/short.safetensors": (CONTENT[:-8], {"Content-Length": str(len(CONTENT))}),
        "/unsized.safetensors": (CONTENT, {"Content-Length": ""}),
        "/model": (CONTENT, {"Content-Disposition": 'attachment; filename="y.safetensors"'}),
        "/page": (CONTENT, {}),
    }
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(timeout=10)


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_url_is_downloaded_once(server, tmp_path):
    url = f"{server.url}/x.safetensors?download=true"
    arguments = ([tmp_path / "loras"], True, tmp_path / "cache")
    path = resolve_lora(url, *arguments, web=LOOPBACK)
    assert path.parent == tmp_path / "cache" and path.read_bytes() == CONTENT
    assert path.name.startswith("x-") and path.suffix == ".safetensors"
    assert resolve_lora(url, *arguments, web=LOOPBACK) == path
    assert server.seen == [("/x.safetensors?download=true", server.url[7:])]
    other = resolve_lora(f"{server.url}/x.safetensors", *arguments, web=LOOPBACK)
    assert other != path and files_in(tmp_path) == sorted([path.name, other.name])


@pytest.mark.parametrize("name", ["model", "unsized.safetensors"])
def test_a_name_from_the_server_and_a_missing_length_will_do(server, tmp_path, name):
    path = download_lora(f"{server.url}/{name}", tmp_path, web=LOOPBACK)
    assert path.read_bytes() == CONTENT


def test_redirects_are_followed(server, tmp_path):
    server.redirects = {"/r.safetensors": "/s", "/s": f"{server.url}/x.safetensors"}
    path = download_lora(f"{server.url}/r.safetensors", tmp_path, web=LOOPBACK)
    assert path.name.startswith("r-") and len(server.seen) == 3


@pytest.mark.parametrize(
    ("target", "error", "text"),
    [
        ("http://169.254.169.254/x.safetensors", InputError, "private network"),
        ("http://10.0.0.1/x.safetensors", InputError, "private network"),
        ("file:///etc/passwd", InputError, "cannot be fetched"),
        ("/r.safetensors", UnavailableError, "more than 5 redirects"),
        ("/gone", UnavailableError, "404"),
    ],
)
def test_redirects_are_checked_too(server, tmp_path, target, error, text):
    server.redirects = {"/r.safetensors": target}
    with pytest.raises(error, match=text):
        download_lora(f"{server.url}/r.safetensors", tmp_path, web=LOOPBACK)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("page", InputError, "Only .safetensors"),
        ("gone.safetensors", UnavailableError, "404"),
        ("login.safetensors", ModelError, "asks for a login"),
        ("cut.safetensors", ModelError, "cut short"),
        ("short.safetensors", UnavailableError, "of .* bytes came"),
    ],
)
def test_what_is_no_lora_leaves_nothing_behind(server, tmp_path, name, error, text):
    with pytest.raises(error, match=text):
        download_lora(f"{server.url}/{name}", tmp_path, web=LOOPBACK)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("name", ["x.safetensors", "unsized.safetensors"])
def test_more_than_the_limit_is_refused(server, tmp_path, monkeypatch, name):
    monkeypatch.setattr(fetch, "MAX_BYTES", 1000)
    with pytest.raises(InputError, match="larger than"):
        download_lora(f"{server.url}/{name}", tmp_path, web=LOOPBACK)
    assert files_in(tmp_path) == []


def test_a_download_reports_and_can_be_cancelled(server, tmp_path):
    class Stopping(Silent):
        phases = ()

        def start(self, phase, total):
            self.phases = (*self.phases, (phase, total))

        def update(self, done, preview=None):
            raise KeyboardInterrupt

    reporter = Stopping()
    with pytest.raises(KeyboardInterrupt):
        download_lora(f"{server.url}/x.safetensors", tmp_path, reporter, LOOPBACK)
    assert reporter.phases == (("download LoRA", 1),) and files_in(tmp_path) == []


def test_an_unreachable_server_is_named(tmp_path):
    with pytest.raises(UnavailableError, match="refused"):
        download_lora("http://127.0.0.1:9/x.safetensors", tmp_path, web=LOOPBACK)


def test_the_host_header_of_a_real_url_has_no_port():
    from wan_local.wan.load.web import _Pinned

    connection = _Pinned(check_url("https://example.com/x"), "192.0.2.1")
    connection.sock = type("Sink", (), {"data": b"", "sendall": lambda s, d: sent.append(d)})()
    sent = []
    connection.request("GET", "/x")
    assert b"Host: example.com\r\n" in b"".join(sent)


def test_only_https_to_public_hosts_is_the_default():
    assert OPEN_WEB.schemes == ("https",) and OPEN_WEB.is_allowed is is_public
