import pytest
import torch
from wan_local.wan.errors import GeometryError
from wan_local.wan.media import frames as module
from wan_local.wan.media.frames import (
    ToPixels,
    empty_frames,
    fill_from_pixels,
    fill_image,
    to_pixels,
)
from wan_local.wan.progress import Silent


class Notes(Silent):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def images(*shape):
    """Some of every kind: in and out of 0..1, and halves between two levels."""
    values = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.2
    values.view(-1)[::7] = (values.view(-1)[::7] * 255).floor() / 255 + 0.5 / 255
    return values


@pytest.mark.parametrize("height", [1, 31, 32, 33, 100])
@pytest.mark.parametrize("width", [1, 7, 64])
def test_pixels_are_the_nearest_levels(height, width):
    frame = images(height, width, 3)
    found = to_pixels(frame).astype(float)
    exact = frame.double().clamp(0, 1).numpy() * 255
    # A half step, and the rounding of a product in single precision.
    assert found.shape == frame.shape and abs(found - exact).max() <= 0.5 + 255 * 2**-24


def test_every_level_comes_back():
    levels = torch.arange(256, dtype=torch.uint8).view(16, 16, 1).expand(-1, -1, 3)
    image = fill_from_pixels([levels[None]], empty_frames(1, 16, 16), Silent())
    assert image.dtype == torch.float32 and image[0, 15, 15].tolist() == [1, 1, 1]
    assert (to_pixels(image[0]) == levels.numpy()).all()
    assert (image == levels[None].float() / 255).all()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_rounded_too(kind):
    frame = images(40, 9, 3).to(kind)
    exact = frame.double().clamp(0, 1).numpy() * 255
    assert abs(to_pixels(frame) - exact).max() <= 0.5 + 255 * 2**-24


def test_any_layout_in_memory_gives_the_same_pixels():
    frame = images(40, 50, 3)
    planar = frame.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    wide = torch.zeros(44, 60, 3)
    wide[2:42, 5:55] = frame
    reversed_ = frame.flip(1).contiguous().flip(1)
    for other in (planar, wide[2:42, 5:55], reversed_):
        assert (to_pixels(other) == to_pixels(frame)).all()


def test_a_frame_is_not_changed_by_its_conversion():
    frame = images(40, 50, 3)
    frame[3, 4, 1] = torch.nan
    before = frame.clone()
    to_pixels(frame)
    assert torch.equal(frame.nan_to_num(9), before.nan_to_num(9))


def test_pixels_pass_as_they_are():
    frame = torch.randint(0, 256, (5, 6, 3), dtype=torch.uint8)
    assert (to_pixels(frame) == frame.numpy()).all()
    assert (to_pixels(torch.cat([frame, frame], 2)) == frame.numpy()).all()


def test_nan_pixels_are_black_and_named_once():
    pixels, notes = ToPixels(), Notes()
    frames = torch.ones(9, 70, 8, 3)
    frames[2, 5, 3, 1] = frames[2, 60, 0] = frames[7, 69, 7, 2] = torch.nan
    frames[4, 0, 0] = torch.tensor([torch.inf, -torch.inf, 1e30])
    frames[5, 0, 0] = torch.tensor([1.0, -1e-30, -0.0])
    frames[6, 0, 0, 0] = 1e8
    found = [pixels(frame).copy() for frame in frames]
    assert found[2][5, 3].tolist() == found[2][60, 0].tolist() == [0, 0, 0]
    assert found[7][69, 7].tolist() == [0, 0, 0]
    assert found[4][0, 0].tolist() == [255, 0, 255] and found[5][0, 0].tolist() == [255, 0, 0]
    assert sum((frame < 255).any(-1).sum() for frame in found) == 5
    pixels.report(notes)
    assert len(notes.notes) == 1
    assert "frame 2, 7 held" in notes.notes[0] and "3 in all" in notes.notes[0]


def test_alpha_is_dropped_with_a_note():
    pixels, notes = ToPixels(), Notes()
    frame = torch.tensor([[[0.0, 0.5, 1.0, 0.3], [1.7, -0.2, 0.4999 / 255, torch.nan]]])
    assert pixels(frame).tolist() == [[[0, 128, 255], [255, 0, 0]]]
    pixels.report(notes)
    assert len(notes.notes) == 1 and "alpha" in notes.notes[0]


def test_good_frames_need_no_note():
    pixels, notes = ToPixels(), Notes()
    pixels(torch.rand(8, 8, 3))
    pixels.report(notes)
    assert notes.notes == []


@pytest.mark.parametrize(
    "frame",
    [torch.rand(4, 4), torch.rand(4, 4, 1), torch.rand(0, 4, 3), torch.zeros(4, 4, 3).int()],
)
def test_what_is_no_frame_is_named(frame):
    with pytest.raises(GeometryError, match="three colours"):
        to_pixels(frame)


def naive_image(decoded):
    return decoded.float().add(1).div(2).clamp(0, 1).permute(1, 2, 3, 0).contiguous()


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [(1, 8, 8), (4, 33, 70), (2, 64, 1)])
def test_what_a_vae_gives_is_the_same_as_the_plain_way(kind, size):
    decoded = (torch.randn(3, *size, generator=torch.Generator().manual_seed(1))).to(kind)
    before = decoded.clone()
    frames = empty_frames(*size)
    assert torch.equal(fill_image(decoded, frames), naive_image(decoded))
    assert torch.equal(decoded, before)


def test_a_tile_fills_its_place_only():
    decoded = torch.randn(3, 4, 40, 24, generator=torch.Generator().manual_seed(2))
    frames = torch.full((6, 64, 48, 3), 7.0)
    fill_image(decoded, frames[1:5, 8:48, 16:40])
    assert torch.equal(frames[1:5, 8:48, 16:40], naive_image(decoded))
    frames[1:5, 8:48, 16:40] = 7
    assert (frames == 7).all()


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_signed_frames_are_what_the_vae_gave_clamped_only(kind):
    decoded = torch.randn(3, 2, 40, 24, generator=torch.Generator().manual_seed(4)).to(kind)
    frames = fill_image(decoded, empty_frames(2, 40, 24), signed=True)
    assert torch.equal(frames, decoded.float().clamp(-1, 1).permute(1, 2, 3, 0))


def test_batches_of_pixels_fill_an_image():
    pixels = torch.arange(3 * 5 * 4 * 3, dtype=torch.uint8).view(3, 5, 4, 3)
    image = fill_from_pixels(pixels.split(2), empty_frames(3, 5, 4), Silent())
    assert torch.equal(image, pixels.float() / 255)


@pytest.mark.parametrize("much", [0, 10**9], ids=["page by page", "at once"])
@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_memory_for_frames_is_ordinary_memory(monkeypatch, much, kind):
    monkeypatch.setattr(module, "MUCH_MEMORY", much)
    frames = empty_frames(4, 20, 30, dtype=kind)
    assert frames.shape == (4, 20, 30, 3) and frames.dtype == kind and frames.is_contiguous()
    frames[:] = 7
    frames[1].numpy()[:] = 8
    kept = frames[1:3]
    del frames
    assert kept.sum() == 20 * 30 * 3 * (8 + 7)
    assert torch.equal(kept.clone(), kept)
