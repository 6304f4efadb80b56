import numpy as np
import pytest
from wan_local.wan.errors import InputError, ModelError
from wan_local.wan.preprocess.pose.keypoints import (
    PoseCrop,
    build_track,
    cut_crop,
    decode_heatmaps,
    measure_points,
    plan_crop,
)
from wan_local.wan.preprocess.pose.measure import measure_poses
from wan_local.wan.preprocess.pose.onnx import ModelKind, OnnxModel, OnnxRuntime
from wan_local.wan.preprocess.pose.track import Joint
from wan_local.wan.progress import Silent
from wan_local.wan.tiny.onnx import write_onnx
from wan_local.wan.tiny.puppet import draw_puppets


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    write_onnx(folder)
    runtime = OnnxRuntime("cpu")
    detector = OnnxModel(folder / "yolov10m.onnx", ModelKind.DETECTOR, runtime)
    pose = OnnxModel(folder / "vitpose-l-wholebody.onnx", ModelKind.POSE, runtime)
    return detector, pose


class FakePose:
    """A pose model whose heat maps are given."""

    name = "fake.onnx"

    def __init__(self, heatmaps):
        self.heatmaps = heatmaps
        self.fed = []

    def run(self, batch, reporter=None):
        self.fed.append(batch)
        return np.repeat(self.heatmaps, len(batch), axis=0)


def bell(x, y, height, sigma=2.0):
    rows, columns = np.mgrid[:64, :48]
    return height * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))


def test_a10_keypoint_layout():
    points = np.zeros((1, 133, 3), np.float32)
    points[0, :, 0] = np.arange(133)
    points[0, :, 2] = np.arange(133) / 200
    track = build_track(points, np.zeros((1, 5), np.float32), (), 1, 1)
    wanted = [0, 5.5, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3, 17.5, 20.5]
    assert track.body[0, :, 0].tolist() == wanted
    assert track.left_hand[0, :, 0].tolist() == list(range(91, 112))
    assert track.right_hand[0, :, 0].tolist() == list(range(112, 133))
    assert track.face[0, :, 0].tolist() == list(range(23, 91))  # 22 is the right heel
    # scores of neck and toes are means as well
    assert track.body[0, Joint.NECK, 2] == pytest.approx(5.5 / 200)
    assert track.body[0, Joint.RIGHT_TOE, 2] == pytest.approx(20.5 / 200)


def test_coordinates_are_fractions_of_the_frame():
    points = np.full((1, 133, 3), (240, 208, 0.9), np.float32)
    track = build_track(points, np.zeros((1, 5), np.float32), (), 480, 832)
    assert track.body[0, Joint.NOSE].tolist() == [0.5, 0.25, np.float32(0.9)]


def test_body_outside_the_frame_is_copied_from_the_frame_before():
    points = np.full((4, 133, 3), (100, 100, 0.9), np.float32)
    points[1:3, :, 0] = -5
    points[0, :, 0] = 50
    track = build_track(points, np.zeros((4, 5), np.float32), (), 200, 200)
    assert track.body[:, Joint.NOSE, 0].tolist() == [0.25, 0.25, 0.25, 0.5]
    assert (track.left_hand[1, :, 0] < 0).all()  # only the body is copied
    points[0, :, 0] = -5  # the first frame has no frame before it: kept as is
    track = build_track(points, np.zeros((4, 5), np.float32), (), 200, 200)
    assert (track.body[0, :, 0] < 0).all()


@pytest.mark.parametrize(
    "box, middle, size",
    [
        ((100, 50, 300, 450, 0.9), (200, 250), (375, 500)),
        ((0, 0, 640, 480, 0.9), (320, 240), (800, 1066.67)),
        ((10, 10, 500, 60, 0.9), (255, 35), (612.5, 816.67)),
        ((100, 50, 300, 450, -1), (320, 240), (800, 1066.67)),
        ((100, 50, 300, 450, 0), (320, 240), (800, 1066.67)),
        ((100, 50, 109, 450, 0.9), (320, 240), (800, 1066.67)),
        ((100, 50, 300, 59, 0.9), (320, 240), (800, 1066.67)),
    ],
)
def test_a11_pose_crop(box, middle, size):
    crop = plan_crop(box, 640, 480)
    assert (crop.x, crop.y) == middle
    assert (crop.width, crop.height) == pytest.approx(size, abs=0.01)


