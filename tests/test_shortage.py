"""Out of memory: caught once, freed, tried again with less and the same result, else explained."""

import re
import weakref
from copy import copy
from dataclasses import replace

import pytest
import torch
from conftest import open_tiny
from wan_local.wan.decode import vae
from wan_local.wan.decode.vae import decode_frames, decode_video
from wan_local.wan.encode import latents
from wan_local.wan.encode.condition import condition_on_image
from wan_local.wan.encode.prompt import encode_prompts
from wan_local.wan.errors import OutOfVramError
from wan_local.wan.memory import vae_decode_bytes, vae_encode_bytes
from wan_local.wan.payloads import VideoLatents
from wan_local.wan.progress import Silent
from wan_local.wan.residency import DevicePlacement
from wan_local.wan.residency.offload import MARGIN
from wan_local.wan.sample.guidance import Guidance
from wan_local.wan.sample.settings import SampleOptions, SampleSettings
from wan_local.wan.sample.video import sample_video
from wan_local.wan.shortage import is_out_of_memory
from watched_walks import watch_walks

WIDTH, HEIGHT = 320, 144


class Notes(Silent):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)

    @property
    def retries(self):
        return [note for note in self.notes if "out of memory" in note]


@pytest.fixture(scope="module")
def model(tiny_module):
    return open_tiny(tiny_module, "I2V")


@pytest.fixture(scope="module")
def tiny_module(tmp_path_factory):
    from wan_local.wan.tiny import ensure_tiny

    return ensure_tiny(tmp_path_factory.mktemp("tiny"))


