"""What each sampling option costs and changes, on the trained miniature.

Prints a Markdown table: forwards run, seconds per step, distance (PSNR of the decoded frames) from
the plain run and from the true continuation, and how many prompts were followed, over several
scenes. Seconds are medians of interleaved runs; the machine's load is printed, since only the
ratios within one table mean anything. A miniature's pictures leave little open, so what is skipped
costs less here than on real weights.

    python bench/options.py [--steps 20] [--repeats 3] [--scenes 8] [--sheet options.png]
"""

import argparse
import os
import statistics
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from training.judge import judge
from training.judge import psnr as distance
from training.scenes import Scene, render
from training.sheets import contact_sheet
from training.trial import open_model, scenes
from wan.decode.vae import decode_video
from wan.encode.condition import condition_on_image
from wan.encode.prompt import encode_prompts
from wan.miniatures import MINI_FOLDER
from wan.payloads import SampleReport, WanModel
from wan.progress import Silent
from wan.sample.cache import MagCache, TeaCache
from wan.sample.guidance import Guidance
from wan.sample.rope import Riflex
from wan.sample.settings import SampleOptions, SampleSettings
from wan.sample.video import sample_video

Array = np.ndarray
PLAIN = SampleSettings(guidance=Guidance(3.0, cfg_star=False), seed=42, shift=3.0)


@dataclass
class Row:
    """What one option did, over all scenes."""

    seconds: list[float] = field(default_factory=list)
    videos: list[Array] = field(default_factory=list)
    report: SampleReport | None = None


def rows(steps: int) -> dict[str, SampleSettings]:
    """The settings of each row by its name."""
    plain = replace(PLAIN, steps=steps)
    return {
        "plain": plain,
        "guidance_scale 1": replace(plain, guidance=Guidance(1.0)),
        "guidance_scale 5": replace(plain, guidance=Guidance(5.0, cfg_star=False)),
        "tea_cache 1.5": replace(plain, cache=TeaCache(1.5)),
        "tea_cache 2": replace(plain, cache=TeaCache(2.0)),
        "tea_cache 2.5": replace(plain, cache=TeaCache(2.5)),
        "tea_cache 2, from 20 %": replace(plain, cache=TeaCache(2.0, 20)),
        "MagCache 0.12": replace(plain, cache=MagCache(0.12)),
        "MagCache 0.24": replace(plain, cache=MagCache(0.24, 6)),
        "cfg_star, cfg_zero_step 5": replace(plain, guidance=Guidance(3.0, True, 5)),
        "cfg_star, cfg_zero_step -1": replace(plain, guidance=Guidance(3.0, True, -1)),
        "zero_init_steps 1": replace(plain, guidance=Guidance(3.0, False, 5, 1)),
        "joint_pass": replace(plain, options=SampleOptions(joint_pass=True)),
        "RIFLEx forced": replace(plain, options=SampleOptions(riflex=Riflex(force=True))),
        "dpm++": replace(plain, solver="dpm++"),
        "shift 5": replace(plain, shift=5.0),
    }


def run(model: WanModel, scene: Scene, settings: SampleSettings, row: Row) -> None:
    """Continue a scene, and note what it took."""
    text = encode_prompts(model, scene.caption, "", Silent())
    picture = torch.from_numpy(render(scene)[0]).float() / 255
    size = scene.side, scene.side, scene.frames
    condition = condition_on_image(model, picture, *size, Silent())
    started = time.perf_counter()
    video = sample_video(model, text, condition, settings, Silent())
    row.seconds.append(time.perf_counter() - started)
    row.report = video.report
    frames = decode_video(model, video, Silent())
    row.videos.append((frames * 255).round().clamp(0, 255).to(torch.uint8).numpy())


def show(rows: dict[str, Row], drawn: list[Scene], steps: int) -> None:
    """Print the table."""
    print("| option | forwards run | of | ms per step | to plain | to the truth | followed |")
    print("|---|---|---|---|---|---|---|")
    plain = rows["plain"].videos
    for name, row in rows.items():
        assert row.report
        whole = row.report.forwards + row.report.skipped
        step = statistics.median(row.seconds) / steps * 1000
        videos = row.videos[: len(drawn)]
        is_equal = all(np.array_equal(v, p) for v, p in zip(videos, plain, strict=False))
        apart = statistics.mean(distance(v, p) for v, p in zip(videos, plain, strict=False))
        shown = "equal" if is_equal else f"{apart:.1f} dB"
        true = statistics.mean(distance(v, render(s)) for v, s in zip(videos, drawn, strict=True))
        followed = sum(
            judge(v, s)[0] == s.sprites[-1].motion for v, s in zip(videos, drawn, strict=True)
        )
        print(
            f"| {name} | {row.report.forwards} | {whole} | {step:.1f} | {shown} | {true:.1f} dB "
            f"| {followed} of {len(drawn)} |"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scenes", type=int, default=8)
    parser.add_argument("--sheet", type=Path, help="write a contact sheet of one scene there")
    options = parser.parse_args()
    torch.set_num_threads(1)  # the miniatures are too small for more
    model = open_model(MINI_FOLDER / "i2v")
    drawn = scenes(options.scenes)
    settings = rows(options.steps)
    found = {name: Row() for name in settings}
    for _ in range(options.repeats):
        for scene in drawn:
            for name, chosen in settings.items():
                run(model, scene, chosen, found[name])
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(
        f"{options.steps} steps, {len(drawn)} scenes of 64x64, 9 frames; load {load} on "
        f"{os.cpu_count()} cores\n"
    )
    show(found, drawn, options.steps)
    if options.sheet:
        sheet = [("the truth", render(drawn[0]))]
        sheet += [(name, row.videos[0]) for name, row in found.items()]
        contact_sheet(sheet).save(options.sheet, optimize=True)


if __name__ == "__main__":
    main()
