"""Both apps on two ranks, by the command line and in the process of the service."""

import itertools
import os
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from serve_process import ASSETS, LONG
from service.test_worker import ANIMATE, DANCE, I2V, on_bench
from wan_local.wan.cli import main
from wan_local.wan.errors import InputError, UnavailableError
from wan_local.wan.parallel import rank_devices
from wan_local.wan.parallel.wire import allocate, describe, pack, unpack
from wan_local.wan.payloads import Variant
from wan_local.wan.sample.guidance import Guidance
from wan_local.wan.sample.settings import SampleSettings
from wan_local.wan.service.statuses import Status

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or not torch.distributed.is_available(),
    reason="needs processes that fork, and torch.distributed",
)

PICTURE = {
    "prompt": "a red ball rolls",
    "input_image": ASSETS / "sample.png",
    "size": "160x96",
    "num_frames": 9,
    "num_inference_steps": 4,
    "seed": 3,
}
SHARE = 1e-3
"""Of the numbers of a video that rounding may move to their neighbour."""


@pytest.fixture
def run(tiny, tmp_path, monkeypatch, capsys):
    """Runs an app by the command line in this process; gives (status, frames, stderr)."""
    folder = tmp_path / "caches" / "wan_local"
    folder.mkdir(parents=True)
    (folder / "tiny").symlink_to(tiny, target_is_directory=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent))
    numbers = itertools.count()

    def call(app, values, *options):
        out = tmp_path / f"{next(numbers)}.mkv"  # without loss
        pairs = [part for pair in values.items() for part in ("--input", "{}={}".format(*pair))]
        given = ["run", app, *pairs, "--models", "tiny", "--device", "cpu", "--out", str(out)]
        status = main([*given, *options])
        return status, frames_of(out) if out.exists() else None, capsys.readouterr().err

    return call


def frames_of(path):
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


@pytest.mark.parametrize(
    ("app", "values"), [(I2V, PICTURE), (ANIMATE, {**DANCE, "clip_len": 9, "seed": 3})]
)
def test_two_ranks_make_the_video_of_one(run, app, values):
    _, alone, _ = run(app, values)
    status, shared, said = run(app, values, "--ranks", "2")
    assert status == 0 and "2 ranks compute together: cpu, cpu" in said
    moved = np.abs(shared.astype(int) - alone.astype(int))
    assert moved.max() <= 1 and (moved > 0).mean() < SHARE, (moved.max(), (moved > 0).mean())


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_the_service_runs_cancels_and_runs_again(tmp_path):
    async def script(bench):
        await bench.submit("a", seed=5)
        assert (await bench.end("a")).status is Status.COMPLETED
        await bench.submit("b", **LONG)
        await bench.until(lambda: {"sample 2/100"} & {s for _, s in bench.of("b", "progress")})
        await bench.executor.cancel("b")
        assert (await bench.end("b")).status is Status.CANCELLED
        await bench.submit("c")
        assert (await bench.end("c")).status is Status.COMPLETED
        (rank,) = children(bench.executor.pid)
        os.kill(bench.executor.pid, 9)
        await bench.until(lambda: not is_alive(rank))

    on_bench(tmp_path, script, arguments=("--ranks", "2"))


def children(pid):
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(number) for number in found.split()]


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_ranks_that_cannot_be_are_refused(run, monkeypatch):
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert rank_devices(cpu, 3) == (cpu,) * 3
    with pytest.raises(InputError, match="number of ranks is 0"):
        rank_devices(cpu, 0)
    with pytest.raises(UnavailableError, match="not on mps"):
        rank_devices(torch.device("mps"), 2)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert [device.index for device in rank_devices(gpu, 4)] == [0, 1, 2, 3]
    assert [device.index for device in rank_devices(torch.device("cuda:2"), 2)] == [2, 3]
    with pytest.raises(InputError, match="5 ranks were asked for, and there are 4 GPUs"):
        rank_devices(gpu, 5)
    with pytest.raises(InputError, match="there are 1 GPUs from cuda:3 on"):
        rank_devices(torch.device("cuda:3"), 2)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: False)
    with pytest.raises(UnavailableError, match="without NCCL"):
        rank_devices(gpu, 2)
    assert main(["serve", "--models", "tiny", "--ranks", "0"]) == 2
    monkeypatch.setattr(torch.distributed, "is_available", lambda: False)
    status, frames, said = run(I2V, PICTURE, "--ranks", "2")
    assert status == 2 and frames is None and "built without torch.distributed" in said


def test_records_go_over_the_wire_as_they_are():
    value = (SampleSettings(guidance=Guidance(2.5)), Variant.ANIMATE, None, torch.arange(6.0))
    tensors = []
    packed = pack(value, tensors)
    found = unpack(packed, tensors, (SampleSettings, Guidance, Variant, type(value[0].options)))
    assert found[:3] == value[:3] and torch.equal(found[3], value[3])
    (room,) = allocate(describe([value[3].bfloat16().view(2, 3)]))
    assert room.shape == (2, 3) and room.dtype is torch.bfloat16
    with pytest.raises(TypeError, match="object cannot"):
        pack(object(), [])
    with pytest.raises(KeyError):
        unpack(packed, tensors, (Guidance,))
