"""Our nodes in one graph with core's and VideoHelperSuite's, on every ComfyUI found."""

import av
import numpy as np
import pytest
from host.hosts import find_checkouts, find_pack
from host.real_host import RealHost
from PIL import Image
from puppet_video import write_video
from rife_weights import fill, shapes, write
from shipped_graphs import api
from wan_local.wan.tiny.puppet import Puppet, draw_puppets

VHS = find_pack("ComfyUI-VideoHelperSuite")
FRAMES, WIDTH, HEIGHT, RATE = 9, 288, 416, 8
TINY = "tiny (knows only the drawn puppet, for tests)"
pytestmark = [
    pytest.mark.comfy,
    pytest.mark.skipif(not find_checkouts(), reason="no ComfyUI checkout found"),
]


@pytest.fixture(scope="module", params=find_checkouts(), ids=lambda path: path.name)
def beside(request):
    """A ComfyUI with our pack and, where it is found, VideoHelperSuite."""
    host = RealHost(request.param, others=[VHS] if VHS else [])
    yield host
    host.close()


@pytest.fixture(scope="module")
def video(beside, tmp_path_factory):
    """A driving video with sound in the host's input folder; its name."""
    figure = Puppet(shoulders=0.3, hand=0.03, foot=0.03, outline=3)
    puppet = draw_puppets(FRAMES, WIDTH, HEIGHT, (figure,), background=(200, 60, 30))
    path = tmp_path_factory.mktemp("drive") / "drive.mp4"
    return beside.put_input(write_video(path, puppet.frames, rate=RATE, sound=True))


@pytest.fixture
def vhs(beside):
    """Skips where VideoHelperSuite is not there."""
    if not VHS:
        pytest.skip("ComfyUI-VideoHelperSuite is not in COMFYUI_PACKS or ~/comfy")
    if "VHS_VideoCombine" not in beside.object_info():
        pytest.fail(f"VideoHelperSuite did not load:\n{beside.log()[-3000:]}")


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def loading(name):
    """VideoHelperSuite reads the file; its frames and sound become our driving video."""
    caps = {"frame_load_cap": 0, "skip_first_frames": 0, "select_every_nth": 1}
    size = {"force_rate": 0, "custom_width": 0, "custom_height": 0}
    return {
        "load": node("VHS_LoadVideo", video=name, **size, **caps),
        "video": node("CreateVideo", images=["load", 0], audio=["load", 2], fps=float(RATE)),
        **measuring(["video", 0]),
    }


def measuring(source):
    size = {"size_mode": "source size", "width": 320, "height": 192}
    choice = {"person": "largest", "person_index": 0, "point_x": 0.5, "point_y": 0.5}
    read = node(
        "WanLocalReadDrivingVideo", video=source, fps=-1, start_frame=0, frame_limit=0, **size
    )
    given = {"driving": ["read", 0], "pose_model": ["models", 0]}
    return {
        "read": read,
        "models": node("WanLocalPoseModelLoader", detector=TINY, pose=TINY, device="cpu"),
        "pose": node("WanLocalPoseExtract", **given, **choice, smoothing=0.0, min_score=0.0),
    }


def combined(images, name, **more):
    """VideoHelperSuite writes the file."""
    given = {"frame_rate": RATE, "loop_count": 0, "filename_prefix": name, "pingpong": False}
    codec = {"format": "video/h264-mp4", "pix_fmt": "yuv420p", "crf": 10, "save_metadata": True}
    return node("VHS_VideoCombine", images=images, save_output=True, **given, **codec, **more)


def run(host, graph):
    result = host.run(graph)
    if result.status == "error" and "onnxruntime" in result.error:
        pytest.skip(f"{host.name} has no onnxruntime")
    assert result.status == "success", result.error
    return result


