import json
import struct

import pytest
import torch
from safetensors.torch import save_file
from wan_local.wan.errors import MissingFileError, ModelError
from wan_local.wan.load.header import find_weights, read_header


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(4, 3), "b": torch.ones(2, dtype=torch.bfloat16)}, path, {"k": "v"})
    return path


def test_header_tells_types_shapes_and_metadata(file):
    header = read_header(file)
    assert header.tensors == {"a": ("F32", (4, 3)), "b": ("BF16", (2,))}
    assert header.metadata == {"k": "v"}
    assert header.files == (file,)


def test_pickled_file_reads_like_safetensors(file, tmp_path):
    torch.save(
        {"a": torch.zeros(4, 3), "b": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "m.pth"
    )
    assert read_header(tmp_path / "m.pth").tensors == read_header(file).tensors


def test_truncated_file_names_expected_and_found_bytes(file):
    whole = file.read_bytes()
    file.write_bytes(whole[:-10])
    with pytest.raises(
        ModelError, match=f"expected {len(whole)} bytes, found {len(whole) - 10}"
    ) as e:
        read_header(file)
    assert "download it again" in e.value.fix


@pytest.mark.parametrize("size", [0, 5, 8, 40])
def test_file_cut_inside_its_header(file, size):
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(ModelError, match=f"cut short.*found {size}"):
        read_header(file)


@pytest.mark.parametrize(
    "content", [b"<!DOCTYPE html><html>", struct.pack("<Q", 4) + b"{ab}", b"x" * 99]
)
def test_other_file_is_not_safetensors(tmp_path, content):
    path = tmp_path / "page.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="not a safetensors file"):
        read_header(path)


def test_missing_file(tmp_path):
    with pytest.raises(MissingFileError, match=r"none\.safetensors"):
        read_header(tmp_path / "none.safetensors")


@pytest.mark.parametrize("name", ["model.gguf", "model.safetensors"])
def test_gguf_is_known_by_its_first_bytes(tmp_path, name):
    (tmp_path / name).write_bytes(b"GGUF" + b"\0" * 20)
    with pytest.raises(ModelError, match="GGUF: version 0"):
        read_header(tmp_path / name)


def test_other_file_is_not_gguf(tmp_path):
    (tmp_path / "page.gguf").write_bytes(b"<!DOCTYPE html><html>")
    with pytest.raises(ModelError, match="not a GGUF file"):
        read_header(tmp_path / "page.gguf")


def test_shards_read_as_one(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "m-1.safetensors")
    save_file({"b": torch.zeros(2)}, tmp_path / "m-2.safetensors")
    index = tmp_path / "m.safetensors.index.json"
    weight_map = {"a": "m-1.safetensors", "b": "m-2.safetensors"}
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert set(read_header(index).tensors) == {"a", "b"}
    assert find_weights(tmp_path) == index
    (tmp_path / "m-2.safetensors").unlink()
    with pytest.raises(MissingFileError, match=r"1 of 2 shards.*m-2\.safetensors"):
        read_header(index)


def test_index_of_other_shards(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "m-1.safetensors")
    index = tmp_path / "m.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "m-1.safetensors", "z": "m-1.safetensors"}}))
    with pytest.raises(ModelError, match="'z'"):
        read_header(index)
    index.write_text("[]")
    with pytest.raises(ModelError, match="not a shard index"):
        read_header(index)


def test_shards_without_index(tmp_path):
    for i in (1, 2):
        save_file({"a": torch.zeros(1)}, tmp_path / f"m-0000{i}-of-00002.safetensors")
    with pytest.raises(MissingFileError, match=r"no .*index"):
        find_weights(tmp_path)


def test_folder_of_several_files_is_ambiguous(tmp_path):
    for name in ("x", "y"):
        save_file({"a": torch.zeros(1)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(ModelError, match="2 weight files"):
        read_header(tmp_path)


class Trap:
    def __reduce__(self):
        return (print, ("executed",))


def test_pickle_with_code_is_refused(tmp_path, capsys):
    torch.save({"a": Trap()}, tmp_path / "bad.pth")
    with pytest.raises(ModelError, match=r"foreign code|cannot be read"):
        read_header(tmp_path / "bad.pth")
    assert "executed" not in capsys.readouterr().out


def test_cut_pickle_is_refused(tmp_path):
    path = tmp_path / "m.pth"
    torch.save({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ModelError, match="2000 bytes"):
        read_header(path)


def test_pickle_of_something_else_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ModelError, match="table of tensors"):
        read_header(tmp_path / "list.pth")