def test_a11_source_rectangle():
    crop = plan_crop((100, 50, 300, 450, 0.9), 640, 480)
    x0, y0, x1, y1 = crop.edges
    assert x0 in (12, 13) and x1 in (387, 388)  # both edges fall on .5
    assert (y0, y1) == (0, 500)
    frame = np.full((480, 640, 3), 200, np.uint8)
    cut = cut_crop(frame, crop)
    assert cut.shape == (3, 256, 192) and cut.dtype == np.float32
    # rows from 480 on are outside: black, with one mixed row at the edge
    assert (cut[:, :245] == 200).all() and (cut[:, 247:] == 0).all()


def test_a12_heatmap_decode():
    maps = np.zeros((1, 133, 64, 48), np.float32)
    maps[0, 0] = bell(20.3, 30.6, 0.9)
    maps[0, 1] = bell(5.5, 60.2, 0.4)
    points = decode_heatmaps(maps, [PoseCrop(200, 250, 375, 500)])
    assert points.shape == (1, 133, 3) and points.dtype == np.float32
    assert points[0, 0] == pytest.approx((171.093, 239.064, 0.8723), abs=1e-2)
    assert points[0, 1] == pytest.approx((55.466, 469.755, 0.3858), abs=1e-2)
    assert points[0, 2] == pytest.approx((4.6875, -7.8125, 0), abs=1e-4)


def test_score_is_the_maximum_before_the_blur_and_not_bounded():
    maps = np.zeros((1, 133, 64, 48), np.float32)
    maps[0, 0] = bell(20, 30, 1.3, sigma=0.7)
    assert decode_heatmaps(maps, [PoseCrop(0, 0, 48, 64)])[0, 0, 2] == pytest.approx(1.3)


@pytest.mark.parametrize("cell", [(0, 30), (1, 30), (46, 30), (20, 1), (20, 62), (47, 63)])
def test_no_step_is_taken_at_the_edges(cell):
    maps = np.zeros((1, 133, 64, 48), np.float32)
    maps[0, 0] = bell(cell[0] + 0.3, cell[1] - 0.2, 0.9)
    points = decode_heatmaps(maps, [PoseCrop(24, 32, 48, 64)])
    assert points[0, 0, :2] == pytest.approx(cell)


def test_flat_and_negative_maps_are_harmless():
    maps = np.full((1, 133, 64, 48), -0.1, np.float32)
    maps[0, 1] = 0.5
    with np.errstate(all="raise"):
        points = decode_heatmaps(maps, [PoseCrop(24, 32, 48, 64)])
    assert points[0, 0].tolist() == [-1, -1, np.float32(-0.1)]
    assert np.isfinite(points).all()


def decode_plainly(heatmap):
    """Section 2.4's decoding of one map, step by step, in cells."""
    import cv2

    y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
    if heatmap.max() <= 0:
        return np.array([-1.0, -1.0])
    wide = cv2.GaussianBlur(np.pad(heatmap, 5), (11, 11), 2.0)[5:-5, 5:-5]
    f = np.log(np.maximum(wide * (heatmap.max() / wide.max()), np.float32(1e-10)))
    if not (1 < x < 46 and 1 < y < 62):
        return np.array([x, y], float)
    slope = np.array([f[y, x + 1] - f[y, x - 1], f[y + 1, x] - f[y - 1, x]]) / 2
    xx = (f[y, x + 2] - 2 * f[y, x] + f[y, x - 2]) / 4
    yy = (f[y + 2, x] - 2 * f[y, x] + f[y - 2, x]) / 4
    xy = (f[y + 1, x + 1] - f[y - 1, x + 1] - f[y + 1, x - 1] + f[y - 1, x - 1]) / 4
    bend = np.array([[xx, xy], [xy, yy]])
    if xx * yy - xy**2 == 0:
        return np.array([x, y], float)
    return np.array([x, y]) - np.linalg.inv(bend) @ slope


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.2])
def test_decoding_equals_the_plain_formula(noise):
    random = np.random.default_rng(4)
    maps = random.normal(0, noise, (1, 133, 64, 48)).astype(np.float32)
    for point in range(0, 133, 2):  # every other one holds noise alone
        maps[0, point] += bell(random.uniform(-2, 50), random.uniform(-2, 66), 0.7)
    found = decode_heatmaps(maps, [PoseCrop(24, 32, 48, 64)])[0]
    wanted = np.array([decode_plainly(heatmap) for heatmap in maps[0]])
    # In noise alone the step may be thousands of cells long, and float32 logarithms leave its
    # fourth digit open; both formulas then go the same way.
    allowed = 2e-3 * np.maximum(np.abs(wanted), 1)
    assert (np.abs(found[:, :2] - wanted) < allowed).all()
    assert np.abs(found[::2, :2] - wanted[::2]).max() < 2e-3 or noise == 0.2
    assert (found[:, 2] == maps[0].max(axis=(1, 2))).all()