def frames(paths):
    """[T, H, W, 3] uint8 of the pictures, or of the last video among the files."""
    if paths[0].suffix == ".png" and all(path.suffix == ".png" for path in paths):
        return np.stack([np.asarray(Image.open(path)) for path in paths])
    (path,) = [path for path in paths if path.suffix == ".mp4"][-1:]
    with av.open(str(path)) as file:
        return np.stack([f.to_ndarray(format="rgb24") for f in file.decode(video=0)])


def saved(host, graph, output, name):
    """An image output, as core's Save Image writes it."""
    saving = node("SaveImage", images=output, filename_prefix=name)
    return frames(run(host, {**graph, "save": saving}).outputs)


def close(found, expected, levels):
    """Video codecs move colours; the mean difference stays below so many levels of 255."""
    return np.abs(found.astype(int) - expected.astype(int)).mean() < levels


def test_frames_sound_and_poses_through_videohelpersuite(beside, vhs, video):
    graph = loading(video)
    graph["draw"] = node("WanLocalPoseDraw", pose=["pose", 0], driving=["read", 0])
    expected = saved(beside, graph, ["draw", 1], "overlay")
    graph["save"] = combined(["draw", 1], "vhs_overlay", audio=["read", 1])
    made = run(beside, graph).outputs
    assert close(frames(made), expected, 4)
    sound = [path for path in made if path.suffix == ".mp4"][-1]
    with av.open(str(sound)) as file:
        assert float(file.duration / av.time_base) == pytest.approx(FRAMES / RATE, abs=0.15)
        heard = np.concatenate([f.to_ndarray()[0] for f in file.decode(audio=0)])
    # VideoHelperSuite fills up with silence: the tone must last to the end.
    parts = [np.abs(part).mean() for part in np.array_split(heard[: heard.size * 9 // 10], 8)]
    assert min(parts) > 0.3


def test_frames_of_core_and_of_videohelpersuite_give_the_same_pose(beside, vhs, video):
    core = {"file": node("LoadVideo", file=video), **measuring(["file", 0])}
    drawn = []
    for graph in (core, loading(video)):
        graph["draw"] = node("WanLocalPoseDraw", pose=["pose", 0])
        drawn.append(saved(beside, graph, ["draw", 0], "pose"))
    assert close(drawn[0], drawn[1], 2) and drawn[0].any()


def test_our_frames_are_written_by_videohelpersuite(beside, vhs):
    graph = api("wan_i2v_mini")
    names = {n["class_type"]: key for key, n in graph.items()}
    graph[names["WanLocalSampler"]]["inputs"]["num_inference_steps"] = 2
    expected = saved(beside, graph, [names["WanLocalDecode"], 0], "ours")
    graph[names["WanLocalSaveVideo"]] = combined([names["WanLocalDecode"], 0], "vhs_ours")
    assert close(frames(run(beside, graph).outputs), expected, 4)


def test_masks_of_core_and_videohelpersuite_go_in_and_ours_come_out(beside, vhs, video):
    """A mask that others draw and grow is dilated by us, and others invert and select of ours."""
    graph = {"file": node("LoadVideo", file=video), **measuring(["file", 0])}
    graph["drawn"] = node("SolidMask", value=1.0, width=64, height=96)
    graph["empty"] = node("SolidMask", value=0.0, width=WIDTH, height=HEIGHT)
    place = {"x": 100, "y": 120, "operation": "add"}
    graph["mask"] = node("MaskComposite", destination=["empty", 0], source=["drawn", 0], **place)
    graph["grown"] = node("GrowMask", mask=["mask", 0], expand=8, tapered_corners=False)
    graph["all"] = node("VHS_DuplicateMasks", mask=["grown", 0], multiply_by=FRAMES)
    blocks = {"mask_w_subdivisions": 1, "mask_h_subdivisions": 1}
    size = {"mask_kernel_size": 7, "mask_iterations": 2}
    graph["wide"] = node(
        "WanLocalMaskDilate", mask=["all", 0], driving=["read", 0], **size, **blocks
    )
    graph["every"] = node(
        "VHS_SelectEveryNthMask", mask=["wide", 0], select_every_nth=3, skip_first_masks=0
    )
    graph["turned"] = node("InvertMask", mask=["every", 0])
    graph["shown"] = node("MaskToImage", mask=["turned", 0])
    free = saved(beside, graph, ["shown", 0], "masks")[..., 0] > 127
    assert len(free) == 3
    rows, columns = np.where(~free[0])
    grown = 8 + 2 * 3  # by core, then 7 pixels wide twice by ours
    assert (rows.min(), rows.max()) == (120 - grown, 120 + 96 - 1 + grown)
    assert (columns.min(), columns.max()) == (100 - grown, 100 + 64 - 1 + grown)


def test_poses_go_to_cores_own_drawing_and_back(beside, video):
    """OpenPose keypoints, the format that core and other packs share."""
    if "SDPoseDrawKeypoints" not in beside.object_info():
        pytest.skip("this ComfyUI has no node of its own for keypoints")
    graph = {"file": node("LoadVideo", file=video), **measuring(["file", 0])}
    which = {"draw_body": True, "draw_hands": False, "draw_face": False, "draw_feet": False}
    size = {"stick_width": 4, "face_point_size": 3, "score_threshold": 0.1, "draw_head": True}
    graph["core"] = node("SDPoseDrawKeypoints", keypoints=["pose", 1], **which, **size)
    graph["ours"] = node("WanLocalPoseDraw", pose=["back", 0])
    graph["back"] = node("WanLocalPoseFromKeypoints", pose_keypoints=["pose", 1])
    by_core = saved(beside, graph, ["core", 0], "core").max(-1) > 60
    by_us = saved(beside, graph, ["ours", 0], "ours").max(-1) > 60
    assert by_core.shape == by_us.shape == (FRAMES, HEIGHT, WIDTH)
    for theirs, mine in zip(by_core, by_us, strict=True):
        # Sticks differ in width, and only ours has feet and hands: core's lie on ours.
        assert theirs.sum() > 500 and (theirs & near(mine)).sum() / theirs.sum() > 0.95


def near(mask, pixels=6):
    """Grown by a few pixels."""
    import cv2

    side = 2 * pixels + 1
    return cv2.dilate(mask.astype(np.uint8), np.ones((side, side))) > 0


def test_one_rife_file_serves_core_and_us(beside, video):
    if "FrameInterpolate" not in beside.object_info():
        pytest.skip("this ComfyUI has no frame interpolation of its own")
    folder = beside.models_dir / "frame_interpolation"
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "rife_v4.26.safetensors", fill(shapes("4.25"), 0.6))
    size = {"width": 256, "height": 384, "crop": "disabled"}
    graph = {
        "file": node("LoadVideo", file=video),
        "images": node("GetVideoComponents", video=["file", 0]),
        "some": node("ImageFromBatch", image=["images", 0], batch_index=0, length=3),
        # What is added at the border differs: here there is nothing to add.
        "few": node("ImageScale", image=["some", 0], upscale_method="bilinear", **size),
        "theirs": node("FrameInterpolationModelLoader", model_name="rife_v4.26.safetensors"),
        "core": node(
            "FrameInterpolate", interp_model=["theirs", 0], images=["few", 0], multiplier=2
        ),
        "loader": node("WanLocalRifeLoader", rife_name="rife_v4.26.safetensors"),
        "ours": node(
            "WanLocalRifeInterpolate",
            rife=["loader", 0],
            frames=["few", 0],
            factor=2,
            fps=8.0,
            motion_scale="1.0",
        ),
    }
    by_core = saved(beside, graph, ["core", 0], "rife_core")
    by_us = saved(beside, graph, ["ours", 0], "rife_ours")
    assert by_core.shape == by_us.shape == (5, 384, 256, 3)
    assert np.abs(by_us.astype(int) - by_core.astype(int)).max() <= 1
