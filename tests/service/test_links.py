from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from file_records import settings
from wan_local.wan.service.links import Links
from wan_local.wan.service.problems import ApiError
from wan_local.wan.service.records import File

ORIGIN = "http://127.0.0.1:8188"


@pytest.fixture
def clock():
    return [1000.0]


@pytest.fixture
def links(tmp_path, clock):
    return Links(settings(tmp_path), b"secret", clock=lambda: clock[0])


@pytest.fixture
def file():
    return File("a b é/?.png", "image/png", upload_expires=1060)


def parts(url):
    assert url.startswith(ORIGIN + "/infsh/files/")
    file_id, upload, expires, signature = urlsplit(url).path.split("/")[3:]
    assert upload == "upload"
    return file_id, expires, signature


def test_an_upload_link_is_accepted_until_it_expires(links, file, clock):
    link = parts(links.upload_url(ORIGIN, file))
    assert link[0] == file.id
    links.check_upload(*link)
    clock[0] = 1060.5
    with pytest.raises(ApiError, match="expired") as refusal:
        links.check_upload(*link)
    assert refusal.value.status == 403


@pytest.mark.parametrize("changed", [0, 1, 2])
@pytest.mark.parametrize("to", ["", "2000", "é", "\udcff", "0" * 64, "1e9", "-1"])
def test_a_changed_link_is_forbidden(links, file, changed, to):
    link = list(parts(links.upload_url(ORIGIN, file)))
    link[changed] = to
    with pytest.raises(ApiError) as refusal:
        links.check_upload(*link)
    assert refusal.value.status == 403


def test_another_secret_makes_other_links(links, file, tmp_path, clock):
    other = Links(settings(tmp_path), b"other", clock=lambda: clock[0])
    with pytest.raises(ApiError):
        links.check_upload(*parts(other.upload_url(ORIGIN, file)))


def test_content_addresses_lead_back_to_the_file(links, file):
    url = links.content_url(ORIGIN, file)
    assert url == f"{ORIGIN}/infsh/files/{file.id}/content/a%20b%20%C3%A9%2F%3F.png"
    assert links.file_id(url) == file.id
    assert links.file_id(url.replace("127.0.0.1", "localhost") + "?x=1") == file.id
    assert links.file_id(file.id) == file.id
    assert links.file_id(f"{ORIGIN}/infsh/files/{file.id}") == file.id
    assert links.is_own(url, ORIGIN)
    assert not links.is_own("http://127.0.0.1:81889/infsh/files/x", ORIGIN)


def test_a_file_without_a_name_gets_one_in_its_address(links, file):
    url = links.content_url(ORIGIN, replace(file, filename=""))
    assert url.endswith("/content/file.png")


@pytest.mark.parametrize(
    "address",
    [
        "",
        "a cat",
        "http://[",
        "/etc/passwd",
        "file_123",
        "https://example.com/cat.png",
        "http://h/files/file_00000000000000000000000000000000/upload/1/2",
        "http://h/files/file_00000000000000000000000000000000/content/a/../b",
        "file_00000000000000000000000000000000\n",
    ],
)
def test_other_texts_hold_no_id(links, address):
    assert links.file_id(address) is None


def test_a_public_address_replaces_that_of_the_request(tmp_path, file):
    links = Links(settings(tmp_path, public_url="https://me.example/wan/"), b"s")
    assert links.content_url(ORIGIN, file).startswith("https://me.example/wan/files/file_")
    assert links.upload_url(ORIGIN, file).startswith("https://me.example/wan/files/file_")
