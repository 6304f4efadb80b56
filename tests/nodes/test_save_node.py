"""Wan Save Video on every host: what is in the file, what the page is told, what goes wrong."""

import json
import math
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from host.hosts import find_checkouts
from wan_local.wan.errors import GeometryError
from wan_local.wan.media.formats import FORMATS, Encoding, find_format, offered_formats
from wan_local.wan.media.sound import Audio
from wan_local.wan.save.video import write_video

NODE = "WanLocalSaveVideo"
NTSC = Fraction(30000, 1001)
# Core of 0.33 hands out most levels of an RGB video as a little less, which rounds to one less.
READ_BY_CORE = 1
OFFERED = [f.name for f in FORMATS if f in offered_formats()]
WIDGETS = {
    "fps": 16.0,
    "filename_prefix": "video/Wan",
    "format": "mp4 H.264",
    "quality": "high",
    "preset": "fast",
    "crf": -1,
    "odd_size": "refuse",
}


def soft(frames, height, width):
    """Smooth pictures that move, [T, H, W, 3] uint8."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = [(x / 9 + i / 5).sin() + (y / 7 - i / 8).cos() for i in range(frames)]
    grey = (torch.stack(waves) * 50 + 128).to(torch.uint8)
    return torch.stack([grey, grey.flip(2), grey.flip(1)], -1)


def tone(seconds, rate=44100):
    at = torch.arange(round(seconds * rate)) / rate
    return Audio(0.5 * torch.sin(2 * math.pi * 440 * at)[None].expand(2, -1), rate)


@pytest.fixture
def put(host, tmp_path):
    """Puts frames into the host's input folder, pixel for pixel."""

    def call(frames, fps=NTSC, audio=None, name="save_in.mp4"):
        lossless = Encoding(find_format("mp4 H.264 lossless"), preset="fast")
        write_video(tmp_path / name, [frames], fps, lossless, audio=audio)
        return host.put_input(tmp_path / name)

    return call


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def saving(name, **widgets):
    """A graph from a file to a file; fps and sound are linked unless `widgets` give them."""
    linked = {"fps": ["parts", 2], "audio": ["parts", 1]}
    return {
        "file": node("LoadVideo", file=name),
        "parts": node("GetVideoComponents", video=["file", 0]),
        "save": node(NODE, images=["parts", 0], **{**WIDGETS, **linked, **widgets}),
    }


def run(host, graph, **options):
    result = host.run(graph, **options)
    assert result.status == "success", result.error
    return result


def read(path):
    """Frames, rate, tags in small letters, and how long the sound lasts (None without)."""
    with av.open(str(path)) as container:
        tags = {k.lower(): v for k, v in container.metadata.items()}
        stream = container.streams.video[0]
        rate = stream.average_rate
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(stream)]
        has_sound = bool(container.streams.audio)
    sound = None
    if has_sound:
        with av.open(str(path)) as container:
            packets = [p for p in container.demux(container.streams.audio[0]) if p.size]
            sound = float(max((p.pts + p.duration) * p.time_base for p in packets))
    return np.stack(frames).astype(int), rate, tags, sound


@pytest.mark.parametrize("form", OFFERED)
def test_the_file_plays_back(host, put, form):
    frames = soft(20, 64, 96)
    graph = saving(put(frames, audio=tone(2)), format=form, filename_prefix="play/back")
    result = run(host, graph)
    (path,) = result.outputs
    assert path.parent == host.base / "output" / "play" and path.name.startswith("back_0000")
    assert path.suffix == find_format(form).suffix
    back, rate, _, sound = read(path)
    assert rate == NTSC and back.shape == frames.shape
    wanted = frames.numpy().astype(int)
    if find_format(form).is_lossless:
        assert abs(back - wanted).max() <= READ_BY_CORE
    assert abs(back - wanted).mean() < 3
    assert abs(sound - 20 / NTSC) < 1 / NTSC
    assert result.ui["save"] == {
        "images": [{"filename": path.name, "subfolder": "play", "type": "output"}],
        "animated": [True],
    }
    steps = [value / total for value, total in result.progress["save"]]
    assert steps == sorted(steps) and steps[-1] == 1 and len(steps) > 1


def test_the_page_is_told_the_same_as_by_core(host, put):
    name = put(soft(5, 32, 32))
    ours = run(host, saving(name)).ui["save"]
    graph = saving(name)
    core = {"filename_prefix": "video/Wan", "format": "auto", "codec": "auto"}
    graph["save"] = node("SaveVideo", video=["file", 0], **core)
    theirs = run(host, graph).ui["save"]
    assert ours.keys() == theirs.keys() and ours["animated"] == theirs["animated"]
    first, second = ours["images"][0], theirs["images"][0]
    assert {**first, "filename": 0} == {**second, "filename": 0}
    # They count on together.
    numbers = [int(f["filename"].split("_")[1]) for f in (first, second)]
    assert numbers[1] == numbers[0] + 1


