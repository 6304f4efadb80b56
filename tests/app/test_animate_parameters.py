"""For every parameter of wan-2-2-animate-v2v: changing it changes the video, wrong ones are named."""

import shutil
from collections import Counter
from dataclasses import replace

import av
import numpy as np
import pytest
import torch
from PIL import Image
from puppet_video import write_video
from wan_local.wan.animate.loop import Places
from wan_local.wan.app import Surroundings, run_animate
from wan_local.wan.errors import MissingFileError, ModelError, ValidationError, WanError
from wan_local.wan.load.companions import Companions, find_companions
from wan_local.wan.params import ANIMATE_APP, validate
from wan_local.wan.progress import Silent
from wan_local.wan.tiny import MINIMUMS
from wan_local.wan.tiny.puppet import Puppet, draw_puppets

APP = ANIMATE_APP.widened(MINIMUMS)
FRAMES, RATE = 10, 10
LONG_LEGS = Puppet(torso=0.2, thigh=0.25, shin=0.23)
SCENE = {"mode": "replacement"}
PLAIN = {
    "clip_len": 9,
    "fps": 5,
    "resolution_width": 96,
    "resolution_height": 64,
    "sampling_steps": 2,
    "seed": 3,
}
# What is changed, and beside what.
CHANGES = {
    "clip_len": ({"fps": 10}, 5),
    "guide_scale": ({}, 4.0),
    "input_prompt": ({}, "an entirely different text"),
    "mask_h_subdivisions": ({**SCENE, "mask_w_subdivisions": 5, "mask_iterations": 1}, 5),
    "mask_iterations": ({**SCENE, "mask_h_subdivisions": 5, "mask_w_subdivisions": 5}, 1),
    "mask_kernel_size": ({**SCENE, "mask_h_subdivisions": 5, "mask_w_subdivisions": 5}, 3),
    "mask_w_subdivisions": ({**SCENE, "mask_h_subdivisions": 5, "mask_iterations": 1}, 5),
    "mode": ({}, "replacement"),
    "n_prompt": ({"guide_scale": 4.0}, "blurry"),
    "refert_num": ({"fps": 10}, 5),
    "retarget_flag": ({}, True),
    "sample_solver": ({}, "unipc"),
    "sampling_steps": ({}, 4),
    "seed": ({}, 4),
    "shift": ({}, 2.0),
}
WRONG = {
    "clip_len": 80,
    "driving_video": "no-such-video.mp4",
    "fps": 0,
    "guide_scale": 0.5,
    "input_prompt": 5,
    "mask_h_subdivisions": 6,
    "mask_iterations": 0,
    "mask_kernel_size": 2,
    "mask_w_subdivisions": 0,
    "mode": "foo",
    "n_prompt": 5,
    "offload_model": "perhaps",
    "reference_image": "no-such-picture.png",
    "refert_num": 2,
    "resolution_height": 5000,
    "resolution_width": 8,
    "retarget_flag": "perhaps",
    "sample_solver": "euler",
    "sampling_steps": 0,
    "seed": -2,
    "shift": 0.5,
    "use_flux": "perhaps",
}


