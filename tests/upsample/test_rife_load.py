"""RIFE files: recognised in every spelling, refused in words, found where people keep them."""

import pickle

import pytest
import torch
from rife_weights import LAYOUTS, fill, picture, shapes, write
from wan_local.wan.errors import MissingFileError, ModelError
from wan_local.wan.residency import DevicePlacement
from wan_local.wan.tiny import tiny_rife_folder
from wan_local.wan.upsample.rife.load import check_rife, find_rife, load_rife, rife_dtype

CPU = DevicePlacement("cpu")


@pytest.fixture(scope="module")
def weights():
    """A small RIFE with a value in every tensor."""
    return fill(shapes("small"), 0.6)


@torch.inference_mode()
def output(path):
    with load_rife(path, CPU).net.on_device() as net:
        first, second = picture(0, 64, 64), picture(0.6, 64, 64)
        return net(first, second, torch.tensor([0.5]), (net.encode(first), net.encode(second)))


def renamed(weights, spelling):
    def block_list(name):
        head, _, rest = name.partition(".")
        return f"blocks.{head[5:]}.{rest}" if head.startswith("block") else name

    return {
        "plain": lambda n: n,
        "DataParallel": lambda n: f"module.{n}",
        "ComfyUI's list": block_list,
        "both": lambda n: f"module.flownet.{block_list(n)}",
    }[spelling], weights


@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".pt", ".safetensors"])
@pytest.mark.parametrize("spelling", ["plain", "DataParallel", "ComfyUI's list", "both"])
def test_every_spelling_and_format_gives_the_same_network(tmp_path, weights, spelling, suffix):
    rename, _ = renamed(weights, spelling)
    plain = write(tmp_path / "plain.pth", weights)
    path = write(tmp_path / f"rife{suffix}", {rename(n): t for n, t in weights.items()})
    assert check_rife(path) == LAYOUTS["small"]
    assert (output(path) == output(plain)).all()


def test_files_of_old_torch_versions_load(tmp_path, weights):
    path = tmp_path / "flownet.pkl"
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    assert check_rife(path) == LAYOUTS["small"]


def test_what_only_training_needs_is_ignored(tmp_path, weights):
    extra = {
        "module.teacher.conv0.0.0.weight": torch.zeros(4, 4, 3, 3),
        "module.caltime.0.weight": torch.zeros(8, 25, 3, 3),
    }
    path = write(tmp_path / "a.pth", {f"module.{n}": t for n, t in weights.items()} | extra)
    assert (output(path) == output(write(tmp_path / "b.pth", weights))).all()


def test_half_precision_files_load(tmp_path, weights):
    path = write(tmp_path / "half.safetensors", {n: t.half() for n, t in weights.items()})
    exact = output(write(tmp_path / "full.safetensors", weights))
    # Weights rounded to 11 bits.
    assert 0 < (output(path) - exact).abs().max() < 0.02


def test_precision_by_device():
    assert rife_dtype(torch.device("cpu")) == torch.float32
    assert rife_dtype(torch.device("cuda")) == torch.float16


def film():
    return {"extract.extract_sublevels.convs.0.0.conv.weight": (8, 3, 3, 3)}


def without(name, *parts):
    return {k: s for k, s in shapes(name).items() if not any(p in k for p in parts)}


def changed(name, key, shape):
    return {**shapes(name), key: shape}


def old_version_4():
    """RIFE 4.6: no encoder, seven channels in."""
    return {
        "block0.conv0.0.0.weight": (96, 7, 3, 3),
        "block0.conv0.1.0.weight": (192, 96, 3, 3),
        "block0.convblock.0.conv.weight": (192, 192, 3, 3),
        "block0.lastconv.0.weight": (192, 24, 4, 4),
    }


def old_version_3():
    """RIFE 3.5: one enlarging convolution instead of two."""
    table = without("3 HD", "conv1.", "conv2.")
    return table | {"block0.conv1.0.weight": (90, 4, 4, 4), "block0.conv2.weight": (90, 1, 4, 4)}