@pytest.mark.parametrize("form", ["mp4 H.264", "webm VP9", "webm AV1"])
def test_the_graph_comes_back_from_the_file(host, put, form):
    if form not in OFFERED:
        pytest.skip("not in this FFmpeg")
    graph = saving(put(soft(5, 64, 64)), format=form, filename_prefix="again")
    page = {"nodes": [{"id": 3, "widgets_values": ['a "ü" 镜\n']}], "links": []}
    result = run(host, graph, extra_pnginfo={"workflow": page, "more": {"a": 1}})
    _, _, tags, _ = read(result.outputs[0])
    assert json.loads(tags["workflow"]) == page and json.loads(tags["more"]) == {"a": 1}
    told = json.loads(tags["wan_local"])
    assert [n["node"] for n in told["nodes"]] == [NODE] and told["seed"] is None
    assert told["nodes"][0]["inputs"]["format"] == form
    restored = json.loads(tags["prompt"])
    assert {k: n["inputs"] for k, n in restored.items()} == {
        k: n["inputs"] for k, n in graph.items()
    }
    restored["save"]["inputs"]["preset"] = "medium"  # else the host remembers the result
    frames = read(run(host, restored).outputs[0])[0]
    assert len(frames) == 5


def test_the_seed_of_the_sampler_is_told(stand_in):
    from wan_local.nodes.save import WanLocalSaveVideo

    prompt = {
        "1": node("WanLocalSampler", seed=77),
        "2": node(NODE, images=["1", 0], **WIDGETS),
    }
    tags = execute(stand_in, prompt=prompt, unique_id="2")
    assert json.loads(tags["wan_local"])["seed"] == 77
    assert WanLocalSaveVideo.hidden is None


