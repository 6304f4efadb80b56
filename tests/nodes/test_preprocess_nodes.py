"""The nodes of the preprocess room, alone and together, on every host; the puppet is the person."""

import copy
import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from puppet_video import write_video
from wan_local.wan.tiny.puppet import Puppet, draw_puppets

ROOT = Path(__file__).resolve().parents[2]
TINY = "tiny (knows only the drawn puppet, for tests)"
GRABCUT = "GrabCut (fallback, no weights)"
FRAMES, WIDTH, HEIGHT = 6, 288, 416
OURS = {
    "WanLocalPoseModelLoader",
    "WanLocalReadDrivingVideo",
    "WanLocalDrivingFrames",
    "WanLocalPoseExtract",
    "WanLocalPoseFromKeypoints",
    "WanLocalPoseDraw",
    "WanLocalFaceCrop",
    "WanLocalSegmentPerson",
    "WanLocalMaskDilate",
}


@pytest.fixture(scope="module")
def puppet():
    # Hands and feet as small as a person's: GrabCut loses the usual balls, which are all colours.
    figure = Puppet(shoulders=0.3, hand=0.03, foot=0.03, outline=3)
    return draw_puppets(FRAMES, WIDTH, HEIGHT, (figure,), background=(200, 60, 30))


@pytest.fixture
def put_video(host, tmp_path):
    """Puts frames into the host's input folder under a name of their own."""

    def put(name, frames, **options):
        return host.put_input(write_video(tmp_path / name, frames, **options))

    return put


@pytest.fixture
def graph(put_video, puppet):
    """From a file to poses; each test adds what it looks at."""
    return reading(put_video("puppet.mp4", puppet.frames))


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def reading(name):
    size = {"size_mode": "source size", "width": 320, "height": 192}
    size |= {"start_frame": 0, "frame_limit": 0}
    choice = {"person": "largest", "person_index": 0, "point_x": 0.5, "point_y": 0.5}
    return {
        "file": node("LoadVideo", file=name),
        "read": node("WanLocalReadDrivingVideo", video=["file", 0], fps=-1, **size),
        "models": node("WanLocalPoseModelLoader", detector=TINY, pose=TINY, device="cpu"),
        "pose": node(
            "WanLocalPoseExtract",
            driving=["read", 0],
            pose_model=["models", 0],
            **choice,
            smoothing=0.0,
            min_score=0.0,
        ),
    }


def run(host, graph):
    result = host.run(graph)
    if result.status == "error" and "onnxruntime is not installed" in result.error:
        pytest.skip(f"{host.name} has no onnxruntime")
    return result


def pictures(host, graph, **wanted):
    """[T, H, W, 3] of each wanted image output, by name."""
    found = {}
    for name, output in wanted.items():
        graph = {**graph, "save": node("SaveImage", images=output, filename_prefix=f"pp_{name}")}
        result = run(host, graph)
        assert result.status == "success", result.error
        found[name] = np.stack([np.asarray(Image.open(path)) for path in result.outputs])
    return found


def masks(host, graph, output):
    """[T, H, W] bool of a mask output."""
    graph = {**graph, "seen": node("MaskToImage", mask=output)}
    return pictures(host, graph, mask=["seen", 0])["mask"][..., 0] > 127


def test_all_nodes_load_with_texts(host):
    info = host.object_info()
    assert info.keys() >= OURS
    for name in OURS:
        entry = info[name]
        assert entry["display_name"].startswith("Wan ") and entry["description"]
        given = [*entry["input"].get("required", {}).items()]
        given += entry["input"].get("optional", {}).items()
        assert all(spec[1].get("tooltip") for _, spec in given), name
        assert all(entry["output_tooltips"]) and len(entry["output_tooltips"]) > 0
    loader = info["WanLocalPoseModelLoader"]["input"]["required"]
    for kind in ("detector", "pose"):
        options = loader[kind][0] if loader[kind][0] != "COMBO" else loader[kind][1]["options"]
        assert TINY in options


def test_every_node_is_in_the_list_for_the_manager():
    assert json.loads((ROOT / "node_list.json").read_text("utf8")).keys() >= OURS


