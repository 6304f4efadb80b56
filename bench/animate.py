"""Memory and time of the clip loop over 2, 4 and 8 clips, on the tiny models.

Each row is a process of its own, so that its peak memory is its own. Flat memory and a time that
grows with the number of clips are what to look for; the machine's load is printed, since only the
ratios within one table mean anything.

    python bench/animate.py [--size 256x192] [--clip-len 17] [--json FILE]
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from wan.animate import AnimateSettings, animate
from wan.encode.animate import condition_animation
from wan.encode.prompt import encode_prompts
from wan.geometry import parse_size
from wan.load.model import load_model
from wan.media.sequence import MadeFrames
from wan.payloads import Variant
from wan.progress import Silent
from wan.residency import DevicePlacement
from wan.sample.guidance import Guidance
from wan.sample.settings import SampleSettings
from wan.tiny import default_folder, ensure_tiny, tiny_files

CLIPS = (2, 4, 8)


def noise_video(count: int, height: int, width: int) -> MadeFrames:
    """Frames that take no memory: what is measured is the loop, not its inputs."""

    def make(number: int):
        generator = torch.Generator().manual_seed(number)
        size = (height, width, 3)
        return torch.randint(0, 256, size, dtype=torch.uint8, generator=generator).numpy()

    return MadeFrames(count, make)


def peak() -> int:
    """Bytes of the most memory this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(clips: int, size: str, clip_len: int) -> dict:
    """One run in this process."""
    torch.set_num_threads(1)
    width, height = parse_size(size)
    frames = clips * (clip_len - 1) + 1
    files = tiny_files(ensure_tiny(default_folder()), Variant.ANIMATE)
    model = load_model(files, DevicePlacement())
    text = encode_prompts(model, "", None, Silent())
    condition = condition_animation(
        model,
        torch.zeros(height, width, 3, dtype=torch.uint8),
        noise_video(frames, height, width),
        noise_video(frames, 64, 64),
        width,
        height,
        Silent(),
    )
    sample = SampleSettings(steps=2, guidance=Guidance(1.0, cfg_star=False), solver="dpm++", seed=1)
    settings = AnimateSettings(sample, clip_len)
    before, started = peak(), time.process_time()
    made = animate(model, text, condition, settings, Silent())
    seconds = time.process_time() - started
    written = sum(batch.nbytes for batch in made.frames())
    return {
        "clips": clips,
        "frames": made.num_frames,
        "cpu_seconds": seconds,
        "cpu_seconds_a_clip": seconds / clips,
        "peak_growth_mb": (peak() - before) / 1e6,
        "finished_frames_mb": written / 1e6,
    }


def main() -> None:
    """Measure every row in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="256x192")
    parser.add_argument("--clip-len", type=int, default=17)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.only, options.size, options.clip_len)))
        return
    rows = []
    for clips in CLIPS:
        command = [sys.executable, __file__, "--only", str(clips), "--size", options.size]
        command += ["--clip-len", str(options.clip_len)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    load = os.getloadavg()[0]
    print(f"{options.size}, clips of {options.clip_len} frames, 2 steps, load {load:.1f}\n")
    print("| clips | frames | CPU s | CPU s a clip | peak growth MB | finished frames MB |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['clips']} | {row['frames']} | {row['cpu_seconds']:.1f} | "
            f"{row['cpu_seconds_a_clip']:.2f} | {row['peak_growth_mb']:.0f} | "
            f"{row['finished_frames_mb']:.1f} |"
        )
    if options.json:
        options.json.write_text(json.dumps({"load": load, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
