"""Parts on a real cluster: run with its address, a case and the tiny models; ends with 0.

A process of its own, since Ray imports what it runs by the pack's own names.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np
import ray
import torch

from wan.app.upsampling import Upsampling
from wan.cluster.spread import RaySpread
from wan.errors import Cancelled
from wan.preprocess.pose.measure import FRAMES, measure_poses, measure_poses_spread
from wan.preprocess.pose.onnx import ModelKind, OnnxModel, OnnxRuntime
from wan.progress import Silent
from wan.residency import DevicePlacement
from wan.tiny import tiny_pose_files, tiny_rife_folder
from wan.tiny.puppet import draw_puppets
from wan.upsample.rife.load import find_rife, load_rife

HERE = os.getpid()


class Stop(Silent):
    def __init__(self, behind):
        self.behind = behind

    def check_cancelled(self):
        self.behind -= 1
        if self.behind < 0:
            raise Cancelled


def where(number, seconds=0.0):
    """A part that says who computed it."""
    time.sleep(seconds)
    return number, os.getpid()


def fails(number):
    if number == 3:
        raise ValueError("part 3 is bad")
    return number


def dies_elsewhere(number, here):
    if number == 2 and os.getpid() != here:
        os._exit(1)
    return number


def film(count):
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(count, 3, 6, 8, generator=generator)
    large = torch.nn.functional.interpolate(small, (48, 64), mode="bilinear")
    return large.movedim(1, -1).mul(255).to(torch.uint8).contiguous()


def upsampling(tiny):
    rife = load_rife(find_rife([tiny_rife_folder(tiny)]), DevicePlacement("cpu"))
    frames = film(70)
    for net, factor, size in ((rife, 2, 1.5), (None, 1, 2.0)):
        alone = torch.cat(list(Upsampling(net, factor, size).apply(frames, Silent())))
        way = Upsampling(net, factor, size, RaySpread())
        assert torch.equal(alone, torch.cat(list(way.apply(frames, Silent()))))


def pose(tiny):
    runtime = OnnxRuntime("cpu")
    detector, pose = tiny_pose_files(tiny)
    models = (
        OnnxModel(detector, ModelKind.DETECTOR, runtime),
        OnnxModel(pose, ModelKind.POSE, runtime),
    )
    frames = draw_puppets(3 * FRAMES, 224, 320).frames
    alone = measure_poses(frames, *models)
    parts = measure_poses_spread(frames, *models, Silent(), RaySpread(), "cpu")
    assert np.array_equal(alone.body, parts.body) and np.array_equal(alone.boxes, parts.boxes)


def order(tiny):
    """Both here and elsewhere, and in order."""
    given = ((number, 0.3) for number in range(60))
    found = list(RaySpread().map(where, given, Silent(), "cpu"))
    assert [number for number, _ in found] == list(range(60))
    processes = {process for _, process in found}
    assert HERE in processes and len(processes) > 1


def full(tiny):
    """Where nothing is free, everything is done here."""
    holders = [ray.remote(num_cpus=1)(where).remote(0, 60.0) for _ in range(2)]
    while ray.available_resources().get("CPU", 0) >= 1:
        time.sleep(0.1)
    given = ((number,) for number in range(5))
    found = list(RaySpread().map(where, given, Silent(), "cpu"))
    assert {process for _, process in found} == {HERE}
    for holder in holders:
        ray.cancel(holder, force=True)


def errors(tiny):
    try:
        list(RaySpread().map(fails, ((n,) for n in range(40)), Silent(), "cpu"))
    except ValueError as error:
        assert str(error) == "part 3 is bad"
    else:
        raise AssertionError("nothing was raised")


def deaths(tiny):
    given = ((number, HERE) for number in range(8))
    assert list(RaySpread().map(dies_elsewhere, given, Silent(), "cpu")) == list(range(8))


def cancelling(tiny):
    given = ((number, 0.1) for number in range(1000))
    try:
        list(RaySpread().map(where, given, Stop(5), "cpu"))
    except Cancelled:
        return
    raise AssertionError("it went on")


if __name__ == "__main__":
    address, case, tiny = sys.argv[1:]
    env = {"PYTHONPATH": os.environ["PYTHONPATH"]}
    ray.init(address, runtime_env={"env_vars": env}, log_to_driver=False)
    import spread_check  # by this name others can import it

    getattr(spread_check, case)(Path(tiny))
