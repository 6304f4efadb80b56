import numpy as np
import pytest
from wan_local.wan.errors import GeometryError, InputError, ModelError
from wan_local.wan.preprocess.pose.detect import (
    PersonChoice,
    PersonRule,
    choose_boxes,
    decode_people,
    detect_people,
    largest_person,
    overlap,
    prepare_frame,
    suppress,
)
from wan_local.wan.preprocess.pose.onnx import ModelKind, OnnxModel, OnnxRuntime
from wan_local.wan.tiny.onnx import write_onnx
from wan_local.wan.tiny.puppet import Puppet, draw_puppets


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    write_onnx(folder)
    return folder


def detector(models, name="yolov10m.onnx"):
    return OnnxModel(models / name, ModelKind.DETECTOR, OnnxRuntime("cpu"))


def rows(*boxes):
    """The detector's 300 rows: x0, y0, x1, y1, score, class."""
    output = np.zeros((300, 6), np.float32)
    output[: len(boxes)] = np.reshape(boxes, (-1, 6))
    return output


def columns(*boxes):
    """The same people in the layout (84, n)."""
    output = np.zeros((84, 40), np.float32)
    for place, (x0, y0, x1, y1, score, kind) in enumerate(boxes):
        output[:4, place] = (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0
        output[4 + int(kind), place] = score
    return output


def select(output):
    people = decode_people(output, 1280, 720)
    boxes, _ = choose_boxes([people], PersonChoice(), 1280, 720)
    return boxes[0].tolist()


@pytest.mark.parametrize("layout", [rows, columns])
@pytest.mark.parametrize(
    "boxes, wanted",
    [
        (
            [(100, 100, 300, 500, 0.9, 0), (350, 50, 600, 600, 0.6, 0)],
            [700, 56, 1200, 674, 0.6],
        ),
        (
            [(100, 100, 300, 500, 0.9, 0), (102, 102, 302, 502, 0.8, 0)],
            [200, 112, 600, 562, 0.9],
        ),
        (
            [(300, 300, 600, 600, 0.95, 16), (100, 100, 200, 300, 0.3, 0)],
            [200, 112, 400, 337, 0.3],
        ),
        ([(100, 100, 300, 500, 0.04, 0)], [0, 0, 1280, 720, -1]),
        ([], [0, 0, 1280, 720, -1]),
    ],
    ids=["larger area", "near-duplicate", "dog and person", "score too low", "nothing"],
)
def test_a13_detector_selection(layout, boxes, wanted):
    assert select(layout(*boxes)) == pytest.approx(wanted, abs=1e-6)


def test_a13_candidate_with_a_short_longer_side_is_skipped():
    # 2.3: larger in area than the first, but its longer side is under 0.4 of the longest
    thin = (0, 0, 10, 640, 0.9, 0)
    block = (100, 100, 240, 340, 0.8, 0)  # 280 x 270 pixels, and 0.4 of 720 is 288
    assert select(rows(thin, block)) == pytest.approx([0, 0, 20, 720, 0.9], abs=1e-6)
    people = np.array([[0, 0, 8, 1000, 0.9], [100, 100, 499, 499, 0.8]])
    assert largest_person(people)[4] == 0.9  # 399 < 0.4 * 1000
    people[1, 2] = 500
    assert largest_person(people)[4] == 0.8  # 400 is enough
    # once there is a best, its own longer side is the measure
    people = np.array([[0, 0, 300, 400, 0.9], [0, 0, 20, 1000, 0.8], [0, 0, 350, 390, 0.7]])
    assert largest_person(people)[4] == 0.7


def test_other_classes_suppress_people_under_them():
    # class-agnostic: the reference drops a person under a surer dog
    assert select(rows((100, 100, 300, 500, 0.9, 16), (102, 102, 302, 502, 0.8, 0)))[4] == -1


def test_suppression_agrees_with_opencv():
    import cv2

    if not hasattr(cv2, "dnn"):
        pytest.skip("this OpenCV has no dnn module")
    random = np.random.default_rng(3)
    for _ in range(50):
        boxes = np.concatenate(
            [random.integers(0, 200, (30, 2)), random.integers(1, 150, (30, 2))], axis=1
        )
        scores = random.permutation(np.linspace(0.1, 0.9, 30)).astype(np.float32)
        theirs = cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), 0.05, 0.5)
        assert suppress(boxes, scores) == list(np.ravel(theirs))