def execute(host, images=None, audio=None, prompt=None, page=None, unique_id=None, **widgets):
    """Run the node alone, as the stand-in does; gives the tags of its file."""
    from comfy_api.latest import io
    from wan_local.nodes.save import WanLocalSaveVideo

    hidden = {
        io.Hidden.prompt: prompt,
        io.Hidden.extra_pnginfo: page,
        io.Hidden.unique_id: unique_id,
    }
    clone = WanLocalSaveVideo.PREPARE_CLASS_CLONE(hidden)
    images = torch.rand(3, 32, 32, 3) if images is None else images
    video, path = clone.execute(images=images, audio=audio, **{**WIDGETS, **widgets}).result
    assert path.startswith(str(host.base / "output"))
    assert video.get_dimensions() == (images.shape[2] // 2 * 2, images.shape[1] // 2 * 2)
    return read(path)[2]


def test_metadata_is_left_out_where_the_host_says_so(stand_in, monkeypatch):
    from comfy.cli_args import args

    given = {"prompt": {"1": node(NODE, **WIDGETS)}, "page": {"workflow": {"a": 1}}}
    assert {"prompt", "workflow", "wan_local"} <= execute(stand_in, **given).keys()
    monkeypatch.setattr(args, "disable_metadata", True)
    assert not {"prompt", "workflow", "wan_local"} & execute(stand_in, **given).keys()


@pytest.mark.comfy
@pytest.mark.slow
@pytest.mark.skipif(not find_checkouts(), reason="no ComfyUI checkout found")
def test_the_hosts_own_switch_leaves_metadata_out(tmp_path):
    from host.real_host import RealHost

    host = RealHost(find_checkouts()[0], arguments=["--disable-metadata"])
    try:
        lossless = Encoding(find_format("mp4 H.264 lossless"), preset="fast")
        write_video(tmp_path / "a.mp4", [soft(5, 32, 32)], 8, lossless)
        graph = saving(host.put_input(tmp_path / "a.mp4"))
        result = run(host, graph, extra_pnginfo={"workflow": {"a": 1}})
        tags = read(result.outputs[0])[2]
    finally:
        host.close()
    assert not {"prompt", "workflow", "wan_local"} & tags.keys()


def test_cancelling_leaves_no_file_and_a_healthy_host(host, put):
    name = put(soft(40, 384, 640))
    graph = saving(name, format="webm VP9", preset="slow", quality="best", filename_prefix="stop/a")
    if "webm VP9" not in OFFERED:
        pytest.skip("not in this FFmpeg")

    def has_begun(event):
        data = event["data"]
        return event["type"] == "progress" and data["node"] == "save" and data["value"] > 0

    result = host.run_and_interrupt(graph, has_begun)
    assert result.status == "interrupted" and result.outputs == []
    assert list((host.base / "output" / "stop").iterdir()) == []
    assert host.alive()
    run(host, saving(name, format="mp4 H.264", filename_prefix="stop/a"))
    assert len(list((host.base / "output" / "stop").iterdir())) == 1


@pytest.mark.parametrize(
    ("widgets", "expected"),
    [
        ({"format": "mp4 H.266"}, "mp4 H.266"),
        ({"crf": 60}, "0 (best) to 51"),
        ({"crf": 10, "format": "mp4 H.264 lossless"}, "loses nothing"),
        ({"crf": -2}, "-2"),
        ({"filename_prefix": "../outside/a"}, "outside"),
        ({"filename_prefix": "a" * 260}, "cannot be used"),
        ({"filename_prefix": ""}, "holds no name"),
        ({"fps": 0.0}, "0.1"),
    ],
)
def test_what_cannot_be_saved_is_refused_before_anything_runs(host, put, widgets, expected):
    body = host.validate(saving(put(soft(2, 32, 32)), **widgets))
    assert body, "the host took a wrong value"
    text = json.dumps(body["node_errors"]["save"]["errors"], ensure_ascii=False)
    assert expected in text


@pytest.mark.parametrize("name", ["quality", "preset", "odd_size"])
def test_unknown_words_are_named(host, put, name):
    graph = saving(put(soft(2, 32, 32)), **{name: "superb"})
    body = host.validate(graph)
    if not body:  # 0.3.64 lets any text reach the node
        result = host.run(graph)
        assert result.status == "error" and f"{name} is 'superb'" in result.error
    else:
        assert "superb" in json.dumps(body)


def test_odd_sizes_are_refused_or_cropped_or_kept(host, put):
    frames = soft(4, 33, 47)
    name = put(frames)
    result = host.run(saving(name, filename_prefix="odd"))
    assert result.status == "error" and "47x33" in result.error and "46x32" in result.error
    assert not list((host.base / "output").glob("odd*")) and result.outputs == []
    cropped = run(host, saving(name, odd_size="crop")).outputs[0]
    back = read(cropped)[0]
    assert back.shape == (4, 32, 46, 3)
    assert abs(back - frames[:, :32, :46].numpy().astype(int)).mean() < 5
    kept = run(host, saving(name, format="mp4 H.264 lossless")).outputs[0]
    assert abs(read(kept)[0] - frames.numpy().astype(int)).max() <= READ_BY_CORE


def test_no_sound_needs_no_socket(host, put):
    graph = saving(put(soft(3, 32, 32)), fps=23.976)
    del graph["save"]["inputs"]["audio"]
    back, rate, _, sound = read(run(host, graph).outputs[0])
    assert len(back) == 3 and rate == Fraction(2997, 125) and sound is None


def test_the_saved_video_goes_on_to_other_nodes(host, put):
    graph = saving(put(soft(6, 32, 32), audio=tone(1)), filename_prefix="first")
    graph["again"] = node("GetVideoComponents", video=["save", 0])
    graph["second"] = node(
        NODE, images=["again", 0], **{**WIDGETS, "fps": ["again", 2], "filename_prefix": "second"}
    )
    result = run(host, graph)
    first, second = sorted(result.outputs, key=lambda path: path.name)
    assert read(first)[1] == read(second)[1] == NTSC and len(read(second)[0]) == 6


def test_quality_preset_and_crf_change_the_file(host, put):
    name = put(soft(9, 96, 128))
    sizes = {}
    for widgets in ({}, {"quality": "low"}, {"crf": 5}, {"preset": "slow"}):
        path = run(host, saving(name, **widgets)).outputs[0]
        sizes[str(widgets)] = path.stat().st_size
    assert len(set(sizes.values())) == 4
    assert sizes["{'quality': 'low'}"] < sizes["{}"] < sizes["{'crf': 5}"]


def test_words_in_the_prefix_are_filled_in(stand_in):
    execute(stand_in, filename_prefix="%width%x%height%/clip")
    assert (stand_in.base / "output" / "32x32" / "clip_00001_.mp4").is_file()


def test_alpha_and_nan_are_named_under_the_node(stand_in, caplog):
    caplog.set_level("INFO", "wan_local")
    images = torch.rand(3, 32, 34, 4)
    images[1, 2, 3] = torch.nan
    execute(stand_in, images)
    assert "alpha channel" in caplog.text and "frame 1 held pixels" in caplog.text


def test_an_empty_batch_is_named(stand_in):
    with pytest.raises(GeometryError, match="no frames"):
        execute(stand_in, torch.zeros(0, 32, 32, 3))
    assert not list((stand_in.base / "output").rglob(".*"))


def test_linked_values_are_looked_at_when_the_node_runs(stand_in):
    from wan_local.nodes.save import WanLocalSaveVideo

    assert WanLocalSaveVideo.validate_inputs(None, None, None) is True
    assert WanLocalSaveVideo.validate_inputs("video/Wan", "webm VP9", None) is True
