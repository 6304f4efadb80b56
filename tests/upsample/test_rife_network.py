"""Every RIFE network against the public ones: layouts by their counts, outputs by golden numbers."""

import pytest
import torch
from rife_weights import GOLDEN, LAYOUTS, fill, picture, shapes, write
from torch.nn import functional
from wan_local.wan.progress import Silent
from wan_local.wan.residency import DevicePlacement
from wan_local.wan.upsample.rife.interpolate import interpolate
from wan_local.wan.upsample.rife.load import check_rife, load_rife

CPU = DevicePlacement("cpu")
NAMES = sorted(GOLDEN["layouts"])
CASES = [(name, case) for name in NAMES for case in GOLDEN["layouts"][name]["outputs"]]
# i2v.md A28; another processor rounds otherwise, and a larger gain carries that further.
TOLERANCE = {0.6: 1e-4, 0.8: 1e-4}


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """A network by name and gain, written to a file and loaded from it."""
    folder, known = tmp_path_factory.mktemp("rife"), {}

    def load(name, gain):
        if (name, gain) not in known:
            known.clear()  # the heavy ones take 90 MB
            suffix = ".pth" if name in ("4.7", "3 HD") else ".safetensors"
            path = write(folder / f"{name} {gain}{suffix}", fill(shapes(name), gain))
            rife = load_rife(path, CPU)
            with rife.net.on_device() as module:
                known[name, gain] = rife.layout, module
        return known[name, gain]

    return load


@torch.inference_mode()
def between(layout, module, first, second, t=0.5, scale=1):
    height, width = first.shape[2:]
    multiple = int(layout.multiple / scale)
    padding = (0, -width % multiple, 0, -height % multiple)
    first, second = functional.pad(first, padding), functional.pad(second, padding)
    features = module.encode(first), module.encode(second)
    out = module(first, second, torch.full((len(first),), t), features, scale)
    return out[:, :, :height, :width]


@pytest.mark.parametrize("name", NAMES)
def test_the_layout_has_the_counts_of_the_published_one_and_is_recognised(name, tmp_path):
    table = shapes(name)
    known = GOLDEN["layouts"][name]
    assert len(table) == known["tensors"]
    assert sum(torch.Size(shape).numel() for shape in table.values()) == known["parameters"]
    path = write(tmp_path / "any.safetensors", {k: torch.zeros(s) for k, s in table.items()})
    assert check_rife(path) == LAYOUTS[name]


def test_the_counts_are_those_of_the_specification():
    # i2v.md 9
    counts = {n: (g["parameters"], g["tensors"]) for n, g in GOLDEN["layouts"].items()}
    assert counts["4.7"] == (5_325_012, 124) and counts["4.17"] == (5_364_312, 128)
    assert counts["4.25"] == (5_664_776, 158) and counts["3 HD"] == (3_038_015, 160)


@pytest.mark.parametrize(
    ("name", "case"), CASES, ids=[f"{n} {c['gain']} {c['height']} {c['t']}" for n, c in CASES]
)
def test_a28_outputs_are_those_of_the_reference(net, name, case):
    layout, module = net(name, case["gain"])
    height, width = case["height"], case["width"]
    first, second = picture(0, height, width), picture(0.6, height, width)
    out = between(layout, module, first, second, case["t"], case["scale"])
    rows, columns = range(7, height, height // 3), range(5, width, width // 3)
    pixels = torch.stack([out[0, :, y, x] for y in rows for x in columns]).flatten()
    expected = torch.tensor(case["pixels"])
    assert (pixels - expected).abs().max() < TOLERANCE[case["gain"]]
    assert abs(float(out.mean()) - case["mean"]) < 1e-5


A28 = [
    # height, width, t, (row, column), pixel
    ("4.7", 64, 64, 0.5, (10, 20), (0.66945, 0.44017, 0.2272)),
    ("4.7", 64, 64, 0.5, (40, 33), (0.20463, 0.96294, 0.40969)),
    ("4.7", 64, 64, 0.25, (10, 20), (0.66877, 0.43919, 0.22602)),
    ("4.7", 70, 50, 0.5, (10, 20), (0.6667, 0.43617, 0.22237)),
    ("3 HD", 64, 64, 0.5, (10, 20), (0.65835, 0.42654, 0.21248)),
]


@pytest.mark.parametrize(("name", "height", "width", "t", "place", "expected"), A28)
def test_a28_numbers_of_the_specification(net, name, height, width, t, place, expected):
    first, second = picture(0, height, width), picture(0.6, height, width)
    out = between(*net(name, 0.6), first, second, t)
    assert out[0, :, place[0], place[1]].tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ["4.7", "4.17", "4.25", "4.25 lite"])
