"""LoRAs in every spelling change the same weights by the same amount."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from wan_local.wan.errors import InputError, MissingFileError, ModelError
from wan_local.wan.load.lora.apply import apply_lora
from wan_local.wan.payloads import Variant

RANK = 2
# The authors' name of a module, and that of diffusers.
MODULES = {
    "blocks.0.self_attn.q": "blocks.0.attn1.to_q",
    "blocks.0.self_attn.o": "blocks.0.attn1.to_out.0",
    "blocks.1.cross_attn.v": "blocks.1.attn2.to_v",
    "blocks.1.cross_attn.k_img": "blocks.1.attn2.add_k_proj",
    "blocks.1.ffn.0": "blocks.1.ffn.net.0.proj",
    "blocks.0.ffn.2": "blocks.0.ffn.net.2",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "head.head": "proj_out",
    "patch_embedding": "patch_embedding",
}
SPELLINGS = {
    "kijai": lambda ours, theirs: f"diffusion_model.{ours}",
    "checkpoint": lambda ours, theirs: f"model.diffusion_model.{ours}",
    "raw": lambda ours, theirs: ours,
    "kohya": lambda ours, theirs: f"lora_unet_{ours.replace('.', '_')}",
    "wan-fun": lambda ours, theirs: f"lora_unet__{ours.replace('.', '_')}",
    "mixed": lambda ours, theirs: f"lora_unet_{ours.replace('.', '_', 1)}",
    "diffusers": lambda ours, theirs: f"transformer.{theirs}",
    "peft": lambda ours, theirs: f"base_model.model.{ours}",
    "peft of diffusers": lambda ours, theirs: f"base_model.model.transformer.{theirs}",
    "diffsynth": lambda ours, theirs: f"pipe.dit.{ours}",
}
ENDINGS = {
    "down and up": (".lora_down.weight", ".lora_up.weight"),
    "A and B": (".lora_A.weight", ".lora_B.weight"),
    "adapter": (".lora_A.default.weight", ".lora_B.default.weight"),
    "without weight": (".lora_A", ".lora_B"),
}


class Notes:
    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


def weights(model):
    with model.transformer.on_device() as transformer:
        return {name: t.clone() for name, t in transformer.named_parameters()}


def factors(model, modules=MODULES):
    """Random factors by the authors' names of modules."""
    generator = torch.Generator().manual_seed(7)
    plain, result = weights(model), {}
    for ours, theirs in modules.items():
        out, *inner = plain[f"{theirs}.weight"].shape
        up = torch.randn(out, RANK, *(1 for _ in inner[1:]), generator=generator)
        result[ours] = up, torch.randn(RANK, *inner, generator=generator)
    return result


def write(path, model, spelling="kijai", ending="down and up", alpha=None, **changes):
    """A LoRA for all of MODULES."""
    spell, (down_end, up_end) = SPELLINGS[spelling], ENDINGS[ending]
    tensors = {}
    for ours, (up, down) in factors(model).items():
        name = spell(ours, MODULES[ours])
        tensors[name + up_end], tensors[name + down_end] = up, down
        if alpha is not None:
            tensors[f"{name}.alpha"] = torch.tensor(alpha)
    tensors.update(changes)
    save_file(tensors, path)
    return path


