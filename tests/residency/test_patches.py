"""Patches on weights: right, exact to take off, never mixed up, whatever happens inside."""

import gc
import threading

import pytest
import torch
from torch import nn
from wan_local.wan.deltas import Full, LowRank, WeightPatch
from wan_local.wan.errors import ModelError
from wan_local.wan.residency import DevicePlacement, Part

# Acceptance check A30.
W = torch.tensor([[1.0, 0, 2], [0, -1, 1]])
DOWN = torch.tensor([[1.0, 2, 0], [0, 1, -1]])
UP = torch.tensor([[0.5, 0], [1, -1]])


def linear(dtype=torch.float32):
    module = nn.Linear(3, 2).to(dtype).requires_grad_(False)
    module.weight.copy_(W)
    return module


def part_of(module):
    return Part("transformer", lambda: module, DevicePlacement("cpu"))


def patch(strength=1.0, alpha=1.0, name="weight", identity="a", delta=None):
    deltas = {name: [delta or LowRank(UP, DOWN, alpha)]}
    return WeightPatch(identity, (identity, alpha), strength, deltas)


def weight(part):
    with part.on_device() as module:
        return module.weight.clone()


@pytest.mark.parametrize(
    ("alpha", "strength", "expected"),
    [
        (1.0, 1.0, [[1.25, 0.5, 2], [0.5, -0.5, 1.5]]),
        (None, 0.8, [[1.4, 0.8, 2], [0.8, -0.2, 1.8]]),
        (1.0, -1.0, [[0.75, -0.5, 2], [-0.5, -1.5, 0.5]]),
    ],
)
def test_a30_numbers(alpha, strength, expected):
    found = weight(part_of(linear()).patched(patch(strength, alpha)))
    torch.testing.assert_close(found, torch.tensor(expected))


def test_a30_full_difference_is_multiplied_too():
    diff = torch.tensor([0.5, -1])
    part = part_of(linear())
    with part.on_device() as module:
        before = module.bias.clone()
    with part.patched(patch(0.5, name="bias", delta=Full(diff))).on_device() as module:
        assert torch.equal(module.bias, before + 0.5 * diff)


def test_convolution_factors_are_reshaped():
    module = nn.Conv3d(3, 4, (1, 2, 2)).requires_grad_(False)
    before, up, down = module.weight.clone(), torch.randn(4, 2, 1, 1, 1), torch.randn(2, 3, 1, 2, 2)
    found = weight(part_of(module).patched(patch(alpha=None, delta=LowRank(up, down))))
    expected = before + torch.einsum("orxyz,rithw->oithw", up, down)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_strength_zero_is_the_part_itself():
    part = part_of(linear())
    assert part.patched(patch(0.0)) is part


def test_a_patched_part_leaves_the_first_one_as_it_was():
    part = part_of(linear())
    twin = part.patched(patch())
    assert part.patches == () and len(twin.patches) == 1
    assert twin.name == part.name and twin.device == part.device and not part.is_loaded
    weight(twin)
    assert part.is_loaded


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_taking_it_off_restores_every_bit(dtype):
    module = nn.Linear(64, 64).to(dtype).requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    up, down = torch.randn(64, 4), torch.randn(4, 64)
    part = part_of(module)
    patched = part.patched(patch(0.37, 3.0, delta=LowRank(up, down, 3.0)))
    changed = weight(patched)
    expected = before["weight"].float() + (0.37 * 0.75) * (up @ down)
    assert changed.dtype is dtype and torch.equal(changed, expected.to(dtype))
    with part.on_device() as module:
        assert all(torch.equal(module.state_dict()[name], t) for name, t in before.items())


def test_half_precision_is_rounded_once():
    """Two changes, each too small for bfloat16, together are not."""
    module = linear(torch.bfloat16)
    small = patch(delta=Full(torch.full((2, 3), 3 * 2.0**-10)))
    part = part_of(module)
    assert weight(part.patched(small))[0, 0] == 1
    assert weight(part.patched(small).patched(small))[0, 0] > 1


def test_two_parts_of_a_module_each_get_their_own_weights():
    part = part_of(linear())
    one, two = part.patched(patch(1.0)), part.patched(patch(2.0, identity="b"))
    seen = [weight(p) for p in (one, two, part, two, one, part)]
    assert torch.equal(seen[0], seen[4]) and torch.equal(seen[1], seen[3])
    assert torch.equal(seen[2], W) and torch.equal(seen[5], W)
    torch.testing.assert_close(seen[1] - W, 2 * (seen[0] - W))


