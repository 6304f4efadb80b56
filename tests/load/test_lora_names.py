"""Every name of a LoRA's tensor means one parameter, and no two parameters share a name."""

import pytest
from wan_local.wan.load.lora.names import Role, flat, parse_name
from wan_local.wan.load.lora.targets import model_targets
from wan_local.wan.load.transformer import build_transformer
from wan_local.wan.payloads import Variant


@pytest.mark.parametrize("variant", ["i2v", "flf2v", "animate"])
def test_every_parameter_can_be_meant_and_no_two_by_one_name(variant, request):
    model = request.getfixturevalue(variant)
    targets = model_targets(model.variant, model.config)
    names = {n for n, _ in build_transformer(model.variant, model.config).named_parameters()}
    assert {name for target in targets.values() for name in target.parameters} == names
    standard = {flat(name): name for name in names}
    assert len(standard) == len(names)
    # A name that is read as diffusers' must not be another tensor's name in the authors' files.
    for short, name in standard.items():
        assert targets[short].parameters == (name,)
    assert (model.variant is Variant.ANIMATE) == any(
        len(t.parameters) > 1 for t in targets.values()
    )


@pytest.mark.parametrize(
    ("name", "module", "role"),
    [
        ("transformer.transformer_blocks.0.a.lora_A.weight", "transformer_blocks.0.a", Role.DOWN),
        ("lora_unet__blocks_0_ffn_0.lora_up.weight", "blocks_0_ffn_0", Role.UP),
        ("blocks.0.ffn.0.lora.down.weight", "blocks.0.ffn.0", Role.DOWN),
        ("blocks.0.norm3.w_norm", "blocks.0.norm3", Role.DIFF),
        ("lora_unet_blocks_0.self_attn.q.alpha", "blocks_0.self_attn.q", Role.ALPHA),
    ],
)
def test_names_are_taken_apart(name, module, role):
    assert parse_name(name) == (module, role)


@pytest.mark.parametrize("name", ["blocks.0.ffn.0.weight", "blocks.0.q.lora_B.bias", "alpha"])
def test_names_that_mean_nothing_are_left_alone(name):
    assert parse_name(name) is None
