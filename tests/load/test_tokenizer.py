import pytest
from wan_local.wan.errors import InputError, MissingFileError, ModelError
from wan_local.wan.load.tokenizer import open_tokenizer

TEXTS = ["a cat runs", " two  spaces ", "镜头晃动，色调艳丽", "emoji 🎈\n\ttab", "", "▁ <pad"]


def tokenizers(tiny):
    yield open_tokenizer(tiny / "diffusers/wan2.1-i2v/tokenizer")
    yield open_tokenizer(tiny / "diffusers/wan2.1-i2v/tokenizer/tokenizer.json")
    yield open_tokenizer(tiny / "official/google/umt5-xxl")
    yield open_tokenizer(tiny / "official/google/umt5-xxl/spiece.model")
    yield open_tokenizer(tiny / "comfyui/text_encoders/umt5_tiny.safetensors")


@pytest.mark.parametrize("text", TEXTS)
def test_all_tokenizer_files_give_the_bytes_and_an_end(tiny, text):
    expected = [*(3 + byte for byte in text.encode()), 1]
    for tokenizer in tokenizers(tiny):
        assert tokenizer.encode(text, 512) == expected


def test_long_text_is_cut_so_that_it_ends(tiny):
    for tokenizer in tokenizers(tiny):
        ids = tokenizer.encode("x" * 600, 512)
        assert len(ids) == 512
        assert (ids[-1], ids[-2]) == (1, 3 + ord("x"))
        assert tokenizer.encode("x", 1) == [1]


def test_stored_padding_and_truncation_do_not_count(tiny, tmp_path):
    from tokenizers import Tokenizer

    stored = Tokenizer.from_file(str(tiny / "diffusers/wan2.1-i2v/tokenizer/tokenizer.json"))
    stored.enable_padding(length=9)
    stored.enable_truncation(4)
    stored.save(str(tmp_path / "tokenizer.json"))
    assert len(open_tokenizer(tmp_path).encode("x" * 20, 512)) == 21


def test_same_ids_as_the_stock_tokenizer(tiny):
    from transformers import AutoTokenizer

    stock = AutoTokenizer.from_pretrained(tiny / "diffusers/wan2.1-i2v/tokenizer")
    ours = open_tokenizer(tiny / "diffusers/wan2.1-i2v/tokenizer")
    for text in TEXTS:
        assert stock(text).input_ids == ours.encode(text, 512)


def test_length_below_one_is_an_error(tiny):
    with pytest.raises(InputError, match="max_length is 0"):
        open_tokenizer(tiny / "official/google/umt5-xxl").encode("x", 0)


def test_missing_and_broken_tokenizers(tiny, tmp_path):
    with pytest.raises(MissingFileError, match="No tokenizer"):
        open_tokenizer(tmp_path)
    with pytest.raises(ModelError, match="carries no tokenizer"):
        open_tokenizer(tiny / "comfyui/vae/wan_2.1_vae_tiny.safetensors")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be read"):
        open_tokenizer(tmp_path).encode("x", 9)
    (tmp_path / "spiece.model").write_bytes(b"\x0a\xff")
    with pytest.raises(ModelError, match="cannot be read"):
        open_tokenizer(tmp_path / "spiece.model").encode("x", 9)
