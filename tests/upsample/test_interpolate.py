"""Frames between frames: how many, where, of what type, and what happens to odd input."""

import pytest
import torch
from rife_weights import LAYOUTS, fill, picture, shapes, write
from wan_local.wan.errors import Cancelled, GeometryError, InputError, OutOfVramError
from wan_local.wan.progress import Silent
from wan_local.wan.residency import DevicePlacement
from wan_local.wan.tiny import tiny_rife_folder
from wan_local.wan.upsample.rife import scene
from wan_local.wan.upsample.rife.interpolate import flow_scale, interpolate, interpolated_count
from wan_local.wan.upsample.rife.load import find_rife, load_rife

CPU = DevicePlacement("cpu")
GOLDEN_SSIM = {"alike": (0.6, 0.633615), "opposite": (3, -0.548435)}


class Watch(Silent):
    def __init__(self, stop_at=None):
        self.notes, self.steps, self.checks, self.stop_at = [], [], 0, stop_at

    def start(self, phase, total):
        self.phase = phase, total

    def update(self, done, preview=None):
        self.steps.append(done)
        if done == self.stop_at:
            raise Cancelled

    def check_cancelled(self):
        self.checks += 1

    def note(self, text):
        self.notes.append(text)


@pytest.fixture(scope="module")
def rife(tiny):
    """The tiny RIFE, with the layout of 4.7."""
    return load_rife(find_rife([tiny_rife_folder(tiny)]), CPU)


@pytest.fixture(scope="module")
def halving(tmp_path_factory):
    """A RIFE v3 HD."""
    path = tmp_path_factory.mktemp("v3") / "flownet.pkl"
    return load_rife(write(path, fill(shapes("3 HD"), 0.6)), CPU)


def frames(count, height=20, width=28, step=0.3):
    """[count, height, width, 3] uint8 of a moving wave."""
    waves = torch.cat([picture(step * i, height, width) for i in range(count)])
    return waves.movedim(1, -1).mul(255).round().to(torch.uint8).contiguous()


@pytest.mark.parametrize(
    ("count", "factor", "expected"), [(81, 2, 161), (81, 4, 321), (2, 4, 5), (1, 2, 1), (1, 8, 1)]
)
def test_a27_counts(count, factor, expected):
    assert interpolated_count(count, factor) == expected


@pytest.mark.parametrize("factor", range(2, 9))
@pytest.mark.parametrize("kind", ["uint8", "float"])
def test_a27_source_frames_are_exact_at_their_places(rife, factor, kind):
    given = frames(3) if kind == "uint8" else frames(3).double().div(255).float() * 1.1
    result = interpolate(given, rife, factor, Silent())
    assert result.dtype == given.dtype and result.shape == (2 * factor + 1, 20, 28, 3)
    assert (result[::factor] == given).all()
    between = [i for i in range(len(result)) if i % factor]
    assert all((result[i] != result[i - 1]).any() for i in between)
    if kind == "float":
        assert result[between].min() >= 0 and result[between].max() <= 1


@pytest.mark.parametrize(
    ("side", "padded"), [(480, 512), (720, 768), (624, 640), (832, 832), (1, 64), (65, 128)]
)
def test_a27_padding_to_64(side, padded):
    assert side + -side % LAYOUTS["4.7"].multiple == padded


def test_padding_of_the_others():
    assert {name: layout.multiple for name, layout in LAYOUTS.items() if layout.multiple != 64} == {
        "3 HD": 32,
        "4.25 lite": 128,
    }


def test_integers_and_floats_give_the_same_video(rife):
    given = frames(3)
    floats = interpolate(given.float() / 255, rife, 3, Silent())
    # rounded, not truncated
    assert (interpolate(given, rife, 3, Silent()) == floats.mul(255).round().byte()).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_keep_their_type(rife, dtype):
    given = frames(2).to(dtype) / 255
    result = interpolate(given, rife, 2, Silent())
    assert result.dtype == dtype and (result[::2] == given).all()


def test_the_frames_lie_evenly_in_time(rife):
    """The network is asked for i / factor, and later frames are nearer to the second one."""
    asked = []
    with rife.net.on_device() as net:
        hook = net.register_forward_pre_hook(lambda _, inputs: asked.append(float(inputs[2])))
        interpolate(frames(3), rife, 5, Silent())
        hook.remove()
    assert asked == pytest.approx([0.2, 0.4, 0.6, 0.8] * 2)