def expect_formula(model, found, scale):
    plain, given = weights(model), factors(model)
    changed = {f"{MODULES[ours]}.weight": pair for ours, pair in given.items()}
    for name, before in plain.items():
        if name not in changed:
            assert torch.equal(found[name], before), name
            continue
        up, down = changed[name]
        expected = before + scale * (up.flatten(1) @ down.flatten(1)).reshape(before.shape)
        torch.testing.assert_close(found[name], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a30_every_spelling_gives_the_same_change(i2v, tmp_path, spelling):
    path = write(tmp_path / "x.safetensors", i2v, spelling, alpha=1.0)
    notes = Notes()
    found = weights(apply_lora(i2v, path, 0.8, notes))
    expect_formula(i2v, found, 0.8 / RANK)
    assert notes.lines == ["x.safetensors: 33 of 33 tensors applied, multiplier 0.8"]
    kijai = write(tmp_path / "kijai.safetensors", i2v, alpha=1.0)
    expected = weights(apply_lora(i2v, kijai, 0.8))
    assert all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a30_every_name_of_the_factors_is_known_and_no_alpha_means_one(i2v, tmp_path, ending):
    path = write(tmp_path / "x.safetensors", i2v, ending=ending)
    expect_formula(i2v, weights(apply_lora(i2v, path, 0.5)), 0.5)


def test_a30_differences_of_weights_biases_norms_and_tables(i2v, tmp_path):
    named = {
        "diffusion_model.blocks.0.self_attn.q.diff_b": "blocks.0.attn1.to_q.bias",
        "diffusion_model.blocks.0.norm3.diff": "blocks.0.norm2.weight",
        "diffusion_model.blocks.0.norm3.diff_b": "blocks.0.norm2.bias",
        "diffusion_model.blocks.1.self_attn.norm_q.diff": "blocks.1.attn1.norm_q.weight",
        "diffusion_model.blocks.1.cross_attn.norm_k_img.diff": "blocks.1.attn2.norm_added_k.weight",
        "diffusion_model.img_emb.proj.0.diff": "condition_embedder.image_embedder.norm1.weight",
        "diffusion_model.patch_embedding.diff": "patch_embedding.weight",
        "diffusion_model.blocks.0.modulation.diff": "blocks.0.scale_shift_table",
        "diffusion_model.head.modulation.diff": "scale_shift_table",
    }
    plain = weights(i2v)
    tensors = {name: torch.randn(plain[target].shape) for name, target in named.items()}
    save_file(tensors, tmp_path / "x.safetensors")
    found = weights(apply_lora(i2v, tmp_path / "x.safetensors", -0.5))
    for name, target in named.items():
        torch.testing.assert_close(found[target], plain[target] - 0.5 * tensors[name])
    assert sum(not torch.equal(found[name], plain[name]) for name in plain) == len(named)


def test_a30_stacked_key_and_value_of_the_face_adapter_share_the_down_factor(animate, tmp_path):
    plain = weights(animate)
    width = plain["face_adapter.0.to_k.weight"].shape
    up, down = torch.randn(2 * width[0], RANK), torch.randn(RANK, width[1])
    bias = torch.randn(2 * width[0])
    name = "diffusion_model.face_adapter.fuser_blocks.0.linear1_kv"
    path = tmp_path / "x.safetensors"
    save_file(
        {f"{name}.lora_B.weight": up, f"{name}.lora_A.weight": down, f"{name}.diff_b": bias}, path
    )
    found = weights(apply_lora(animate, path))
    expected, biases = (up @ down).chunk(2), bias.chunk(2)
    for index, key in enumerate(("to_k", "to_v")):
        name = f"face_adapter.0.{key}"
        change = found[f"{name}.weight"] - plain[f"{name}.weight"]
        torch.testing.assert_close(change, expected[index], rtol=0, atol=1e-5)
        change = found[f"{name}.bias"] - plain[f"{name}.bias"]
        torch.testing.assert_close(change, biases[index], rtol=0, atol=1e-5)


def test_a30_multiplier_zero_is_bit_identical_and_still_reports(i2v, tmp_path):
    path, notes = write(tmp_path / "x.safetensors", i2v), Notes()
    model = apply_lora(i2v, path, 0, notes)
    assert model.transformer is i2v.transformer
    assert notes.lines == ["x.safetensors: 22 of 22 tensors applied, multiplier 0"]


def test_a30_removing_it_restores_every_bit(i2v, tmp_path):
    before = weights(i2v)
    patched = apply_lora(i2v, write(tmp_path / "x.safetensors", i2v), 0.3)
    assert not torch.equal(weights(patched)["proj_out.weight"], before["proj_out.weight"])
    after = weights(i2v)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert i2v.transformer.patches == ()


def test_several_are_added_one_after_the_other(i2v, tmp_path):
    path = write(tmp_path / "x.safetensors", i2v)
    twice = apply_lora(apply_lora(i2v, path, 0.25), path, 0.5)
    expect_formula(i2v, weights(twice), 0.75)
    back = apply_lora(apply_lora(i2v, path, 0.25), path, -0.25)
    expect_formula(i2v, weights(back), 0)


def test_a_changed_file_is_noticed(i2v, tmp_path):
    path = write(tmp_path / "x.safetensors", i2v)
    first = weights(apply_lora(i2v, path))["proj_out.weight"]
    tensors = {name: t * 2 for name, t in load_file(path).items()}
    tensors["metadata.of.another.size"] = torch.zeros(3)
    save_file(tensors, path)
    assert not torch.equal(weights(apply_lora(i2v, path))["proj_out.weight"], first)


def test_unused_tensors_are_counted_and_named(i2v, tmp_path):
    path, notes = tmp_path / "x.safetensors", Notes()
    extra = {
        f"diffusion_model.blocks.9.self_attn.{n}.lora_up.weight": torch.zeros(48, 2) for n in "qkvo"
    }
    apply_lora(i2v, write(path, i2v, **extra), 1.0, notes)
    first, warning = notes.lines
    assert first == "x.safetensors: 22 of 26 tensors applied, multiplier 1"
    assert warning.startswith("x.safetensors: 4 tensors have no use here: diffusion_model.blocks.9")
    assert warning.endswith(", ...") and warning.count("lora_up") == 3


def test_modulation_differences_of_the_old_kind_are_ignored_with_a_note(i2v, tmp_path):
    extra, notes = {"diffusion_model.blocks.0.diff_m": torch.zeros(1, 6, 48)}, Notes()
    apply_lora(i2v, write(tmp_path / "x.safetensors", i2v, **extra), 1.0, notes)
    assert "1 tensors have no use here: diffusion_model.blocks.0.diff_m" in notes.lines[1]


def test_an_animate_lora_on_other_weights_names_its_owner(i2v, tmp_path):
    name = "diffusion_model.face_adapter.fuser_blocks.0.linear2"
    extra = {
        f"{name}.lora_up.weight": torch.zeros(48, 2),
        f"{name}.lora_down.weight": torch.zeros(2, 48),
    }
    notes = Notes()
    apply_lora(i2v, write(tmp_path / "x.safetensors", i2v, **extra), 1.0, notes)
    assert "(of Wan Animate)" in notes.lines[1]


@pytest.mark.parametrize("kind", ["factors", "diff"])
def test_a_text_to_video_lora_leaves_the_first_layer_and_the_image_layers(i2v, tmp_path, kind):
    path, notes = tmp_path / "x.safetensors", Notes()
    write(path, i2v)
    tensors = {n: t for n, t in load_file(path).items() if "img" not in n and "patch" not in n}
    name = "diffusion_model.patch_embedding"
    if kind == "diff":
        tensors[f"{name}.diff"] = torch.ones(48, 16, 1, 2, 2)
    else:
        tensors[f"{name}.lora_up.weight"] = torch.ones(48, 2, 1, 1, 1)
        tensors[f"{name}.lora_down.weight"] = torch.ones(2, 16, 1, 2, 2)
    save_file(tensors, path)
    found, plain = weights(apply_lora(i2v, path, 1.0, notes)), weights(i2v)
    for name in ("patch_embedding.weight", "blocks.1.attn2.add_k_proj.weight"):
        assert torch.equal(found[name], plain[name])
    assert not torch.equal(found["proj_out.weight"], plain["proj_out.weight"])
    assert "patch_embedding" in notes.lines[1]


def strange(name):
    return {
        f"{name}.lora_down.weight": torch.ones(2, 8),
        f"{name}.lora_up.weight": torch.ones(8, 2),
    }


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("transformer.double_blocks.0.img_attn.qkv", "Flux or HunyuanVideo"),
        ("lora_unet_down_blocks_0_attentions_0_proj_in", "Stable Diffusion"),
        ("transformer.transformer_blocks.0.attn1.to_q", "another family"),
        ("diffusion_model.vace_blocks.0.self_attn.q", "Wan VACE"),
        ("some.thing", "belong to no part"),
    ],
)
def test_none_applied_is_an_error_that_names_the_owner(i2v, tmp_path, name, owner):
    save_file(strange(name), tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=r"0 of 2 tensors applied") as caught:
        apply_lora(i2v, tmp_path / "x.safetensors")
    assert owner in caught.value.why


