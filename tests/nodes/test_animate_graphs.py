"""Animation and replacement as graphs, on the stand-in and on every real ComfyUI that is found."""

import copy
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from puppet_video import write_video
from shipped_graphs import api, random_weights
from wan_local.wan.tiny.puppet import Puppet, draw_puppets

ROOT = Path(__file__).resolve().parents[2]
TINY_POSE = "tiny (knows only the drawn puppet, for tests)"
SMALL = {"resolution_width": 96, "resolution_height": 64}
FRAMES, RATE = 10, 10


def node_id(prompt, kind):
    return next(i for i, node in prompt.items() if node["class_type"] == kind)


def inputs(prompt, kind):
    return prompt[node_id(prompt, kind)]["inputs"]


def node(kind, **given):
    return {"class_type": kind, "inputs": given}


def small(prompt, seed):
    """As few pixels, frames and steps as show everything."""
    read = inputs(prompt, "WanLocalReadDrivingVideo")
    read.update(fps=4, width=96, height=64)
    if "WanLocalAnimate" in [n["class_type"] for n in prompt.values()]:
        inputs(prompt, "WanLocalAnimate").update(SMALL)
        inputs(prompt, "WanLocalAnimateSampler").update(clip_len=9, sampling_steps=2, seed=seed)
    return prompt


@pytest.fixture(params=["animation", "replacement"])
def mode(request):
    return request.param


@pytest.fixture
def prompt(mode):
    return small(random_weights(f"wan_{mode}"), 201)


def run(host, prompt):
    result = host.run(prompt)
    if result.status == "error" and "onnxruntime" in result.error:
        pytest.skip(f"{host.name} has no onnxruntime")
    return result


def watch(path):
    """(frames, fps, seconds of sound) of a video file."""
    with av.open(str(path)) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        rate = float(container.streams.video[0].average_rate)
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return np.stack(frames), rate, 0.0
        sound = sum(f.samples for f in container.decode(audio=0))
        return np.stack(frames), rate, sound / container.streams.audio[0].rate


def frames_of(host, prompt, seed=None):
    """Run a graph with its frames saved as PNG; x264 does not always write the same file."""
    prompt = copy.deepcopy(prompt)
    del prompt[node_id(prompt, "WanLocalSaveVideo")]
    sampler = node_id(prompt, "WanLocalAnimateSampler")
    if seed is not None:
        prompt[sampler]["inputs"]["seed"] = seed
    prompt["save"] = node("SaveImage", images=[sampler, 0], filename_prefix="animate_frames")
    result = run(host, prompt)
    assert result.status == "success", result.error
    return np.stack([np.asarray(Image.open(path)) for path in result.outputs]).astype(int)


def test_the_tiny_graph_makes_a_video_with_the_drivers_length_rate_and_sound(host, prompt):
    result = run(host, prompt)
    assert result.status == "success", result.error
    (path,) = result.outputs
    frames, rate, sound = watch(path)
    # Three seconds at 4 fps; 320x448 in an area of 96x64 pixels: 66x92 before the floor to 16.
    assert frames.shape == (12, 80, 64, 3) and rate == 4
    assert abs(sound - 3) < 1 / 4 and frames.std() > 1
    ours = ("WanLocalPoseExtract", "WanLocalAnimate", "WanLocalAnimateSampler", "WanLocalSaveVideo")
    for kind in ours:
        found = result.progress.get(node_id(prompt, kind), [])
        steps = [value / total for value, total in found]
        # What this model encoded in an earlier run is not encoded again.
        is_remembered = kind == "WanLocalAnimate" and not steps
        assert is_remembered or (steps == sorted(steps) and steps[-1] == 1), kind


@pytest.mark.parametrize("name", ["wan_animation", "wan_replacement", "wan_pose"])
def test_every_shipped_graph_runs_with_the_tiny_models(host, name):
    prompt, tiny = small(api(name), 202), random_weights("wan_animation")
    inputs(prompt, "WanLocalPoseModelLoader").update(inputs(tiny, "WanLocalPoseModelLoader"))
    inputs(prompt, "LoadVideo")["file"] = host.put_input(ROOT / "assets" / "puppet.mp4")
    if name != "wan_pose":
        inputs(prompt, "WanLocalModelLoader").update(inputs(tiny, "WanLocalModelLoader"))
        inputs(prompt, "LoadImage")["image"] = host.put_input(ROOT / "assets" / "character.png")
    result = run(host, prompt)
    assert result.status == "success", result.error
    for path in result.outputs:
        frames, rate, sound = watch(path)
        assert len(frames) == 12 and rate == 4 and abs(sound - 3) < 0.2
    assert len(result.outputs) == (2 if name == "wan_pose" else 1)