REFUSED = {
    "FILM": (film(), "a FILM model"),
    "4.6": (old_version_4(), "RIFE 4.0 to 4.6"),
    "3.5": (old_version_3(), "RIFE 3.0 to 3.5"),
    "another model": ({"conv_in.weight": (8, 3, 3, 3)}, "no RIFE network that is known here"),
    "a missing block": (without("small", "block4", "block3"), "unknown or incomplete RIFE 4"),
    "a missing tensor": (without("small", "block2.convblock.1.beta"), "1 missing"),
    "a missing tensor of v3": (without("3 HD", "block1.conv0.1.0.bias"), "1 missing"),
    "a tensor too many": (changed("small", "refine.weight", (4,)), "left over"),
    "another shape": (changed("small", "block3.conv0.0.0.weight", (4, 21, 3, 3)), "another shape"),
    "other features": (changed("small", "block1.conv0.0.0.weight", (4, 27, 3, 3)), "unknown"),
    "no axis": (changed("small", "block0.conv0.1.0.weight", ()), "unknown or incomplete RIFE 4"),
    "another encoder": (without("small", "encode.cnn3"), "unknown or incomplete RIFE 4"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_other_files_are_refused_by_name(tmp_path, case, suffix):
    table, expected = REFUSED[case]
    path = write(tmp_path / f"x{suffix}", {name: torch.zeros(s) for name, s in table.items()})
    with pytest.raises(ModelError, match=expected) as error:
        check_rife(path)
    assert path.name in error.value.what and error.value.fix


@pytest.mark.parametrize("case", ["FILM", "4.6", "3.5", "another model"])
def test_a_refusal_of_an_unknown_version_names_those_that_work(tmp_path, case):
    table = REFUSED[case][0]
    path = write(tmp_path / "x.pth", {name: torch.zeros(s) for name, s in table.items()})
    with pytest.raises(ModelError) as error:
        check_rife(path)
    assert "RIFE 4.7 to 4.26" in str(error.value) and "rife_v4.26.safetensors" in error.value.fix


def test_quantised_weights_are_refused(tmp_path):
    table = {n: torch.zeros(s, dtype=torch.int8) for n, s in shapes("small").items()}
    with pytest.raises(ModelError, match=r"stores '.*' as I8"):
        check_rife(write(tmp_path / "x.safetensors", table))


@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".safetensors"])
def test_a_broken_download_is_refused(tmp_path, weights, suffix):
    path = write(tmp_path / f"rife{suffix}", weights)
    path.write_bytes(path.read_bytes()[:-10_000])
    with pytest.raises(ModelError, match=path.name) as error:
        check_rife(path)
    assert "rife_v4.26.safetensors" in error.value.fix


def test_a_web_page_is_refused(tmp_path):
    path = tmp_path / "rife47.pth"
    path.write_text("<!DOCTYPE html>404")
    with pytest.raises(ModelError, match=r"rife47.pth"):
        check_rife(path)


def test_code_in_a_pickle_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "run"), "w"))

    path = tmp_path / "flownet.pkl"
    path.write_bytes(pickle.dumps({"block0.conv0.0.0.weight": Evil()}, 2))
    with pytest.raises(ModelError, match="foreign code"):
        check_rife(path)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@torch.inference_mode()
def test_a_file_that_is_replaced_does_no_harm_to_a_network_in_use(tmp_path, weights, suffix):
    path = write(tmp_path / f"rife{suffix}", weights)
    with load_rife(path, CPU).net.on_device() as net:
        before = [p.clone() for p in net.parameters()]
        with path.open("r+b") as file:
            file.write(bytes(path.stat().st_size))
        assert all((p == old).all() for p, old in zip(net.parameters(), before, strict=True))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"gone\.pth"):
        check_rife(tmp_path / "gone.pth")


def zeros(name):
    return {key: torch.zeros(shape) for key, shape in shapes(name).items()}


def test_the_newest_version_is_found_in_folders_of_folders(tmp_path):
    first, second = tmp_path / "frame_interpolation", tmp_path / "rife" / "train_log"
    for folder in (first, second):
        folder.mkdir(parents=True)
    write(second / "flownet.pkl", zeros("3 HD"))
    assert find_rife([tmp_path / "none", first, second.parent]) == second / "flownet.pkl"
    write(first / "rife49.pth", zeros("4.7"))
    assert find_rife([first, second.parent]) == first / "rife49.pth"
    write(second / "rife_v4.25_lite.safetensors", zeros("4.25 lite"))
    write(second / "rife_v4.25.safetensors", zeros("4.25"))
    write(second / "rife_v4.26.safetensors", zeros("4.25"))
    assert find_rife([first, second.parent]).name == "rife_v4.26.safetensors"


def test_where_nothing_fits_every_reason_is_told(tmp_path):
    with pytest.raises(MissingFileError, match="No RIFE weights are in") as error:
        find_rife([tmp_path])
    assert str(tmp_path) in error.value.what and "frame_interpolation" in error.value.fix
    write(tmp_path / "film.pth", {"extract.extract_sublevels.x": torch.zeros(1)})
    (tmp_path / "readme.txt").write_text("not weights")
    with pytest.raises(MissingFileError, match=r"'film\.pth' is a FILM model") as error:
        find_rife([tmp_path])
    assert "readme" not in error.value.what


def test_the_tiny_one_is_small_and_loads(tiny):
    path = find_rife([tiny_rife_folder(tiny)])
    assert path.stat().st_size < 200_000
    assert "4 of an unusual size" in check_rife(path).label


def test_weights_are_read_when_they_are_first_used(tiny):
    rife = load_rife(find_rife([tiny_rife_folder(tiny)]), CPU)
    assert not rife.net.is_loaded
    with rife.net.on_device() as net:
        assert not any(p.requires_grad for p in net.parameters()) and not net.training
    assert rife.net.is_loaded
