import logging
import os

import pytest
from wan_local.wan.service.keys import KEY_VARIABLE, Keys, signing_bytes
from wan_local.wan.service.problems import ApiError


def mode(path):
    return path.stat().st_mode & 0o777


def test_the_first_start_makes_private_files_with_different_secrets(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    folder = tmp_path / "new" / "data"
    keys = Keys.load(folder, {})
    made = sorted(folder.iterdir())
    assert [path.name for path in made] == ["keys", "link_secret", "webhook_secret"]
    assert all(mode(path) == 0o600 for path in made)
    texts = [path.read_text().strip() for path in made]
    assert len(set(texts)) == 3 and all(len(text) > 40 for text in texts)
    assert texts[0].startswith("inf_") and texts[2].startswith("whsec_")
    assert len(signing_bytes(keys.webhook_secret)) == 32
    assert keys.is_new and keys.path == folder / "keys"
    assert keys.check(f"Bearer {texts[0]}").startswith("key_")
    assert not any(text in caplog.text or text in repr(vars(keys)["_digests"]) for text in texts)


def test_keys_and_secrets_survive_a_restart(tmp_path):
    first = Keys.load(tmp_path, {})
    header = "Bearer " + (tmp_path / "keys").read_text().strip()
    second = Keys.load(tmp_path, {})
    assert not second.is_new
    assert second.check(header) == first.check(header)
    assert second.link_secret == first.link_secret
    assert second.webhook_secret == first.webhook_secret


def test_a_file_may_hold_several_keys_and_comments(tmp_path):
    (tmp_path / "keys").write_text("# anna\nfirst-key\n\n  second-key  \n")
    keys = Keys.load(tmp_path, {})
    assert keys.check("Bearer first-key") != keys.check("Bearer second-key")
    for wrong in ("# anna", "anna", "first-key\nsecond-key"):
        with pytest.raises(ApiError):
            keys.check(f"Bearer {wrong}")


def test_the_environment_replaces_the_file(tmp_path):
    keys = Keys.load(tmp_path, {KEY_VARIABLE: " from-outside "})
    assert keys.check("Bearer from-outside")
    assert keys.path is None and not (tmp_path / "keys").exists()


def test_an_empty_file_is_filled(tmp_path):
    (tmp_path / "keys").touch()
    assert Keys.load(tmp_path, {}).is_new
    assert (tmp_path / "keys").read_text().startswith("inf_")


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
def test_a_file_that_others_can_read_is_closed(tmp_path, caplog):
    path = tmp_path / "keys"
    path.write_text("open-key\n")
    path.chmod(0o644)
    Keys.load(tmp_path, {})
    assert mode(path) == 0o600
    assert str(path) in caplog.text and "open-key" not in caplog.text


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Basic a2V5",
        "key",
        "Bearer wrong",
        "Bearer ké",
        "Bearer \udcff",
        "Bearer keyy",
        "Bearer ke",
    ],
)
def test_other_headers_are_refused(tmp_path, header):
    with pytest.raises(ApiError) as refusal:
        Keys.load(tmp_path, {KEY_VARIABLE: "key"}).check(header)
    assert refusal.value.status == 401
    assert refusal.value.headers["WWW-Authenticate"] == "Bearer"


def test_the_scheme_may_be_spelled_in_any_case(tmp_path):
    keys = Keys.load(tmp_path, {KEY_VARIABLE: "key"})
    assert keys.check("bearer  key ") == keys.check("Bearer key")
