"""Damaged weight files: each ends in one clear error, soon, and without filling the memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from formats import gguf_file, scaled_fp8
from wan_local.wan.preprocess.pose.onnx_file import data_files
from wan_local.wan.tiny import tiny_pose_files

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 2  # of CPU time: what else the machine does has no part in it
MEMORY = 256 << 20
# Damage that no loader can see: another number in a weight, or in a name or text nobody uses.
HARMLESS = ("bit of byte", "onnx: other bytes")


@pytest.fixture(scope="module")
def results(tiny, tmp_path_factory):
    whole, place = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("damaged")
    files = tiny / "comfyui/diffusion_models"
    i2v = files / "wan2.1_i2v_tiny.safetensors"
    (whole / "i2v.safetensors").write_bytes(i2v.read_bytes())
    animate = files / "wan2.2_animate_tiny.safetensors"
    fp8 = whole / "animate-fp8.safetensors"
    scaled_fp8(animate, fp8, torch.float8_e4m3fn, "scale_weight")
    gguf_file(i2v, whole / "i2v.gguf", "Q8_0")
    for name, source in (("umt5", "models_t5_umt5-tiny"), ("vae", "Wan2.1_VAE")):
        (whole / f"{name}.pth").write_bytes((tiny / f"official/{source}.pth").read_bytes())
    for name, path in zip(("detector", "pose"), tiny_pose_files(tiny), strict=True):
        (whole / f"{name}.onnx").write_bytes(path.read_bytes())
        for data in data_files(path):
            (place / data).write_bytes((path.parent / data).read_bytes())
            (whole / data).write_bytes((path.parent / data).read_bytes())
    vae = torch.load(whole / "vae.pth")
    torch.save(vae, whole / "old-vae.pth", _use_new_zipfile_serialization=False)
    done = subprocess.run(
        [
            sys.executable,
            str(Path(__file__).with_name("damage.py")),
            str(ROOT),
            str(whole),
            str(place),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert not (place / "executed").exists(), "code in a pickle ran"
    return json.loads(done.stdout.splitlines()[-1])


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="limits memory the way Linux does"),
]


def test_there_are_many_cases(results):
    assert len(results) >= 500
    names = ("i2v.safetensors", "animate-fp8", "gguf", "umt5.pth", "old-vae", "detector", "pose")
    for kind in names:
        assert sum(kind in case for case, *_ in results) >= 60


def test_each_ends_in_one_clear_error(results):
    strange = [(case, end) for case, end, *_ in results if end not in ("refused", "loaded")]
    assert not strange, strange[:5]
    loaded = [case for case, end, *_ in results if end == "loaded"]
    seen = [case for case in loaded if not any(piece in case for piece in HARMLESS)]
    assert not seen, seen[:9]


def test_each_ends_soon_and_in_bounded_memory(results):
    slow = [(case, seconds) for case, _, seconds, _ in results if seconds > SECONDS]
    assert not slow, slow[:5]
    large = [(case, grown) for case, *_, grown in results if grown > MEMORY]
    assert not large, large[:5]