def test_decoding_several_frames_equals_one_by_one():
    random = np.random.default_rng(0)
    maps = random.normal(0, 0.05, (3, 133, 64, 48)).astype(np.float32)
    for frame in range(3):
        for point in range(133):
            maps[frame, point] += bell(random.uniform(0, 47), random.uniform(0, 63), 0.8)
    crops = [PoseCrop(200, 250, 375, 500), PoseCrop(90, 70, 75, 100), PoseCrop(0, 0, 48, 64)]
    together = decode_heatmaps(maps, crops)
    for frame in range(3):
        alone = decode_heatmaps(maps[frame : frame + 1], crops[frame : frame + 1])
        assert np.abs(together[frame] - alone[0]).max() < 1e-3


def test_model_sees_rgb_with_the_imagenet_statistics():
    frame = np.zeros((1, 400, 300, 3), np.uint8)
    frame[..., 0], frame[..., 2] = 255, 51
    model = FakePose(np.zeros((1, 133, 64, 48), np.float32))
    measure_points(frame, np.array([[0, 0, 300, 400, 0.9]]), model)
    middle = model.fed[0][0, :, 128, 96]
    assert middle == pytest.approx(
        [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225], abs=1e-5
    )


def test_eight_frames_go_in_one_call():
    frames = np.zeros((19, 64, 48, 3), np.uint8)
    model = FakePose(np.zeros((1, 133, 64, 48), np.float32))
    measure_points(frames, np.zeros((19, 5)), model)
    assert [len(fed) for fed in model.fed] == [8, 8, 3]


def test_batched_pose_equals_batch_1_within_a_thousandth_of_a_pixel(models):
    video = draw_puppets(10, 224, 320)
    batched = measure_poses(video.frames, *models, batch=8)
    single = measure_poses(video.frames, *models, batch=1)
    for part in ("body", "left_hand", "right_hand", "face"):
        apart = getattr(batched, part)[..., :2] - getattr(single, part)[..., :2]
        assert np.abs(apart * (224, 320)).max() < 1e-3


@pytest.mark.parametrize("bad", [np.zeros((1, 17, 64, 48)), np.full((1, 133, 64, 48), np.nan)])
def test_useless_heatmaps_are_an_error(bad):
    frames = np.zeros((1, 64, 48, 3), np.uint8)
    with pytest.raises(ModelError, match=r"fake\.onnx gave heat maps"):
        measure_points(frames, np.zeros((1, 5)), FakePose(bad.astype(np.float32)))


def test_frame_without_person_is_measured_whole_and_listed(models):
    video = draw_puppets(6, 224, 320)
    video.frames[2] = video.frames[4] = (96, 128, 30)
    track = measure_poses(video.frames, *models)
    assert track.misses == (2, 4)
    assert track.boxes[2].tolist() == [0, 0, 224, 320, -1]
    assert (track.left_hand[2, :, 2] < 0.3).all()  # nothing that would be drawn
    assert (track.left_hand[3, :, 2] > 0.5).all()
    # all of the empty maps lie at (-1, -1): the body is that of the frame before
    assert (track.body[2] == track.body[1]).all()


def test_only_a_video_without_any_person_is_an_error(models):
    frames = np.full((3, 64, 48, 3), (96, 128, 30), np.uint8)
    with pytest.raises(InputError, match="No person was found in any of the 3 frames"):
        measure_poses(frames, *models)
    track = measure_poses(frames, *models, needs_person=False)
    assert track.misses == (0, 1, 2)


def test_video_without_frames_is_an_error(models):
    with pytest.raises(InputError, match="no frames"):
        measure_poses(np.zeros((0, 64, 48, 3), np.uint8), *models)


class Recorder(Silent):
    def __init__(self, stop_at=None):
        self.events = []
        self.stop_at = stop_at

    def start(self, phase, total):
        self.events.append((phase, total))

    def update(self, done, preview=None):
        self.events.append(done)
        if self.stop_at and self.events[0] != self.events[-1] and len(self.events) > self.stop_at:
            raise KeyboardInterrupt


def test_progress_is_told_for_each_frame(models):
    video = draw_puppets(10, 112, 160)
    recorder = Recorder()
    measure_poses(video.frames, *models, reporter=recorder)
    one_to_ten = list(range(1, 11))
    assert recorder.events == [
        ("find the person", 10),
        *one_to_ten,
        ("measure the pose", 10),
        *one_to_ten,
    ]


def test_update_may_cancel(models):
    video = draw_puppets(10, 112, 160)
    recorder = Recorder(stop_at=13)
    with pytest.raises(KeyboardInterrupt):
        measure_poses(video.frames, *models, reporter=recorder)
    assert recorder.events[-1] == 2  # second frame of the second phase
