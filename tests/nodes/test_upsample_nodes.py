"""The nodes of the upsample room, alone and together, on every host."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from rife_weights import fill, shapes, write

ROOT = Path(__file__).resolve().parents[2]
TINY = "tiny (random weights, for a try without a download)"
OURS = {"WanLocalRifeLoader", "WanLocalRifeInterpolate", "WanLocalLanczosResize"}
FRAMES, WIDTH, HEIGHT = 4, 71, 45  # odd on purpose


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def waves(count=FRAMES, width=WIDTH, height=HEIGHT):
    """[count, height, width, 3] uint8 of smooth waves that move a little."""
    t, y, x = np.mgrid[:count, :height, :width]
    planes = [np.sin(x / 9 + y / (20 + 9 * c) + t / 3) for c in range(3)]
    return (np.stack(planes, -1) * 100 + 128).round().astype(np.uint8)


@pytest.fixture
def put_frames(host, tmp_path):
    """Puts frames into the host, losslessly; gives the nodes that bring them as images."""

    def put(name, frames):
        path = tmp_path / f"{name}.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264rgb", rate=8, options={"qp": "0"})
            stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "rgb24"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        file = node("LoadVideo", file=host.put_input(path))
        return {"file": file, "images": node("GetVideoComponents", video=["file", 0])}

    return put


@pytest.fixture
def graph(put_frames):
    return put_frames("waves", waves())


def interpolating(graph, factor=2, name=TINY, **changes):
    given = {"factor": factor, "fps": 16.0, "motion_scale": "auto", **changes}
    return {
        **graph,
        "loader": node("WanLocalRifeLoader", rife_name=name),
        "more": node("WanLocalRifeInterpolate", rife=["loader", 0], frames=["images", 0], **given),
    }


def pictures(host, graph, output):
    """[T, H, W, 3] of an image output."""
    saved = node("SaveImage", images=output, filename_prefix="upsampled")
    result = host.run({**graph, "save": saved})
    assert result.status == "success", result.error
    return np.stack([np.asarray(Image.open(path)) for path in result.outputs]).astype(int)


def options(host):
    spec = host.object_info()["WanLocalRifeLoader"]["input"]["required"]["rife_name"]
    return (spec[0] if spec[0] != "COMBO" else spec[1]["options"]), spec[1]["default"]


@pytest.fixture
def put_weights(host):
    """Puts RIFE files below the host's base directory, and takes them away again."""
    made = []

    def put(place, tensors):
        path = host.base / place
        path.parent.mkdir(parents=True, exist_ok=True)
        made.append(path)
        return write(path, tensors)

    yield put
    for path in made:
        path.unlink()


def test_all_nodes_load_with_texts(host):
    info = host.object_info()
    assert info.keys() >= OURS
    categories = {info[name]["category"] for name in OURS}
    assert categories == {"wan/1 load", "wan/6 upsample"}
    assert info["WanLocalRifeLoader"]["output"] == ["WAN_RIFE"]
    assert info["WanLocalRifeInterpolate"]["output"] == ["IMAGE", "FLOAT"]


def test_every_node_is_in_the_list_for_the_manager():
    assert json.loads((ROOT / "node_list.json").read_text("utf8")).keys() >= OURS


@pytest.mark.parametrize("factor", [2, 3])
def test_frames_are_interpolated_and_the_given_ones_kept(host, graph, factor):
    found = pictures(host, interpolating(graph, factor), ["more", 0])
    assert found.shape == ((FRAMES - 1) * factor + 1, HEIGHT, WIDTH, 3)
    # SaveImage cuts off where 8 bits came back from floating point.
    assert abs(found[::factor] - waves()).max() <= 1
    steps = abs(np.diff(found, axis=0)).mean((1, 2, 3))
    assert (steps > 0.05).all()  # every frame is another one