def test_the_same_seed_gives_the_same_frames_and_another_one_others(stand_in, prompt):
    first = frames_of(stand_in, prompt, 203)
    assert (frames_of(stand_in, prompt, 204) != first).any()
    assert (frames_of(stand_in, prompt, 203) == first).all()


def test_clips_and_carried_frames_reach_the_sampler(stand_in, prompt):
    plain = frames_of(stand_in, prompt, 205)
    inputs(prompt, "WanLocalAnimateSampler").update(refert_num=5)
    carried = frames_of(stand_in, prompt, 205)
    assert carried.shape == plain.shape
    assert (carried[:9] == plain[:9]).all() and (carried[9:] != plain[9:]).any()


@pytest.mark.parametrize(
    ("name", "value"),
    [("guide_scale", 3.0), ("sample_solver", "unipc"), ("shift", 2.0), ("sampling_steps", 3)],
)
def test_a_widget_changes_the_video(stand_in, name, value):
    prompt = small(random_weights("wan_animation"), 206)
    plain = frames_of(stand_in, prompt)
    inputs(prompt, "WanLocalAnimateSampler")[name] = value
    # The frames are lossless: any difference comes from sampling.
    assert abs(frames_of(stand_in, prompt) - plain).mean() > 0.02


def test_animation_refuses_a_mask_and_replacement_demands_it(host):
    replacing, animating = (
        small(random_weights(f"wan_{m}"), 207) for m in ("replacement", "animation")
    )
    inputs(replacing, "WanLocalAnimate")["mode"] = "animation"
    result = run(host, replacing)
    assert result.status == "error" and result.error_type == "InputError"
    assert "mode is animation, and mask and background are connected" in result.error
    inputs(animating, "WanLocalAnimate")["mode"] = "replacement"
    result = run(host, animating)
    assert "mode is replacement, and mask and background are not connected" in result.error


def test_image_to_video_weights_are_refused_in_words(stand_in, prompt, tiny):
    for folder in ("diffusion_models", "text_encoders", "vae", "clip_vision"):
        target = stand_in.models_dir / folder
        target.mkdir(parents=True, exist_ok=True)
        for path in (tiny / "comfyui" / folder).glob("*.safetensors"):
            (target / path.name).write_bytes(path.read_bytes())
    inputs(prompt, "WanLocalModelLoader")["model"] = "wan2.1_i2v_tiny.safetensors"
    inputs(prompt, "WanLocalPromptEncode")["prompt"] = "somebody waves"
    result = run(stand_in, prompt)
    assert result.status == "error" and "is made for image to video" in result.error
    assert "Choose Wan 2.2 Animate weights" in result.error


def test_animate_weights_are_refused_for_image_to_video(host):
    prompt = random_weights("wan_i2v")
    inputs(prompt, "LoadImage")["image"] = host.put_input(ROOT / "assets" / "character.png")
    inputs(prompt, "WanLocalImageToVideo").update(width=64, height=48, num_frames=5)
    loader = random_weights("wan_animation")
    inputs(prompt, "WanLocalModelLoader").update(inputs(loader, "WanLocalModelLoader"))
    result = run(host, prompt)
    assert result.status == "error" and "is made for character animation" in result.error


@pytest.mark.parametrize(("clip_len", "told"), [(80, "77 or 81"), (5, "clip_len of 9 or more")])
def test_a_wrong_clip_length_names_the_right_ones(stand_in, clip_len, told):
    prompt = small(random_weights("wan_animation"), 208)
    inputs(prompt, "WanLocalAnimateSampler").update(clip_len=clip_len, refert_num=5)
    result = run(stand_in, prompt)
    assert result.status == "error" and told in result.error