def test_overlap_is_intersection_over_union():
    box = np.array([0, 0, 10, 10])
    others = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [20, 20, 30, 30]])
    assert overlap(box, others) == pytest.approx([1, 1 / 3, 0, 0])


def test_output_of_unknown_layout_is_rejected():
    with pytest.raises(ModelError, match=r"\(300, 7\)"):
        decode_people(np.zeros((300, 7), np.float32), 640, 640)


def test_frame_is_squashed_rgb_in_0_to_1():
    frame = np.zeros((90, 160, 3), np.uint8)
    frame[:, :80] = (255, 0, 51)
    fed = np.full((3, 640, 640), np.nan, np.float32)
    prepare_frame(frame, fed)
    assert fed.shape == (3, 640, 640) and fed.dtype == np.float32
    assert fed[:, 320, 100] == pytest.approx([1, 0, 0.2])
    assert (fed[:, :, 400:] == 0).all()


@pytest.mark.parametrize("name", ["yolov10m.onnx", "yolov8m.onnx"])
@pytest.mark.parametrize("size", [(448, 640), (640, 360)])
def test_puppet_is_found_within_two_pixels_in_both_layouts(models, name, size):
    video = draw_puppets(5, *size)
    people = detect_people(video.frames, detector(models, name))
    for number, found in enumerate(people):
        assert len(found) == 1
        assert np.abs(found[0, :4] - video.box(number)).max() <= 2
        assert found[0, 4] == pytest.approx(0.9)


def test_batches_do_not_change_the_boxes(models):
    video = draw_puppets(5, 224, 320)
    model = detector(models, "yolov8m.onnx")
    together = detect_people(video.frames, model, batch=8)
    alone = detect_people(video.frames, model, batch=1)
    assert all((a == b).all() for a, b in zip(together, alone, strict=True))


def test_tensor_frames_are_read_as_well(models):
    import torch

    video = draw_puppets(2, 224, 320)
    model = detector(models)
    array, tensor = (detect_people(f, model) for f in (video.frames, torch.tensor(video.frames)))
    assert all((a == b).all() for a, b in zip(array, tensor, strict=True))


def test_frames_of_another_type_are_rejected(models):
    with pytest.raises(GeometryError, match="Frame 0 is float32"):
        detect_people(np.zeros((2, 64, 64, 3), np.float32), detector(models))


# ---- who of several people


def two_people(frames=24):
    """A small one on the left and a large one on the right, walking past each other."""
    left = Puppet(x=0.2, height=0.5, outline=0, walk=0.3)
    right = Puppet(x=0.8, height=0.8, outline=1, walk=-0.3)
    return draw_puppets(frames, 640, 360, (left, right), fps=12)


@pytest.fixture(scope="module")
def crossing(models):
    video = two_people()
    return video, detect_people(video.frames, detector(models))


def followed(crossing, choice):
    video, people = crossing
    boxes, misses = choose_boxes(people, choice, 640, 360)
    errors = np.empty((2, len(boxes)))
    for figure in range(2):
        for number, box in enumerate(boxes):
            errors[figure, number] = np.abs(box[:4] - video.box(number, figure)).max()
    return errors, misses


@pytest.mark.parametrize(
    "choice, figure",
    [
        (PersonChoice(PersonRule.LEFT_MOST), 0),
        (PersonChoice(PersonRule.INDEX, index=0), 0),
        (PersonChoice(PersonRule.INDEX, index=1), 1),
        (PersonChoice(PersonRule.POINT, x=0.78, y=0.6), 1),
        (PersonChoice(PersonRule.POINT, x=0.02, y=0.9), 0),
    ],
    ids=["left-most", "index 0", "index 1", "point on the right one", "point beside the left one"],
)
def test_more_than_one_person_is_followed_past_each_other(crossing, choice, figure):
    errors, misses = followed(crossing, choice)
    assert misses == ()
    # the one behind is partly hidden while they cross; at the ends the box is exact
    assert errors[figure, [0, 1, -2, -1]].max() <= 3
    assert (errors[figure] <= errors[1 - figure]).all()


