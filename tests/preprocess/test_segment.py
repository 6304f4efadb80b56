import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional
from wan_local.wan.errors import (
    GeometryError,
    InputError,
    MissingFileError,
    ModelError,
    UnavailableError,
)
from wan_local.wan.preprocess.mask import grabcut, sam2, segment
from wan_local.wan.preprocess.mask.grabcut import GrabCut
from wan_local.wan.preprocess.mask.sam2 import Sam2
from wan_local.wan.preprocess.mask.segment import (
    PROMPT_JOINTS,
    key_frames,
    key_points,
    plan_chunks,
    prompt_points,
    segment_person,
    track_from_box,
)
from wan_local.wan.preprocess.pose.track import LIMBS, Joint, PoseTrack, select_frames
from wan_local.wan.progress import Silent
from wan_local.wan.residency import DevicePlacement

WIDTH, HEIGHT = 200, 160
# A small person who stands upright, pixels from the upper left corner of its own box.
PLACES = (
    "30,14 30,30 18,32 12,52 8,70 42,32 48,52 52,70 22,72 20,96 "
    "18,120 38,72 40,96 42,120 27,11 33,11 23,13 37,13 46,126 14,126"
)
FIGURE = np.array([place.split(",") for place in PLACES.split()], float)


def pose_of(points, scores=0.9, misses=(), size=(WIDTH, HEIGHT), boxes=True):
    """A track from joints in pixels [T, 20, 2]."""
    frames = len(points)
    body = np.empty((frames, 20, 3), np.float32)
    body[..., :2] = points / np.array(size)
    body[..., 2] = scores
    corners = np.full((frames, 5), -1, np.float32)
    if boxes:
        corners[:, :2], corners[:, 2:4] = points.min(1) - (6, 12), points.max(1) + 6
        corners[:, 4] = 0.9
    for frame in misses:
        body[frame] = 0
        corners[frame] = -1
    hand, face = np.zeros((frames, 21, 3), np.float32), np.zeros((frames, 68, 3), np.float32)
    return PoseTrack(*size, body, hand, hand, face, corners, tuple(misses))


def walk(frames=6, start=(20, 20), step=5):
    steps = np.arange(frames)[:, None, None] * np.array((step, 0))
    swing = np.zeros((frames, 20, 2))
    for joint, reach in ((Joint.RIGHT_WRIST, 4), (Joint.LEFT_WRIST, -4)):
        swing[:, joint, 0] = reach * np.sin(np.arange(frames))
    return FIGURE + np.array(start) + steps + swing


def draw(points, colour, canvas, truth=None):
    """A puppet: thick limbs, filled trunk, round head."""
    for target, value in ((canvas, colour), (truth, 1)):
        if target is None:
            continue
        for near, far in LIMBS[:12] + LIMBS[17:]:
            ends = [tuple(int(n) for n in points[joint]) for joint in (near, far)]
            cv2.line(target, *ends, value, 9)
        trunk = [Joint.RIGHT_SHOULDER, Joint.LEFT_SHOULDER, Joint.LEFT_HIP, Joint.RIGHT_HIP]
        cv2.fillConvexPoly(target, points[trunk].astype(np.int32), value)
        cv2.circle(target, tuple(int(n) for n in points[Joint.NOSE]), 11, value, -1)


def video(points, colour=(200, 60, 40), other=None):
    """Frames [T, H, W, 3] of a puppet on a plain background, and its true masks."""
    noise = np.random.default_rng(0)
    frames = np.empty((len(points), HEIGHT, WIDTH, 3), np.uint8)
    truth = np.zeros((len(points), HEIGHT, WIDTH), np.uint8)
    for frame, mask, joints in zip(frames, truth, points, strict=True):
        frame[:] = (70, 110, 120)
        if other is not None:
            draw(other, (60, 160, 60), frame)
        draw(joints, colour, frame, mask)
        frame[:] = np.clip(frame + noise.normal(0, 4, frame.shape), 0, 255)
    return frames, truth


