import pytest
import torch
from naive_tiling import tile_naively
from wan_local.wan.decode.vae import decode_frames, decode_video
from wan_local.wan.errors import GeometryError, InputError
from wan_local.wan.payloads import VideoLatents
from wan_local.wan.progress import Silent

# Our forward and the stock one add the same products in another order. Where the four channels of
# the thinnest layers nearly vanish, the norm after them enlarges that: measured 6e-6 in 0..1.
ROUNDING = 2e-5
TILED = (20, 26)  # latent rows and columns; 2 x 3 tiles of 128 pixels


pytestmark = pytest.mark.usefixtures("forward")


def latents(frames=3, height=4, width=6):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(1, 16, frames, height, width, generator=generator)


def unnormalised(vae, normalised):
    mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1)
    std = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1)
    return normalised * std + mean


def to_picture(pixels):
    return (pixels[0].clamp(-1, 1).permute(1, 2, 3, 0) + 1) / 2


class Counts(Silent):
    def __init__(self, stop_at=-1):
        self.total, self.updates, self.checks, self.stop_at = 0, [], 0, stop_at

    def start(self, phase, total):
        self.total = total

    def update(self, done, preview=None):
        self.updates.append(done)

    def check_cancelled(self):
        self.checks += 1
        if self.checks == self.stop_at:
            raise KeyboardInterrupt


def test_frames_equal_the_stock_decode_of_the_whole_video(i2v):
    video = VideoLatents(latents(), 9, 0)
    ours = decode_video(i2v, video, Silent())
    with i2v.vae.on_device() as vae, torch.no_grad():
        stock = to_picture(vae.decode(unnormalised(vae, latents())).sample)
    assert ours.shape == (9, 32, 48, 3) and ours.dtype is torch.float32
    assert torch.allclose(ours, stock, atol=ROUNDING)
    assert ours.min() >= 0 and ours.max() <= 1 and ours.std() > 0.02


def test_frames_come_in_order_one_and_then_four(i2v):
    parts = list(decode_frames(i2v, VideoLatents(latents(), 9, 0), Silent()))
    assert [(first, len(frames)) for first, frames in parts] == [(0, 1), (1, 4), (5, 4)]


def test_a_longer_video_begins_like_a_shorter_one(i2v):
    long = decode_video(i2v, VideoLatents(latents(3), 9, 0), Silent())
    short = decode_video(i2v, VideoLatents(latents(3)[:, :, :2], 5, 0), Silent())
    assert torch.equal(long[:5], short)


def test_stopping_in_the_middle_leaves_nothing_behind(i2v):
    video = VideoLatents(latents(), 9, 0)
    before = decode_video(i2v, video, Silent())
    half = decode_frames(i2v, video, Silent())
    next(half)
    half.close()
    assert torch.equal(decode_video(i2v, video, Silent()), before)


def test_a23_the_latent_frame_of_an_end_image_is_not_decoded(i2v):
    # 22 latent frames are 82 frames, of which the last is dropped: 81 stay.
    given = latents(22, 2, 2)
    counts = Counts()
    frames = decode_video(i2v, VideoLatents(given, 81, 0), counts)
    assert frames.shape == (81, 16, 16, 3) and counts.total == 21
    assert torch.equal(frames, decode_video(i2v, VideoLatents(given[:, :, :21], 81, 0), Silent()))


def test_too_few_latent_frames_are_refused(i2v):
    with pytest.raises(GeometryError, match="2 latent frames for a video of 9 frames"):
        decode_video(i2v, VideoLatents(latents(2), 9, 0), Silent())


def decode_naively(vae, given):
    """Tiles of 128 pixels, as i2v.md 5.13 words them."""

    def run(rows, columns):
        tile = vae.post_quant_conv(unnormalised(vae, given)[..., rows, columns])
        memory = [None] * 64
        frames = [
            vae.decoder(tile[:, :, t : t + 1], feat_cache=memory, feat_idx=[0], first_chunk=t == 0)
            for t in range(given.shape[2])
        ]
        return torch.cat(frames, dim=2)

    return to_picture(tile_naively(run, *given.shape[3:], 128, scale=8))


def test_a25_tiles_equal_the_words_of_the_spec(i2v):
    given = latents(2, *TILED)
    with i2v.vae.on_device() as vae, torch.no_grad():
        expected = decode_naively(vae, given)
    ours = decode_video(i2v, VideoLatents(given, 5, 0), Silent(), 128)
    assert ours.shape == (5, 160, 208, 3) and ours.is_contiguous()
    assert torch.allclose(ours, expected, atol=ROUNDING)