def test_a_mask_of_another_length_is_told(stand_in, tmp_path):
    prompt = small(random_weights("wan_replacement"), 209)
    other = copy.deepcopy(inputs(prompt, "WanLocalReadDrivingVideo"))
    prompt["short"] = node("WanLocalReadDrivingVideo", **{**other, "frame_limit": 7})
    prompt["short_pose"] = copy.deepcopy(prompt[node_id(prompt, "WanLocalPoseExtract")])
    prompt["short_pose"]["inputs"]["driving"] = ["short", 0]
    prompt["short_mask"] = node(
        "WanLocalSegmentPerson",
        driving=["short", 0],
        pose=["short_pose", 0],
        method=inputs(prompt, "WanLocalSegmentPerson")["method"],
    )
    inputs(prompt, "WanLocalAnimate")["mask"] = ["short_mask", 0]
    result = run(stand_in, prompt)
    assert result.status == "error" and "mask has 7 frames and the video has 12" in result.error


def test_interrupted_clips_are_kept_and_the_next_run_goes_on(host):
    """Cancelled in the second clip; queued again, the first one is not sampled anew."""
    prompt = small(random_weights("wan_animation"), 210)
    plain = frames_of(host, prompt)
    # Back and forth, so that nothing comes from the host's cache.
    sampler = node_id(prompt, "WanLocalAnimateSampler")
    changed = copy.deepcopy(prompt)
    changed[sampler]["inputs"].update(seed=211, sampling_steps=40)

    def in_second_clip(event):
        data = event["data"]
        return (
            event["type"] == "progress"
            and data["node"] == sampler
            and data["value"] / data["max"] > 0.6
        )

    result = host.run_and_interrupt(changed, in_second_clip)
    assert result.status == "interrupted" and result.cancel_seconds < 2
    (kept,) = (host.base / "user" / "wan_local" / "clips").iterdir()
    assert len(list(kept.glob("clip-*.safetensors"))) == 1
    again = run(host, changed)
    assert again.status == "success", again.error
    first = next(value / total for value, total in again.progress[sampler])
    assert first > 0.4  # the bar begins behind the clip that is there
    assert not kept.exists()
    assert (frames_of(host, prompt) == plain).all()


def test_a_result_is_continued(stand_in):
    """The second half of the video, made from the end of the first."""
    prompt = small(random_weights("wan_animation"), 212)
    inputs(prompt, "WanLocalReadDrivingVideo").update(frame_limit=6)
    sampler, read = (
        node_id(prompt, f"WanLocal{name}") for name in ("AnimateSampler", "ReadDrivingVideo")
    )
    for key in (read, node_id(prompt, "WanLocalPoseExtract"), node_id(prompt, "WanLocalAnimate")):
        prompt[f"{key}b"] = copy.deepcopy(prompt[key])
    pose, animation = node_id(prompt, "WanLocalPoseExtract"), node_id(prompt, "WanLocalAnimate")
    prompt[f"{read}b"]["inputs"].update(start_frame=5, frame_limit=0)
    prompt[f"{pose}b"]["inputs"]["driving"] = [f"{read}b", 0]
    prompt[f"{animation}b"]["inputs"].update(driving=[f"{read}b", 0], pose=[f"{pose}b", 0])
    prompt["second"] = copy.deepcopy(prompt[sampler])
    prompt["second"]["inputs"].update(animation=[f"{animation}b", 0], previous_frames=[sampler, 0])
    inputs(prompt, "WanLocalSaveVideo")["images"] = ["second", 0]
    result = run(stand_in, prompt)
    assert result.status == "success", result.error
    frames, _, _ = watch(result.outputs[0])
    assert len(frames) == 12 - 6  # frames 6 to 11; frame 5 is the one that was given


