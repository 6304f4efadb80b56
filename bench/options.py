"""What each sampling option costs and changes, on the tiny models.

Prints a Markdown table: forwards run, seconds per step and distance (PSNR of the decoded frames)
from the plain run. Seconds are medians of interleaved runs; the machine's load is printed, since
only the ratios within one table mean anything. The miniatures have random weights: the table
shows the mechanism, not picture quality.

    python bench/options.py [--steps 20] [--repeats 3]
"""

import argparse
import math
import os
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from wan.decode.vae import decode_video
from wan.encode.condition import condition_on_image
from wan.encode.prompt import encode_prompts
from wan.load.model import load_model
from wan.media.picture import read_picture
from wan.payloads import Variant
from wan.progress import Silent
from wan.residency import DevicePlacement
from wan.sample.cache import MagCache, TeaCache
from wan.sample.guidance import Guidance
from wan.sample.rope import Riflex
from wan.sample.settings import SampleOptions, SampleSettings
from wan.sample.video import sample_video
from wan.tiny import default_folder, ensure_tiny, tiny_files

SAMPLE = Path(__file__).resolve().parents[1] / "assets" / "sample.png"
PLAIN = SampleSettings(guidance=Guidance(5.0, cfg_star=False), seed=42)


def rows(steps: int) -> dict[str, SampleSettings]:
    """The settings of each row by its name."""
    plain = replace(PLAIN, steps=steps)
    return {
        "plain": plain,
        "guidance_scale 1": replace(plain, guidance=Guidance(1.0)),
        "tea_cache 1.5": replace(plain, cache=TeaCache(1.5)),
        "tea_cache 2": replace(plain, cache=TeaCache(2.0)),
        "tea_cache 2.5": replace(plain, cache=TeaCache(2.5)),
        "tea_cache 2, from 20 %": replace(plain, cache=TeaCache(2.0, 20)),
        "MagCache 0.12": replace(plain, cache=MagCache(0.12)),
        "MagCache 0.24": replace(plain, cache=MagCache(0.24, 6)),
        "cfg_star, cfg_zero_step 5": replace(plain, guidance=Guidance(5.0, True, 5)),
        "cfg_star, cfg_zero_step -1": replace(plain, guidance=Guidance(5.0, True, -1)),
        "zero_init_steps 1": replace(plain, guidance=Guidance(5.0, False, 5, 1)),
        "joint_pass": replace(plain, options=SampleOptions(joint_pass=True)),
        "RIFLEx forced": replace(plain, options=SampleOptions(riflex=Riflex(force=True))),
        "dpm++": replace(plain, solver="dpm++"),
        "shift 3": replace(plain, shift=3.0),
    }


def psnr(first: torch.Tensor, second: torch.Tensor) -> float:
    """Peak signal-to-noise ratio of two videos in 0..1, in dB; infinite for equal ones."""
    error = float((first - second).square().mean())
    return math.inf if error == 0 else -10 * math.log10(error)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)  # the miniatures are too small for more
    files = tiny_files(ensure_tiny(default_folder()), Variant.I2V)
    model = load_model(files, DevicePlacement("cpu"))
    text = encode_prompts(model, "a red ball rolls", "", Silent())
    condition = condition_on_image(model, read_picture(SAMPLE), 192, 112, 17, Silent())
    settings = rows(options.steps)
    seconds: dict[str, list[float]] = {name: [] for name in settings}
    videos = {}
    for _ in range(options.repeats):
        for name, chosen in settings.items():
            started = time.perf_counter()
            videos[name] = sample_video(model, text, condition, chosen, Silent())
            seconds[name].append(time.perf_counter() - started)
    frames = {name: decode_video(model, video, Silent()) for name, video in videos.items()}
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{options.steps} steps, 192x112, 17 frames; load {load} on {os.cpu_count()} cores\n")
    print("| option | forwards run | of | ms per step | PSNR to plain |\n|---|---|---|---|---|")
    for name, video in videos.items():
        report = video.report
        step = statistics.median(seconds[name]) / options.steps * 1000
        distance = psnr(frames["plain"], frames[name])
        shown = "equal" if math.isinf(distance) else f"{distance:.1f} dB"
        whole = report.forwards + report.skipped
        print(f"| {name} | {report.forwards} | {whole} | {step:.1f} | {shown} |")


if __name__ == "__main__":
    main()
