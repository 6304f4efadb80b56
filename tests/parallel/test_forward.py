"""A forward that several processes share, beside the same one alone."""

import sys

import pytest
import torch
from parallel.members import Members
from wan_local.wan.errors import GeometryError
from wan_local.wan.parallel import Split, split_sizes
from wan_local.wan.parallel.attention import block_bytes

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or not torch.distributed.is_available(),
    reason="needs processes that fork, and torch.distributed",
)

# The same sums in another order; float32 keeps about 6e-8 of each.
RELATIVE = 1e-5
EVEN, ODD = (3, 8, 8), (3, 6, 10)  # 48 and 45 tokens


@pytest.fixture(scope="module", params=[2, 4])
def members(request, tiny):
    group = Members(request.param, tiny)
    yield group
    group.close()


def test_sizes_differ_by_one_at_most_and_nothing_is_lost():
    assert split_sizes(45, 4) == (12, 11, 11, 11)
    assert split_sizes(8, 2) == (4, 4)
    with pytest.raises(GeometryError, match="at most 3 ranks"):
        split_sizes(3, 4)


@pytest.mark.parametrize("rank", range(4))
def test_a_rank_has_whole_frames_but_for_what_is_missing_at_their_ends(rank):
    class Group:
        size = 4

    Group.rank = rank
    split = Split(Group, 45)
    frames, (before, after) = split.frames(3)
    covered = torch.arange(45).view(3, 15)[frames].flatten()
    assert covered[before : len(covered) - after].tolist() == list(range(split.start, split.stop))
    assert before < 15 and after < 15


@pytest.mark.parametrize(("tokens", "heads"), [(48, 4), (45, 4), (45, 6), (7, 3)])
def test_attention_to_the_tokens_of_all_ranks(members, tokens, heads):
    for found in members.ask("attention", tokens=tokens, heads=heads):
        assert found.pop("gathered") == 0
        assert found.pop("bfloat16") < 0.01  # 8 bits are kept of each number
        assert max(found.values()) < RELATIVE, found


@pytest.mark.parametrize("forward", ["own", "diffusers"])
@pytest.mark.parametrize("shape", [EVEN, ODD])
@pytest.mark.parametrize("variant", ["I2V", "FLF2V", "ANIMATE"])
def test_velocities_of_both_branches(members, variant, shape, forward):
    answers = members.ask("velocity", variant=variant, shape=shape, forward=forward)
    for found in answers:
        assert max(found["distances"]) < RELATIVE, found
        assert all(found["same"]) and found["branches"] > 10 * RELATIVE


def test_what_leaves_a_rank_is_what_the_formula_says(members):
    answers = members.ask("velocity", variant="I2V", shape=EVEN)
    ranks, tokens, blocks, branches = len(answers), 48, 2, 2
    for found in answers:
        gathered = found["sent"].pop("gather")
        assert gathered == branches * (ranks - 1) * (tokens // ranks) * 64 * 4
        expected = blocks * branches * block_bytes(tokens, 48, 2, ranks, 4)
        assert found["sent"] == {"exchange" if ranks == 2 else "ring": expected}
    # 81 frames of 832x480 by a 14B model in bfloat16: 4 * 32760 * 5120 * 2 / 4 bytes, and a ring's.
    assert block_bytes(32760, 5120, 40, 2, 2) == 335462400
    assert block_bytes(32760, 5120, 40, 3, 2) == pytest.approx(2 * 335462400 * 2 / 3)


@pytest.mark.parametrize("joint", [False, True])
def test_a_skipped_step_repeats_what_each_rank_has_kept(members, joint):
    answers = members.ask("velocity", variant="I2V", shape=ODD, joint=joint, cached=True)
    for found in answers:
        assert max(found["distances"]) < RELATIVE, found
