"""Our forward of the VAE against the stock modules on the same weights."""

import pytest
import torch
from wan_local.wan.autoencoder import open_decoder, open_encoder
from wan_local.wan.switch import uses_own_forward

# Both add the same products in another order; where the channels of a thin layer nearly vanish, the
# norm after them enlarges the difference. Measured up to 2e-5 at values of about 1.
ROUNDING = 5e-5


def make_vae(seed=0, **config):
    from diffusers import AutoencoderKLWan

    torch.manual_seed(seed)
    vae = AutoencoderKLWan(**{"base_dim": 8, **config}).eval().requires_grad_(False)
    for name, values in vae.named_parameters():
        # What stands at 1 and 0 in new modules would hide that it is not used.
        if "gamma" in name or "bias" in name:
            values.add_(torch.randn_like(values) * 0.2)
    return vae


@pytest.fixture(scope="module")
def vae():
    return make_vae()


def given(frames, channels=16, height=6, width=10, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, channels, frames, height, width, generator=generator)


def walk_through(walk, video, lengths):
    with torch.inference_mode():
        return torch.cat([walk(chunk) for chunk in video.split(lengths, dim=2)], dim=2)


@pytest.mark.parametrize("is_frugal", [False, True])
def test_decoding_equals_the_stock_decoder(vae, is_frugal):
    latents = given(4)
    with torch.inference_mode():
        stock = vae.decode(latents).sample
    ours = walk_through(open_decoder(vae, is_frugal=is_frugal), latents, [1, 1, 1, 1])
    assert ours.shape == (1, 3, 13, 48, 80)
    assert torch.allclose(ours.clamp(-1, 1), stock, atol=ROUNDING) and stock.std() > 0.1


@pytest.mark.parametrize("is_frugal", [False, True])
def test_encoding_equals_the_stock_encoder(vae, is_frugal):
    video = given(13, 3, 48, 80)
    with torch.inference_mode():
        stock = vae.encode(video).latent_dist.parameters
    ours = walk_through(open_encoder(vae, is_frugal), video, [1, 4, 4, 4])
    assert ours.shape == (1, 32, 4, 6, 10)
    assert torch.allclose(ours, stock, atol=ROUNDING) and stock.std() > 0.1


@pytest.mark.parametrize(
    "config",
    [
        {"dim_mult": [1, 2, 3, 3], "base_dim": 16},  # as the trained miniatures
        {"temperal_downsample": [True, False, True], "num_res_blocks": 1},
    ],
)
def test_other_shapes_of_the_vae_work_too(config):
    vae, video = make_vae(**config), given(5, 3, 32, 48)
    with torch.inference_mode():
        stock = vae.encode(video).latent_dist.parameters
        pixels = vae.decode(stock[:, :16]).sample
    assert torch.allclose(walk_through(open_encoder(vae), video, [1, 4]), stock, atol=ROUNDING)
    ours = walk_through(open_decoder(vae), stock[:, :16], [1, 1]).clamp(-1, 1)
    assert torch.allclose(ours, pixels, atol=ROUNDING)


def test_several_latent_frames_may_be_one_chunk(vae):
    one_by_one = walk_through(open_decoder(vae), given(6), [1] * 6)
    together = walk_through(open_decoder(vae), given(6), [1, 3, 2])
    assert torch.allclose(together, one_by_one, atol=ROUNDING)


@pytest.mark.parametrize("is_frugal", [False, True])
def test_a_restarted_walk_knows_nothing_of_the_video_before(vae, is_frugal):
    walk = open_decoder(vae, is_frugal=is_frugal)
    first = walk_through(walk, given(3), [1, 1, 1])
    walk.restart()
    walk_through(walk, given(2, height=4, width=4, seed=2), [1, 1])  # another size
    walk.restart()
    assert torch.equal(walk_through(walk, given(3), [1, 1, 1]), first)


def test_two_walks_do_not_meet(vae):
    alone = walk_through(open_decoder(vae), given(2), [1, 1])
    mine, other = open_decoder(vae), open_decoder(vae)
    with torch.inference_mode():
        first = mine(given(2)[:, :, :1])
        other(given(1, seed=5))
        second = mine(given(2)[:, :, 1:])
    assert torch.equal(torch.cat([first, second], dim=2), alone)


def test_weights_are_those_of_the_moment_a_walk_is_opened(vae):
    before = walk_through(open_decoder(vae), given(1), [1])
    bias = vae.decoder.conv_out.bias
    bias.add_(0.25)
    try:
        after = walk_through(open_decoder(vae), given(1), [1])
    finally:
        bias.sub_(0.25)
    assert torch.allclose(after, before + 0.25, atol=1e-6)


def test_what_is_given_stays_as_it_was(vae):
    latents = given(3)
    walk_through(open_decoder(vae), latents, [1, 1, 1])
    assert torch.equal(latents, given(3))


def test_the_stock_modules_compute_where_that_is_asked_for(vae, monkeypatch):
    calls = []
    handles = [
        part.register_forward_hook(lambda *_: calls.append(1))
        for part in (vae.encoder, vae.decoder)
    ]
    try:
        walk_through(open_decoder(vae), given(1), [1])
        walk_through(open_encoder(vae), given(1, 3, 16, 16), [1])
        assert calls == [] and uses_own_forward()
        monkeypatch.setenv("WAN_LOCAL_FORWARD", "diffusers")
        walk_through(open_decoder(vae), given(1), [1])
        walk_through(open_encoder(vae), given(1, 3, 16, 16), [1])
        assert calls == [1, 1] and not uses_own_forward()
    finally:
        for handle in handles:
            handle.remove()


def test_the_vae_of_another_model_is_left_to_the_stock_modules():
    vae = make_vae(is_residual=True, dim_mult=[1, 1], temperal_downsample=[True])
    with torch.inference_mode():
        stock = vae.decode(given(2)).sample
    assert torch.equal(walk_through(open_decoder(vae), given(2), [1, 1]).clamp(-1, 1), stock)