def video():
    shape = (1, 16, 2, HEIGHT // 8, WIDTH // 8)
    given = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return VideoLatents(given, 5, seed=0)


class Small:
    """Makes a module run out of memory on inputs that are larger than it can take."""

    def __init__(self, part, place, is_too_much):
        self._part, self._place, self._is_too_much = part, place, is_too_much
        self.tries, self.alive, self._hook = 0, [], None

    def __enter__(self):
        def look(module, args, kwargs=None):
            assert all(seen() is None for seen in self.alive), "a failed try is still held"
            if self._is_too_much(args[0]):
                self.tries += 1
                rubbish = torch.zeros(10)
                self.alive.append(weakref.ref(rubbish))
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB")

        self._undo = pytest.MonkeyPatch()
        if self._part.name == "vae":
            room = {"decoder": vae, "encoder": latents}[self._place]
            watch_walks(self._undo, room, f"open_{self._place}", look)
            return self
        with self._part.on_device() as module:
            self._hook = module.get_submodule(self._place).register_forward_pre_hook(
                look, with_kwargs=True
            )
        return self

    def __exit__(self, *_):
        self._undo.undo()
        if self._hook:
            self._hook.remove()


def wider_than(pixels, scale=8):
    return lambda x: max(x.shape[-2:]) * scale > pixels


@pytest.mark.parametrize(("fits", "tile", "retries"), [(256, 256, 1), (128, 128, 2)])
def test_decoding_goes_on_in_smaller_tiles(model, fits, tile, retries):
    expected = decode_video(model, video(), Silent(), tile)
    notes = Notes()
    with Small(model.vae, "decoder", wider_than(fits)) as small:
        found = decode_video(model, video(), notes)
    assert torch.equal(found, expected) and small.tries == retries
    assert len(notes.retries) == retries
    assert f"once more, in tiles of {tile} pixels" in notes.retries[-1]
    assert "Tried to allocate 9.00 GiB" in notes.retries[0]


def test_frames_that_were_given_out_are_not_given_out_again(model):
    """Memory runs out at the second latent frame, which makes four frames at once."""
    calls = []

    def at_second(x):
        calls.append(x.shape)
        return wider_than(256)(x) and len(calls) == 2

    with Small(model.vae, "decoder", at_second):
        pieces = list(decode_frames(model, video(), Silent()))
    assert [first for first, _ in pieces] == [0, 1]
    whole = decode_video(model, video(), Silent())
    assert torch.equal(pieces[0][1], whole[:1])
    torch.testing.assert_close(pieces[1][1], decode_video(model, video(), Silent())[1:])


def test_encoding_goes_on_in_smaller_tiles(model):
    def condition(reporter, tile):
        model.vae.memo.clear()
        picture = torch.rand(HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(1))
        return condition_on_image(
            model, picture, WIDTH, HEIGHT, 5, reporter, tile_size=tile
        ).latents

    expected, notes = condition(Silent(), 128), Notes()
    with Small(model.vae, "encoder", wider_than(128, scale=1)):
        assert torch.equal(condition(notes, 0), expected)
    assert len(notes.retries) == 2


def settings(**options):
    guidance = Guidance(3.0, cfg_star=False)
    return SampleSettings(2, guidance, seed=3, options=SampleOptions(**options))


def sample(model, reporter, **options):
    text = encode_prompts(model, "a cat", "", Silent())
    condition = condition_on_image(model, torch.zeros(64, 64, 3), 64, 64, 13, Silent())
    return sample_video(model, text, condition, settings(**options), reporter).latents


def test_sampling_goes_on_with_streamed_blocks(tiny):
    model = open_tiny(tiny, "I2V")
    expected, notes = sample(model, Silent()), Notes()
    is_whole = lambda _: not model.transformer.is_streamed  # noqa: E731
    with Small(model.transformer, "proj_out", is_whole) as small:
        assert torch.equal(sample(model, notes), expected)
        assert small.tries == 1
        assert torch.equal(sample(model, Silent()), expected)  # it remembers
        assert small.tries == 1
    assert "once more, streaming the blocks from RAM" in notes.retries[0]


def test_what_is_not_in_use_leaves_before_the_next_try(tiny, monkeypatch):
    model, order = open_tiny(tiny, "I2V"), []
    placement = model.vae.placement
    monkeypatch.setattr(placement, "free", lambda: order.append("freed"))

    def is_too_much(x):
        order.append("tried")
        return len(order) == 1

    with Small(model.vae, "decoder", is_too_much):
        decode_video(model, video(), Silent())
    assert order[:3] == ["tried", "freed", "tried"]


def test_the_prompt_is_encoded_with_streamed_blocks(tiny):
    model = open_tiny(tiny, "I2V")
    expected = encode_prompts(model, "a bird", None, Silent()).positive
    model.text_encoder.memo.clear()
    is_whole = lambda _: not model.text_encoder.is_streamed  # noqa: E731
    notes = Notes()
    with Small(model.text_encoder, "encoder.final_layer_norm", is_whole):
        assert torch.equal(encode_prompts(model, "a bird", None, notes).positive, expected)
    assert len(notes.retries) == 1


def test_at_last_an_error_with_numbers_and_three_cures(tiny):
    model = open_tiny(tiny, "I2V")
    with Small(model.transformer, "proj_out", lambda _: True) as small:
        with pytest.raises(OutOfVramError) as caught:
            sample(model, Silent(), joint_pass=True)
        assert small.tries == 2
    error = caught.value
    assert "Tried to allocate 9.00 GiB" in error.what
    assert re.search(r"transformer: [\d.]+ MB of weights, of which [\d.]+ MB at a time", error.why)
    cures = error.fix.split("; or ")
    assert len(cures) == 3 and all(re.search(r"about [\d.]+ [Mk]B less", cure) for cure in cures)
    assert "num_frames to 9" in error.fix and "make the video 32x32" in error.fix.lower()
    assert error.__cause__ is None  # it would hold the tensors of the failed try


def test_the_smallest_tiles_may_be_too_large_too(model):
    with (
        Small(model.vae, "decoder", lambda _: True) as small,
        pytest.raises(OutOfVramError, match="half the area"),
    ):
        decode_video(model, video(), Silent())
    assert small.tries == 3


def test_every_device_says_it_in_its_own_words():
    for error in (
        torch.OutOfMemoryError("CUDA out of memory."),
        MemoryError(),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    ):
        assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("shape '[3]' is invalid for input of size 4"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_other_errors_pass_at_once(model, monkeypatch):
    calls = []

    def fail(*_):
        calls.append(1)
        raise RuntimeError("a bug")

    watch_walks(monkeypatch, vae, "open_decoder", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        decode_video(model, video(), Silent())
    assert calls == [1]


def with_room(model, room):
    """The model on a device where so many bytes are left beside what always stays free."""
    part = copy(model.vae)
    part.placement = DevicePlacement("cpu", room=lambda: room + MARGIN)
    return replace(model, vae=part)


@pytest.mark.parametrize(("part", "tile"), [(0.9, 0), (0.7, 256), (0.2, 128), (0.001, 128)])
def test_what_will_not_fit_is_decoded_in_tiles_at_once(model, part, tile):
    needed = vae_decode_bytes(WIDTH, HEIGHT, 0, 5, 4)
    notes, small = Notes(), with_room(model, int(needed * part))
    found = decode_video(small, video(), notes)
    expected = decode_video(model, video(), Silent(), tile)
    assert torch.allclose(found, expected, atol=2e-5)  # frames one by one are rounded otherwise
    assert [f"so in tiles of {tile} pixels" in note for note in notes.notes] == [True] * (tile > 0)
    pieces = torch.cat([frames for _, frames in decode_frames(small, video(), Silent())])
    assert torch.equal(pieces, found)


@pytest.mark.parametrize(("part", "is_frugal"), [(1.1, False), (0.9, True)])
def test_where_memory_is_short_frames_go_through_one_by_one(model, monkeypatch, part, is_frugal):
    asked = []

    def watch(room, name):
        opened = getattr(room, name)

        def look(coder, *options):
            asked.append(options[-1])
            return opened(coder, *options)

        monkeypatch.setattr(room, name, look)

    watch(vae, "open_decoder")
    watch(latents, "open_encoder")
    model.vae.memo.clear()
    decode_video(with_room(model, int(part * vae_decode_bytes(WIDTH, HEIGHT))), video(), Silent())
    small = with_room(model, int(part * vae_encode_bytes(WIDTH, HEIGHT)))
    condition_on_image(small, torch.zeros(HEIGHT, WIDTH, 3), WIDTH, HEIGHT, 5, Silent())
    assert asked == [is_frugal] * 2