def overlap(mask, truth):
    mask, truth = np.asarray(mask) > 0, truth > 0
    return (mask & truth).sum() / (mask | truth).sum()


class Notes(Silent):
    def __init__(self):
        self.notes, self.done, self.total = [], [], 0

    def start(self, phase, total):
        self.total = total

    def update(self, done, preview=None):
        self.done.append(done)

    def note(self, text):
        self.notes.append(text)


# ---- where to point ----


@pytest.mark.parametrize(
    ("length", "frames"),
    [
        (1, [0]),
        (4, [0]),
        (5, [0, 1, 2, 3, 4]),
        (10, [0, 2, 4, 6, 8]),
        (77, [0, 19, 38, 57, 76]),
        (100, [0, 25, 50, 75]),
    ],
)
def test_a30_key_frames(length, frames):
    assert key_frames(length) == frames


def test_a30_chunks_and_joints():
    assert [len(chunk) for chunk in plan_chunks(401)] == [400, 1]
    assert [len(chunk) for chunk in plan_chunks(803)] == [400, 400, 3]
    assert [len(chunk) for chunk in plan_chunks(400)] == [400]
    assert sorted(PROMPT_JOINTS) == [0, 1, 2, 5, 8, 10, 11, 13]


@pytest.mark.parametrize("frames", [1, 399, 400, 401, 800, 1234])
def test_chunks_hold_every_frame_once(frames):
    assert [frame for chunk in plan_chunks(frames) for frame in chunk] == list(range(frames))


def test_points_are_whole_pixels_on_the_joints():
    points = walk(1, start=(20.7, 20.9))
    expected = np.floor(points[0, list(PROMPT_JOINTS)]).astype(int)
    assert prompt_points(pose_of(points), 0).tolist() == expected.tolist()
    assert prompt_points(pose_of(points), 0).dtype == np.int32


def test_no_point_from_a_joint_below_030_or_outside_the_frame():
    points = walk(1)
    scores = np.full((1, 20), 0.3)
    scores[0, Joint.RIGHT_HIP] = 0.299
    points[0, Joint.LEFT_ANKLE] = (60, HEIGHT)  # one pixel below the last row
    points[0, Joint.RIGHT_ANKLE] = (-0.5, 100)  # int would make it 0
    points[0, Joint.NOSE] = (WIDTH - 1, 0)  # the corner itself is inside
    found = prompt_points(pose_of(points, scores), 0).tolist()
    assert len(found) == 5
    assert [WIDTH - 1, 0] in found
    for joint in (Joint.RIGHT_HIP, Joint.LEFT_ANKLE, Joint.RIGHT_ANKLE):
        assert points[0, joint].astype(int).tolist() not in found


def test_key_frame_without_the_person_hands_over_to_the_next_that_shows_them():
    pose = pose_of(walk(20), misses=(0, 1, 2, 5, 10, 11, 12, 13, 14))
    assert list(key_points(pose)) == [3, 6, 15]
    scores = np.full((20, 20), 0.9)
    scores[:4] = 0.2
    assert list(key_points(pose_of(walk(20), scores))) == [4, 5, 10, 15]
    assert key_points(pose_of(walk(20), np.full((20, 20), 0.2))) == {}
    assert list(key_points(pose_of(walk(20)))) == key_frames(20)


def test_poses_of_frames_without_a_person_are_not_pointed_at():
    pose = pose_of(walk(10))
    guessed = replace(pose, misses=(0, 1, 4))  # sure joints, but of whatever was in the way
    assert list(key_points(guessed)) == [2, 5, 6, 8]


# ---- rules for misses ----


class Fixed:
    """A segmenter that gives prepared masks."""

    note = None

    def __init__(self, masks):
        self.masks = masks

    def segment(self, frames, pose, advance):
        for _ in frames:
            advance()
        return self.masks


