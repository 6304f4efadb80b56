"""`python -m wan models` says what is there, missing, cut off or of the wrong kind, and fetches."""

import shutil

import pytest
from hub import Hub
from wan_local.wan import cli
from wan_local.wan.errors import MissingFileError
from wan_local.wan.inventory import command
from wan_local.wan.inventory.presence import check_app, models_folder
from wan_local.wan.load.catalog import CLIP, I2V_480P, UMT5_FP8, VAE
from wan_local.wan.load.files import find_files
from wan_local.wan.payloads import Variant
from wan_local.wan.progress import Silent

I2V, ANIMATE = "wan2-1-i2v", "wan-2-2-animate-v2v"


@pytest.fixture
def models(tiny, tmp_path):
    """A models folder of ComfyUI with the miniatures in it."""
    folder = tmp_path / "models"
    shutil.copytree(tiny / "comfyui", folder)
    return folder


def by_part(app, models):
    return {presence.need.part: presence for presence in check_app(app, models)}


def test_a_complete_folder(models, capsys):
    assert cli.main(["models", "--models", str(models)]) == 0
    text = capsys.readouterr().out
    assert "MISSING" not in text and "(character animation)" in text
    assert by_part(I2V, models)["rife"].found and not by_part(ANIMATE, models)["sam2"].found


def test_an_empty_folder_names_every_file_and_the_command(tmp_path, capsys):
    assert cli.main(["models", "--models", str(tmp_path)]) == 1
    text = capsys.readouterr().out
    for file in (I2V_480P, UMT5_FP8, VAE, CLIP):
        assert f"{file.folder}/{file.name}" in text and file.repository in text
    assert text.count("MISSING") == 4 + 6
    assert f"--download {I2V}" in text and f"--download {ANIMATE}" in text


def test_only_one_app(tmp_path, capsys):
    cli.main(["models", "--models", str(tmp_path), "--app", ANIMATE])
    assert I2V not in capsys.readouterr().out


def test_a_comfyui_folder_will_do(models):
    assert models_folder(models.parent) == models == models_folder(models)


def test_a_file_that_was_cut_off(models, capsys):
    path = next((models / "vae").glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-100])
    found = by_part(I2V, models)["vae"]
    assert found.is_missing and any("bytes" in problem for problem in found.problems)
    assert cli.main(["models", "--models", str(models)]) == 1
    assert path.name in capsys.readouterr().out


def test_a_file_of_the_wrong_kind(models):
    vae = next((models / "vae").glob("*.safetensors"))
    shutil.copy(next((models / "clip_vision").glob("*.safetensors")), vae)
    (problem,) = by_part(I2V, models)["vae"].problems
    assert "is a CLIP vision encoder, not a Wan VAE" in problem


def test_a_transformer_for_another_app(models):
    for path in (models / "diffusion_models").glob("*animate*"):
        path.unlink()
    assert by_part(ANIMATE, models)["transformer"].is_missing
    assert not by_part(I2V, models)["transformer"].is_missing


@pytest.mark.parametrize("length", [0, 5, -40])
def test_a_damaged_onnx_file(models, length):
    path = models / "detection" / "yolov10m.onnx"
    path.write_bytes(path.read_bytes()[:length])
    found = by_part(ANIMATE, models)["detector"]
    assert found.is_missing and "yolov10m.onnx" in found.problems[0]


def test_what_a_download_has_begun_is_not_taken_for_a_file(models):
    staging = models / "vae" / ".wan-download"
    staging.mkdir()
    vae = next((models / "vae").glob("*.safetensors"))
    vae.rename(staging / vae.name)
    assert by_part(I2V, models)["vae"].is_missing
    with pytest.raises(MissingFileError, match="vae: nothing fitting"):
        find_files(models, Variant.I2V)


@pytest.fixture
def hub(tiny):
    hub = Hub()
    yield hub
    hub.close()


def test_all_that_an_app_lacks_is_fetched(models, hub):
    for file in (VAE, CLIP):
        (path,) = (models / file.folder).glob("*.safetensors")
        hub.files[file.repository, file.path] = path.read_bytes()
        path.unlink()
    fetched = command.fetch(I2V, models, Silent(), hub.url)
    assert [path.name for path in fetched] == [VAE.name, CLIP.name]
    assert not any(presence.is_missing for presence in check_app(I2V, models))
    assert command.fetch(I2V, models, Silent(), hub.url) == []


def test_one_file_by_its_name(tmp_path, hub):
    hub.files[VAE.repository, VAE.path] = b"content"
    assert command.fetch(VAE.name, tmp_path, Silent(), hub.url)[0].read_bytes() == b"content"


def test_checksums_are_compared_with_those_of_the_hub(models, hub, monkeypatch, capsys):
    path = next((models / "vae").glob("*.safetensors"))
    path = path.rename(path.with_name(VAE.name))
    hub.files[VAE.repository, VAE.path] = path.read_bytes()
    plain = command.ask_hub
    monkeypatch.setattr(command, "ask_hub", lambda file: plain(file, hub.url))
    check = ["models", "--models", str(models), "--app", I2V, "--check"]
    assert cli.main(check) == 0
    assert f"{VAE.name}: its checksum is right" in capsys.readouterr().out
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert cli.main(check) == 1
    assert f"{VAE.name}: WRONG" in capsys.readouterr().out


def test_a_folder_that_is_not_there(tmp_path, capsys):
    assert cli.main(["models", "--models", str(tmp_path / "nothing")]) == cli.BAD_INPUT
    assert "is not there" in capsys.readouterr().err


def test_a_name_that_is_not_in_the_catalog(tmp_path, capsys):
    command_line = ["models", "--models", str(tmp_path), "--download", "what.safetensors"]
    assert cli.main(command_line) == cli.BAD_INPUT
    assert VAE.name in capsys.readouterr().err


def test_a_run_names_all_missing_files_with_their_sources(tmp_path, capsys, tiny):
    (tmp_path / "diffusion_models").mkdir()
    picture = tmp_path / "a.png"
    from PIL import Image

    Image.new("RGB", (64, 64)).save(picture)
    inputs = ["--input=prompt=a cat", f"--input=input_image={picture}"]
    assert cli.main(["run", I2V, *inputs, "--models", str(tmp_path)]) == cli.BAD_INPUT
    text = capsys.readouterr().err
    for file in (I2V_480P, UMT5_FP8, VAE, CLIP):
        assert file.name in text and file.repository in text
    assert "python -m wan models" in text
