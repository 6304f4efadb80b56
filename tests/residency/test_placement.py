"""What is on a device: whole where it fits, streamed where not, others leaving when they must.

A device of a made-up size stands in: models are "there" while they are in use or kept.
"""

import gc
import threading

import pytest
import torch
from torch import nn
from wan_local.wan.residency import DevicePlacement, Estimate, Footprint, Offload, Part

MB = 1_000_000


class Card(DevicePlacement):
    """A CPU that plays a card of so many bytes, beside the margin that is always kept."""

    def __init__(self, size, offload="auto"):
        super().__init__("cpu", offload, room=self._left)
        self.size = size + 500 * MB
        self.log = []

    def _left(self):
        return self.size - sum(user.there for user in self._living())

    def own(self, module, name, stack):
        owned = super().own(module, name, stack)
        move, stream, take_off = owned._move, owned._stream, owned._take_off

        def note(word, action, there):
            def act(*arguments):
                action(*arguments)
                owned.bytes_there = there(owned)
                self.log.append(f"{name} {word}")

            return act

        type(owned).there = property(lambda self: getattr(self, "bytes_there", 0))
        owned._move = note("whole", move, lambda o: o._footprint.weights)
        owned._stream = note("streamed", stream, lambda o: 0)
        owned._take_off = note("left", take_off, lambda o: 0)
        return owned


@pytest.fixture(autouse=True)
def unchanged():
    from wan_local.wan.residency.placement import _DeviceOwned

    there = _DeviceOwned.there
    yield
    _DeviceOwned.there = there


class Blocks(nn.Module):
    def __init__(self, size, count=4):
        super().__init__()
        side = size // count // 4 // 1000
        self.blocks = nn.ModuleList(nn.Linear(1000, side, bias=False) for _ in range(count))

    def forward(self, x):
        return sum(block(x).sum() for block in self.blocks)


def part(card, name, size=4 * MB):
    module = Blocks(size) if name == "transformer" else nn.Linear(1000, size // 4000, bias=False)
    stack = "blocks" if name == "transformer" else ""
    return Part(name, lambda: module.requires_grad_(False), card, stack=stack)


def use(part, work=0):
    with part.on_device(work):
        pass


def test_models_stay_while_there_is_room():
    card = Card(10 * MB)
    one, two = part(card, "one"), part(card, "two")
    for item in (one, two, one, two):
        use(item)
    assert "one left" not in card.log and "two left" not in card.log


def test_the_longest_unused_leaves_first_and_no_more_than_needed():
    card = Card(9 * MB)
    one, two, three = part(card, "one"), part(card, "two"), part(card, "three")
    for item in (one, two, one, three):
        use(item)
    assert [line for line in card.log if "left" in line] == ["two left"]


def test_work_makes_others_leave_too():
    card = Card(10 * MB)
    one, two = part(card, "one"), part(card, "two")
    use(one)
    use(two, 500 * MB + 3 * MB)
    assert "one left" in card.log


def test_what_is_in_use_never_leaves():
    card = Card(5 * MB)
    one, two = part(card, "one"), part(card, "two")
    with one.on_device():
        use(two)
        assert "one left" not in card.log
    use(two)
    assert "one left" in card.log


def test_off_lets_nothing_leave_and_streams_nothing():
    card = Card(1 * MB, "off")
    for item in (part(card, "one"), part(card, "two"), part(card, "transformer")):
        use(item)
    assert card.log == ["one whole", "two whole", "transformer whole"]


def test_a_transformer_that_does_not_fit_is_streamed_and_comes_back_whole_when_it_does():
    card = Card(8 * MB)
    model = part(card, "transformer", 4 * MB)
    for work in (0, 5 * MB, 0):
        use(model, work)
    seen = [line for line in card.log if "left" not in line]
    assert seen == ["transformer whole", "transformer streamed", "transformer whole"]


def test_room_that_others_could_give_counts():
    """It is not streamed only because another model is still there."""
    card = Card(7 * MB)
    use(part_two := part(card, "two", 4 * MB))
    use(part(card, "transformer", 4 * MB))
    assert "two left" in card.log and "transformer whole" in card.log
    assert part_two.is_loaded


def test_after_running_out_of_memory_it_is_streamed():
    card = Card(100 * MB)
    model = part(card, "transformer")
    use(model)
    assert model.shrink() is True
    use(model)
    assert card.log[-1] == "transformer streamed"
    assert model.shrink() is False  # nothing more can be done


def test_nothing_shrinks_that_has_no_blocks():
    card = Card(100 * MB)
    assert part(card, "vae").shrink() is False


def test_two_threads_that_make_room_for_each_other_do_not_stop():
    card = Card(5 * MB)
    items = [part(card, name) for name in ("one", "two", "three", "transformer")]

    def work(index):
        for turn in range(100):
            use(items[(index + turn) % len(items)])

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)


def test_a_model_that_is_not_used_any_more_is_forgotten():
    card = Card(10 * MB)
    model = part(card, "one")
    use(model)
    del model
    gc.collect()  # the wrappers of this test refer to each other
    assert card._living() == []


def estimate(room, work=3_000 * MB):
    return Estimate(
        "transformer", Footprint(32_800 * MB, 32_000 * MB, 800 * MB), work, room, "cuda:0"
    )


def test_the_estimate_says_what_is_needed_and_what_there_is():
    assert estimate(80_000 * MB).fits_whole and not estimate(24_000 * MB).fits_whole
    whole = estimate(80_000 * MB).describe(is_streamed=False)
    assert whole == (
        "transformer: 32.8 GB of weights and about 3.0 GB of work on cuda:0: 35.8 GB of 80.0 GB"
    )
    streamed = estimate(24_000 * MB).describe(is_streamed=True)
    assert streamed == (
        "transformer: 32.8 GB of weights, of which 2.4 GB at a time (streamed) and about 3.0 GB of "
        "work on cuda:0: 5.4 GB of 24.0 GB"
    )
    assert estimate(None).describe(False).endswith("on cuda:0")


@pytest.mark.parametrize("offload", list(Offload))
def test_the_estimate_decides_as_the_placement_does(offload):
    for size, work in ((8, 0), (8, 5), (3, 0)):
        card = Card(size * MB, offload)
        model = part(card, "transformer", 4 * MB)
        model.footprint = Footprint(4 * MB, 4 * MB, MB)
        expected = card.streams(model.estimate(work * MB))
        use(model, work * MB)
        assert card.log[-1] == f"transformer {'streamed' if expected else 'whole'}"


def test_the_room_of_an_unknown_device_is_unknown():
    card = DevicePlacement("cpu")
    assert card.room() is None and card.is_shy
    assert not DevicePlacement("cpu", "off").is_shy
    assert not card.streams(estimate(None))
    assert DevicePlacement("cpu", "blocks").streams(estimate(None))


def test_streaming_gives_the_same_numbers_on_a_full_card():
    card, x = Card(1 * MB), torch.randn(3, 1000)
    module = Blocks(4 * MB).requires_grad_(False)
    expected = module(x)
    model = Part("transformer", lambda: module, card, stack="blocks")
    with model.on_device() as streamed:
        assert torch.equal(streamed(x), expected)