def test_frames_without_a_mask_are_listed_in_one_warning():
    frames, masks = video(walk(8))
    masks[[2, 3, 4, 6]] = 0
    reporter = Notes()
    result = segment_person(torch.from_numpy(frames), pose_of(walk(8)), Fixed(masks), reporter)
    assert result.misses == (2, 3, 4, 6)
    assert result.masks.dtype == torch.uint8
    assert torch.equal(result.masks, torch.from_numpy(masks))
    assert len(reporter.notes) == 1
    assert "No mask in 4 of 8 frames (2-4, 6)." in reporter.notes[0]
    assert "stay as in the driving video" in reporter.notes[0]
    assert reporter.done == list(range(1, 9))


def test_nothing_is_said_when_every_frame_has_a_mask():
    frames, masks = video(walk(3))
    reporter = Notes()
    assert segment_person(frames, pose_of(walk(3)), Fixed(masks), reporter).misses == ()
    assert reporter.notes == []


def test_no_person_in_any_frame_is_an_error():
    frames, masks = video(walk(3))
    with pytest.raises(InputError, match="found no person in any frame"):
        segment_person(frames, pose_of(walk(3), misses=(0, 1, 2)), Fixed(masks), Silent())
    with pytest.raises(InputError, match="could not be segmented in any frame"):
        segment_person(frames, pose_of(walk(3)), Fixed(masks * 0), Silent())


@pytest.mark.parametrize(
    ("frames", "pose"),
    [
        (np.zeros((3, HEIGHT, WIDTH, 3), np.uint8), pose_of(walk(2))),
        (np.zeros((3, WIDTH, HEIGHT, 3), np.uint8), pose_of(walk(3))),
        (np.zeros((3, HEIGHT, WIDTH, 3), np.float32), pose_of(walk(3))),
        (np.zeros((3, HEIGHT, WIDTH), np.uint8), pose_of(walk(3))),
    ],
)
def test_frames_and_poses_that_do_not_belong_together_are_an_error(frames, pose):
    with pytest.raises(GeometryError):
        segment_person(frames, pose, Fixed(None), Silent())


# ---- GrabCut ----


def test_grabcut_finds_a_moving_puppet():
    points = walk()
    frames, truth = video(points)
    reporter = Notes()
    result = segment_person(frames, pose_of(points), GrabCut(), reporter)
    for mask, wanted in zip(result.masks.numpy(), truth, strict=True):
        assert overlap(mask, wanted) > 0.9
    assert set(np.unique(result.masks)) == {0, 1}
    assert reporter.done == list(range(1, 7))
    assert len(reporter.notes) == 1
    assert "a fallback without weights" in reporter.notes[0]


def test_grabcut_takes_the_chosen_person_of_two():
    points = walk(4)
    other = FIGURE + np.array((130, 20))
    frames, truth = video(points, other=other)
    theirs = np.zeros((HEIGHT, WIDTH), np.uint8)
    draw(other, (1, 1, 1), np.zeros((HEIGHT, WIDTH, 3), np.uint8), theirs)
    result = segment_person(frames, pose_of(points), GrabCut(), Silent()).masks.numpy()
    for mask, wanted in zip(result, truth, strict=True):
        assert overlap(mask, wanted) > 0.9
        assert not (mask & theirs).any()


def test_grabcut_carries_the_mask_through_frames_without_a_pose():
    points = walk(10, step=3)
    frames, truth = video(points)
    pose = pose_of(points, misses=(0, 1, 4, 5, 9))
    result = segment_person(frames, pose, GrabCut(), Silent())
    assert result.misses == ()
    for mask, wanted in zip(result.masks.numpy(), truth, strict=True):
        assert overlap(mask, wanted) > 0.85


def test_grabcut_starts_from_a_box_given_by_hand():
    points = walk(5, step=3)
    frames, truth = video(points)
    rows, columns = np.nonzero(truth[0])
    box = columns.min() - 3, rows.min() - 3, columns.max() + 3, rows.max() + 3
    pose = track_from_box(box, 5, WIDTH, HEIGHT)
    result = segment_person(frames, pose, GrabCut(), Silent())
    for mask, wanted in zip(result.masks.numpy(), truth, strict=True):
        assert overlap(mask, wanted) > 0.9


