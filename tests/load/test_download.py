"""Files of the catalog come whole or not at all: resumed, checked, moved; nothing comes unasked."""

import shutil
from collections import namedtuple

import pytest
from hub import Hub
from wan_local.wan.errors import Cancelled, InputError, ModelError, OutputError, UnavailableError
from wan_local.wan.load.catalog import NEEDS, VAE, VARIANTS, all_files, suggestion
from wan_local.wan.load.download import ask_hub, download, find_in_catalog
from wan_local.wan.params import APPS
from wan_local.wan.progress import Silent

CONTENT = bytes(range(256)) * 12000  # 3 MB
KEY = (VAE.repository, VAE.path)


class Watch(Silent):
    def __init__(self, cancel_at=None):
        self.values, self.lines, self.total, self.cancel_at = [], [], 0, cancel_at

    def start(self, phase, total):
        self.total = total

    def update(self, done, preview=None):
        self.values.append(done)
        if self.cancel_at is not None and done >= self.cancel_at:
            raise Cancelled

    def status(self, text):
        self.lines.append(text)


@pytest.fixture
def hub(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)  # of the library: 10 MB
    hub = Hub()
    hub.files[KEY] = CONTENT
    yield hub
    hub.close()


def gets(hub):
    return [span for method, _, span in hub.asked if method == "GET"]


def left_over(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_file_comes_to_its_place_and_nothing_else_stays(hub, tmp_path):
    watch = Watch()
    path = download(VAE, tmp_path / "vae", watch, hub.url)
    assert path == tmp_path / "vae" / VAE.name and path.read_bytes() == CONTENT
    assert left_over(tmp_path) == [path]
    assert watch.total == watch.values[-1] == len(CONTENT)
    assert watch.lines[-1] == f"{VAE.name}: 3.1 MB of 3.1 MB"


def test_what_is_there_is_not_fetched_and_nobody_is_asked(hub, tmp_path):
    (tmp_path / "vae").mkdir()
    path = tmp_path / "vae" / VAE.name
    path.write_bytes(b"mine")
    assert (
        download(VAE, tmp_path / "vae", Silent(), hub.url).read_bytes() == b"mine"
        and hub.asked == []
    )


def test_a_connection_that_breaks_goes_on_where_it_broke(hub, tmp_path, monkeypatch):
    """Also in another process, days later: what came is kept."""
    from huggingface_hub import file_download

    plain = file_download.http_get

    def dies(url, temp_file, **options):
        temp_file.write(CONTENT[:1_000_000])
        raise ConnectionError("the line is dead")

    monkeypatch.setattr(file_download, "http_get", dies)
    with pytest.raises(UnavailableError, match="the line is dead"):
        download(VAE, tmp_path / "vae", Silent(), hub.url)
    assert not (tmp_path / "vae" / VAE.name).exists()
    monkeypatch.setattr(file_download, "http_get", plain)
    watch = Watch()
    path = download(VAE, tmp_path / "vae", watch, hub.url)
    assert path.read_bytes() == CONTENT and left_over(tmp_path) == [path]
    assert gets(hub) == ["bytes=1000000-"] and min(watch.values) > 1_000_000


def test_another_content_is_not_put_behind_the_old_one(hub, tmp_path):
    hub.files[KEY] = CONTENT * 10
    with pytest.raises(Cancelled):
        download(VAE, tmp_path / "vae", Watch(cancel_at=1_000_000), hub.url)
    hub.files[KEY] = b"new" * 1000
    path = download(VAE, tmp_path / "vae", Silent(), hub.url)
    assert path.read_bytes() == b"new" * 1000 and left_over(tmp_path) == [path]


def test_a_short_break_is_mended_by_the_library(hub, tmp_path):
    hub.cut_after = 1_000_000
    assert download(VAE, tmp_path / "vae", Silent(), hub.url).read_bytes() == CONTENT
    assert len(gets(hub)) == 2 and gets(hub)[1].startswith("bytes=")


def test_cancelling_leaves_no_file_under_the_name_and_the_next_try_goes_on(hub, tmp_path):
    hub.files[KEY] = CONTENT * 10
    with pytest.raises(Cancelled):
        download(VAE, tmp_path / "vae", Watch(cancel_at=1_000_000), hub.url)
    assert not (tmp_path / "vae" / VAE.name).exists()
    assert left_over(tmp_path)  # what came so far
    path = download(VAE, tmp_path / "vae", Silent(), hub.url)
    assert path.read_bytes() == CONTENT * 10 and left_over(tmp_path) == [path]
    assert gets(hub)[-1] == "bytes=900000-"  # the last piece was not written any more


def test_a_wrong_checksum_is_told_and_the_file_deleted(hub, tmp_path):
    hub.sums[KEY] = "0" * 64
    with pytest.raises(ModelError, match="names 0000000000000000") as error:
        download(VAE, tmp_path / "vae", Silent(), hub.url)
    assert "deleted" in error.value.why
    assert not any(path.name == VAE.name for path in left_over(tmp_path))
    del hub.sums[KEY]
    assert download(VAE, tmp_path / "vae", Silent(), hub.url).read_bytes() == CONTENT


def test_too_little_room_is_told_before_anything_comes(hub, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 10**8))
    with pytest.raises(OutputError, match=r"is 3.1 MB, and 0.1 GB are free") as error:
        download(VAE, tmp_path / "vae", Silent(), hub.url)
    assert "0.5 GB are needed" in error.value.why and gets(hub) == []


def test_offline_mode_is_honoured(hub, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UnavailableError, match="HF_HUB_OFFLINE"):
        download(VAE, tmp_path / "vae", Silent(), hub.url)
    assert hub.asked == [] and left_over(tmp_path) == []


def test_a_file_that_the_hub_does_not_have(hub, tmp_path):
    hub.files.clear()
    with pytest.raises(UnavailableError, match=VAE.repository) as error:
        download(VAE, tmp_path / "vae", Silent(), hub.url)
    assert VAE.url in error.value.fix


def test_no_hub_at_all(tmp_path):
    with pytest.raises(UnavailableError, match="could not be fetched"):
        download(VAE, tmp_path / "vae", Silent(), "http://127.0.0.1:9")


def test_a_folder_that_cannot_be_written(hub, tmp_path):
    (tmp_path / "vae").write_text("a file")
    with pytest.raises(OutputError, match="cannot be written"):
        download(VAE, tmp_path / "vae", Silent(), hub.url)


def test_the_hub_names_size_and_sum(hub):
    remote = ask_hub(VAE, hub.url)
    assert remote.size == len(CONTENT) and len(remote.sha256) == 64


def test_the_catalog_is_complete_and_consistent():
    assert set(NEEDS) == set(VARIANTS) == set(APPS)
    names = [(file.folder, file.name) for file in all_files()]
    assert len(set(names)) == len(names)
    for file in all_files():
        assert file.licence and file.repository.count("/") == 1
        assert file.path.endswith(file.name.rpartition("/")[2])
    for needs in NEEDS.values():
        parts = [need.part for need in needs]
        assert parts[:4] == ["transformer", "text_encoder", "vae", "image_encoder"]


def test_a_file_is_found_by_its_name():
    files = list(all_files())
    assert find_in_catalog(VAE.name, files) is VAE
    with pytest.raises(InputError, match=VAE.name):
        find_in_catalog("nothing.safetensors", files)
    assert VAE.name in suggestion("vae")
    assert "animate" in suggestion("transformer", VARIANTS["wan-2-2-animate-v2v"])
