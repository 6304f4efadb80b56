import torch
from wan_local.wan.decode.vae import decode_frames, decode_video
from wan_local.wan.payloads import VideoLatents
from wan_local.wan.progress import Silent


def latents(frames=3):
    return torch.randn(1, 16, frames, 4, 6, generator=torch.Generator().manual_seed(3))


def test_frames_equal_the_stock_decode_of_the_whole_video(i2v):
    video = VideoLatents(latents(), 9, 0)
    ours = decode_video(i2v, video, Silent())
    with i2v.vae.on_device() as vae, torch.no_grad():
        mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1)
        std = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1)
        stock = vae.decode(latents() * std + mean).sample[0].permute(1, 2, 3, 0) / 2 + 0.5
    assert ours.shape == (9, 32, 48, 3) and ours.dtype is torch.float32
    assert torch.allclose(ours, stock, atol=1e-6)
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