def test_onnx_files_of_detection_are_offered_with_their_sub_folders(host):
    folder = host.models_dir / "detection" / "wan"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vitpose-test.onnx").write_bytes(b"")
    (folder / "other.safetensors").write_bytes(b"")
    spec = host.object_info()["WanLocalPoseModelLoader"]["input"]["required"]["pose"]
    options = spec[0] if spec[0] != "COMBO" else spec[1]["options"]
    assert "wan/vitpose-test.onnx" in options and "wan/other.safetensors" not in options
    assert spec[1]["default"] == "wan/vitpose-test.onnx"
    (folder / "vitpose-test.onnx").unlink()


def test_a_folder_key_that_the_user_filled_keeps_its_folders(stand_in, tmp_path, monkeypatch):
    import folder_paths
    from wan_local.nodes import onnx_files

    own = tmp_path / "own"
    own.mkdir()
    (own / "yolo.onnx").write_bytes(b"")
    (own / "notes.txt").write_bytes(b"")
    known = dict(folder_paths.folder_names_and_paths)
    known["wan_onnx"], known["detection"] = ([str(own)], set()), ([str(tmp_path)], {".pt"})
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", known)
    assert onnx_files.onnx_choices() == ["own/yolo.onnx", "yolo.onnx", TINY]
    paths = known["wan_onnx"][0]
    assert paths[0] == str(own) and str(tmp_path) in paths
    assert onnx_files.onnx_choices() and known["wan_onnx"][0] == paths
    assert known["detection"] == ([str(tmp_path)], {".pt"})


def test_sam2_folders_come_before_the_fallback(stand_in):
    from wan_local.nodes.onnx_files import make_segmenter, segmenter_choices
    from wan_local.wan.errors import MissingFileError, ModelError

    folder = stand_in.models_dir / "sam2" / "sam2-large"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "clip"}', "utf8")
    assert segmenter_choices() == ["sam2-large", GRABCUT]
    with pytest.raises(ModelError, match="of type 'clip'"):
        make_segmenter("sam2-large")
    (folder / "config.json").unlink()
    assert segmenter_choices() == [GRABCUT]
    with pytest.raises(MissingFileError, match="sam2-large is not in models/sam2"):
        make_segmenter("sam2-large")


def test_the_frames_come_as_they_are_in_the_file(host, graph, puppet):
    graph = {"file": graph["file"], "read": graph["read"]}
    graph["frames"] = node("WanLocalDrivingFrames", driving=["read", 0])
    found = pictures(host, graph, frames=["frames", 0])["frames"]
    assert abs(found.astype(int) - puppet.frames).max() <= 1


def test_the_area_and_the_rate_are_those_of_the_node(host, put_video, puppet):
    graph = reading(put_video("sound.mp4", puppet.frames, sound=True))
    graph["read"]["inputs"].update(size_mode="area", width=208, height=208, fps=15)
    del graph["models"], graph["pose"]
    graph["frames"] = node("WanLocalDrivingFrames", driving=["read", 0])
    graph["video"] = node("CreateVideo", images=["frames", 0], fps=["read", 2], audio=["read", 1])
    target = {"filename_prefix": "pp_sound", "format": "auto", "codec": "auto"}
    graph["save"] = node("SaveVideo", video=["video", 0], **target)
    result = run(host, graph)
    assert result.status == "success", result.error
    with av.open(str(result.outputs[0])) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, float(stream.average_rate)) == (160, 240, 15)
        assert container.streams.audio and len(list(container.decode(stream))) == FRAMES // 2


def test_a_video_made_of_frames_needs_no_file(host, graph):
    graph["parts"] = node("GetVideoComponents", video=["file", 0])
    graph["made"] = node("CreateVideo", images=["parts", 0], fps=30.0)
    graph["read"]["inputs"]["video"] = ["made", 0]
    graph["draw"] = node("WanLocalPoseDraw", pose=["pose", 0])
    assert pictures(host, graph, pose=["draw", 0])["pose"].shape == (FRAMES, HEIGHT, WIDTH, 3)


