"""What is encoded once: found again by content, bounded, and gone with the model."""

import gc
import weakref
from collections import Counter
from contextlib import contextmanager

import pytest
import torch
from conftest import open_tiny
from PIL import Image
from wan_local.wan.app import Surroundings, run_i2v
from wan_local.wan.encode.image import encode_images
from wan_local.wan.encode.prompt import encode_prompts
from wan_local.wan.memo import Memo, digest
from wan_local.wan.params import I2V_APP, validate
from wan_local.wan.progress import Silent
from wan_local.wan.tiny import MINIMUMS

PARTS = ("transformer", "vae", "text_encoder", "image_encoder")


class Phases(Silent):
    def __init__(self):
        self.seen, self.totals = [], {}

    def start(self, phase, total):
        self.seen.append(phase)
        self.totals[phase] = total


@contextmanager
def counted(model):
    """How often each part is brought to its device."""
    counts = Counter()
    plain = {name: getattr(model, name).on_device for name in PARTS}

    def watch(name):
        def on_device(*arguments):
            counts[name] += 1
            return plain[name](*arguments)

        return on_device

    for name in PARTS:
        getattr(model, name).on_device = watch(name)
    try:
        yield counts
    finally:
        for name in PARTS:
            del getattr(model, name).on_device


@pytest.fixture
def model(tiny):
    return open_tiny(tiny, "I2V")


@pytest.fixture
def run(tmp_path, model):
    for name, colour in (("cat", "red"), ("dog", "blue")):
        Image.new("RGB", (80, 64), colour).save(tmp_path / f"{name}.png")
    values = {"size": "64x64", "num_frames": 5, "num_inference_steps": 2, "tea_cache": 0}

    def make(picture="cat", prompt="a cat", **more):
        given = {"input_image": str(tmp_path / f"{picture}.png"), "prompt": prompt}
        app = I2V_APP.widened(MINIMUMS)
        with counted(model) as counts:
            run_i2v(
                validate(app, {**values, **given, **more}),
                model,
                tmp_path / "out.mp4",
                reporter := Phases(),
                Surroundings(),
            )
        return counts, reporter.seen

    return make


def test_a_run_with_another_seed_encodes_and_loads_nothing(run):
    first, phases = run(seed=1)
    assert first == {"text_encoder": 1, "image_encoder": 1, "vae": 2, "transformer": 1}
    assert {"encode prompt", "encode image", "encode frames"} <= set(phases)
    second, phases = run(seed=2)
    assert second == {"vae": 1, "transformer": 1}  # the VAE to decode
    assert not {"encode prompt", "encode image", "encode frames"} & set(phases)


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"prompt": "a dog"}, {"text_encoder": 1}),
        ({"negative_prompt": "blue"}, {"text_encoder": 1}),
        ({"picture": "dog"}, {"image_encoder": 1, "vae": 1}),
        ({"num_frames": 9}, {"vae": 1}),
        ({"size": "96x64"}, {"vae": 1}),
        ({"vae_tile_size": 0}, {"vae": 1}),
    ],
    ids=str,
)
def test_what_changes_is_encoded_again_and_nothing_else(run, change, again):
    run(seed=1)
    counts, _ = run(seed=1, **change)
    assert counts - Counter(vae=1, transformer=1) == Counter(again)


def test_what_is_found_again_is_what_was_encoded(model):
    picture = torch.rand(40, 30, 3, generator=torch.Generator().manual_seed(0))
    first = encode_prompts(model, "a cat", "", Silent()), encode_images(model, [picture], Silent())
    again = encode_prompts(model, "a cat", "", Silent()), encode_images(model, [picture], Silent())
    model.text_encoder.memo.clear()
    model.image_encoder.memo.clear()
    anew = encode_prompts(model, "a cat", "", Silent()), encode_images(model, [picture], Silent())
    for text, images in (again, anew):
        assert torch.equal(text.positive, first[0].positive)
        assert torch.equal(text.negative, first[0].negative)
        assert torch.equal(images, first[1])
    assert not torch.equal(first[0].positive, first[0].negative)


def test_equal_texts_are_encoded_once(model):
    phases = Phases()
    encode_prompts(model, "a cat", "a  cat ", phases)
    assert phases.totals == {"encode prompt": 1}


def test_the_longest_unused_are_dropped():
    memo = Memo(max_bytes=3 * 400)
    for key in "abc":
        memo.keep(key, torch.zeros(100))
    memo.find("a")
    memo.keep("d", torch.zeros(100))
    assert [memo.find(key) is not None for key in "abcd"] == [True, False, True, True]
    assert memo.nbytes == 1200
    memo.keep("huge", torch.zeros(1000))
    assert memo.nbytes == 0  # it does not fit, and is used all the same


def test_it_goes_with_its_model(tiny):
    model = open_tiny(tiny, "I2V")
    encode_prompts(model, "something new", None, Silent())
    seen = weakref.ref(model.text_encoder.memo)
    model = None
    gc.collect()
    assert seen() is None


def test_a_digest_tells_type_shape_and_every_number():
    one = torch.arange(6.0)
    others = [one.view(2, 3), one.double(), one.clone().index_fill_(0, torch.tensor([3]), 9), None]
    digests = [digest(one), *map(digest, others), digest(one, None), digest(one, one)]
    assert len(set(digests)) == len(digests)
    assert digest(one) == digest(one.clone()) == digest(one.view(2, 3).view(6))
