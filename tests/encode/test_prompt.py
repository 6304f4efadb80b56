import pytest
import torch
from wan_local.wan.encode.prompt import DEFAULT_NEGATIVE, clean_prompt, encode_prompts
from wan_local.wan.errors import InputError
from wan_local.wan.payloads import Variant
from wan_local.wan.progress import Silent


def test_a32_default_negatives():
    assert DEFAULT_NEGATIVE[Variant.I2V].startswith("镜头晃动，色调艳丽")
    assert DEFAULT_NEGATIVE[Variant.FLF2V].startswith("镜头切换，镜头晃动，")
    assert DEFAULT_NEGATIVE[Variant.ANIMATE].startswith("色调艳丽")
    assert all(text.endswith("背景人很多，倒着走") for text in DEFAULT_NEGATIVE.values())


def test_a32_empty_negative_means_the_default_of_the_weights(i2v, flf2v):
    empty = encode_prompts(i2v, "a cat", "", Silent()).negative
    spelled = encode_prompts(i2v, "a cat", DEFAULT_NEGATIVE[Variant.I2V], Silent()).negative
    assert torch.equal(empty, spelled)
    assert not torch.equal(encode_prompts(flf2v, "a cat", "", Silent()).negative, empty)


def test_a_space_is_a_truly_empty_negative(i2v):
    negative = encode_prompts(i2v, "a cat", " ", Silent()).negative
    assert negative[0, 0].abs().sum() > 0  # the end-of-text token
    assert negative[0, 1:].abs().sum() == 0


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_an_empty_prompt_is_refused(i2v, text):
    with pytest.raises(InputError, match="prompt is empty"):
        encode_prompts(i2v, text, "", Silent())


def test_cleaning():
    assert clean_prompt("  a\t cat \n &amp;amp; a  dog ") == "a cat & a dog"
    assert clean_prompt("schÃ¶n") == "schön"
    assert clean_prompt("镜头，晃动") == clean_prompt(" 镜头，晃动 ")


def test_embeddings_end_with_the_text_and_are_512_long(i2v):
    embeds = encode_prompts(i2v, "abc", None, Silent())
    assert embeds.positive.shape == (1, 512, i2v.config["text_dim"]) and embeds.negative is None
    assert embeds.positive[0, 3].abs().sum() > 0  # a, b, c, end of text
    assert embeds.positive[0, 4:].abs().sum() == 0


def test_embeddings_equal_the_padded_and_masked_encoder(i2v):
    ids = i2v.tokenizer.encode("a cat", 512)
    padded = torch.tensor([ids + [0] * (512 - len(ids))])
    mask = (torch.arange(512) < len(ids))[None].long()
    with i2v.text_encoder.on_device() as encoder, torch.no_grad():
        hidden = encoder(padded, attention_mask=mask).last_hidden_state * mask[..., None]
    ours = encode_prompts(i2v, "a cat", None, Silent()).positive
    # Rounding of one softmax over 512 masked against one over the tokens alone.
    assert torch.allclose(ours, hidden, atol=1e-5)


def test_long_text_is_cut_at_512_tokens_and_still_ends(i2v):
    long = encode_prompts(i2v, "x" * 2000, None, Silent()).positive
    assert long[0, 511].abs().sum() > 0
    assert i2v.tokenizer.encode("x" * 2000, 512)[-1] == i2v.tokenizer.encode("", 512)[-1]