def test_grabcut_uses_the_box_where_no_joint_is_sure():
    points = walk(3)
    frames, truth = video(points)
    result = segment_person(frames, pose_of(points, scores=0.1), GrabCut(), Silent())
    assert overlap(result.masks[0], truth[0]) > 0.85


def test_grabcut_gives_the_same_mask_every_time():
    points = walk(3)
    frames, _ = video(points)
    # so many colours that the clusters depend on where they start
    noise = np.random.default_rng(3).integers(0, 120, frames.shape)
    frames = np.clip(frames.astype(int) + noise - 60, 0, 255).astype(np.uint8)
    masks = []
    for seed in (7, 99):
        cv2.setRNGSeed(seed)
        masks.append(segment_person(frames, pose_of(points), GrabCut(), Silent()).masks)
    assert torch.equal(*masks)


def test_grabcut_keeps_what_the_pose_is_sure_of():
    points = walk(2)
    frames, _ = video(points)
    hips = int(points[0, Joint.RIGHT_HIP, 1])
    frames[:, hips + 5 :] = (70, 110, 120)  # trousers like the background
    result = segment_person(frames, pose_of(points), GrabCut(), Silent()).masks
    legs = [Joint.RIGHT_KNEE, Joint.LEFT_KNEE, Joint.RIGHT_ANKLE, Joint.LEFT_ANKLE]
    for mask, joints in zip(result, points[:, legs].astype(int), strict=True):
        assert all(mask[y, x] for x, y in joints)


def test_grabcut_sees_hands_in_gloves():
    points = walk(2)
    frames, _ = video(points)
    gloves = np.random.default_rng(1).uniform((9, 11), (19, 21), (2, 21, 2))
    hands = np.full((2, 21, 3), 0.9, np.float32)
    hands[..., :2] = (points[:, None, Joint.LEFT_WRIST] + gloves) / (WIDTH, HEIGHT)
    middle = (points[:, Joint.LEFT_WRIST] + (14, 16)).astype(int)
    for frame, (x, y) in zip(frames, middle, strict=True):
        cv2.circle(frame, (int(x), int(y)), 7, (80, 120, 130), -1)  # close to the background
    pose = replace(pose_of(points), left_hand=hands)
    result = segment_person(frames, pose, GrabCut(), Silent()).masks
    assert all(mask[y, x] for mask, (x, y) in zip(result, middle, strict=True))
    blank = segment_person(frames, pose_of(points), GrabCut(), Silent()).masks
    assert not any(mask[y, x] for mask, (x, y) in zip(blank, middle, strict=True))


def test_grabcut_from_a_box_beside_the_same_colours():
    points = walk(1)
    frames, truth = video(points)
    draw(FIGURE + np.array((75, 20)), (200, 60, 40), frames[0])
    draw(FIGURE + np.array((125, 20)), (200, 60, 40), frames[0])
    rows, columns = np.nonzero(truth[0])
    box = columns.min(), rows.min(), columns.max(), rows.max()
    pose = track_from_box(box, 1, WIDTH, HEIGHT)
    result = segment_person(frames, pose, GrabCut(), Silent()).masks[0].numpy()
    assert (result & truth[0]).sum() > 0.25 * truth[0].sum()


def test_grabcut_keeps_its_mask_through_a_flash():
    points = walk(3, step=0)
    frames, truth = video(points)
    frames[1] = 255
    result = segment_person(frames, pose_of(points, misses=(1,)), GrabCut(), Silent())
    assert overlap(result.masks[1], truth[1]) > 0.5


