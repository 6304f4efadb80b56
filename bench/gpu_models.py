"""B2, B4, B5, B8, B10: the transformer."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch.nn.attention import sdpa_kernel

from bench.gpu import LARGE_LATENTS, LATENTS, ROOT, Bench
from bench.gpu_kernels import BACKENDS, tokens
from wan.geometry import LatentShape
from wan.load.transformer import build_transformer
from wan.payloads import Variant
from wan.residency import DevicePlacement, Part
from wan.sample.cache import ResidualCache
from wan.sample.cross import Branch
from wan.sample.face import embed_face, encode_motion
from wan.sample.forward import Network, Step, embed_pose, embed_time, predict_velocities
from wan.sample.rope import Rotary, rotary_tables

IMAGE_TOKENS, TEXT_TOKENS = 257, 512
GOAL_FORWARD, GOAL_OFFLOAD, GOAL_SKIPPED, GOAL_FACE = 0.85, 1.03, 0.01, 1.02
BLOCKS = 40
COUNTS = (1, 2, 4)


def random_transformer(
    bench: Bench, blocks: int = 0, device: torch.device | str = "cpu"
) -> torch.nn.Module:
    """Random weights of the true shapes, made on the bench's device and put on another.

    Args:
        blocks: how many; 0: all.
    """
    config = {**bench.config, "num_layers": blocks or bench.config["num_layers"]}
    model = build_transformer(Variant.I2V, config)
    model.rope = type(model.rope)(
        bench.config["attention_head_dim"], bench.config["patch_size"], 1024
    )
    generator = torch.Generator(bench.device).manual_seed(0)
    for module in model.modules():
        for name, like in module._parameters.items():
            if like is None or not like.is_meta:
                continue
            values = torch.empty(like.shape, device=bench.device, dtype=bench.dtype)
            values.normal_(0, 0.02, generator=generator)
            is_kept = any(k in name for k in ("scale_shift_table",))
            values = values.float() if is_kept else values
            module._parameters[name] = torch.nn.Parameter(values.to(device), requires_grad=False)
    return model.eval()


def step(
    bench: Bench, model: torch.nn.Module, joint: bool, is_computed: bool = True
) -> Callable[[], object]:
    """One step with guidance: two branches, in one pass through the weights or two."""
    dim = bench.config["num_attention_heads"] * bench.config["attention_head_dim"]
    frames, height, width = bench.latents
    hidden = torch.randn(1, 36, frames, height, width, device=bench.device, dtype=bench.dtype)
    tokens = IMAGE_TOKENS + TEXT_TOKENS
    branches = [
        Branch(torch.randn(1, tokens, dim, device=bench.device, dtype=bench.dtype))
        for _ in range(2)
    ]
    tables = rotary_tables(model.rope, LatentShape(*bench.latents), None, bench.device)
    network = Network(model, Rotary.of(tables))
    with torch.inference_mode():
        moment = embed_time(model, torch.tensor([500]), hidden)
    groups = [(0, 1)] if joint else [(0,), (1,)]
    residuals = ResidualCache()
    if not is_computed:
        for number in (0, 1):
            count = frames * height * width // 4
            state = torch.zeros(1, count, dim, device=bench.device, dtype=bench.dtype)
            residuals.store(number, state, state)

    def work() -> None:
        with torch.inference_mode():
            for numbers in groups:
                group = [branches[number] for number in numbers]
                cache = Step(residuals, is_computed, numbers=numbers)
                predict_velocities(network, hidden, moment, group, cache, lambda: None)

    return work


def flops(bench: Bench) -> float:
    """Of one forward of all 40 blocks: performance.md 2.3."""
    dim = bench.config["num_attention_heads"] * bench.config["attention_head_dim"]
    count, wide = tokens(bench.latents), bench.config["ffn_dim"]
    context = IMAGE_TOKENS + TEXT_TOKENS
    linear = 2 * (6 * dim**2 + 2 * dim * wide) * count + 4 * context * dim**2
    return BLOCKS * (linear + 4 * count**2 * dim + 4 * count * context * dim)


def stock(bench: Bench, model: torch.nn.Module) -> Callable[[], object]:
    """diffusers' own forward, for one branch."""
    frames, height, width = bench.latents
    hidden = torch.randn(1, 36, frames, height, width, device=bench.device, dtype=bench.dtype)
    text = torch.randn(1, TEXT_TOKENS, bench.config["text_dim"]).to(hidden)
    image = torch.randn(1, IMAGE_TOKENS, bench.config["image_dim"]).to(hidden)
    when = torch.tensor([500], device=bench.device)

    def work() -> None:
        with torch.inference_mode():
            model(hidden, when, text, image, return_dict=False)

    return work


