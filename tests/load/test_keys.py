import json
from pathlib import Path

import pytest
import torch
from wan_local.wan.load.keys import (
    IMAGE_ROWS,
    TEXT_ROWS,
    drop_unused,
    to_original,
    to_standard,
    transformer_rows,
    vae_rows,
)

OFFICIAL = json.loads(Path(__file__).with_name("official_keys.json").read_text("utf-8"))
ROWS = {
    "i2v_14B": transformer_rows(),
    "flf2v_14B": transformer_rows(),
    "animate_14B": transformer_rows(),
    "vae": vae_rows(),
    "umt5_xxl": TEXT_ROWS,
    "clip_vit_h": IMAGE_ROWS,
}


def official(model):
    tensors = {}
    for pattern, (shape, count) in OFFICIAL[model].items():
        for i in range(count):
            tensors[pattern.replace("{}", str(i))] = torch.empty(shape, device="meta")
    return tensors


@pytest.mark.parametrize("model", ROWS)
def test_back_and_forth_is_the_same(model):
    used = drop_unused(official(model))
    standard = to_standard(used, ROWS[model])
    again = to_original(standard, ROWS[model])
    assert {n: t.shape for n, t in again.items()} == {n: t.shape for n, t in used.items()}


@pytest.mark.parametrize("model", ["i2v_14B", "animate_14B", "vae"])
def test_same_names_as_diffusers_own_conversion(model):
    from diffusers.loaders import single_file_utils as theirs

    convert = (
        theirs.convert_wan_vae_to_diffusers
        if model == "vae"
        else theirs.convert_wan_transformer_to_diffusers
    )
    ours = to_standard(drop_unused(official(model)), ROWS[model])
    expected = {n: t for n, t in convert(official(model)).items() if not n.endswith("kernel")}
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in expected.items()}


def test_norm2_and_norm3_change_places():
    assert set(to_standard({"blocks.7.norm3.bias": torch.zeros(1)}, transformer_rows())) == {
        "blocks.7.norm2.bias"
    }


def test_stacked_keys_and_values_are_split_in_order():
    stacked = torch.arange(4.0)[:, None]
    split = to_standard(
        {"face_adapter.fuser_blocks.1.linear1_kv.weight": stacked}, transformer_rows()
    )
    assert split["face_adapter.1.to_k.weight"].tolist() == [[0], [1]]
    assert split["face_adapter.1.to_v.weight"].tolist() == [[2], [3]]


def test_unknown_names_stay_visible():
    assert set(to_standard({"who.knows": torch.zeros(1)}, vae_rows())) == {"who.knows"}


def test_tied_embedding_counts_under_either_name():
    tied = torch.zeros(2, 2)
    assert set(drop_unused({"encoder.embed_tokens.weight": tied})) == {"shared.weight"}
    both = {"encoder.embed_tokens.weight": tied, "shared.weight": torch.ones(2, 2)}
    assert drop_unused(both)["shared.weight"].sum() == 4