def test_grabcut_drops_specks_and_closes_small_holes():
    mask = np.zeros((60, 60), bool)
    mask[10:50, 10:40] = True  # 1200 pixels
    mask[20:23, 20:25] = False  # a hole of 15
    mask[30:40, 20:30] = False  # a gap of 100
    mask[5:8, 50:53] = True  # a speck of 9
    mask[50:53, 52:55] = True  # and one that a limb runs through
    sure = np.zeros_like(mask)
    sure[51, 53] = True
    clean = grabcut._clean(mask, sure)
    assert clean[20:23, 20:25].all()
    assert not clean[31:39, 21:29].any()
    assert not clean[5:8, 50:53].any()
    assert clean[50:53, 52:55].all()


def test_grabcut_works_on_large_frames_and_at_the_border():
    points = walk(2, start=(-15, 45))
    frames, truth = video(points)
    large = np.stack([cv2.resize(frame, (WIDTH * 6, HEIGHT * 6)) for frame in frames])
    pose = pose_of(points * 6, size=(WIDTH * 6, HEIGHT * 6))
    result = segment_person(large, pose, GrabCut(), Silent())
    wanted = cv2.resize(truth[1], (WIDTH * 6, HEIGHT * 6))
    assert overlap(result.masks[1], wanted) > 0.85


def test_grabcut_survives_a_box_around_everything_and_a_single_colour():
    frames = np.full((2, HEIGHT, WIDTH, 3), 90, np.uint8)
    pose = track_from_box((0, 0, WIDTH, HEIGHT), 2, WIDTH, HEIGHT)
    assert segment_person(frames, pose, GrabCut(), Silent()).masks.shape == (2, HEIGHT, WIDTH)


@pytest.mark.parametrize("box", [(50, 10, 50, 90), (60, 10, 50, 90), (300, 10, 320, 90)])
def test_box_that_holds_nothing_is_an_error(box):
    with pytest.raises(InputError, match="box of the person"):
        track_from_box(box, 3, WIDTH, HEIGHT)


# ---- SAM2, a random miniature of the real class ----

SIDE = 128
BACKBONE = {
    "model_type": "sam2_hiera_det_model",
    "hidden_size": 8,
    "num_attention_heads": 1,
    "image_size": [SIDE, SIDE],
    "blocks_per_stage": [1, 1, 2, 1],
    "embed_dim_per_stage": [8, 16, 32, 64],
    "num_attention_heads_per_stage": [1, 1, 2, 2],
    "window_size_per_stage": [4, 4, 4, 4],
    "global_attention_blocks": [3],
}
VISION = {
    "model_type": "sam2_vision_model",
    "backbone_config": BACKBONE,
    "backbone_channel_list": [64, 32, 16, 8],
    "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
    "fpn_hidden_size": 128,
}
MEMORY = {
    "memory_attention_hidden_size": 128,
    "memory_attention_num_layers": 1,
    "memory_attention_feed_forward_hidden_size": 32,
    "memory_attention_rope_feat_sizes": [8, 8],
    "memory_encoder_hidden_size": 128,
    "mask_downsampler_embed_dim": 128,
    "memory_fuser_embed_dim": 128,
    "memory_fuser_intermediate_dim": 32,
    "memory_fuser_num_layers": 1,
    "num_maskmem": 3,
    "max_object_pointers_in_encoder": 4,
}


@pytest.fixture(scope="module")
def tiny_sam(tmp_path_factory):
    from transformers import Sam2VideoConfig, Sam2VideoMaskDecoderConfig, Sam2VideoModel

    torch.manual_seed(0)
    decoder = {"hidden_size": 128, "mlp_dim": 32, "num_attention_heads": 2}
    prompts = {"hidden_size": 128, "image_size": SIDE, "patch_size": 16, "mask_input_channels": 4}
    config = Sam2VideoConfig(
        vision_config=VISION,
        prompt_encoder_config=prompts,
        mask_decoder_config=Sam2VideoMaskDecoderConfig(**decoder, iou_head_hidden_dim=16),
        image_size=SIDE,
        **MEMORY,
    )
    model = Sam2VideoModel(config).eval()
    with torch.no_grad():
        # A random model mostly says that it sees nothing, which would make every mask empty.
        model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(10)
        for name, parameter in model.named_parameters():
            if "memory" in name or "output_hypernetworks" in name:
                parameter.mul_(3)
    folder = tmp_path_factory.mktemp("models") / "sam2-hiera-tiny"
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def sam(tiny_sam):
    return Sam2(tiny_sam, DevicePlacement("cpu"))


