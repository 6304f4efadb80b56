"""FLOP, bytes and memory against numbers that were worked out by hand or counted elsewhere."""

import math

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from wan_local.wan.capacity.fit import IN_TURN, STREAMED, TOGETHER, choose_fit, find_fit
from wan_local.wan.capacity.gpus import KINDS, parse_kind
from wan_local.wan.capacity.job import plan_job
from wan_local.wan.capacity.parallel import exchanged
from wan_local.wan.capacity.published import ANCHORS, DOUBT, HELD_OUT
from wan_local.wan.capacity.rates import ANCHOR_SHAPE, Rates, anchor_share, rates_of
from wan_local.wan.capacity.times import job_times
from wan_local.wan.capacity.work import (
    LAYERS,
    Forward,
    block_bytes,
    forward_work,
    job_weights,
    tile_factor,
)
from wan_local.wan.geometry import LatentShape
from wan_local.wan.load.transformer import build_transformer
from wan_local.wan.memory import transformer_bytes
from wan_local.wan.payloads import Variant

I2V, ANIMATE = "wan2-1-i2v", "wan-2-2-animate-v2v"
P720 = LatentShape(21, 90, 160)
TRUE = {
    "patch_size": [1, 2, 2],
    "num_attention_heads": 40,
    "attention_head_dim": 128,
    "in_channels": 36,
    "out_channels": 16,
    "text_dim": 4096,
    "freq_dim": 256,
    "ffn_dim": 13824,
    "num_layers": 40,
    "image_dim": 1280,
    "added_kv_proj_dim": 5120,
}


def job(app=I2V, seconds=None, **values):
    return plan_job(app, values, seconds)


def times(plan, kind="h100", ranks=1, precision="auto", disk=2.0):
    kind = KINDS[kind] if isinstance(kind, str) else kind
    fit = choose_fit(plan, kind, precision, ranks)
    if fit is None:  # only where sizes are drawn
        reject()
    return job_times(plan, fit, rates_of(kind, None, plan.shape.tokens), ranks, disk)


# performance.md 2.3: TFLOP of one forward; linears and keys, attention to itself and across
@pytest.mark.parametrize(
    ("shape", "variant", "linear", "attention"),
    [
        (ANCHOR_SHAPE, Variant.I2V, 783 + 3.2, 879 + 20.6),
        (P720, Variant.I2V, 1807 + 3.2, 4682 + 47.6),
        (LatentShape(13, 60, 104), Variant.I2V, 485 + 3.2, 337 + 12.8),
        (P720, Variant.ANIMATE, 1807 + 63.5 + 3.2, 4682 + 47.6),
        (LatentShape(32, 90, 160), Variant.ANIMATE, 2754 + 96.7 + 3.2, 10872 + 72.6),
    ],
)
def test_flops_are_those_of_the_specification(shape, variant, linear, attention):
    work = forward_work(shape, variant)
    assert work.linear / 1e12 == pytest.approx(linear, rel=2e-3)
    assert work.attention / 1e12 == pytest.approx(attention, rel=2e-3)


def test_flops_by_hand():
    tokens, dim, wide, context = 32_760, 5120, 13_824, 512 + 257
    block = 2 * tokens * (4 * dim * dim + 2 * dim * dim + 2 * dim * wide)  # q k v o, q o, up down
    block += 2 * 2 * context * dim * dim  # keys and values of texts and pictures
    block += 2 * 2 * tokens * tokens * dim + 2 * 2 * tokens * context * dim
    assert forward_work(ANCHOR_SHAPE, Variant.I2V).flops == 40 * block
    assert block * 40 / 1e15 == pytest.approx(1.686, abs=5e-4)


def test_traffic_is_that_of_the_counted_block():
    assert forward_work(ANCHOR_SHAPE, Variant.I2V).traffic == pytest.approx(40 * 9.192e9)
    assert forward_work(P720, Variant.I2V).traffic == pytest.approx(40 * 9.192e9 * 75_600 / 32_760)


def test_weights_are_those_of_the_real_module():
    module = build_transformer(Variant.I2V, TRUE)
    whole = sum(p.numel() for p in module.parameters()) * 2
    block = sum(p.numel() for p in module.blocks[0].parameters()) * 2
    weights = job_weights(Variant.I2V, is_fp8=False).transformer
    assert block_bytes() == pytest.approx(block, rel=1e-3)
    assert weights.weights == pytest.approx(whole, rel=1e-3)
    assert weights.stack == LAYERS * weights.block