def test_a_trimmed_file_is_not_read_as_a_whole(stand_in, tmp_path, puppet):
    from comfy_api.latest import InputImpl
    from wan_local.nodes.preprocess import is_trimmed

    video = InputImpl.VideoFromFile(str(write_video(tmp_path / "a.mp4", puppet.frames)))
    assert not is_trimmed(video)
    video._VideoFromFile__start_time = 0.1
    assert is_trimmed(video)
    video.get_active_trim_window = lambda: (0.0, 0.0)
    assert not is_trimmed(video)


def test_skeleton_and_overlay_of_the_puppet(host, graph, puppet):
    graph["draw"] = node("WanLocalPoseDraw", pose=["pose", 0], driving=["read", 0])
    found = pictures(host, graph, pose=["draw", 0], overlay=["draw", 1])
    assert found["pose"].shape == found["overlay"].shape == puppet.frames.shape
    drawn = found["pose"].any(axis=-1)
    assert drawn.any(axis=(1, 2)).all()
    assert (drawn & puppet.silhouettes[0]).sum() > 0.9 * drawn.sum()
    assert not (found["overlay"] == found["pose"]).all()
    assert (found["pose"][0] != found["pose"][-1]).any()


def test_without_a_driving_video_the_overlay_is_the_skeleton(host, graph):
    graph["draw"] = node("WanLocalPoseDraw", pose=["pose", 0])
    found = pictures(host, graph, pose=["draw", 0], overlay=["draw", 1])
    assert (found["pose"] == found["overlay"]).all()


def test_poses_go_through_keypoints_and_back(host, graph):
    graph["back"] = node("WanLocalPoseFromKeypoints", pose_keypoints=["pose", 1])
    graph["draw"] = node("WanLocalPoseDraw", pose=["pose", 0])
    graph["again"] = node("WanLocalPoseDraw", pose=["back", 0])
    found = pictures(host, graph, pose=["draw", 0], again=["again", 0])
    assert (found["pose"] != found["again"]).mean() < 0.01


def test_smoothing_and_threshold_change_the_pose(host, graph):
    graph["draw"] = node("WanLocalPoseDraw", pose=["pose", 0])
    plain = pictures(host, graph, pose=["draw", 0])["pose"]
    smooth, strict = copy.deepcopy(graph), copy.deepcopy(graph)
    smooth["pose"]["inputs"]["smoothing"] = 2.0
    strict["pose"]["inputs"]["min_score"] = 1.0
    assert (pictures(host, smooth, pose=["draw", 0])["pose"] != plain).any()
    assert pictures(host, strict, pose=["draw", 0])["pose"].astype(bool).sum() < plain.sum() / 2


@pytest.mark.parametrize("steady", [0.0, 2.0])
def test_the_face_is_512_pixels_wide(host, graph, steady):
    graph["face"] = node("WanLocalFaceCrop", driving=["read", 0], pose=["pose", 0], steady=steady)
    face = pictures(host, graph, face=["face", 0])["face"]
    assert face.shape == (FRAMES, 512, 512, 3)
    assert (face[..., 2] > 200).mean() > 0.3  # the head's blue


def segmenting(graph):
    given = {"driving": ["read", 0], "pose": ["pose", 0]}
    return {**graph, "mask": node("WanLocalSegmentPerson", **given, method=GRABCUT)}


def dilating(graph, source):
    subdivisions = {"mask_w_subdivisions": 5, "mask_h_subdivisions": 5}
    given = {"mask_kernel_size": 7, "mask_iterations": 3, **subdivisions}
    wide = node("WanLocalMaskDilate", mask=source, driving=["read", 0], **given)
    return {**graph, "wide": wide}


def test_the_mask_is_the_silhouette(stand_in, tmp_path, puppet):
    from wan_local.nodes.preprocess import WanLocalReadDrivingVideo as Read
    from wan_local.nodes.preprocess import WanLocalSegmentPerson as Segment

    driving, pose = measured(tmp_path, puppet, Read)
    found = Segment.execute(driving, pose, GRABCUT).result[0]
    assert str(found.dtype) == "torch.float32" and found.shape == puppet.silhouettes[0].shape
    mask = found.numpy() > 0.5
    both, either = mask & puppet.silhouettes[0], mask | puppet.silhouettes[0]
    assert both.sum() / either.sum() > 0.9