def stock_masks(folder, frames, prompts):
    """The same with everything in memory, through the class's own loop and nothing forgotten."""
    from PIL import Image
    from transformers import Sam2VideoModel
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    model = Sam2VideoModel.from_pretrained(folder, local_files_only=True).eval()
    mean = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
    std = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)
    pixels = torch.stack(
        [
            torch.from_numpy(np.array(Image.fromarray(f).resize((SIDE, SIDE)))).permute(2, 0, 1)
            for f in frames
        ]
    )
    height, width = frames.shape[1:3]
    session = Sam2VideoInferenceSession(
        (pixels / 255 - mean) / std, height, width, dtype=torch.float32
    )
    index = session.obj_id_to_idx(1)
    for frame, points in prompts.items():
        coordinates = torch.tensor(points) * torch.tensor([SIDE / width, SIDE / height])
        labels = torch.ones(1, 1, len(points), dtype=torch.int32)
        session.add_point_inputs(
            index, frame, {"point_coords": coordinates[None, None], "point_labels": labels}
        )
        session.obj_with_new_inputs = [1]
        model(session, frame_idx=frame)
    return [
        functional.interpolate(out.pred_masks, (height, width), mode="bilinear")[0, 0]
        for out in model.propagate_in_video_iterator(session)
    ]


def run(sam, frames, pose):
    return segment_person(frames, pose, sam, Silent()).masks.numpy()


def test_sam2_does_what_the_stock_loop_does(sam, tiny_sam):
    points = walk(14)
    frames, _ = video(points)
    pose = pose_of(points)
    result = run(sam, frames, pose)
    logits = stock_masks(tiny_sam, frames, key_points(pose))
    expected = np.stack([(frame > 0).numpy() for frame in logits])
    assert 0.05 < expected.mean() < 0.95  # a comparison of empty masks would say nothing
    assert all(not np.array_equal(expected[0], later) for later in expected[1:])
    assert np.all(result >= expected)  # the stock loop leaves small holes open
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sam2, "_fill_holes", lambda logits: logits)
        assert np.array_equal(run(sam, frames, pose), expected)


def test_sam2_reports_every_frame_and_has_no_note(sam):
    frames, _ = video(walk(6))
    reporter = Notes()
    segment_person(frames, pose_of(walk(6)), sam, reporter)
    assert reporter.done == list(range(1, 7))
    assert reporter.notes == []


def test_sam2_is_pointed_at_the_chosen_person(sam, monkeypatch):
    from transformers.models.sam2_video import modeling_sam2_video as library

    told = {}
    add = library.Sam2VideoInferenceSession.add_point_inputs

    def record(session, person, frame, inputs):
        told[frame] = inputs["point_coords"][0, 0], inputs["point_labels"][0, 0]
        return add(session, person, frame, inputs)

    monkeypatch.setattr(library.Sam2VideoInferenceSession, "add_point_inputs", record)
    first, second = walk(8), walk(8, start=(130, 20), step=-2)
    frames, _ = video(first, other=second[0])
    masks = []
    for points in (first, second):
        told.clear()
        masks.append(run(sam, frames, pose_of(points)))
        assert list(told) == key_frames(8)
        for frame, (coordinates, labels) in told.items():
            assert torch.all(labels == 1)
            places = coordinates * torch.tensor([WIDTH / SIDE, HEIGHT / SIDE])
            joints = torch.tensor(points[frame, list(PROMPT_JOINTS)])
            assert (places - joints).abs().max() <= 1
    assert not np.array_equal(*masks)