def test_pixels_are_clamped_after_blending(i2v):
    given = latents(1, *TILED)
    with i2v.vae.on_device() as vae, torch.no_grad():
        # Random weights keep far from black and white: stretch what they give.
        last = vae.decoder.conv_out
        kept = [values.clone() for values in (last.weight, last.bias)]
        try:
            last.weight.mul_(20)
            last.bias.mul_(20)
            expected = decode_naively(vae, given)
            ours = decode_video(i2v, VideoLatents(given, 1, 0), Silent(), 128)
        finally:
            last.weight.copy_(kept[0])
            last.bias.copy_(kept[1])
    assert ours.min() == 0 and ours.max() == 1
    assert torch.allclose(ours, expected, atol=20 * ROUNDING)


def test_a25_tiles_equal_those_of_diffusers(i2v):
    given = latents(2, *TILED)
    with i2v.vae.on_device() as vae, torch.no_grad():
        vae.enable_tiling(128, 128, 96, 96)
        try:
            stock = to_picture(vae.decode(unnormalised(vae, given)).sample)
        finally:
            vae.disable_tiling()
    # The stock class blends in the same order with the same weights.
    ours = decode_video(i2v, VideoLatents(given, 5, 0), Silent(), 128)
    assert torch.allclose(ours, stock, atol=ROUNDING)


def test_tiles_are_close_to_the_whole_and_the_option_works(i2v):
    video = VideoLatents(latents(2, *TILED), 5, 0)
    whole = decode_video(i2v, video, Silent())
    tiled = decode_video(i2v, video, Silent(), 128)
    # What a tile cannot see beyond its border is missing in the overlaps only. Measured 0.012 at a
    # deviation of 0.11, with random weights; a wrong place would differ by more than 0.1.
    assert 1e-4 < (tiled - whole).abs().mean() < 0.03


def test_a_picture_smaller_than_a_tile_is_decoded_whole(i2v):
    video = VideoLatents(latents(), 9, 0)
    assert torch.equal(decode_video(i2v, video, Silent(), 128), decode_video(i2v, video, Silent()))


def test_tiled_frames_come_in_the_same_order(i2v):
    video = VideoLatents(latents(2, *TILED), 5, 0)
    parts = list(decode_frames(i2v, video, Silent(), 128))
    assert [(first, len(frames)) for first, frames in parts] == [(0, 1), (1, 4)]
    assert torch.equal(
        torch.cat([frames for _, frames in parts]), decode_video(i2v, video, Silent(), 128)
    )


def test_tiles_are_bit_identical_twice_and_leave_the_latents_alone(i2v):
    video = VideoLatents(latents(2, *TILED), 5, 0)
    first = decode_video(i2v, video, Silent(), 128)
    assert torch.equal(decode_video(i2v, video, Silent(), 128), first)
    assert torch.equal(video.latents, latents(2, *TILED))


def test_cancelling_between_tiles_leaves_nothing_behind(i2v):
    video = VideoLatents(latents(1, *TILED), 1, 0)
    before = decode_video(i2v, video, Silent(), 128)
    with pytest.raises(KeyboardInterrupt):
        decode_video(i2v, video, Counts(stop_at=4), 128)  # phase, tile, piece, second tile
    assert torch.equal(decode_video(i2v, video, Silent(), 128), before)


@pytest.mark.parametrize(("tile_size", "tiles"), [(0, 1), (128, 6)])
def test_progress_counts_latent_frames_and_tiles(i2v, tile_size, tiles):
    counts = Counts()
    decode_video(i2v, VideoLatents(latents(2, *TILED), 5, 0), counts, tile_size)
    assert counts.total == 2 * tiles
    assert counts.updates == list(range(1, counts.total + 1))


def test_frames_can_be_changed_like_any_tensor(i2v):
    for _, frames in decode_frames(i2v, VideoLatents(latents(1), 1, 0), Silent()):
        frames.mul_(2)
        assert not torch.is_inference_mode_enabled()


def test_another_tile_size_is_refused(i2v):
    with pytest.raises(InputError, match="vae_tile_size is 64"):
        decode_video(i2v, VideoLatents(latents(1), 1, 0), Silent(), 64)