def test_another_size_is_refused_before_anything_runs(i2v, tmp_path):
    save_file(strange("blocks.0.self_attn.q"), tmp_path / "small.safetensors")
    with pytest.raises(ModelError, match=r"\[8, 2\] times \[2, 8\].*\[48, 48\]"):
        apply_lora(i2v, tmp_path / "small.safetensors")


@pytest.mark.parametrize(
    ("down", "up"), [((2, 48), (48, 3)), ((48,), (48,)), ((2, 48), (48, 2, 3))], ids=str
)
def test_factors_that_do_not_fit_each_other_are_refused(i2v, tmp_path, down, up):
    name = "blocks.0.self_attn.q"
    path = tmp_path / "x.safetensors"
    tensors = {f"{name}.lora_A.weight": torch.ones(down), f"{name}.lora_B.weight": torch.ones(up)}
    save_file(tensors, path)
    with pytest.raises(ModelError, match="does not fit"):
        apply_lora(i2v, path)


def test_half_a_pair_is_refused(i2v, tmp_path):
    save_file({"blocks.0.self_attn.q.lora_A.weight": torch.ones(2, 48)}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match="not the up factor"):
        apply_lora(i2v, tmp_path / "x.safetensors")


def test_two_adapters_in_one_file_are_refused(i2v, tmp_path):
    tensors = {
        f"blocks.0.self_attn.q.lora_{side}.{adapter}.weight": torch.ones(shape)
        for adapter in ("one", "two")
        for side, shape in (("A", (2, 48)), ("B", (48, 2)))
    }
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match="several LoRAs"):
        apply_lora(i2v, tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("ending", "kind"),
    [
        ("hada_w1_a", "LoHa"),
        ("lokr_w1", "LoKr"),
        ("dora_scale", "DoRA"),
        ("lora_magnitude_vector.default.weight", "DoRA"),
        ("oft_blocks", "OFT"),
        ("lora_mid.weight", "LoCon"),
        ("reshape_weight", "sizes of tensors"),
    ],
)
def test_other_formats_are_named(i2v, tmp_path, ending, kind):
    path = tmp_path / "x.safetensors"
    extra = {f"diffusion_model.blocks.0.self_attn.q.{ending}": torch.ones(2, 2)}
    with pytest.raises(ModelError, match=kind):
        apply_lora(i2v, write(path, i2v, **extra))