def test_sam2_drops_unsure_points_before_the_model_sees_them(sam):
    points = walk(5)
    frames, _ = video(points)
    scores = np.full((5, 20), 0.9)
    scores[:, [Joint.RIGHT_ANKLE, Joint.LEFT_ANKLE]] = 0.1
    legless = points.copy()
    legless[:, [Joint.RIGHT_ANKLE, Joint.LEFT_ANKLE]] = (10, HEIGHT + 50)
    low, outside = run(sam, frames, pose_of(points, scores)), run(sam, frames, pose_of(legless))
    assert np.array_equal(low, outside)
    assert not np.array_equal(low, run(sam, frames, pose_of(points)))


def test_sam2_tracks_each_chunk_on_its_own(sam, monkeypatch):
    points = walk(11, step=2)
    frames, _ = video(points)
    pose = pose_of(points)
    monkeypatch.setattr(segment, "CHUNK_FRAMES", 6)
    whole = run(sam, frames, pose)
    halves = [
        run(sam, frames[part], select_frames(pose, list(range(11))[part]))
        for part in (slice(0, 6), slice(6, 11))
    ]
    assert np.array_equal(whole, np.concatenate(halves))
    monkeypatch.setattr(segment, "CHUNK_FRAMES", 400)
    assert not np.array_equal(whole, run(sam, frames, pose))


def test_sam2_tracks_back_to_frames_before_the_person_was_found(sam):
    points = walk(12)
    frames, _ = video(points)
    result = segment_person(frames, pose_of(points, misses=(0, 1, 2, 3, 4)), sam, Silent())
    assert result.masks[:5].any()


def test_sam2_chunk_without_the_person_has_no_mask(sam, monkeypatch):
    points = walk(8)
    frames, _ = video(points)
    monkeypatch.setattr(segment, "CHUNK_FRAMES", 4)
    reporter = Notes()
    result = segment_person(frames, pose_of(points, misses=(4, 5, 6, 7)), sam, reporter)
    assert result.misses == (4, 5, 6, 7)
    assert reporter.done == list(range(1, 9))
    assert "4-7" in reporter.notes[0]


def test_sam2_keeps_only_what_the_model_still_reads(sam, monkeypatch):
    frames, _ = video(walk(30, step=2))
    sizes = []
    forget = sam2._forget

    def watch(outputs, frame, config):
        forget(outputs, frame, config)
        kept = [*outputs["non_cond_frame_outputs"].values()]
        kept += outputs["cond_frame_outputs"].values()
        sizes.append((len(kept), sum("high_res_masks" in one for one in kept)))

    monkeypatch.setattr(sam2, "_forget", watch)
    run(sam, frames, pose_of(walk(30, step=2)))
    most, large = np.max(sizes, axis=0)
    assert most <= 5 + 4 + 1  # key frames, the reach of its memory, the frame itself
    assert large == 0


def test_frames_are_prepared_when_they_are_looked_at():
    frames = np.random.default_rng(0).integers(0, 255, (3, 20, 30, 3), np.uint8)
    squashed = sam2._SquashedFrames(frames, 8)
    assert len(squashed) == 3
    assert squashed[1].shape == (3, 8, 8)
    white = sam2._SquashedFrames(np.full((1, 20, 30, 3), 255, np.uint8), 8)[0]
    expected = (1 - torch.tensor((0.485, 0.456, 0.406))) / torch.tensor((0.229, 0.224, 0.225))
    assert torch.allclose(white[:, 3, 3], expected)


def test_holes_of_up_to_eight_pixels_are_filled():
    logits = torch.full((1, 1, 16, 16), 5.0)
    logits[0, 0, 2:4, 2:6] = -3  # 8 pixels
    logits[0, 0, 8:11, 8:11] = -3  # 9 pixels
    filled = sam2._fill_holes(logits)[0, 0]
    assert torch.all(filled[2:4, 2:6] > 0)
    assert torch.all(filled[8:11, 8:11] < 0)
    assert torch.equal(filled[12:], logits[0, 0, 12:])
    speck = torch.full((1, 1, 16, 16), -5.0)
    speck[0, 0, 2, 2:5] = 7  # a small mask is no hole
    assert torch.equal(sam2._fill_holes(speck), speck)