def test_largest_is_the_reference_rule_in_each_frame(crossing):
    errors, misses = followed(crossing, PersonChoice())
    assert misses == () and errors[1].max() <= 3


def boxes_of(*tracks):
    """Per frame [n, 5]; None where a person is not seen."""
    frames = []
    for places in zip(*tracks, strict=True):
        seen = [[x, 0, x + 50, 100, 0.9] for x in places if x is not None]
        frames.append(np.array(seen, np.float64).reshape(-1, 5))
    return frames


def test_nobody_takes_over_from_a_person_who_is_hidden():
    # the left one is hidden while the right one walks over its place
    left = [100, 100, None, None, None, 100, 100]
    right = [200, 180, 160, 130, 100, 70, 40]
    people = boxes_of(left, right)
    boxes, misses = choose_boxes(people, PersonChoice(PersonRule.LEFT_MOST), 640, 360)
    assert misses == (2, 3, 4)
    assert boxes[:, 0].tolist() == [100] * 7
    assert (boxes[:, 4] > 0).all()  # the last box is kept, not the whole frame


def test_hidden_person_does_not_claim_the_box_of_one_who_stops_there():
    people = boxes_of([100, 100, None, None, None], [200, 170, 140, 110, 110])
    boxes, misses = choose_boxes(people, PersonChoice(PersonRule.INDEX, index=1), 640, 360)
    assert misses == () and boxes[:, 0].tolist() == [200, 170, 140, 110, 110]
    assert choose_boxes(people, PersonChoice(PersonRule.LEFT_MOST), 640, 360)[1] == (2, 3, 4)


def test_person_who_moves_far_in_one_frame_is_still_followed():
    people = boxes_of([0, 45, 90, 135], [400, 400, 400, 400])  # hardly any overlap
    boxes, misses = choose_boxes(people, PersonChoice(PersonRule.LEFT_MOST), 640, 360)
    assert misses == () and boxes[:, 0].tolist() == [0, 45, 90, 135]


def test_person_is_chosen_where_first_seen_well():
    people = boxes_of([None, None, 200, 200], [400, 400, 400, 400])
    people[0][0, 4] = 0.1  # too unsure to choose from
    boxes, misses = choose_boxes(people, PersonChoice(PersonRule.INDEX, index=1), 640, 360)
    assert misses == () and boxes[:, 0].tolist() == [400] * 4
    boxes, misses = choose_boxes(people, PersonChoice(PersonRule.POINT, x=0.3, y=0.1), 640, 360)
    assert misses == ()  # frame 1 shows but one sure person
    assert boxes[:, 0].tolist() == [400] * 4


def test_whole_frame_is_used_before_a_followed_person_appears():
    people = boxes_of([None, None, 300, 300])
    boxes, misses = choose_boxes(people, PersonChoice(PersonRule.LEFT_MOST), 640, 360)
    assert misses == (0, 1)
    assert boxes[0].tolist() == [0, 0, 640, 360, -1]


def test_largest_gives_the_whole_frame_where_nobody_is():
    boxes, misses = choose_boxes(boxes_of([300, None, 300]), PersonChoice(), 640, 360)
    assert misses == (1,)
    assert boxes[1].tolist() == [0, 0, 640, 360, -1]


def test_index_beyond_the_people_is_an_error_with_the_count():
    with pytest.raises(InputError, match="no frame shows more than 2"):
        choose_boxes(boxes_of([0], [300]), PersonChoice(PersonRule.INDEX, index=2), 640, 360)


def test_spurious_box_is_not_taken_for_the_left_most_person():
    people = boxes_of([10, 10], [300, 300])
    for frame in people:
        frame[0, 4] = 0.06
    boxes, _ = choose_boxes(people, PersonChoice(PersonRule.LEFT_MOST), 640, 360)
    assert boxes[:, 0].tolist() == [300, 300]
