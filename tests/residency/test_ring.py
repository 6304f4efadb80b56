"""Streamed blocks: the same numbers bit for bit, each byte moved once a pass, no copy too early."""

import gc
import weakref

import pytest
import torch
from torch import nn
from wan_local.wan.deltas import Full, LowRank, WeightPatch
from wan_local.wan.quantised import Quantisation, QuantisedLinear
from wan_local.wan.residency import DevicePlacement, Part
from wan_local.wan.residency.ring import BlockRing, find_stack, footprint
from wan_local.wan.residency.weights import Homes, slots_of

BLOCKS = 5


class Early:
    """Copies as early as it may: what is still computed with must not be written over.

    A device would compute later than it is told to, so a copy has to name a mark that lies behind
    the last work in its buffer.
    """

    def __init__(self):
        self.done, self.last_use = 0, {}

    def compute(self, block):
        self.done += 1
        place = slots_of(block)[0].tensor.untyped_storage().data_ptr()
        self.last_use[place] = self.done

    def copy(self, target, source, after):
        assert after >= self.last_use.get(target.untyped_storage().data_ptr(), 0)
        target.copy_(source)

    def wait(self, copied):
        pass

    def finish(self, copied):
        pass

    def mark(self):
        return self.done


class Late:
    """Copies as late as it may: when somebody waits. Until then the buffer holds rubbish."""

    def __init__(self):
        self.pending = []

    def compute(self, block):
        pass

    def copy(self, target, source, after):
        target.fill_(0x7F)
        self.pending.append((target, source))
        return len(self.pending) - 1

    def wait(self, copied):
        if self.pending[copied]:
            target, source = self.pending[copied]
            target.copy_(source)
            self.pending[copied] = None

    finish = wait

    def mark(self):
        return None


class Net(nn.Module):
    """A stack of blocks of unlike sizes and types between two layers."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.blocks = nn.ModuleList(self.block(i) for i in range(BLOCKS))
        self.last = nn.Linear(16, 4)

    @staticmethod
    def block(index):
        block = nn.Sequential(nn.Linear(16, 32 + 8 * index), nn.GELU(), nn.LazyLinear(16))
        block(torch.zeros(1, 16))
        block.register_buffer("shift", torch.randn(16))
        if index % 2:
            layer = block[0]
            stored = layer.weight.detach().to(torch.float8_e4m3fn)
            block[0] = QuantisedLinear(
                layer, stored, Quantisation(rows=torch.rand(32 + 8 * index, 1))
            )
        return block

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x) + block.shift
        return self.last(x)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().eval().requires_grad_(False)


def patch(strength=0.5):
    randn = torch.randn
    deltas = {
        "blocks.0.0.weight": [LowRank(randn(32, 2), randn(2, 16), 1.0), Full(randn(32, 16))],
        "blocks.1.0.weight": [LowRank(randn(40, 2), randn(2, 16))],
        "blocks.4.2.bias": [Full(randn(16))],
        "last.weight": [LowRank(randn(4, 1), randn(1, 16))],
    }
    return WeightPatch("lora", ("lora", strength), strength, deltas)


def parts(net, **options):
    """The same weights whole and streamed."""
    copy = Net().eval().requires_grad_(False)
    copy.load_state_dict(net.state_dict())
    whole = Part("transformer", lambda: net, DevicePlacement("cpu", "off"), stack="blocks")
    return whole, Part(
        "transformer", lambda: copy, DevicePlacement("cpu", "blocks"), stack="blocks"
    )


def run(part, x, times=1):
    with part.on_device() as module, torch.inference_mode():
        return torch.stack([module(x) for _ in range(times)])


X = torch.linspace(-1, 1, 24).view(3, 8)


def test_it_computes_the_same_bits(net):
    whole, streamed = parts(net)
    assert torch.equal(run(whole, X, 3), run(streamed, X, 3))
    assert torch.equal(run(whole, X), run(streamed, X))


def test_with_patches_too_and_they_leave_no_trace(net):
    whole, streamed = parts(net)
    plain = run(whole, X)
    for patches in ((), (patch(),), (patch(), patch(-2.0)), (patch(1.5),), ()):
        one, other = whole, streamed
        for item in patches:
            one, other = one.patched(item), other.patched(item)
        found = run(other, X, 2)
        assert torch.equal(run(one, X, 2), found)
        assert bool(patches) != torch.equal(found[:1], plain)


@pytest.mark.parametrize("engine", [Early, Late])
def test_copies_are_neither_too_early_nor_too_late(net, engine):
    expected = run(parts(net)[0], X)[0]
    homes = Homes(net)
    engine = engine()
    for block in net.blocks:
        block.register_forward_hook(lambda block, *_: engine.compute(block))
    ring = BlockRing(net, find_stack(net, "blocks"), homes, torch.device("cpu"), engine)
    ring.take_out()
    ring.open()
    for _ in range(3):
        with torch.inference_mode():
            assert torch.equal(net(X), expected)
    ring.close()


def test_a_pass_moves_every_byte_once_and_nothing_back(net):
    homes = Homes(net)
    ring = BlockRing(net, find_stack(net, "blocks"), homes, torch.device("cpu"))
    before = {slot: slot.tensor.clone() for slot in slots_of(net)}
    size = sum(block.packed.size for block in ring._blocks)
    ring.take_out()
    ring.open()
    ahead = ring._blocks[0].packed.size  # the first block of the next pass is fetched already
    for count in range(1, 4):
        net(X)
        assert ring.moved_bytes == count * size + ahead
    ring.close()
    ring.put_back()
    assert all(torch.equal(slot.tensor, tensor) for slot, tensor in before.items())


def test_only_two_blocks_are_on_the_device(net):
    ring = BlockRing(net, find_stack(net, "blocks"), Homes(net), torch.device("cpu"))
    ring.take_out()
    ring.open()
    buffers = {buffer.memory.untyped_storage().data_ptr() for buffer in ring._buffers}
    assert len(buffers) == 2
    for index, block in enumerate(net.blocks):
        for slot in slots_of(block):
            assert slot.tensor.untyped_storage().data_ptr() in buffers
        others = (
            s for i, other in enumerate(net.blocks._blocks) if i != index for s in slots_of(other)
        )
        assert all(s.tensor.untyped_storage().data_ptr() not in buffers for s in others)
    ring.close()


def test_a_pass_that_is_broken_off_spoils_nothing(net):
    whole, streamed = parts(net)
    expected = run(whole, X)
    with streamed.on_device() as module, torch.inference_mode():
        for index in range(BLOCKS):
            with pytest.raises(KeyboardInterrupt):
                for number, _ in enumerate(module.blocks):
                    if number == index:
                        raise KeyboardInterrupt
            assert torch.equal(module(X), expected[0])
    assert torch.equal(run(streamed, X), expected)


def test_weights_are_held_once(net):
    """The ring's memory takes the place of what was loaded."""
    seen = [weakref.ref(p) for p in net.blocks.parameters()]
    part = Part("transformer", lambda: net, DevicePlacement("cpu", "blocks"), stack="blocks")
    run(part, X)
    gc.collect()
    assert not any(ref() is not None for ref in seen)
    stored = {s.tensor.untyped_storage().data_ptr() for b in net.blocks for s in slots_of(b)}
    assert len(stored) == BLOCKS


