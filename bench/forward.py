"""A1 to A4: the transformer, beside diffusers' own forward of the same modules."""

from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.measure import Figure, Row
from bench.traffic import own_and_stock
from wan.geometry import LatentShape
from wan.load.transformer import build_transformer, load_transformer
from wan.miniatures import MINI_FOLDER
from wan.payloads import Variant
from wan.sample.cache import ResidualCache, RunFacts, SkipPlan, TeaCache, compute_all
from wan.sample.cross import Branch, count_padding
from wan.sample.forward import Network, Step, embed_context, embed_time, predict_velocities
from wan.sample.rope import Rotary, rotary_tables
from wan.sample.schedule import Solver

WORDS, IMAGE_TOKENS = 24, 257
"""Tokens of a usual prompt; the rest of the 512 is padding. Tokens of a picture."""
STEPS = (10, 20, 30, 40, 50)
SPEEDS = (1.5, 1.75, 2.0, 2.25, 2.5)


def rows(folder: Path) -> Iterator[Row | Figure]:
    """All four."""
    yield from traffic()
    yield from skipping()
    yield from forwards()


def traffic() -> Iterator[Figure]:
    """A1: counted, so the same everywhere."""
    ours, stock = own_and_stock()
    told = "traffic of a 14B block, 32,760 tokens"
    yield Figure("A1", told, ours.nbytes / 1e9, "GB", 12, "diffusers", stock.nbytes / 1e9)
    told = "large kernels of that block"
    yield Figure("A1", told, ours.kernels, "kernels", 10, "diffusers", stock.kernels)


def forwards() -> Iterator[Row]:
    """A2 and A3: one forward; and A4: a loop with and without steps that are skipped."""
    for id, name, shape, layers, heads, head_dim, wide, goal, threads in (
        ("A2", "2 layers of 1536, 1,560 tokens", (1, 60, 104), 2, 12, 128, 8960, 0.9, (1, 2)),
        ("A3", "40 layers of 48, 48 tokens", (3, 8, 8), 40, 2, 24, 96, 0.6, (1,)),
    ):
        model = random_transformer(layers, heads, head_dim, wide)
        given = Given(model, shape)
        told = f"forward, {name}, float32"
        yield Row(told, given.ours, given.stock, "diffusers", 1, goal, threads, id)
    given = Given(random_transformer(3, 4, 128, 2048), (3, 32, 32))
    plan = planned(10, 2.0)
    told = "10 steps with TeaCache x2, 768 tokens"
    loops = partial(given.loop, plan), partial(given.loop, compute_all(10, 0))
    yield Row(told, *loops, "all computed", 1, 1 / 1.9, id="A4")
    told = "TeaCache's plan of 50 steps, 3 layers, 768 tokens"
    plan = partial(planned, 50, 2.0, given.model)
    yield Row(told, plan, given.ours, "one computed step", 1, 0.01, id="A4")


def skipping() -> Iterator[Figure]:
    """A4: computed steps against those that were asked for."""
    off = max(
        abs(planned(steps, speed).computed - int(steps / speed))
        for steps in STEPS
        for speed in SPEEDS
    )
    yield Figure("A4", "TeaCache: computed steps off from steps / speed-up", off, "steps", 0)


@lru_cache
def miniature() -> nn.Module:
    """The trained one."""
    return load_transformer(MINI_FOLDER / "i2v" / "transformer", torch.float32)


def planned(steps: int, speed: float, model: nn.Module | None = None) -> SkipPlan:
    """Which steps TeaCache computes with the time embedding of a model, or of the miniature."""
    timesteps = Solver("unipc", steps, 5.0).timesteps
    return TeaCache(speed).plan(RunFacts(model or miniature(), timesteps, "480p", Variant.I2V))


def random_transformer(layers: int, heads: int, head_dim: int, wide: int) -> nn.Module:
    """Of that size, float32, on the CPU."""
    config = {
        "num_layers": layers,
        "num_attention_heads": heads,
        "attention_head_dim": head_dim,
        "ffn_dim": wide,
        "patch_size": (1, 2, 2),
        "in_channels": 36,
        "out_channels": 16,
        "text_dim": 64,
        "image_dim": 64,
        "added_kv_proj_dim": heads * head_dim,
    }
    model = build_transformer(Variant.I2V, config).to_empty(device="cpu")
    model.rope = type(model.rope)(head_dim, (1, 2, 2), 1024)
    generator = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        weight.data.normal_(0, 0.05, generator=generator)
    return model.eval().requires_grad_(False)


class Given:
    """A transformer and what goes in."""

    def __init__(self, model: nn.Module, shape: tuple[int, int, int]) -> None:
        generator = torch.Generator().manual_seed(1)
        self.model = model
        self._latents = torch.randn(1, 36, *shape, generator=generator)
        self._text = torch.randn(1, 512, 64, generator=generator)
        self._text[:, WORDS:] = 0
        self._image = torch.randn(1, IMAGE_TOKENS, 64, generator=generator)
        self._when = torch.tensor([500])
        tables = rotary_tables(model.rope, LatentShape(*shape), None, torch.device("cpu"))
        with torch.inference_mode():
            self._network = Network(model, Rotary.of(tables))
            context = embed_context(model, self._text, self._image)
            self._branch = Branch(context, padding=count_padding(self._text))
            self._moment = embed_time(model, self._when, self._latents)

    def ours(self) -> Tensor:
        """One step of a run."""
        with torch.inference_mode():
            return self._predict(Step(ResidualCache()))

    def stock(self) -> Tensor:
        """diffusers' forward."""
        with torch.inference_mode():
            given = self._latents, self._when, self._text, self._image
            return self.model(*given, return_dict=False)[0]

    def loop(self, plan: SkipPlan) -> None:
        """A run's steps, computed or skipped as planned."""
        residuals = ResidualCache()
        with torch.inference_mode():
            for number, is_computed in enumerate(plan.compute):
                self._predict(Step(residuals, is_computed, plan.is_reused(number)))

    def _predict(self, step: Step) -> Tensor:
        given = self._network, self._latents, self._moment, [self._branch]
        return predict_velocities(*given, step, lambda: None)[0]