def test_cancelling_stops_sam2_at_the_next_frame(sam):
    class StopError(Exception):
        pass

    class Cancels(Notes):
        def update(self, done, preview=None):
            super().update(done)
            if done == 3:
                raise StopError

    reporter = Cancels()
    with pytest.raises(StopError):
        segment_person(video(walk(8))[0], pose_of(walk(8)), sam, reporter)
    assert reporter.done == [1, 2, 3]


def test_sam2_weights_are_read_on_first_use(tiny_sam):
    lazy = Sam2(tiny_sam, DevicePlacement("cpu"))
    assert not lazy._part.is_loaded
    run(lazy, video(walk(2))[0], pose_of(walk(2)))
    assert lazy._part.is_loaded


# ---- wrong SAM2 folders ----


def copied(folder, tmp_path):
    target = tmp_path / "sam"
    shutil.copytree(folder, target)
    return target


def test_missing_sam2_folder_names_download_and_fallback(tmp_path):
    with pytest.raises(MissingFileError) as error:
        Sam2(tmp_path / "nowhere", DevicePlacement("cpu"))
    assert "facebook/sam2-hiera-large" in error.value.fix
    assert "GrabCut" in error.value.fix


def test_the_authors_checkpoint_is_refused_with_the_folder_to_use(tmp_path):
    checkpoint = tmp_path / "sam2_hiera_large.pt"
    checkpoint.write_bytes(b"PK")
    for path in (checkpoint, tmp_path):
        with pytest.raises(ModelError, match=r"sam2_hiera_large\.pt") as error:
            Sam2(path, DevicePlacement("cpu"))
        assert "facebook/sam2-hiera-large" in error.value.fix
        assert "config.json" in error.value.fix


def test_other_model_is_refused(tmp_path):
    for content, kind in (('{"model_type": "sam2"}', "'sam2'"), ("[]", "'unreadable'")):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(ModelError, match=f"is of type {kind}"):
            Sam2(tmp_path, DevicePlacement("cpu"))


def test_sam2_folder_without_weights_is_incomplete(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "sam2_video"}))
    with pytest.raises(MissingFileError, match="no safetensors"):
        Sam2(tmp_path, DevicePlacement("cpu"))


def test_sam2_with_missing_tensors_is_refused_instead_of_guessed(tiny_sam, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = copied(tiny_sam, tmp_path)
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    tensors.pop("memory_temporal_positional_encoding")
    save_file(tensors, weights, {"format": "pt"})
    segmenter = Sam2(folder, DevicePlacement("cpu"))
    with pytest.raises(ModelError, match="lacks 1 tensors of SAM2"):
        run(segmenter, video(walk(2))[0], pose_of(walk(2)))


def test_damaged_sam2_weights_are_an_error_of_the_file(tiny_sam, tmp_path):
    folder = copied(tiny_sam, tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:50])
    with pytest.raises(ModelError, match="cannot be read from 'sam'"):
        run(Sam2(folder, DevicePlacement("cpu")), video(walk(2))[0], pose_of(walk(2)))


def test_old_transformers_without_sam2_is_an_unavailable_feature(tiny_sam, monkeypatch):
    import transformers

    monkeypatch.delitem(transformers.__dict__, "Sam2VideoModel", raising=False)
    monkeypatch.setattr(
        transformers, "_class_to_module", {
            name: module
            for name, module in transformers._class_to_module.items()
            if name != "Sam2VideoModel"
        },
    )  # fmt: skip
    with pytest.raises(UnavailableError, match="has no SAM2 for videos"):
        Sam2(tiny_sam, DevicePlacement("cpu"))