def measured(tmp_path, puppet, read):
    """A driving video and its pose, from the nodes without a graph around them."""
    from comfy_api.latest import InputImpl
    from wan_local.nodes.pose import WanLocalPoseExtract, WanLocalPoseModelLoader

    pytest.importorskip("onnxruntime")
    video = InputImpl.VideoFromFile(str(write_video(tmp_path / "a.mp4", puppet.frames)))
    driving, audio, fps = read.execute(video, -1, "source size", 1280, 720, 0, 0).result
    assert audio is None and fps == 30.0
    model = WanLocalPoseModelLoader.execute(TINY, TINY, "cpu").result[0]
    pose, _ = WanLocalPoseExtract.execute(driving, model, "index", 0, 0.5, 0.5, 0.0, 0.0).result
    return driving, pose


def test_segment_and_dilate_in_a_graph(host, graph, puppet):
    graph = dilating(segmenting(graph), ["mask", 0])
    found = pictures(host, graph, background=["wide", 1], shown=["wide", 2])
    person = puppet.silhouettes[0]
    black = (found["background"] == 0).all(axis=-1)
    assert (black & person).sum() > 0.97 * person.sum() and black.sum() > 1.2 * person.sum()
    assert black.mean() < 0.9
    assert abs(found["background"][~black].astype(int) - puppet.frames[~black]).max() <= 1
    assert abs(found["shown"][~black].astype(int) - puppet.frames[~black]).max() <= 1
    assert (found["shown"][black][:, 0] >= 126).all()


def test_the_masks_are_core_masks(host, graph, puppet):
    if "MaskToImage" not in host.object_info():
        pytest.skip("the stand-in has no core node for masks")
    graph = dilating(segmenting(graph), ["mask", 0])
    mask, grown = masks(host, graph, ["mask", 0]), masks(host, graph, ["wide", 0])
    assert (grown | mask == grown).all() and grown.sum() > 1.2 * mask.sum()
    both, either = mask & puppet.silhouettes[0], mask | puppet.silhouettes[0]
    assert both.sum() / either.sum() > 0.9


def test_one_mask_serves_all_frames_and_grows(stand_in, tmp_path, puppet):
    import torch
    from wan_local.nodes.preprocess import WanLocalMaskDilate, WanLocalReadDrivingVideo

    driving, _ = measured(tmp_path, puppet, WanLocalReadDrivingVideo)
    mask = torch.zeros(1, HEIGHT, WIDTH)
    mask[0, 100:200, 50:90] = 1
    grown, background, shown = WanLocalMaskDilate.execute(mask, driving, 7, 3, 1, 1).result
    assert grown.shape == (FRAMES, HEIGHT, WIDTH) and grown.sum() > FRAMES * mask.sum()
    assert background.dtype == shown.dtype == torch.float32
    assert background[grown.bool()].max() == 0 and 0 < shown[grown.bool()].max() <= 1
    assert float(mask.sum()) == 4000  # not changed


def test_a_mask_of_another_size_is_refused_in_words(stand_in, tmp_path, puppet):
    import torch
    from wan_local.nodes.preprocess import WanLocalMaskDilate, WanLocalReadDrivingVideo
    from wan_local.wan.errors import GeometryError

    driving, _ = measured(tmp_path, puppet, WanLocalReadDrivingVideo)
    with pytest.raises(GeometryError, match="64x64 and the video is 288x416"):
        WanLocalMaskDilate.execute(torch.ones(1, 64, 64), driving, 7, 3, 1, 1)


def test_a_pose_of_another_video_is_refused_in_words(host, graph, put_video, puppet):
    short = reading(put_video("short.mp4", puppet.frames[:3]))
    graph["file2"], graph["read2"] = short["file"], short["read"]
    graph["read2"]["inputs"]["video"] = ["file2", 0]
    for kind in ("WanLocalFaceCrop", "WanLocalPoseDraw"):
        more = {"steady": 0.0} if kind == "WanLocalFaceCrop" else {}
        graph["last"] = node(kind, driving=["read2", 0], pose=["pose", 0], **more)
        graph["save"] = node("PreviewImage", images=["last", 0])
        result = run(host, graph)
        assert result.status == "error" and "6 frames of 288x416" in result.error
        assert result.error_type == "GeometryError"


