"""The miniature moves a puppet of other colours like the one in the driving video."""

from dataclasses import replace

import av
import cv2
import numpy as np
import pytest
import torch
from mini_runs import model, psnr
from PIL import Image
from puppet_video import write_video
from wan_local.wan.app.animate import run_animate
from wan_local.wan.app.surroundings import Surroundings
from wan_local.wan.decode.vae import decode_video
from wan_local.wan.encode.latents import Video, encode_videos
from wan_local.wan.load.companions import find_companions
from wan_local.wan.miniatures import MINI, Miniature
from wan_local.wan.params import ANIMATE_APP, validate
from wan_local.wan.payloads import Variant, VideoLatents
from wan_local.wan.progress import Silent
from wan_local.wan.tiny.puppet import Puppet, draw_puppets

pytest.importorskip("onnxruntime")

WIDTH, HEIGHT, TIMES = 80, 112, 4
FRAMES, CLIP, RATE = 17, 9, 16  # two clips
DRIVER = Puppet(rim=0.018, height=0.83, arm=0.165, hips=0.14, speed=0.9, x=0.47)
COLOURS = {
    "shirt": (205, 190, 25),
    "sleeves": (40, 70, 30),
    "trousers": (190, 40, 35),
    "shoes": (60, 60, 30),
}
CHARACTER = replace(DRIVER, shoulders=0.21, **COLOURS)
DRIVING_SCENE, OWN_SCENE = (70, 110, 30), (150, 60, 25)
GARMENTS = ("shirt", "sleeves", "trousers")


def drawn(puppet, scene, frames=FRAMES):
    return draw_puppets(frames, WIDTH * TIMES, HEIGHT * TIMES, (puppet,), scene, RATE)


def small(frames):
    sized = [cv2.resize(f, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) for f in frames]
    return np.stack(sized)


@pytest.fixture(scope="module")
def driving():
    return drawn(DRIVER, DRIVING_SCENE)


@pytest.fixture(scope="module")
def animate(tiny, driving, tmp_path_factory):
    """Runs the app in a mode; gives its frames."""
    folder = tmp_path_factory.mktemp("figures")
    write_video(folder / "driving.mp4", driving.frames, RATE)
    Image.fromarray(drawn(CHARACTER, OWN_SCENE, 1).frames[0]).save(folder / "character.png")
    around = Surroundings(companions=find_companions(tiny / "comfyui"))
    made = {}

    def run(mode):
        if mode not in made:
            given = {
                "driving_video": str(folder / "driving.mp4"),
                "reference_image": str(folder / "character.png"),
                "mode": mode,
                "clip_len": CLIP,
                "sampling_steps": 8,
                # close to the figure, so that some of the scene is left at these sizes
                "mask_iterations": 1,
                "mask_w_subdivisions": 5,
                "mask_h_subdivisions": 5,
                "seed": 3,
            }
            values = validate(Miniature(MINI).adapt(ANIMATE_APP), given)
            out = folder / f"{mode}.mkv"
            run_animate(values, model(Variant.ANIMATE), out, Silent(), around)
            with av.open(str(out)) as video:
                frames = [f.to_ndarray(format="rgb24") for f in video.decode(video=0)]
            made[mode] = np.stack(frames)
        return made[mode]

    return run


def blobs(frame):
    """Middles of head and hands: of all that is drawn only they are this blue."""
    blue = (frame[..., 2].astype(int) > 110).astype(np.uint8)
    count, _, stats, middles = cv2.connectedComponentsWithStats(blue)
    return [middles[n] for n in range(1, count) if stats[n, cv2.CC_STAT_AREA] >= 6]


@pytest.mark.parametrize("mode", ["animation", "replacement"])
def test_joints_are_where_the_driving_ones_are(animate, mode):
    made = animate(mode)
    truth = small(drawn(replace(DRIVER, **COLOURS), DRIVING_SCENE).frames)
    assert made.shape == truth.shape
    apart = []
    for frame, true in zip(made, truth, strict=True):
        found = blobs(frame)
        assert found
        apart += [min(np.hypot(*(f - t)) for f in found) for t in blobs(true)]
    assert np.median(apart) < 1.5 and np.mean(np.array(apart) <= 3) > 0.95


def as_seen(frames):
    """What the autoencoder alone makes of them: outlines bleed into what is as thin as a sleeve."""
    weights = model(Variant.ANIMATE)
    video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    chunks = [video[:, :, :1], *video[:, :, 1:].split(4, dim=2)]
    (latents,) = encode_videos(weights, [Video(chunks)], Silent(), "encode", 0)
    return decode_video(weights, VideoLatents(latents, len(frames), 0), Silent()).numpy() * 255


@pytest.mark.parametrize("mode", ["animation", "replacement"])
def test_the_figure_keeps_the_colours_of_the_reference(animate, mode):
    scene = OWN_SCENE if mode == "animation" else DRIVING_SCENE
    dressed, driver = (
        small(drawn(puppet, scene).frames[-5:]) for puppet in (replace(DRIVER, **COLOURS), DRIVER)
    )
    wanted, other, made = as_seen(dressed), as_seen(driver), animate(mode)[-5:]
    for name in GARMENTS:
        sure = np.abs(dressed.astype(int) - np.array(COLOURS[name])).max(-1) < 12
        colour = made[sure].mean(0)
        own = np.abs(colour - wanted[sure].mean(0)).mean()
        driving = np.abs(colour - other[sure].mean(0)).mean()
        assert own < 20 and own < driving / 2, (name, own, driving)


def test_an_animation_has_the_background_of_the_reference(animate):
    corner = animate("animation")[:, :12, :12].reshape(-1, 3).mean(0)
    assert np.abs(corner - OWN_SCENE).max() < 15


def test_a_replacement_keeps_the_scene(animate, driving):
    made, scene = animate("replacement"), small(driving.frames)
    edge = np.concatenate([made[:, :, :8], made[:, :, -8:]], axis=2)
    true = np.concatenate([scene[:, :, :8], scene[:, :, -8:]], axis=2)
    assert psnr(edge, true) > 24


def test_clips_meet_without_a_jump(animate):
    for mode in ("animation", "replacement"):
        made = animate(mode).astype(float)
        steps = np.abs(np.diff(made, axis=0)).mean((1, 2, 3))
        assert steps[CLIP - 1] < 2 * np.median(steps)  # its frame is taken over into the second
