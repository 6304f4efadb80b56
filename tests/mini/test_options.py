"""What sampling options do to a picture that means something."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from mini_runs import PLAIN, SILENT, judge, model, plain, psnr, render, run, scenes, wanted
from wan_local.wan.decode.vae import decode_video
from wan_local.wan.encode.latents import Video, encode_videos
from wan_local.wan.payloads import VideoLatents
from wan_local.wan.sample.cache import TeaCache
from wan_local.wan.sample.guidance import Guidance

SOME = scenes(3)
LONG = replace(PLAIN, steps=20)
SPEEDS = (1.5, 2.0, 2.5)


@pytest.fixture(scope="module")
def full():
    """Twenty steps, all of them computed."""
    return [run(scene, LONG) for scene in SOME]


@pytest.fixture(scope="module")
def skipping():
    """The same with TeaCache: videos and reports by the wanted speed-up."""
    found = {}
    for speed in SPEEDS:
        reports = []
        settings = replace(LONG, cache=TeaCache(speed))
        found[speed] = [run(scene, settings, report=reports) for scene in SOME], reports
    return found


def test_teacache_costs_more_the_more_it_skips(full, skipping):
    far = {
        speed: np.mean([psnr(m, f) for m, f in zip(made, full, strict=True)])
        for speed, (made, _) in skipping.items()
    }
    skipped = [skipping[speed][1][0].skipped for speed in SPEEDS]
    assert 0 < skipped[0] < skipped[1] < skipped[2]
    assert far[1.5] > far[2.0] > far[2.5]
    assert far[1.5] > 40 and far[2.0] > 34 and far[2.5] > 28


def test_skipping_keeps_what_the_prompt_asked_for(skipping):
    for made, _ in skipping.values():
        assert all(judge(m, s)[0] == wanted(s)[0] for m, s in zip(made, SOME, strict=True))


@pytest.mark.parametrize("zero_step", [-1, 5])
def test_cfg_star_keeps_the_content(zero_step):
    star = replace(PLAIN, guidance=Guidance(3.0, True, zero_step))
    made = [run(scene, star) for scene in SOME]
    assert all(judge(m, s)[0] == wanted(s)[0] for m, s in zip(made, SOME, strict=True))
    apart = [psnr(m, plain(n)) for n, m in enumerate(made)]
    assert 25 < np.mean(apart) < 60  # another video, of the same thing


def test_guidance_steers_harder():
    """What is subtracted grows: the video leaves that of scale 1. (Scale 3 is the plain one.)"""

    def made(scale):
        settings = replace(PLAIN, guidance=Guidance(scale, cfg_star=False))
        return [run(scene, settings) for scene in SOME]

    one, five = made(1.0), made(5.0)
    three = [plain(n) for n in range(len(SOME))]
    apart = [np.mean([psnr(*p) for p in zip(other, one, strict=True)]) for other in (three, five)]
    assert apart[0] > apart[1] + 1


def test_both_solvers_agree():
    made = [run(scene, replace(PLAIN, solver="dpm++")) for scene in SOME]
    assert all(judge(m, s)[0] == wanted(s)[0] for m, s in zip(made, SOME, strict=True))
    assert np.mean([psnr(m, plain(n)) for n, m in enumerate(made)]) > 32


def test_tiles_are_hard_to_see():
    """On a trained autoencoder, at a size of several tiles."""
    scene = scenes(1, 500, side=144, frames=5)[0]
    frames = torch.from_numpy(render(scene)).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    chunks = [frames[:, :, :1], frames[:, :, 1:]]
    (whole,) = encode_videos(model(), [Video(chunks)], SILENT, "encode", 0)
    (tiled,) = encode_videos(model(), [Video(chunks)], SILENT, "encode", 128)
    assert float((whole - tiled).square().mean()) < 0.02  # latents have a variance of 1

    def decoded(latents, tile_size):
        video = VideoLatents(latents, scene.frames, 0, None)
        return (decode_video(model(), video, SILENT, tile_size) * 255).numpy()

    in_tiles, in_one, truth = decoded(tiled, 128), decoded(whole, 0), render(scene)
    assert 35 < psnr(in_tiles, in_one) < 80  # it does matter, and not by much
    assert psnr(in_tiles, truth) > psnr(in_one, truth) - 1