def test_a_footprint_counts_two_blocks_and_the_rest(net):
    size = footprint(net, find_stack(net, "blocks"))
    everything = sum(slot.tensor.nbytes for slot in slots_of(net))
    blocks = sum(slot.tensor.nbytes for slot in slots_of(net.blocks))
    assert (size.weights, size.stack) == (everything, blocks)
    assert size.streamed == everything - blocks + 2 * size.block
    assert size.streamed < size.weights
    assert footprint(net.first, None).streamed == footprint(net.first, None).weights


def test_a_text_encoder_streams_too(tiny):
    from wan_local.wan.load.text import load_text_encoder

    path = tiny / "diffusers" / "wan2.1-i2v" / "text_encoder"
    results = []
    for offload in ("off", "blocks"):
        module = load_text_encoder(path, torch.float32)
        placement = DevicePlacement("cpu", offload)
        part = Part("text encoder", lambda: module, placement, stack="encoder.block")  # noqa: B023
        with part.on_device() as encoder, torch.inference_mode():
            results.append(encoder(torch.tensor([[5, 9, 3, 1]])).last_hidden_state)
    assert torch.equal(*results)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_computes_the_same_bits_and_holds_two_blocks(net):
    """With copies beside the work, patches, pinned memory, and nothing left on the device."""
    copy = Net().eval().requires_grad_(False)
    copy.load_state_dict(net.state_dict())
    whole = Part("transformer", lambda: net, DevicePlacement("cuda", "off"), stack="blocks")
    streamed = Part("transformer", lambda: copy, DevicePlacement("cuda", "blocks"), stack="blocks")
    x = X.cuda()
    for patches in ((), (patch(),), ()):
        one, other = whole, streamed
        for item in patches:
            one, other = one.patched(item), other.patched(item)
        assert torch.equal(run(one, x, 5), run(other, x, 5))
    with streamed.on_device() as module:
        assert module.first.weight.is_cuda
        blocks = module.blocks._blocks
        assert all(slot.tensor.is_pinned() for block in blocks for slot in slots_of(block))
        assert not any(slot.tensor.is_cuda for block in blocks for slot in slots_of(block))
    streamed.release()
    assert not any(slot.tensor.is_cuda for slot in slots_of(copy))


def test_streamed_blocks_do_not_move_with_the_rest(net):
    device = torch.device("meta")
    homes = Homes(net)
    ring = BlockRing(net, find_stack(net, "blocks"), homes, torch.device("cpu"))
    homes.send(device, ring.slots)
    assert net.first.weight.is_meta and not net.blocks[0][0].weight.is_meta
    homes.back()
    assert not net.first.weight.is_meta