def test_patches_stack_and_their_order_hardly_matters():
    part, full = part_of(linear()), torch.full((2, 3), 0.1)
    one, two = patch(0.3), patch(0.7, identity="b", delta=Full(full))
    both = weight(part.patched(one).patched(two))
    torch.testing.assert_close(both, W + 0.3 * 0.5 * (UP @ DOWN) + 0.7 * full)
    torch.testing.assert_close(weight(part.patched(two).patched(one)), both)


def test_using_it_twice_in_a_row_does_no_work_again():
    part = part_of(linear()).patched(patch())
    with part.on_device() as module:
        place = module.weight.data_ptr()
    # An equal patch that was made anew: the same file, applied again for another run.
    again = part_of(linear())
    again._source = part._source
    with again.patched(patch()).on_device() as module:
        assert module.weight.data_ptr() == place


def test_an_exception_inside_leaves_the_weights_consistent():
    part = part_of(linear())
    patched = part.patched(patch())
    with pytest.raises(KeyboardInterrupt), patched.on_device():
        raise KeyboardInterrupt
    assert torch.equal(weight(part), W)
    assert not torch.equal(weight(patched), W)


def test_an_exception_while_patching_leaves_the_weights_consistent():
    module = nn.Sequential(linear(), linear())

    class Broken(LowRank):
        def scaled(self, strength, like):
            raise MemoryError

    deltas = {"0.weight": [LowRank(UP, DOWN)], "1.weight": [Broken(UP, DOWN)]}
    part = part_of(module)
    broken = part.patched(WeightPatch("x", ("x",), 1.0, deltas))
    for _ in range(2):
        with pytest.raises(MemoryError), broken.on_device():
            pass
        with part.on_device() as found:
            assert torch.equal(found[0].weight, W)


def test_a_quantised_weight_is_refused():
    module = linear()
    module.weight.data = module.weight.data.to(torch.float8_e4m3fn)
    with (
        pytest.raises(ModelError, match="float8_e4m3fn"),
        part_of(module).patched(patch()).on_device(),
    ):
        pass


def test_work_inside_work_gets_its_own_weights():
    part = part_of(linear())
    patched = part.patched(patch())
    with patched.on_device() as module:
        outer = module.weight.clone()
        assert torch.equal(weight(part), W)
        assert torch.equal(module.weight, outer) and not torch.equal(outer, W)


def test_threads_with_other_patches_wait_for_each_other():
    part = part_of(linear())
    parts = [part, *(part.patched(patch(s, identity=str(s))) for s in (1.0, 2.0))]
    expected = [weight(p) for p in parts]
    wrong = []

    def work(index):
        for _ in range(200):
            with parts[index].on_device() as module:
                if not torch.equal(module.weight, expected[index]):
                    wrong.append(index)

    threads = [threading.Thread(target=work, args=(index % 3,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads) and wrong == []


def test_threads_with_equal_patches_work_together():
    part = part_of(linear()).patched(patch())
    both_inside = threading.Barrier(2, timeout=30)

    def work():
        with part.on_device():
            both_inside.wait()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not both_inside.broken


def test_weights_are_read_once_by_two_threads():
    reads = []

    def load():
        reads.append(1)
        return linear()

    part = Part("transformer", load, DevicePlacement("cpu"))
    threads = [threading.Thread(target=lambda: weight(part)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(reads) == 1


def test_a_generator_closed_by_another_thread_gives_its_turn_back():
    part = part_of(linear()).patched(patch())

    def work():
        with part.on_device():
            yield

    suspended = work()
    next(suspended)
    thread = threading.Thread(target=suspended.close)
    thread.start()
    thread.join(timeout=60)
    done = threading.Event()
    other = threading.Thread(target=lambda: (weight(part.patched(patch(2.0))), done.set()))
    other.start()
    assert done.wait(60)


def test_a_part_is_freed_as_soon_as_nobody_has_it():
    """Without waiting for the garbage collector: it holds gigabytes."""
    import weakref

    gc.disable()
    try:
        part = part_of(linear())
        twin = part.patched(patch())
        seen = weakref.ref(part)
        del part
        assert seen() is not None  # the loader finds a module that is in use by its first part
        del twin
        assert seen() is None
    finally:
        gc.enable()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("offload", [True, False])
def test_a_gpu_gives_every_bit_back_too(offload):
    module = linear(torch.bfloat16)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    # With no room known, a model that may leave does.
    placement = DevicePlacement("cuda", "auto" if offload else "off", room=lambda: None)
    part = Part("transformer", lambda: module, placement)
    patched = part.patched(patch())
    for _ in range(2):
        with patched.on_device() as found:
            assert found.weight.is_cuda and found.bias.is_cuda
            assert torch.equal(found.weight.cpu(), (W + 0.5 * (UP @ DOWN)).bfloat16())
        assert module.weight.is_cuda is not offload
        with part.on_device():
            assert all(torch.equal(module.state_dict()[n].cpu(), t) for n, t in before.items())
