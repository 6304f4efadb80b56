"""Real footage through the whole path, where it lies beside the checkout.

The tiny pose models know only the drawn puppet, so it is put into the footage: reading, sizes,
cutting out, conditioning, sampling and sound are those of the real video.
"""

from pathlib import Path

import pytest
import torch
from nodes.test_animate_graphs import inputs, node_id, run, watch
from puppet_video import write_video
from shipped_graphs import random_weights
from wan_local.wan.preprocess.video import read_video
from wan_local.wan.tiny.puppet import Puppet, draw_puppets

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
FRAMES = 24
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no footage in {DATA}")


def with_puppet(video):
    """The footage's frames with the puppet dancing in front."""
    footage = video.frames.numpy().copy()
    height, width = footage.shape[1:3]
    figure = Puppet(x=0.4, height=0.9, outline=3)
    drawn = draw_puppets(len(footage), width, height, (figure,), fps=float(video.fps))
    mask = drawn.silhouettes[0]
    footage[mask] = drawn.frames[mask]
    return footage, drawn


@pytest.mark.parametrize("mode", ["animation", "replacement"])
def test_real_footage_is_animated_and_replaced_in(host, tmp_path, mode):
    source = DATA / mode / "video.mp4"
    video = read_video(source, -1, (640, 360), max_frames=FRAMES)
    frames, _ = with_puppet(video)
    rate = round(float(video.source_fps))
    path = write_video(tmp_path / f"{mode}.mp4", frames, rate, sound=True)
    prompt = random_weights(f"wan_{mode}")
    sample = node_id(prompt, "WanLocalSample")
    prompt["picture"] = {
        "class_type": "LoadImage",
        "inputs": {"image": host.put_input(DATA / mode / "image.jpeg")},
    }
    prompt["video"] = {"class_type": "LoadVideo", "inputs": {"file": host.put_input(path)}}
    inputs(prompt, "WanLocalReadDrivingVideo").update(video=["video", 0], fps=-1)
    inputs(prompt, "WanLocalReadDrivingVideo").update(width=128, height=72)
    inputs(prompt, "WanLocalAnimate").update(
        reference_image=["picture", 0], resolution_width=128, resolution_height=72
    )
    inputs(prompt, "WanLocalAnimateSampler").update(clip_len=13, sampling_steps=1, seed=301)
    del prompt[sample]
    result = run(host, prompt)
    assert result.status == "success", result.error
    found, fps, sound = watch(result.outputs[0])
    # The pictures are 1280x720 like the scene: 16:9 in 128x72 pixels before the floor to 16.
    assert found.shape == (FRAMES, 64, 128, 3) and fps == rate
    assert abs(sound - FRAMES / rate) < 1 / rate and found.std() > 1


def test_the_fallback_finds_the_figure_in_a_real_scene(tiny):
    from wan_local.wan.preprocess.mask.grabcut import GrabCut
    from wan_local.wan.preprocess.mask.segment import segment_person
    from wan_local.wan.preprocess.pose.measure import measure_poses
    from wan_local.wan.preprocess.pose.onnx import PoseModels
    from wan_local.wan.progress import Silent
    from wan_local.wan.tiny import tiny_pose_files

    pytest.importorskip("onnxruntime")
    video = read_video(DATA / "replacement" / "video.mp4", -1, (640, 360), max_frames=6)
    frames, drawn = with_puppet(video)
    models = PoseModels.open(*tiny_pose_files(tiny), "cpu")
    # Measured before a plain wall: what the tiny models look for are colours, and a scene has all.
    pose = measure_poses(drawn.frames, models.detector, models.pose)
    masks = segment_person(torch.from_numpy(frames), pose, GrabCut(), Silent()).masks.numpy() > 0
    truth = drawn.silhouettes[0]
    overlap = (masks & truth).sum((1, 2)) / (masks | truth).sum((1, 2))
    assert overlap.min() > 0.85