def test_retargeting_changes_the_pose_and_takes_edited_images(stand_in, tmp_path):
    figure = Puppet(torso=0.2, thigh=0.25, shin=0.23)
    picture = draw_puppets(1, 240, 320, (figure,), background=(180, 190, 40)).frames[0]
    Image.fromarray(picture).save(tmp_path / "legs.png")
    prompt = small(random_weights("wan_animation"), 213)
    prompt["character"] = node("LoadImage", image=stand_in.put_input(tmp_path / "legs.png"))
    inputs(prompt, "WanLocalAnimate")["reference_image"] = ["character", 0]
    plain = frames_of(stand_in, prompt)
    options = stand_in.object_info()["WanLocalPoseRetarget"]["input"]["required"]["flux_model"]
    folders = options[0] if isinstance(options[0], list) else options[1]["options"]
    pose, read = node_id(prompt, "WanLocalPoseExtract"), node_id(prompt, "WanLocalReadDrivingVideo")
    prompt["fit"] = node(
        "WanLocalPoseRetarget",
        driving=[read, 0],
        pose=[pose, 0],
        pose_model=[node_id(prompt, "WanLocalPoseModelLoader"), 0],
        reference_image=["character", 0],
        **SMALL,
        ratio_limit=0.0,
        use_flux=False,
        flux_model=folders[0],
    )
    inputs(prompt, "WanLocalAnimate")["pose"] = ["fit", 0]
    fitted = frames_of(stand_in, prompt)
    assert fitted.shape == plain.shape and abs(fitted - plain).mean() > 0.1
    # Pictures edited elsewhere: the driver with longer arms.
    arms = draw_puppets(1, 320, 448, (Puppet(arm=0.2, forearm=0.19),)).frames[0]
    Image.fromarray(arms).save(tmp_path / "arms.png")
    prompt["edited"] = node("LoadImage", image=stand_in.put_input(tmp_path / "arms.png"))
    prompt["fit"]["inputs"].update(edited_driving=["edited", 0], edited_reference=["character", 0])
    assert abs(frames_of(stand_in, prompt) - fitted).mean() > 0.05
    del prompt["fit"]["inputs"]["edited_reference"], prompt["edited"]
    del prompt["fit"]["inputs"]["edited_driving"]
    prompt["fit"]["inputs"]["use_flux"] = True
    result = run(stand_in, prompt)
    assert result.status == "error" and "FLUX.1-Kontext" in result.error


def test_own_pose_and_face_videos_take_the_place_of_the_drawn_ones(stand_in, tmp_path):
    prompt = small(random_weights("wan_animation"), 214)
    plain = frames_of(stand_in, prompt)
    noise = np.random.default_rng(0)
    for name, size in (("pose_video", (80, 64)), ("face_video", (512, 512))):
        frames = noise.integers(0, 256, (12, *size, 3), np.uint8)
        path = write_video(tmp_path / f"{name}.mp4", frames, RATE)
        changed = copy.deepcopy(prompt)
        changed["file"] = node("LoadVideo", file=stand_in.put_input(path))
        changed["parts"] = node("GetVideoComponents", video=["file", 0])
        inputs(changed, "WanLocalAnimate")[name] = ["parts", 0]
        assert abs(frames_of(stand_in, changed) - plain).mean() > 0.1, name


def test_models_leave_the_device_when_they_are_offloaded(stand_in):
    """After the run: with offload_model the sampler's models are not loaded."""
    from comfy import model_management

    loaded = []
    for offload in (True, False):
        prompt = small(random_weights("wan_animation"), 215 + offload)
        inputs(prompt, "WanLocalAnimateSampler")["offload_model"] = offload
        model_management.unload_all_models()
        frames_of(stand_in, prompt)
        loaded.append(len(model_management.loaded_models()))
    assert loaded[0] < loaded[1]


def test_the_relighting_lora_is_listed_and_applied_in_replacement(host, tmp_path):
    import torch
    from safetensors.torch import save_file

    folder = host.models_dir / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for block in range(5):
        name = f"diffusion_model.blocks.{block}.self_attn.v"
        tensors[f"{name}.lora_down.weight"] = torch.randn(4, 48, generator=generator)
        tensors[f"{name}.lora_up.weight"] = torch.randn(48, 4, generator=generator) * 0.1
    save_file(tensors, folder / "WanAnimate_relight_lora_fp16.safetensors")
    try:
        prompt = small(random_weights("wan_replacement"), 217)
        lit = frames_of(host, prompt)
        inputs(prompt, "WanLocalAnimate")["relighting"] = "off"
        plain = frames_of(host, prompt)
        inputs(prompt, "WanLocalAnimate").update(relighting="auto", relighting_strength=0.0)
        assert (frames_of(host, prompt) == plain).all()
        assert abs(lit - plain).mean() > 0.1
    finally:
        (folder / "WanAnimate_relight_lora_fp16.safetensors").unlink()