def test_a_part_of_the_video_is_read(host, graph, puppet):
    graph["read"]["inputs"].update(start_frame=2, frame_limit=3)
    graph["images"] = node("WanLocalDrivingFrames", driving=["read", 0])
    found = pictures(host, graph, frames=["images", 0])["frames"]
    assert abs(found.astype(int) - puppet.frames[2:5]).max() <= 1


def test_one_frame_is_enough(host, put_video, puppet):
    graph = dilating(segmenting(reading(put_video("one.mp4", puppet.frames[:1]))), ["mask", 0])
    graph["draw"] = node("WanLocalPoseDraw", pose=["pose", 0], driving=["read", 0])
    graph["face"] = node("WanLocalFaceCrop", driving=["read", 0], pose=["pose", 0], steady=1.0)
    wanted = {"overlay": ["draw", 1], "face": ["face", 0], "background": ["wide", 1]}
    assert {len(found) for found in pictures(host, graph, **wanted).values()} == {1}


def test_a_video_without_a_person_is_refused_in_words(host, put_video):
    grey = np.full((5, HEIGHT, WIDTH, 3), 128, np.uint8)
    graph = reading(put_video("grey.mp4", grey))
    graph["draw"] = node("WanLocalPoseDraw", pose=["pose", 0])
    graph["save"] = node("PreviewImage", images=["draw", 0])
    result = run(host, graph)
    assert result.status == "error" and "No person was found in any of the 5" in result.error
    assert result.error_type == "InputError" and result.error_node == "pose"


def test_frames_without_the_person_are_told_in_one_line(host, put_video, puppet, caplog):
    caplog.set_level("INFO", "wan_local")  # the stand-in logs in this process
    frames = puppet.frames.copy()
    frames[2:4] = frames[0, 0, 0]
    graph = reading(put_video("gap.mp4", frames))
    graph["draw"] = node("WanLocalPoseDraw", pose=["pose", 0])
    graph["save"] = node("PreviewImage", images=["draw", 0])
    seen = host.log().count("No person in 2 of 6 frames (2-3).")
    assert run(host, graph).status == "success"
    assert host.log().count("No person in 2 of 6 frames (2-3).") > seen


def test_a_missing_detector_is_named_before_anything_runs(host, graph):
    graph["models"]["inputs"]["detector"] = "gone.onnx"
    graph["draw"] = node("WanLocalPoseDraw", pose=["pose", 0])
    graph["save"] = node("PreviewImage", images=["draw", 0])
    assert "gone.onnx is not in models/detection" in json.dumps(host.validate(graph))


def test_interrupt_while_measuring_leaves_the_host_healthy(host, put_video, puppet):
    run(host, {**reading(put_video("warm.mp4", puppet.frames)), **PREVIEW})
    frames = np.concatenate([puppet.frames] * 40)
    graph = {**reading(put_video("long.mp4", frames)), **PREVIEW}

    def measuring(event):
        data = event["data"]
        return event["type"] == "progress" and data["node"] == "pose" and data["value"] > 0

    result = host.run_and_interrupt(graph, measuring)
    assert result.status == "interrupted" and result.outputs == []
    assert result.cancel_seconds < 2
    assert host.alive()
    graph["file"]["inputs"]["file"] = put_video("after.mp4", puppet.frames[:2])
    assert run(host, graph).status == "success"


PREVIEW = {
    "draw": node("WanLocalPoseDraw", pose=["pose", 0]),
    "save": node("PreviewImage", images=["draw", 0]),
}


def test_progress_rises_to_the_end(host, put_video, puppet):
    graph = {**reading(put_video("bar.mp4", puppet.frames[:4])), **PREVIEW}
    result = run(host, graph)
    assert result.status == "success", result.error
    for key in ("read", "pose", "draw"):
        steps = [value / total for value, total in result.progress[key]]
        assert steps == sorted(steps) and steps[-1] == 1, key
