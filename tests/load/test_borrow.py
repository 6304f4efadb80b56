"""A VAE that somebody else has loaded, and texts and pictures that somebody else has encoded."""

import pytest
import torch
from wan_local.wan.encode.condition import condition_on_image
from wan_local.wan.encode.given import given_features, given_texts
from wan_local.wan.encode.image import encode_images
from wan_local.wan.encode.prompt import encode_prompts
from wan_local.wan.errors import InputError, ModelError
from wan_local.wan.load.borrow import borrow_vae
from wan_local.wan.load.keys import to_original, vae_rows
from wan_local.wan.progress import Silent

PICTURE = torch.rand(40, 56, 3, generator=torch.Generator().manual_seed(3))


def weights(part):
    with part.on_device() as module:
        return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def latents(model):
    return condition_on_image(model, PICTURE, 64, 48, 5, Silent()).latents


@pytest.mark.parametrize("is_original", [False, True], ids=["diffusers", "original"])
def test_the_same_weights_give_the_same_latents(i2v, is_original):
    tensors = weights(i2v.vae)
    if is_original:
        tensors = to_original(tensors, vae_rows())
    borrowed = borrow_vae(i2v, tensors)
    assert borrowed.vae is not i2v.vae and borrowed.transformer is i2v.transformer
    assert torch.equal(latents(borrowed), latents(i2v))


def test_other_weights_give_other_latents_and_another_identity(i2v):
    tensors = weights(i2v.vae)
    name = next(n for n in tensors if n.startswith("encoder.conv_in.weight"))
    same = borrow_vae(i2v, tensors)
    tensors[name] = tensors[name] * 1.5
    other = borrow_vae(i2v, tensors)
    assert not torch.equal(latents(other), latents(i2v))
    assert len({i2v.identity, same.identity, other.identity}) == 3  # clips kept on disk tell them
    assert same.identity == borrow_vae(i2v, weights(i2v.vae)).identity


def test_half_precision_becomes_float32(i2v):
    borrowed = borrow_vae(i2v, {n: t.half() for n, t in weights(i2v.vae).items()})
    with borrowed.vae.on_device() as vae:
        assert {p.dtype for p in vae.parameters()} == {torch.float32}
    assert (latents(borrowed) - latents(i2v)).abs().max() < 0.05


def test_weights_of_something_else_are_refused(i2v):
    with pytest.raises(ModelError, match="the connected VAE"):
        borrow_vae(i2v, weights(i2v.transformer))
    tensors = weights(i2v.vae)
    del tensors[next(n for n in tensors if "mid_block" in n)]
    with pytest.raises(ModelError, match="1 missing"):
        borrow_vae(i2v, tensors)
    with pytest.raises(ModelError, match="the connected VAE"):
        borrow_vae(i2v, {"a": torch.zeros(2)})


def test_given_texts_are_what_we_encode_ourselves(i2v):
    ours = encode_prompts(i2v, "a cat turns its head", "blurred", Silent())
    short = [(text[:, :9], None) for text in (ours.positive, ours.negative)]
    given = given_texts(i2v, *short)
    assert given.positive.shape == ours.positive.shape
    assert torch.equal(given.positive[:, :9], ours.positive[:, :9])
    assert not given.positive[:, 9:].any()
    assert given_texts(i2v, short[0], None).negative is None


def test_what_a_mask_leaves_out_becomes_zero(i2v):
    width = i2v.config["text_dim"]
    mask = torch.tensor([[1, 1, 0]])
    given = given_texts(i2v, (torch.ones(1, 3, width, dtype=torch.float16), mask), None)
    assert given.positive.dtype == torch.float32
    assert given.positive[0, :3].sum(-1).tolist() == [width, width, 0]


@pytest.mark.parametrize("shape", [(1, 3, 7), (2, 3, 32), (1, 513, 32), (3, 32)])
def test_texts_of_other_encoders_are_refused(i2v, shape):
    with pytest.raises(InputError, match="UMT5"):
        given_texts(i2v, (torch.zeros(shape), None), None)


def test_given_features_replace_the_image_encoder(i2v):
    own = condition_on_image(i2v, PICTURE, 64, 48, 5, Silent())
    features = encode_images(i2v, [PICTURE], Silent())
    same = condition_on_image(i2v, PICTURE, 64, 48, 5, Silent(), features=features.half())
    assert torch.allclose(same.image_embeds, own.image_embeds, atol=1e-2)
    assert same.image_embeds.dtype == torch.float32
    other = condition_on_image(i2v, PICTURE, 64, 48, 5, Silent(), features=features + 1)
    assert torch.equal(other.image_embeds, features + 1)


@pytest.mark.parametrize("shape", [(1, 5, 7), (2, 5, 32), (5, 32)])
def test_features_of_other_encoders_are_refused(i2v, shape):
    with pytest.raises(InputError, match="ViT-H"):
        given_features(i2v, torch.zeros(shape), 1)