def extrapolated(
    bench: Bench, model: torch.nn.Module, work: Callable[[], object], repeats: int = 3
) -> float:
    """Seconds of 40 blocks: the line through 1, 2 and 4 of them."""
    blocks, times = model.blocks, list[float]()
    try:
        for count in COUNTS:
            model.blocks = torch.nn.ModuleList(blocks[:count])
            times.append(bench.seconds(work, repeats))
    finally:
        model.blocks = blocks
    mean, middle = sum(times) / len(times), sum(COUNTS) / len(COUNTS)
    rise = sum((n - middle) * (t - mean) for n, t in zip(COUNTS, times, strict=True))
    slope = rise / sum((n - middle) ** 2 for n in COUNTS)
    return mean + slope * (BLOCKS - middle)


def forward(bench: Bench) -> dict[str, object]:
    """B2: ours and diffusers' forward, by attention kernel and size; then compiled."""
    found, before = dict[str, object](), bench.latents
    model = random_transformer(bench, max(COUNTS), bench.device)
    for latents in [before] if bench.is_small else [LATENTS, LARGE_LATENTS]:
        bench.latents = latents
        for name, backend in BACKENDS.items():
            within: AbstractContextManager[object] = nullcontext()
            if backend is not None:
                within = sdpa_kernel([backend])
            told = f"{tokens(latents)} tokens, {name}"
            with within:
                try:
                    ours = extrapolated(bench, model, step(bench, model, joint=False)) / 2
                    peer = extrapolated(bench, model, stock(bench, model))
                except RuntimeError as error:
                    found[told] = str(error).splitlines()[0]
                    continue
            found |= {f"{told}: ours s": ours, f"{told}: diffusers s": peer}
            found[f"{told}: ratio (goal {GOAL_FORWARD})"] = ours / peer
            if bench.peak_flops:
                found[f"{told}: of the matrix peak"] = flops(bench) / ours / bench.peak_flops
    bench.latents = before
    if bench.device.type == "cuda":
        model.compile_repeated_blocks(fullgraph=False)
        found["compiled: ours s"] = (
            extrapolated(bench, model, step(bench, model, joint=False), 2) / 2
        )
        found["compiled: diffusers s"] = extrapolated(bench, model, stock(bench, model), 2)
    return found


def branches(bench: Bench) -> dict[str, object]:
    """B4: both branches in one pass, and a step that only repeats the last change."""
    model = random_transformer(bench, max(COUNTS), bench.device)
    apart = extrapolated(bench, model, step(bench, model, joint=False))
    joint = extrapolated(bench, model, step(bench, model, joint=True))
    skipped = bench.seconds(step(bench, model, joint=True, is_computed=False))
    return {
        "step, two passes: s": apart,
        "step, joint pass: s": joint,
        "joint: ratio": joint / apart,
        f"skipped step: ratio (goal {GOAL_SKIPPED})": skipped / joint,
    }


