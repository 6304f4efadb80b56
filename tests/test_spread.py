"""Long work in parts gives what it gives in one piece, in whatever order the parts are done."""

import pickle

import numpy as np
import pytest
import torch
from wan_local.wan.app.upsampling import Upsampling
from wan_local.wan.errors import Cancelled, InputError
from wan_local.wan.preprocess.pose.measure import (
    FRAMES,
    measure_poses,
    measure_poses_spread,
)
from wan_local.wan.preprocess.pose.onnx import ModelKind, OnnxModel, OnnxRuntime
from wan_local.wan.progress import Silent
from wan_local.wan.residency import DevicePlacement
from wan_local.wan.spread import plan_parts
from wan_local.wan.tiny import tiny_pose_files, tiny_rife_folder
from wan_local.wan.tiny.puppet import draw_puppets
from wan_local.wan.upsample.rife.load import find_rife, load_rife


class Backwards:
    """Does the last part first; what goes in and out is packed as for another process."""

    def __init__(self):
        self.parts = 0

    def map(self, work, parts, reporter, device):
        assert device == "cpu"
        packed = [pickle.dumps(part) for part in parts]
        self.parts = len(packed)
        done = [pickle.dumps(work(*pickle.loads(part))) for part in reversed(packed)]
        for one in reversed(done):
            reporter.check_cancelled()
            yield pickle.loads(one)


class Watch(Silent):
    def __init__(self, stop_at=None):
        self.phases, self.done, self.notes, self.stop_at = [], [], [], stop_at

    def start(self, phase, total):
        self.phases.append((phase, total))
        self.done.append(0)

    def update(self, done, preview=None):
        assert done == self.done[-1] + 1
        self.done[-1] = done
        if done == self.stop_at:
            raise Cancelled

    def note(self, text):
        self.notes.append(text)


@pytest.fixture(scope="module")
def rife(tiny):
    return load_rife(find_rife([tiny_rife_folder(tiny)]), DevicePlacement("cpu"))


def film(count, cuts=()):
    """[count, 24, 32, 3] uint8 of a bar that moves; another picture begins behind each cut."""
    x = torch.arange(32).view(1, 1, -1)
    shift = torch.arange(count).view(-1, 1, 1)
    bar = (128 + 100 * torch.sin((x + 2 * shift) / 9)).expand(count, 24, 32)
    frames = torch.stack((bar, bar.flip(2), bar / 2), -1).to(torch.uint8)
    for cut in cuts:
        frames[cut + 1 :] = 255 - frames[cut + 1 :]
    return frames.contiguous()


@pytest.mark.parametrize(
    ("count", "size", "ends"), [(7, 3, [3, 6, 7]), (6, 3, [3, 6]), (2, 3, [2])]
)
def test_every_frame_is_in_one_part(count, size, ends):
    parts = plan_parts(count, size)
    assert [part.end for part in parts] == ends
    assert [part.first for part in parts] == [0, *ends[:-1]]


@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize("size", [1.0, 1.5])
def test_upsampling_in_parts_is_upsampling(rife, factor, size):
    frames, spread, watches = film(100, cuts=(20, 31, 70)), Backwards(), [Watch(), Watch()]
    net = rife if factor > 1 else None
    alone = torch.cat(list(Upsampling(net, factor, size).apply(frames, watches[0])))
    parts = torch.cat(list(Upsampling(net, factor, size, spread).apply(frames, watches[1])))
    assert torch.equal(alone, parts)
    assert watches[0].phases == watches[1].phases and watches[0].notes == watches[1].notes
    assert watches[0].done == watches[1].done
    assert (spread.parts > 2) == (factor > 1 or size > 1)
    assert len(watches[1].notes) == (factor > 1)  # the cuts, by their numbers in the whole


def test_a_short_video_stays_here(rife):
    spread = Backwards()
    list(Upsampling(rife, 2, 2.0, spread).apply(film(9), Silent()))
    assert spread.parts == 0


@pytest.mark.parametrize("phase", ["interpolate", "resize"])
def test_cancelling(rife, phase):
    net, size = (rife, 1.0) if phase == "interpolate" else (None, 2.0)
    with pytest.raises(Cancelled):
        list(Upsampling(net, 2, size, Backwards()).apply(film(100), Watch(stop_at=40)))


@pytest.fixture(scope="module")
def models(tiny):
    pytest.importorskip("onnxruntime")
    detector, pose = tiny_pose_files(tiny)
    runtime = OnnxRuntime("cpu")
    return (
        OnnxModel(detector, ModelKind.DETECTOR, runtime),
        OnnxModel(pose, ModelKind.POSE, runtime),
    )


def test_a_pose_in_parts_is_the_pose(models):
    drawn = draw_puppets(2 * FRAMES + 5, 224, 320).frames
    # Slowly to the right, so that no part's boxes fit another's frames.
    frames = np.stack([np.roll(frame, n // 3, axis=1) for n, frame in enumerate(drawn)])
    spread, watches = Backwards(), [Watch(), Watch()]
    alone = measure_poses(frames, *models, reporter=watches[0])
    parts = measure_poses_spread(frames, *models, watches[1], spread, "cpu")
    for name in ("body", "left_hand", "right_hand", "face", "boxes", "misses"):
        assert np.array_equal(getattr(alone, name), getattr(parts, name))
    assert watches[0].phases == watches[1].phases and watches[0].done == watches[1].done
    assert spread.parts == 3


def test_nobody_to_measure(models):
    empty = draw_puppets(FRAMES + 1, 224, 320, ()).frames
    with pytest.raises(InputError, match=f"any of the {FRAMES + 1} frames"):
        measure_poses_spread(empty, *models, Silent(), Backwards(), "cpu")