def test_fps_is_multiplied_for_the_video(host, graph):
    graph = interpolating(graph, 3, fps=8.0)
    graph["bigger"] = node("WanLocalLanczosResize", frames=["more", 0], factor=2.0)
    graph["video"] = node("CreateVideo", images=["bigger", 0], fps=["more", 1])
    target = {"filename_prefix": "upsampled", "format": "auto", "codec": "auto"}
    graph["save"] = node("SaveVideo", video=["video", 0], **target)
    result = host.run(graph)
    assert result.status == "success", result.error
    with av.open(str(result.outputs[0])) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate) == 24
        assert (stream.width, stream.height) == (2 * WIDTH, 2 * HEIGHT)
        assert len(list(container.decode(stream))) == 10


def test_the_motion_scale_changes_the_frames_between(host, graph):
    whole, reduced = (
        pictures(host, interpolating(graph, motion_scale=scale), ["more", 0])
        for scale in ("1.0", "0.5")
    )
    assert (whole[1::2] != reduced[1::2]).any() and (whole[::2] == reduced[::2]).all()


@pytest.mark.parametrize("factor", [2.0, 1.5, 0.3])
def test_a_resized_image_is_that_of_pillow(host, tmp_path, factor):
    picture = Image.fromarray(waves(1)[0])
    picture.save(tmp_path / "wave.png")
    graph = {"image": node("LoadImage", image=host.put_input(tmp_path / "wave.png"))}
    graph["bigger"] = node("WanLocalLanczosResize", frames=["image", 0], factor=factor)
    size = int(WIDTH * factor), int(HEIGHT * factor)
    expected = np.asarray(picture.resize(size, Image.Resampling.LANCZOS))
    # SaveImage cuts off where 8 bits came back from floating point.
    assert abs(pictures(host, graph, ["bigger", 0])[0] - expected).max() <= 1


def test_one_frame_is_enough(host, put_frames):
    graph = interpolating(put_frames("one", waves(1)), 8)
    graph["bigger"] = node("WanLocalLanczosResize", frames=["more", 0], factor=2.0)
    assert pictures(host, graph, ["bigger", 0]).shape == (1, 2 * HEIGHT, 2 * WIDTH, 3)


PLACES = [
    "models/frame_interpolation/rife_v4.26.safetensors",
    "models/rife/train_log/flownet.pkl",
    "custom_nodes/comfyui-frame-interpolation/ckpts/rife/rife47.pth",
]


@pytest.mark.parametrize("place", PLACES)
def test_weights_are_offered_from_where_people_keep_them(host, graph, put_weights, place):
    put_weights(place, fill(shapes("small"), 0.6))
    listed, _ = options(host)
    name = next(n for n in listed if place.endswith(n))
    assert listed[-1] == TINY and name != TINY
    assert host.validate(looking(interpolating(graph, 2, name))) == {}
    own = pictures(host, interpolating(graph, 2, name), ["more", 0])
    tiny = pictures(host, interpolating(graph, 2), ["more", 0])
    assert (own[1::2] != tiny[1::2]).any() and (own[::2] == tiny[::2]).all()


def test_other_files_are_not_offered_and_rife_comes_first(host, put_weights):
    put_weights("models/frame_interpolation/a_film_net.pt", {"x": torch.zeros(1)})
    put_weights("models/frame_interpolation/rife_v4.26.safetensors", fill(shapes("small"), 0.6))
    put_weights("models/rife/notes.txt", {"x": torch.zeros(1)})
    listed, default = options(host)
    assert default == "rife_v4.26.safetensors" and "a_film_net.pt" in listed
    assert not any("notes" in name for name in listed)


def looking(graph):
    return {**graph, "save": node("PreviewImage", images=["more", 0])}


def test_a_missing_file_is_named_before_anything_runs(host, graph):
    answer = json.dumps(host.validate(looking(interpolating(graph, 2, "gone.pth"))))
    assert "gone.pth is not in models/frame_interpolation or models/rife" in answer