def test_version_3_halves(halving):
    given = frames(2)
    twice, fourfold = (interpolate(given, halving, factor, Silent()) for factor in (2, 4))
    assert (fourfold[::2] == twice).all()
    again = interpolate(fourfold[:3:2].contiguous(), halving, 2, Silent())
    # The middle frame went through 8 bits here, and not there.
    assert (again[1].int() - fourfold[1].int()).abs().max() <= 2
    assert len(interpolate(given, halving, 8, Silent())) == 9


@pytest.mark.parametrize("factor", [3, 5, 6, 7])
def test_version_3_refuses_what_halving_does_not_reach(halving, factor):
    with pytest.raises(InputError, match=f"factor of RIFE is {factor}") as error:
        interpolate(frames(2), halving, factor, Silent())
    assert "2, 4, 8" in error.value.fix


@pytest.mark.parametrize("factor", [0, 1, 9])
def test_a_factor_out_of_range_is_refused(rife, factor):
    with pytest.raises(InputError, match="2, 3, 4, 5, 6, 7, 8"):
        interpolate(frames(2), rife, factor, Silent())


def test_one_frame_gives_one_frame(rife):
    given = frames(1)
    result = interpolate(given, rife, 4, Silent())
    assert (result == given).all() and result.shape == given.shape


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 3), (33, 65), (64, 64), (47, 129)])
def test_frames_of_any_size(rife, halving, height, width):
    given = frames(2, height, width, step=0.02)
    for network in (rife, halving):
        result = interpolate(given, network, 2, Silent())
        assert result.shape == (3, height, width, 3) and (result[::2] == given).all()


def test_the_black_padding_is_cut_off_again(rife):
    """A grey video stays grey to the edge, because what is fetched beyond it is not used."""
    given = torch.full((2, 30, 30, 3), 128, dtype=torch.uint8)
    result = interpolate(given, rife, 2, Silent())
    assert (result[1, :20, :20].int() - 128).abs().max() <= 1


def test_a_video_in_parts_gives_the_same_frames(rife):
    given = frames(5)
    whole = interpolate(given, rife, 3, Silent())
    parts = [interpolate(given[a : a + 3], rife, 3, Silent()) for a in (0, 2)]
    assert (whole == torch.cat((parts[0], parts[1][1:]))).all()


def test_a_scale_below_1_measures_motion_on_reduced_pictures(rife):
    given = frames(2, 64, 64)
    whole, reduced = (interpolate(given, rife, 2, Silent(), scale) for scale in (1.0, 0.5))
    assert (whole[1] != reduced[1]).any() and (reduced[::2] == given).all()


@pytest.mark.parametrize(
    ("width", "height", "scale"),
    [(832, 480, 1), (1920, 1080, 1), (1088, 1920, 1), (2560, 1440, 1), (3840, 2160, 0.5)],
)
def test_the_scale_for_a_size(width, height, scale):
    assert flow_scale(width, height) == scale


def test_the_scale_is_chosen_by_size(rife, monkeypatch):
    from wan_local.wan.upsample.rife import interpolate as module

    given = frames(2, 64, 64)
    reduced = interpolate(given, rife, 2, Silent(), 0.5)
    monkeypatch.setattr(module, "_LARGE_PIXELS", 1000)
    assert (interpolate(given, rife, 2, Silent()) == reduced).all()


def test_a29_similarity():
    black, white = torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32)
    assert scene.similarity(black, white) == pytest.approx(0.0001, abs=1e-5)
    assert scene.similarity(white, white) == pytest.approx(1, abs=1e-5)
    for phase, expected in GOLDEN_SSIM.values():
        found = scene.similarity(picture(0, 32, 32), picture(phase, 32, 32))
        assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("factor", [2, 4])
def test_a29_across_a_cut_the_earlier_frame_is_repeated(rife, factor):
    black, white = torch.zeros(2, 40, 40, 3), torch.ones(2, 40, 40, 3)
    watch = Watch()
    result = interpolate(torch.cat((black, white)), rife, factor, watch)
    cut = slice(factor, 2 * factor)
    assert (result[cut] == 0).all() and (result[2 * factor :] > 0.9).all()
    assert watch.notes == [
        "Scene cut after frame 1: the frame is repeated, not blended.",
    ]
    assert watch.steps == [1, 2, 3]