def test_a_whole_interpolation_gives_the_same_frame(tmp_path, name):
    """From frames to frames: padding, time and the features of the right frame included."""
    case = next(c for c in GOLDEN["layouts"][name]["outputs"] if c["t"] == 0.75)
    rife = load_rife(write(tmp_path / "a.pth", fill(shapes(name), case["gain"])), CPU)
    height, width = case["height"], case["width"]
    pair = torch.cat((picture(0, height, width), picture(0.6, height, width)))
    frame = interpolate(pair.movedim(1, -1), rife, 4, Silent())[3]
    rows, columns = range(7, height, height // 3), range(5, width, width // 3)
    pixels = torch.stack([frame[y, x] for y in rows for x in columns]).flatten()
    assert (pixels - torch.tensor(case["pixels"])).abs().max() < TOLERANCE[case["gain"]]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "3 HD"])
@torch.inference_mode()
def test_the_encoder_is_that_of_the_reference_at_gain_1_5(net, name):
    _, module = net(name, 1.5)
    features = module.encode(picture(0, 64, 64))
    known = GOLDEN["layouts"][name]["head"]
    found = torch.stack([features[0, :, y, x] for y, x in ((10, 20), (40, 33), (0, 63))])
    expected = torch.tensor(known["values"]).view(3, -1)
    # Without its activations the features of 4.10 and later are 0.9 and more away.
    assert (found - expected).abs().max() < 1e-3
    assert float(features.mean()) == pytest.approx(known["mean"], abs=1e-4)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "3 HD"])
def test_the_whole_network_is_that_of_the_reference_at_gain_1_5(net, name):
    # The flow leads outside the picture everywhere, so only which edge is hit counts.
    out = between(*net(name, 1.5), picture(0, 64, 64), picture(0.6, 64, 64))
    known = GOLDEN["layouts"][name]["saturated"]
    assert float(out.mean()) == pytest.approx(known["mean"], abs=1e-3)
    assert float(out.std()) == pytest.approx(known["std"], abs=1e-3)


@pytest.mark.parametrize("name", ["4.7", "4.25", "3 HD"])
def test_a_batch_gives_what_its_pictures_give_alone(net, name):
    layout, module = net(name, 0.6)
    firsts = torch.cat([picture(p, 64, 64) for p in (0, 1, 2)])
    seconds = torch.cat([picture(p, 64, 64) for p in (0.6, 1.3, 2.9)])
    together = between(layout, module, firsts, seconds)
    for index in range(3):
        alone = between(layout, module, firsts[index, None], seconds[index, None])
        # Convolutions of a batch add up in another order.
        assert (together[index] - alone[0]).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["4.7", "4.17", "4.25", "3 HD"])
def test_half_precision_stays_close(tmp_path, name):
    path = write(tmp_path / "half.safetensors", fill(shapes(name), 0.6))
    outputs = []
    for dtype in (torch.float32, torch.float16):
        rife = load_rife(path, CPU, dtype)
        with rife.net.on_device() as module:
            # So wide that a place in half precision would be half a pixel off.
            out = between(rife.layout, module, picture(0, 64, 1024), picture(0.6, 64, 1024))
        assert out.dtype == torch.float32
        outputs.append(out)
    # Half a step of 8 bits.
    assert (outputs[0] - outputs[1]).abs().max() < 2e-3


def test_the_time_is_looked_at_by_version_4_and_not_by_version_3(net):
    first, second = picture(0, 64, 64), picture(0.6, 64, 64)
    for name, differs in (("4.7", True), ("3 HD", False)):
        early, late = (between(*net(name, 0.8), first, second, t) for t in (0.25, 0.75))
        assert bool((early != late).any()) == differs