def test_animate_is_heavier_by_its_face_adapters():
    plain, faces = (job_weights(v, is_fp8=False) for v in (Variant.I2V, Variant.ANIMATE))
    adapters = 8 * 4 * 5120**2 * 2
    assert faces.transformer.weights - plain.transformer.weights == pytest.approx(adapters, rel=0.1)
    assert faces.transformer.block == plain.transformer.block


def test_memory_is_the_projects_own_estimate():
    plan = job()
    kind = KINDS["h100"]
    fit = choose_fit(plan, kind, "auto")
    # one more state of the joint pass, two of the cache, besides a forward
    kept = 3 * 32_760 * 5120 * 2
    assert fit.work == transformer_bytes(plan.shape, 5120, 13_824, 2) + kept
    assert fit.how == TOGETHER and fit.needed < kind.room
    assert fit.needed == fit.weights.all + fit.work
    assert fit.weights.all / 1e9 == pytest.approx(32.8 + 11.4 + 0.5 + 1.3, abs=0.01)


def test_where_weights_do_not_fit_blocks_are_streamed():
    fit = choose_fit(job(), KINDS["rtx4090"], "auto")
    assert fit.how == STREAMED and fit.precision == "bf16"
    assert fit.streamed == LAYERS * fit.weights.transformer.block
    assert fit.host == fit.streamed  # the text encoder fits whole here, alone
    small = choose_fit(job(), parse_kind("small=11,80,400"), "auto")
    assert small.host == small.streamed + small.weights.text.stack


def test_models_take_turns_where_each_fits_alone():
    kind = KINDS["a6000"]
    fit = choose_fit(job(size="1280x720"), kind, "auto")
    assert fit.how == IN_TURN and fit.moved == fit.weights.all and fit.host == 0
    assert fit.needed == fit.weights.transformer.weights + fit.work < kind.room
    assert fit.weights.all + fit.work > kind.room


def test_fp8_stays_whole_where_bf16_is_streamed():
    kind = parse_kind("mine=30,100,900")
    assert choose_fit(job(), kind, "bf16").how == STREAMED
    assert choose_fit(job(), kind, "fp8").how != STREAMED