def test_a_cut_is_seen_without_the_padding(rife):
    # Padded to 64x64, nine tenths of both would be equally black.
    given = torch.stack((torch.zeros(20, 20, 3), torch.ones(20, 20, 3)))
    assert (interpolate(given, rife, 2, Silent())[1] == 0).all()


def test_what_moves_is_no_cut(rife):
    watch = Watch()
    interpolate(frames(6, step=0.6), rife, 2, watch)
    assert watch.notes == []


def test_alpha_is_left_out_with_a_note(rife):
    given, watch = frames(2), Watch()
    with_alpha = torch.cat((given, torch.full((2, 20, 28, 1), 9, dtype=torch.uint8)), -1)
    result = interpolate(with_alpha, rife, 2, watch)
    assert (result == interpolate(given, rife, 2, Silent())).all()
    assert watch.notes == ["The frames have an alpha channel; it is dropped."]


def test_nan_pixels_become_black_and_are_named(rife):
    given = frames(3).float() / 255
    clean = given.clone()
    given[1, 4, 5, 2] = float("nan")
    clean[1, 4, 5] = 0
    watch = Watch()
    result = interpolate(given, rife, 2, watch)
    assert (result == interpolate(clean, rife, 2, Silent())).all()
    (note,) = watch.notes
    assert "frame 1 held" in note and "1 in all" in note and "black" in note
    assert given.isnan().any()  # what was given is not changed


def test_progress_counts_pairs(rife):
    watch = Watch()
    interpolate(frames(5), rife, 4, watch)
    assert watch.phase == ("interpolate", 4) and watch.steps == [1, 2, 3, 4]
    # before each of the three frames of each of the four pairs, and once at the start
    assert watch.checks == 13


def test_cancelling_stops_and_frees_the_network(rife):
    with pytest.raises(Cancelled):
        interpolate(frames(5), rife, 2, Watch(stop_at=2))
    assert len(interpolate(frames(2), rife, 2, Silent())) == 3


@pytest.mark.parametrize(
    "given",
    [torch.zeros(4, 4, 3), torch.zeros(0, 4, 4, 3), torch.zeros(2, 4, 4, 3, dtype=torch.int64)],
)
def test_what_are_no_frames_is_refused_in_words(rife, given):
    with pytest.raises(GeometryError, match="were given"):
        interpolate(given, rife, 2, Silent())


def test_memory_is_taken_for_two_frames_and_the_result(rife):
    """As many large tensors are alive in the last pair as in the second one."""
    import gc

    alive = []

    class Count(Silent):
        def update(self, done, preview=None):
            gc.collect()
            tensors = (o for o in gc.get_objects() if type(o) is torch.Tensor)
            alive.append(sum(t.numel() >= 64 * 64 for t in tensors))

    interpolate(frames(6), rife, 2, Count())
    assert len(set(alive[1:])) == 1


@pytest.mark.parametrize("failures", [1, 2])
def test_out_of_memory_is_tried_once_more_and_then_explained(tiny, failures):
    rife = load_rife(find_rife([tiny_rife_folder(tiny)]), DevicePlacement("cpu"))
    video = torch.cat([frames(3), 255 - frames(2)])
    expected, plain = Watch(), interpolate(video, rife, 2, Watch())
    interpolate(video, rife, 2, expected)
    tries = []

    def fail(*_):
        tries.append(1)
        if len(tries) in (3, 6)[:failures]:  # behind the cut
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")

    with rife.net.on_device() as net:
        hook = net.register_forward_pre_hook(fail)
    watch = Watch()
    try:
        if failures == 1:
            assert torch.equal(interpolate(video, rife, 2, watch), plain)
            assert watch.notes[1:] == expected.notes  # a scene cut is not told twice
        else:
            with pytest.raises(OutOfVramError, match=r"[Ii]nterpolate at scale 0\.5"):
                interpolate(video, rife, 2, watch)
    finally:
        hook.remove()
    assert "RIFE: out of memory" in watch.notes[0]
