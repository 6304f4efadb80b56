"""A group of processes that tests ask for figures: a line with a case in, a line of JSON out.

Called with the number of ranks and the folder of the miniatures. What takes long is imported once,
before the ranks part.
"""

import json
import multiprocessing
import os
import sys
from dataclasses import replace
from pathlib import Path

import diffusers.models.transformers.transformer_wan
import diffusers.models.transformers.transformer_wan_animate  # noqa: F401
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from wan.geometry import LatentShape  # noqa: E402
from wan.load.model import load_model  # noqa: E402
from wan.parallel import Split  # noqa: E402
from wan.parallel.attention import across, attend_with_sums, plain, ring  # noqa: E402
from wan.parallel.group import Group, open_store  # noqa: E402
from wan.payloads import Variant  # noqa: E402
from wan.residency import DevicePlacement  # noqa: E402
from wan.sample.attention import scaled_dot_product  # noqa: E402
from wan.sample.cache import ResidualCache  # noqa: E402
from wan.sample.cross import Branch  # noqa: E402
from wan.sample.face import embed_face, encode_motion  # noqa: E402
from wan.sample.forward import (  # noqa: E402
    Network,
    Step,
    embed_context,
    embed_pose,
    embed_time,
    predict_velocities,
)
from wan.sample.rope import Rotary, rotary_tables  # noqa: E402
from wan.tiny import tiny_files  # noqa: E402


def distance(found, expected):
    return float((found.float() - expected.float()).norm() / expected.float().norm())


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Member:
    def __init__(self, rank, ranks, port, tiny):
        self.tiny, self.models = Path(tiny), {}
        self.group = Group(rank, ranks, torch.device("cpu"), open_store(ranks, port))

    def transformer(self, variant):
        if variant not in self.models:
            files = tiny_files(self.tiny, Variant[variant])
            self.models[variant] = load_model(files, DevicePlacement("cpu")).transformer
        return self.models[variant]

    def attention(self, tokens, heads):
        """Both ways, and one of them in bfloat16, beside attention of everything at once."""
        split = Split(self.group, tokens)
        whole = [random(1, tokens, heads, 24, seed=seed) for seed in range(3)]
        own = [split.own(x) for x in whole]
        expected = scaled_dot_product(*whole, None)
        found = {"ring": ring(split, *own)}
        if heads % self.group.size == 0:
            found["ulysses"] = across(split, scaled_dot_product, heads)(*own, None)
        halves = [x.bfloat16() for x in own]
        found["bfloat16"] = across(split, scaled_dot_product, heads)(*halves, None)
        made, sums = plain(*(x.transpose(1, 2) for x in whole))
        found["plain"] = split.own(made.transpose(1, 2))
        _, expected_sums = attend_with_sums(*whole)
        kept = {name: distance(x, split.own(expected)) for name, x in found.items()}
        kept["sums"] = distance(sums.transpose(1, 2)[..., None], expected_sums)
        return {**kept, "gathered": distance(split.gather(own[0]), whole[0])}

    def velocity(self, variant, shape, forward="own", joint=True, cached=False):
        """Both branches in a group beside alone, and what left this rank."""
        os.environ["WAN_LOCAL_FORWARD"] = forward
        latents = LatentShape(*shape)
        with self.transformer(variant).on_device() as transformer, torch.inference_mode():
            given = self.given(transformer, latents, variant)
            alone = self.predict(transformer, latents, *given, None, joint, cached)
            self.group.sent.clear()
            split = Split(self.group, latents.tokens)
            found = self.predict(transformer, latents, *given, split, joint, cached)
        return {
            "distances": [distance(a, b) for a, b in zip(found, alone, strict=True)],
            "branches": distance(found[0], found[1]),
            "sent": dict(self.group.sent),
            "same": [self.same(x) for x in found],
        }

    def same(self, tensor):
        """Whether all ranks have the very same numbers."""
        first = tensor.clone()
        self.group.spread(first)
        return torch.equal(first, tensor)

    def given(self, transformer, shape, variant):
        config = transformer.config
        known = random(1, 36, shape.frames, shape.height, shape.width)
        text = [random(1, 512, config.text_dim, seed=seed) for seed in (1, 2)]
        images = random(2 if variant == "FLF2V" else 1, 5, config.image_dim, seed=3)
        branches = [Branch(embed_context(transformer, t, images)) for t in text]
        pose = None
        if variant == "ANIMATE":
            pose = embed_pose(
                transformer, random(1, 16, shape.frames - 1, shape.height, shape.width, seed=4)
            )
            size = config.motion_encoder_size
            faces = random(4 * (shape.frames - 2) + 1, 3, size, size, seed=5)
            motion = encode_motion(transformer, faces, lambda: None)
            branches = [
                replace(branch, faces=embed_face(transformer, m))
                for branch, m in zip(branches, (motion, -motion), strict=True)
            ]
        return known, branches, pose

    def predict(self, transformer, shape, known, branches, pose, split, joint, cached):
        tables = rotary_tables(transformer.rope, shape, None, known.device)
        if split is not None:
            tables = tuple(split.own(table) for table in tables)
        network = Network(transformer, Rotary.of(tables), pose=pose, split=split)
        residuals, made = ResidualCache(), []
        for compute in (True, False) if cached else (True,):
            made = []
            moment = embed_time(transformer, torch.tensor([737 if compute else 700]), known)
            for numbers in [(0, 1)] if joint else [(0,), (1,)]:
                step = Step(residuals, compute, cached and compute, numbers)
                chosen = [branches[number] for number in numbers]
                made += predict_velocities(network, known, moment, chosen, step, lambda: None)
        return made


def be(rank, ranks, port, tiny, pipe):
    member = Member(rank, ranks, port, tiny)
    while (case := pipe.recv()) is not None:
        name, values = case
        pipe.send(getattr(member, name)(**values))
    os._exit(0)


def main():
    ranks, tiny = int(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    apart, store, pipes = multiprocessing.get_context("fork"), open_store(ranks), []
    for rank in range(ranks):
        here, there = apart.Pipe()
        apart.Process(target=be, args=(rank, ranks, store.port, tiny, there), daemon=True).start()
        pipes.append(here)
    for line in sys.stdin:
        for pipe in pipes:
            pipe.send(json.loads(line))
        sys.stdout.write(json.dumps([pipe.recv() for pipe in pipes]) + "\n")
        sys.stdout.flush()
    for pipe in pipes:
        pipe.send(None)


if __name__ == "__main__":
    main()