class Notes(Silent):
    def __init__(self):
        self.notes, self.phases = [], []

    def start(self, phase, total):
        self.phases.append(phase)

    def note(self, text):
        self.notes.append(text)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Driving video and reference picture by parameter name."""
    folder = tmp_path_factory.mktemp("inputs")
    video = draw_puppets(FRAMES, 224, 320, fps=RATE)
    picture = draw_puppets(1, 240, 320, (LONG_LEGS,), background=(180, 190, 40)).frames[0]
    Image.fromarray(picture).save(folder / "character.png")
    write_video(folder / "driving.mp4", video.frames, RATE, sound=True)
    return {
        "driving_video": str(folder / "driving.mp4"),
        "reference_image": str(folder / "character.png"),
    }


@pytest.fixture(scope="module")
def around(tiny):
    pytest.importorskip("onnxruntime")
    return Surroundings(companions=find_companions(tiny / "comfyui"))


@pytest.fixture
def run(animate, files, around, tmp_path):
    """Runs the app; gives (frames [T, H, W, 3], fps, notes, result)."""

    def call(model=animate, places=around, **changes):
        reporter, out = Notes(), tmp_path / "out.mp4"
        values = validate(APP, {**files, **PLAIN, **changes})
        result = run_animate(values, model, out, reporter, places)
        with av.open(str(out)) as video:
            frames = [f.to_ndarray(format="rgb24") for f in video.decode(video=0)]
            rate = float(video.streams.video[0].average_rate)
        return np.stack(frames).astype(int), rate, reporter.notes, result

    return call


def difference(first, second):
    return abs(first[0] - second[0]).mean()


def test_every_parameter_is_tested_here():
    elsewhere = {
        "driving_video",
        "reference_image",
        "fps",
        "offload_model",
        "resolution_height",
        "resolution_width",
        "use_flux",
    }
    assert set(CHANGES) | elsewhere == set(ANIMATE_APP.names) == set(WRONG)
    assert all(param.works for param in ANIMATE_APP.params)


@pytest.mark.parametrize("name", CHANGES)
def test_changing_it_changes_the_video(run, name):
    beside, value = CHANGES[name]
    base = {**PLAIN, **beside}
    assert base.get(name, ANIMATE_APP[name].default) != value
    plain, changed = run(**beside), run(**{**beside, name: value})
    # A codec repeats itself: any difference comes from the frames.
    assert plain[0].shape != changed[0].shape or difference(plain, changed) > 0.1


def test_the_same_run_twice_is_the_same_video(run):
    assert difference(run(), run()) == 0


def test_a32_driving_video_gives_the_number_of_frames_and_the_fps(run, files, tmp_path):
    frames, rate, _, result = run()
    assert (len(frames), rate) == (5, 5) == (result.num_frames, result.fps)
    still = draw_puppets(4, 224, 320, (Puppet(speed=0.0),), fps=RATE).frames
    other = write_video(tmp_path / "still.mp4", still, RATE)
    assert len(run(driving_video=str(other))[0]) == 2


@pytest.mark.parametrize(("fps", "count", "rate"), [(10, 10, 10), (-1, 10, 10), (20, 20, 20)])
def test_a32_fps_changes_frames_and_file(run, fps, count, rate):
    frames, found, _, _ = run(fps=fps)
    assert (len(frames), found) == (count, rate)


def test_reference_image_changes_size_and_video(run, tmp_path):
    plain = run()
    # 240x320 in 96x64 pixels: 67x90 before the floor to 16.
    assert plain[0].shape[1:3] == (80, 64)
    wide = draw_puppets(1, 400, 240, (LONG_LEGS,), background=(90, 20, 40)).frames[0]
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert run(reference_image=str(tmp_path / "wide.png"))[0].shape[1:3] == (48, 96)


@pytest.mark.parametrize("name", ["resolution_width", "resolution_height"])
def test_resolution_is_an_area(run, name):
    assert run(**{name: 160})[0].shape[1:3] != run()[0].shape[1:3]
    swapped = {"resolution_width": 64, "resolution_height": 96}
    assert difference(run(), run(**swapped)) == 0


def test_in_replacement_the_aspect_is_the_driving_videos(run):
    # 224x320 in 96x64 pixels: 65x93 before the floor to 16.
    assert run(**SCENE)[0].shape[1:3] == (80, 64)
    assert "replacement, 64x80, 5 frames in 1 clip of 9" in run(**SCENE)[2]


def test_offload_model_lets_models_leave_a_device_that_is_full(files, tiny, around, tmp_path):
    """Where it is said that nothing more fits; without it they stay all the same."""
    from wan_local.wan.engine import Engine
    from wan_local.wan.load.model import load_model
    from wan_local.wan.payloads import Variant
    from wan_local.wan.residency import DevicePlacement
    from wan_local.wan.tiny import tiny_files

    left = Counter()

    class Watched(DevicePlacement):
        def own(self, module, name, stack):
            owned = super().own(module, name, stack)
            plain = owned.release

            def release():
                left[name] += 1
                plain()

            owned.release = release
            return owned

    for offload in (True, False):
        values = validate(APP, {**files, **PLAIN, "offload_model": offload})
        placement = Watched("cpu", Engine("tiny").offload_of(values), room=lambda: 0)
        model = load_model(tiny_files(tiny, Variant.ANIMATE), placement)
        run_animate(values, model, tmp_path / "out.mp4", Silent(), around)
        expected = {"transformer", "vae", "text encoder", "image encoder"} if offload else set()
        assert set(left) == expected
        assert bool(model.transformer._source.owned._ring) is offload  # streamed, as it is full
        left.clear()


def test_offload_model_reaches_the_placement_from_the_command_line(monkeypatch, files, around):
    """And --offload comes before it."""
    from wan_local.wan import cli, terminal

    seen = []

    class SeenError(Exception):
        pass

    def open_models(models, placement, app):
        seen.append(placement.offload.value)
        raise SeenError

    monkeypatch.setattr(terminal, "open_models", open_models)
    inputs = [f"--input={name}={value}" for name, value in files.items()]
    for extra in ([], ["--input=offload_model=false"], ["--offload", "blocks"]):
        with pytest.raises(SeenError):
            cli.main(["run", "wan-2-2-animate-v2v", *inputs, *extra])
    assert seen == ["auto", "off", "blocks"]


def test_use_flux_needs_retarget_flag_and_its_folder(run, files):
    with pytest.raises(ValidationError, match="use_flux"):
        validate(APP, {**files, "use_flux": True})
    with pytest.raises(MissingFileError, match="kontext") as error:
        run(use_flux=True, retarget_flag=True)
    assert "black-forest-labs/FLUX.1-Kontext-dev" in error.value.fix


def test_use_flux_changes_the_bones(run, around, monkeypatch, tmp_path):
    """An editor in FLUX's place stretches the character's legs; what it was told is checked."""
    from types import SimpleNamespace

    from wan_local.wan.app import animate as app_module

    prompts = []

    class Stretches:
        def __init__(self, folder, placement):
            assert folder == tmp_path

        def __call__(self, *, image, prompt, **rest):
            prompts.append(prompt)
            figure = Puppet(arm=0.2, forearm=0.19) if len(prompts) == 1 else Puppet()
            frame = draw_puppets(1, *image.size, (figure,)).frames[0]
            return SimpleNamespace(images=[Image.fromarray(frame)])

    monkeypatch.setattr(app_module, "Kontext", Stretches)
    places = replace(around, companions=replace(around.companions, kontext=tmp_path))
    edited = run(places=places, use_flux=True, retarget_flag=True)
    assert len(prompts) == 2 and "standing" in prompts[0]
    assert difference(edited, run(retarget_flag=True)) > 0.1


@pytest.mark.parametrize(
    ("given", "ignored"),
    [
        ({"mask_iterations": 5, "mask_w_subdivisions": 2}, "mask_iterations, mask_w_subdivisions"),
        ({**SCENE, "retarget_flag": True}, "retarget_flag"),
    ],
)
def test_a32_what_a_mode_ignores_is_said_once(run, given, ignored):
    plain = run(**{k: v for k, v in given.items() if k == "mode"})
    told = run(**given)
    assert difference(plain, told) == 0
    assert sum("have no effect" in note and ignored in note for note in told[2]) == 1
    assert not any("have no effect" in note for note in plain[2])


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_named_before_anything_runs(animate, files, around, tmp_path, name):
    class Refuses(Silent):
        def start(self, phase, total):
            raise AssertionError(f"{phase} began")

    values = {**files, **PLAIN, name: WRONG[name]}
    named = WRONG[name] if str(WRONG[name]).startswith("no-such") else name
    with pytest.raises((ValidationError, WanError), match=named) as error:
        run_animate(validate(APP, values), animate, tmp_path / "out.mp4", Refuses(), around)
    assert error.value.fix
    assert list(tmp_path.iterdir()) == []


def test_the_ranges_are_the_pages_for_real_weights(files):
    small = {**files, "resolution_width": 64, "sampling_steps": 1}
    with pytest.raises(ValidationError, match="512 to 1920"):
        validate(ANIMATE_APP, small)
    assert validate(APP, small)["resolution_width"] == 64


# Companions


def test_all_missing_companions_are_told_at_once(animate, files, tmp_path):
    with pytest.raises(MissingFileError) as error:
        run_animate(
            validate(APP, {**files, "use_flux": True, "retarget_flag": True}),
            animate,
            tmp_path / "out.mp4",
            Silent(),
            Surroundings(companions=Companions()),
        )
    assert "detector, pose, kontext" in error.value.what
    assert error.value.fix.count("Download") == 3 and "yolov10m.onnx" in error.value.fix


def test_weights_for_something_else_are_refused(i2v, run):
    with pytest.raises(ModelError, match="image to video"):
        run(model=i2v)


def relight(path, model):
    """A LoRA in the spelling of the authors' file: PEFT names without the model's prefix."""
    dim = model.config["num_attention_heads"] * model.config["attention_head_dim"]
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for block in range(model.config["num_layers"]):
        name = f"base_model.model.blocks.{block}.self_attn.v"
        tensors[f"{name}.lora_A.weight"] = torch.randn(4, dim, generator=generator)
        tensors[f"{name}.lora_B.weight"] = torch.randn(dim, 4, generator=generator) * 0.1
    if path.suffix == ".ckpt":
        torch.save({"state_dict": tensors}, path)
    else:
        from safetensors.torch import save_file

        save_file(tensors, path)


@pytest.mark.parametrize(
    "name", ["relighting_lora.ckpt", "loras/WanAnimate_relight_lora_fp16.safetensors"]
)
def test_relighting_is_found_and_applied_in_replacement_only(run, animate, tiny, tmp_path, name):
    folder = tmp_path / "models"
    shutil.copytree(tiny / "comfyui" / "detection", folder / "detection")
    (folder / name).parent.mkdir(exist_ok=True)
    relight(folder / name, animate)
    lit = Surroundings(companions=find_companions(folder))
    with_light, without = run(places=lit, **SCENE), run(**SCENE)
    assert difference(with_light, without) > 0.2
    count = 2 * animate.config["num_layers"]
    assert any(f"{count} of {count} tensors applied" in note for note in with_light[2])
    assert any("No relighting LoRA was found" in note for note in without[2])
    assert difference(run(places=lit), run()) == 0


def test_an_interrupted_app_goes_on_and_leaves_nothing(animate, files, around, run, tmp_path):
    kept = replace(around, places=Places(kept=tmp_path / ".out.clips"))
    values = validate(APP, {**files, **PLAIN, "fps": 20})

    class Stops(Silent):
        def status(self, text):
            if text.startswith("clip 3 of 3"):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_animate(values, animate, tmp_path / "out.mp4", Stops(), kept)
    assert not (tmp_path / "out.mp4").exists() and (tmp_path / ".out.clips").is_dir()
    resumed, plain = run(places=kept, fps=20), run(fps=20)
    assert any("2 clips are there" in note for note in resumed[2])
    assert difference(resumed, plain) == 0 and len(plain[0]) == 20
    assert not (tmp_path / ".out.clips").exists()