BROKEN = {
    "corrupt": (b"404: Not Found", "cannot be read"),
    "FILM": ({"extract.extract_sublevels.x": torch.zeros(1)}, "is a FILM model"),
    "unknown": ({"x": torch.zeros(1)}, "no RIFE network that is known here"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_file_that_cannot_be_used_is_named_before_anything_runs(host, graph, put_weights, case):
    content, expected = BROKEN[case]
    path = put_weights(f"models/rife/{case}.pth", content if isinstance(content, dict) else {})
    if isinstance(content, bytes):
        path.write_bytes(content)
    answer = json.dumps(host.validate(looking(interpolating(graph, 2, f"{case}.pth"))))
    assert expected in answer and f"{case}.pth" in answer and "rife_v4.26.safetensors" in answer


def test_a_changed_file_is_read_anew(host, graph, put_weights):
    place = "models/rife/rife_changes.pth"
    put_weights(place, fill(shapes("small"), 0.6))
    graph = interpolating(graph, 2, "rife_changes.pth")
    first = pictures(host, graph, ["more", 0])
    write(host.base / place, fill(shapes("small"), 0.9))
    assert (pictures(host, graph, ["more", 0]) != first).any()


def test_a_factor_that_version_3_does_not_reach_is_told(host, graph, put_weights):
    put_weights("models/rife/flownet.pkl", fill(shapes("3 HD"), 0.6))
    graph = interpolating(graph, 3, "flownet.pkl")
    result = host.run(looking(graph))
    assert result.status == "error" and "2, 4, 8" in result.error
    assert result.error_type == "InputError" and result.error_node == "more"
    graph["more"]["inputs"]["factor"] = 4
    assert len(pictures(host, graph, ["more", 0])) == 13


def test_a_cut_is_told_and_nothing_blended(host, put_frames, caplog):
    caplog.set_level("INFO", "wan_local")  # the stand-in logs in this process
    frames = np.concatenate((np.zeros_like(waves(2)), np.full_like(waves(2), 255)))
    seen = host.log().count("Scene cut after frame 1")
    found = pictures(host, interpolating(put_frames("cut", frames)), ["more", 0])
    assert (found[3] == found[2]).all()
    assert host.log().count("Scene cut after frame 1") > seen


def test_progress_rises_to_the_end(host, graph):
    graph = interpolating(graph, 4, fps=9.0)
    graph["bigger"] = node("WanLocalLanczosResize", frames=["more", 0], factor=1.25)
    result = host.run({**graph, "save": node("PreviewImage", images=["bigger", 0])})
    assert result.status == "success", result.error
    for key in ("more", "bigger"):
        # Newer hosts pass on only some of the steps that follow each other quickly.
        steps = [value / total for value, total in result.progress[key]]
        assert steps == sorted(steps) and steps[-1] == 1 and len(steps) > 1, key


def resizing_for_long(graph):
    """Up and down many times: one resize may be over before the host hears of the interrupt."""
    source, resizes = ["images", 0], {}
    for step, factor in enumerate((8.0, 0.125) * 8):
        name = f"step{step}" if step else "bigger"
        resizes[name] = node("WanLocalLanczosResize", frames=source, factor=factor)
        source = [name, 0]
    return {**graph, **resizes}, name


LONG = {
    "more": lambda graph: (interpolating(graph, 8), "more"),
    "bigger": resizing_for_long,
}


@pytest.mark.parametrize("kind", LONG)
def test_interrupting_leaves_the_host_healthy(host, put_frames, graph, kind):
    host.run(looking(interpolating(graph)))  # loads the network
    long, last = LONG[kind](put_frames(f"long {kind}", waves(80, 128, 80)))
    preview = node("PreviewImage", images=[last, 0])

    def working(event):
        data = event["data"]
        return event["type"] == "progress" and data["node"] == kind and data["value"] > 0

    result = host.run_and_interrupt({**long, "save": preview}, working)
    assert result.status == "interrupted" and result.outputs == []
    value, total = result.progress.get(last, [(0, 1)])[-1]
    assert value < total  # it did not run to the end
    assert host.alive()
    assert host.run(looking(interpolating(graph, 5))).status == "success"