def offload(bench: Bench) -> dict[str, object]:
    """B5: a step streamed against the same step with everything on the device, and diffusers'."""
    model = random_transformer(bench)
    found: dict[str, object] = {}
    for joint in (True, False):
        name = "joint" if joint else "two passes"
        times = {}
        for how in ("off", "blocks"):
            placement = DevicePlacement(bench.device, how)
            part = Part("transformer", lambda: model, placement, stack="blocks")
            with part.on_device() as module:
                work = step(bench, module, joint)
                times[how] = bench.seconds(work)
                found[f"{name}, {how}: s"] = times[how]
                found[f"{name}, {how}: peak GB"] = bench.peak(work) / 1e9
                ring = getattr(part._source.owned, "_ring", None)
                if ring is not None:
                    before = ring.moved_bytes
                    work()
                    found[f"{name}, {how}: GB moved"] = (ring.moved_bytes - before) / 1e9
            part.release()
            del part, placement
        found[f"{name}: ratio (goal {GOAL_OFFLOAD})"] = times["blocks"] / times["off"]
    if bench.device.type == "cuda":
        found |= group_offload(bench, model, found)
    return found


def group_offload(
    bench: Bench, model: torch.nn.Module, found: dict[str, object]
) -> dict[str, object]:
    """diffusers' streaming of single blocks, in its forward, twice as for guidance."""
    model.enable_group_offload(
        bench.device, torch.device("cpu"), "block_level", num_blocks_per_group=1, use_stream=True
    )
    work = stock(bench, model)
    return {
        "diffusers, group offload: s": 2 * bench.seconds(work, 2),
        "diffusers, group offload: peak GB": bench.peak(work) / 1e9,
        "ours, blocks, two passes: s": found["two passes, blocks: s"],
    }


def animate(bench: Bench) -> dict[str, object]:
    """B8: what the face costs a forward, and what is computed once a clip."""
    from diffusers import WanAnimateTransformer3DModel

    before, size = bench.latents, 64 if bench.is_small else 512
    bench.latents = before if bench.is_small else LARGE_LATENTS
    config = {**bench.config, "num_layers": 5, "inject_face_latents_blocks": 5}
    if bench.is_small:
        sizes = {str(side): 16 for side in (4, 8, 16, 32, 64)}
        config |= {"motion_encoder_size": size, "motion_encoder_channel_sizes": sizes}
    with torch.device(bench.device):
        model = WanAnimateTransformer3DModel(**config).eval().requires_grad_(False)
    model.to(bench.dtype)
    frames, height, width = bench.latents
    like = {"device": bench.device, "dtype": bench.dtype}
    hidden, pose = (torch.randn(1, c, frames, height, width, **like) for c in (36, 16))
    pictures = torch.rand(4 * (frames - 2) + 1, 3, size, size, device=bench.device) * 2 - 1
    dim = config["num_attention_heads"] * config["attention_head_dim"]
    context = torch.randn(1, IMAGE_TOKENS + TEXT_TOKENS, dim, **like)
    tables = rotary_tables(model.rope, LatentShape(*bench.latents), None, bench.device)
    bench.latents = before
    with torch.inference_mode():
        moment = embed_time(model, torch.tensor([500]), hidden)
        motion = encode_motion(model, pictures, lambda: None)
        faces, placed = embed_face(model, motion), embed_pose(model, pose[:, :, 1:])
        network = Network(model, Rotary.of(tables), pose=placed)

        def work(branch: Branch) -> None:
            cache = Step(ResidualCache())
            predict_velocities(network, hidden, moment, [branch], cache, lambda: None)

        plain = bench.seconds(lambda: work(Branch(context)))
        faced = bench.seconds(lambda: work(Branch(context, faces)))
        once = bench.seconds(
            lambda: embed_face(model, encode_motion(model, pictures, lambda: None))
        )
    return {
        "5 blocks without a face: s": plain,
        "5 blocks with a face: s": faced,
        f"face: ratio (goal {GOAL_FACE})": faced / plain,
        "motion and keys, once a clip: s": once,
    }


def load(bench: Bench) -> dict[str, object]:
    """B10: a file of two true blocks into the device, beside reading its bytes."""
    if bench.is_small:
        return {"not tried": "bench.load does this at the true size, on the CPU"}
    command = [sys.executable, "-m", "bench.load", "--repeats", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return {"table": done.stdout}