def test_files_that_are_no_lora_are_named(i2v, tiny, tmp_path):
    with pytest.raises(ModelError, match="is a Wan VAE"):
        apply_lora(i2v, tiny / "comfyui/vae/wan_2.1_vae_tiny.safetensors")
    with pytest.raises(ModelError, match="is a Wan transformer"):
        apply_lora(i2v, tiny / "comfyui/diffusion_models/wan2.1_i2v_tiny.safetensors")
    save_file({"x": torch.ones(1)}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match="no LoRA"):
        apply_lora(i2v, tmp_path / "x.safetensors")
    with pytest.raises(MissingFileError):
        apply_lora(i2v, tmp_path / "gone.safetensors")


@pytest.mark.parametrize("multiplier", [float("nan"), float("inf"), True])
def test_a_multiplier_that_is_no_number_is_refused(i2v, tmp_path, multiplier):
    with pytest.raises(InputError, match="lora_multiplier"):
        apply_lora(i2v, write(tmp_path / "x.safetensors", i2v), multiplier)


def test_pickles_are_read_only_where_the_caller_allows_it(animate, tmp_path):
    """Wan 2.2 Animate's relighting LoRA is a .ckpt with everything under "state_dict"."""
    path, module = tmp_path / "relighting_lora.ckpt", "blocks.0.self_attn.q"
    up, down = torch.randn(48, 2), torch.randn(2, 48)
    tensors = {
        f"{module}.lora_A.default.weight": down,
        f"{module}.lora_B.default.weight": up,
    }
    torch.save({"state_dict": tensors}, path)
    with pytest.raises(ModelError, match="PyTorch file"):
        apply_lora(animate, path)
    found = weights(apply_lora(animate, path, 1.0, allow_pickle=True))
    change = found["blocks.0.attn1.to_q.weight"] - weights(animate)["blocks.0.attn1.to_q.weight"]
    torch.testing.assert_close(change, up @ down, rtol=0, atol=1e-5)


def test_nothing_in_a_pickle_is_run(animate, tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    torch.save({"state_dict": {"a.lora_A.weight": Trap()}}, tmp_path / "x.ckpt")
    with pytest.raises(ModelError, match="cannot be read"):
        apply_lora(animate, tmp_path / "x.ckpt", allow_pickle=True)
    assert not (tmp_path / "sprung").exists()


def test_half_precision_factors_are_added_in_float32(i2v, tmp_path):
    path = write(tmp_path / "x.safetensors", i2v)
    save_file({n: t.bfloat16() for n, t in load_file(path).items()}, path)
    found, plain = weights(apply_lora(i2v, path)), weights(i2v)
    up, down = (t.bfloat16().float() for t in factors(i2v)["head.head"])
    expected = plain["proj_out.weight"] + up @ down
    torch.testing.assert_close(found["proj_out.weight"], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("variant", ["i2v", "flf2v", "animate"])
def test_a_lora_changes_what_the_model_predicts(variant, request, tmp_path):
    model = request.getfixturevalue(variant)
    path = write(tmp_path / "x.safetensors", model)
    plain, again, other = (
        forward(m) for m in (model, apply_lora(model, path, 0), apply_lora(model, path, 0.1))
    )
    assert torch.equal(plain, again)
    assert not torch.allclose(plain, other)
    assert torch.equal(forward(model), plain)


@torch.no_grad()
def forward(model):
    is_animate = model.variant is Variant.ANIMATE
    images = 2 if model.variant is Variant.FLF2V else 1
    generator = torch.Generator().manual_seed(0)

    def randn(*shape):
        return torch.randn(*shape, generator=generator)

    arguments = {
        "hidden_states": randn(1, 36, 3, 8, 8),
        "timestep": torch.tensor([500.0]),
        "encoder_hidden_states": randn(1, 512, 32),
        "encoder_hidden_states_image": randn(images, 5, 32),
    }
    if is_animate:
        arguments["pose_hidden_states"] = randn(1, 16, 2, 8, 8)
        arguments["face_pixel_values"] = randn(1, 3, 5, 64, 64)
    with model.transformer.on_device() as transformer:
        return transformer(**arguments, return_dict=False)[0]