def test_sharing_a_job_halves_the_work_and_not_the_weights():
    one, two = (find_fit(job(), KINDS["h100"], "bf16", ranks) for ranks in (1, 2))
    assert two.work == -(-one.work // 2)
    assert two.weights == one.weights


def test_tiles_are_counted_by_the_plan():
    # latents of 60 x 104 in tiles of 16 every 12: rows of 16 x 4 and 12, columns of 16 x 8 and 8
    assert tile_factor(832, 480, 128) == (4 * 16 + 12) * (8 * 16 + 8) / (60 * 104)
    assert tile_factor(832, 480, 0) == 1


def test_ulysses_sends_queries_keys_values_and_results():
    share = 32_760 / 8 * 5120 * 2
    assert exchanged(32_760, 8) == 40 * 4 * share * 7 / 8
    assert exchanged(32_760, 1) == 0


def test_a_ring_sends_keys_and_values_to_all_others():
    assert exchanged(32_760, 3) == 40 * 2 * (32_760 / 3 * 5120 * 2) * 2


@pytest.mark.parametrize("family", ANCHORS)
def test_a_published_time_comes_out_again(family):
    anchor = ANCHORS[family]
    share = anchor_share(anchor)
    assert 0.3 < share < 0.95
    rates = rates_of(KINDS[anchor.gpu])
    peer = peers_forward(ANCHOR_SHAPE, anchor.block_traffic)
    assert rates.forward_seconds(peer) == pytest.approx(anchor.seconds)


def peers_forward(shape, block_traffic):
    work = forward_work(shape, Variant.I2V)
    traffic = block_traffic * 1e9 * LAYERS * shape.tokens / ANCHOR_SHAPE.tokens
    return Forward(work.linear, work.attention, traffic)


def test_how_far_the_model_is_from_other_published_times():
    errors = []
    for gpu, seconds, traffic, source in HELD_OUT:
        shape = P720 if "720p" in source else ANCHOR_SHAPE
        told = rates_of(KINDS[gpu]).forward_seconds(peers_forward(shape, traffic))
        errors.append(abs(told / seconds - 1))
    assert 0.9 * DOUBT < max(errors) <= DOUBT


def test_a_step_by_hand():
    rates: Rates = rates_of(KINDS["a100"])
    work = forward_work(ANCHOR_SHAPE, Variant.I2V)
    one = work.flops / rates.linear.value + 40 * 9.192e9 / (0.9 * 2039e9)
    assert times(job(), "a100").step.value == pytest.approx(2 * one)


def test_a_job_is_its_computed_steps_and_the_rest():
    found = times(job(), "a100")
    assert found.stages["sample"].value == pytest.approx(found.step.value * (15 + 15 * 0.01))
    assert found.job.value == pytest.approx(sum(s.value for s in found.stages.values()))
    assert found.load.value == pytest.approx((32.8 + 11.4 + 0.25 + 1.3) / 2)


def test_a_slow_link_is_what_streaming_waits_for():
    plan = job()
    slow = times(plan, parse_kind("slow=24,1000,3000,1"))
    stack = LAYERS * block_bytes()
    assert slow.step.value == pytest.approx(stack * (1 + 1 / LAYERS) / 1e9)
    twice = times(job(joint_pass=False), parse_kind("slow=24,1000,3000,1"))
    assert twice.step.value == pytest.approx(2 * slow.step.value)


def test_guidance_and_cache_are_seen():
    assert job(guidance_scale=1).branches == 1
    assert job(tea_cache=0).computed == 30
    assert job(tea_cache=3).computed == 10
    assert job(tea_cache=3, tea_cache_start_step_perc=50).computed == 17
    assert times(job(guidance_scale=1)).step.value == pytest.approx(times(job()).step.value / 2)


def test_clips_are_planned_as_they_are_run():
    plan = job(ANIMATE, 10)
    assert (plan.frames, plan.clips, plan.shape.tokens) == (300, 4, 75_600)
    assert job(ANIMATE, 10, refert_num=5).clips == math.ceil((300 - 5) / 72)
    assert job(ANIMATE, 10, fps=15).frames == 150


VALUES = st.fixed_dictionaries(
    {
        "num_frames": st.integers(5, 161),
        "num_inference_steps": st.integers(4, 60),
        "size": st.sampled_from(["480x320", "832x480", "1280x720"]),
        "vae_tile_size": st.sampled_from([0, 256, 128]),
        "spatial_upsampling": st.sampled_from(["", "lanczos1.5", "lanczos2"]),
    }
)
GPUS = st.sampled_from(["h100", "a100-40", "rtx4090", "h20"])


@settings(max_examples=40)
@given(VALUES, GPUS, st.integers(4, 60))
def test_more_frames_never_cost_less(values, gpu, more):
    longer = values | {"num_frames": values["num_frames"] + more}
    assert times(job(**longer), gpu).job.value > times(job(**values), gpu).job.value
    fits = [choose_fit(job(**v), KINDS[gpu], "auto") for v in (values, longer)]
    assert fits[1].work > fits[0].work


@settings(max_examples=40)
@given(VALUES, GPUS, st.integers(2, 20))
def test_more_steps_never_cost_less(values, gpu, more):
    finer = values | {"num_inference_steps": values["num_inference_steps"] + more}
    assert times(job(**finer), gpu).job.value > times(job(**values), gpu).job.value


@settings(max_examples=40)
@given(VALUES, GPUS)
def test_a_better_gpu_is_never_slower(values, gpu):
    kind = KINDS[gpu]
    better = parse_kind(
        f"b={kind.memory * 2},{kind.bf16 * 2},{kind.bandwidth * 2},{kind.link * 2},{kind.peer * 2}"
    )
    better = type(kind)(**{**vars(better), "family": kind.family})
    plan = job(**values)
    assert times(plan, better).job.value < times(plan, gpu).job.value


@settings(max_examples=40)
@given(VALUES, st.sampled_from(["h100", "a100"]), st.sampled_from([2, 4, 5, 8]))
def test_sharing_a_job_is_faster_and_never_free(values, gpu, ranks):
    plan = job(**values)
    one, many = (times(plan, gpu, n).job.value for n in (1, ranks))
    assert one / ranks < many < one
