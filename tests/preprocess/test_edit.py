import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from wan_local.wan.errors import GeometryError, InputError, MissingFileError, ModelError
from wan_local.wan.preprocess.pose.track import Joint, PoseTrack
from wan_local.wan.preprocess.retarget.edit import edit_images, edited_pictures, editing_prompts
from wan_local.wan.preprocess.retarget.kontext import Kontext
from wan_local.wan.progress import Silent
from wan_local.wan.residency import DevicePlacement

FACE = "Change the person to face forward."
T_POSE = "Change the person to a standard T-pose (facing forward with arms extended)."
ARMS_DOWN = (
    "Change the person to a standard pose with the face oriented forward and arms extending "
    "straight down by the sides."
)
HANDS = " Hands are visible in the image."
STANDING = " The person is standing. Feet and Hands are visible in the image."
PORTRAIT, LANDSCAPE = (480, 832), (640, 512)


def track(size=PORTRAIT, frames=3, seen=()):
    """A track in which nothing is visible but `seen`: (frame, joint, x, y, score)."""
    body = np.full((frames, 20, 3), (0.5, 0.5, 0.1), np.float32)
    for frame, joint, *point in seen:
        body[frame, joint] = point
    hand = np.zeros((frames, 21, 3), np.float32)
    face, boxes = np.zeros((frames, 68, 3), np.float32), np.zeros((frames, 5), np.float32)
    return PoseTrack(*size, body=body, left_hand=hand, right_hand=hand, face=face, boxes=boxes)


def test_a18_prompts():
    assert editing_prompts(track(), LANDSCAPE) == (FACE, FACE)
    arm = track(seen=[(1, Joint.RIGHT_ELBOW, 0.5, 0.5, 0.75)])
    assert editing_prompts(arm, LANDSCAPE) == (ARMS_DOWN + HANDS, T_POSE + HANDS)
    faint_leg = track(seen=[(1, Joint.RIGHT_ANKLE, 0.5, 0.5, 0.74)])
    assert editing_prompts(faint_leg, LANDSCAPE) == (FACE, FACE)
    leg = track(LANDSCAPE, seen=[(2, Joint.LEFT_KNEE, 1.0, 1.0, 0.9)])
    assert editing_prompts(leg, PORTRAIT) == (T_POSE + STANDING, ARMS_DOWN + STANDING)


@pytest.mark.parametrize("joint", list(Joint))
def test_each_limb_counts_wherever_it_is_seen(joint):
    arms = {Joint.RIGHT_ELBOW, Joint.RIGHT_WRIST, Joint.LEFT_ELBOW, Joint.LEFT_WRIST}
    legs = {Joint.RIGHT_KNEE, Joint.RIGHT_ANKLE, Joint.LEFT_KNEE, Joint.LEFT_ANKLE}
    visible = HANDS if joint in arms else STANDING if joint in legs else ""
    expected = (ARMS_DOWN if visible else FACE) + visible
    assert editing_prompts(track(seen=[(2, joint, 0.1, 0.9, 0.8)]), PORTRAIT)[0] == expected
    for outside in ((1.01, 0.5, 0.8), (0.5, 1.01, 0.8)):
        assert editing_prompts(track(seen=[(2, joint, *outside)]), PORTRAIT)[0] == FACE


def test_square_pictures_are_not_wide():
    arm = track((512, 512), seen=[(0, Joint.LEFT_WRIST, 0.5, 0.5, 0.8)])
    assert editing_prompts(arm, (512, 512)) == (ARMS_DOWN + HANDS, ARMS_DOWN + HANDS)


class Recorder:
    """Stands in for the pipeline: keeps what it is called with, gives a white square."""

    def __init__(self, side=64):
        self.calls, self.side = [], side

    def __call__(self, **arguments):
        self.calls.append(arguments)
        after_step = arguments["callback_on_step_end"]
        for step in range(arguments["num_inference_steps"]):
            assert after_step(self, step, None, {"latents": step}) == {"latents": step}
        return SimpleNamespace(images=[Image.new("RGB", (self.side, self.side), "white")])


class Counts(Silent):
    def __init__(self):
        self.total, self.done = 0, []

    def start(self, phase, total):
        self.total = total

    def update(self, done, preview=None):
        self.done.append(done)


def pictures(frames=3):
    video = np.zeros((frames, 83, 48, 3), np.uint8)
    video += np.arange(frames, dtype=np.uint8)[:, None, None, None]
    return video, np.full((51, 64, 3), 200, np.uint8)


def test_flux_is_called_as_the_reference_calls_it():
    video, reference = pictures()
    pose = track((48, 83), seen=[(0, Joint.LEFT_WRIST, 0.5, 0.5, 0.8)])
    pipeline, watcher = Recorder(), Counts()
    result = edit_images(video, torch.from_numpy(reference), pose, pipeline, watcher, seed=5)
    first, second = pipeline.calls
    for call in pipeline.calls:
        assert call["guidance_scale"] == 2.5
        assert call["num_inference_steps"] == 28
        assert call["generator"].initial_seed() == 5
    assert (first["width"], first["height"]) == (64, 51)
    assert (second["width"], second["height"]) == (48, 83)
    assert first["prompt"] == T_POSE + HANDS
    assert second["prompt"] == ARMS_DOWN + HANDS
    assert np.array_equal(np.asarray(first["image"]), reference)
    assert np.array_equal(np.asarray(second["image"]), video[1])  # the second frame
    assert watcher.total == 56
    assert watcher.done == list(range(1, 57))
    # the square result is letterboxed back to the sizes of the originals
    assert result.reference.shape == (51, 64, 3)
    assert result.driving.shape == (83, 48, 3)
    columns = np.flatnonzero((result.reference == 255).all((0, 2)))
    assert (columns[0], columns[-1]) == (6, 56)
    rows = np.flatnonzero((result.driving == 255).all((1, 2)))
    assert (rows[0], rows[-1]) == (17, 64)


def test_cancelling_stops_between_two_steps():
    class StopError(Exception):
        pass

    class Cancels(Counts):
        def update(self, done, preview=None):
            super().update(done)
            if done == 3:
                raise StopError

    watcher = Cancels()
    with pytest.raises(StopError):
        edit_images(*pictures(), track((48, 83)), Recorder(), watcher)
    assert watcher.done == [1, 2, 3]


def test_single_frame_has_no_second_one_to_edit():
    with pytest.raises(GeometryError, match="1 frame"):
        edit_images(*pictures(1), track((48, 83), 1), Recorder(), Silent())


def test_pictures_edited_elsewhere_serve_as_well():
    video, reference = pictures()
    given = np.full((100, 100, 3), 30, np.uint8), torch.full((51, 64, 3), 40, dtype=torch.uint8)
    result = edited_pictures(video, reference, track((48, 83)), Silent(), given)
    assert result.driving.shape == (83, 48, 3)
    assert result.driving.max() == 30
    assert np.all(result.reference == 40)


def test_pictures_made_here_where_none_are_given():
    video, reference = pictures()
    pipeline = Recorder()
    result = edited_pictures(video, reference, track((48, 83)), Silent(), pipeline=pipeline)
    assert len(pipeline.calls) == 2
    assert result.driving.shape == (83, 48, 3)


@pytest.mark.parametrize("which", [0, 1])
def test_one_edited_picture_without_the_other_is_an_error(which):
    video, reference = pictures()
    given = [None, None]
    given[which] = reference
    missing = ("edited driving frame", "edited reference image")[1 - which]
    with pytest.raises(InputError, match=f"without the {missing}"):
        edited_pictures(video, reference, track((48, 83)), Silent(), tuple(given), Recorder())


def test_no_flux_and_no_pictures_says_what_to_download():
    with pytest.raises(MissingFileError) as error:
        edited_pictures(*pictures(), track((48, 83)), Silent())
    assert "black-forest-labs/FLUX.1-Kontext-dev" in error.value.fix
    assert "give both results" in error.value.fix


@pytest.fixture(scope="module")
def tiny_flux(tmp_path_factory):
    """A random Kontext folder. Its deep VAE makes a million pixels into 64 tokens."""
    from diffusers import (
        AutoencoderKL,
        FlowMatchEulerDiscreteScheduler,
        FluxKontextPipeline,
        FluxTransformer2DModel,
    )
    from tokenizers import Tokenizer
    from transformers import (
        CLIPTextConfig,
        CLIPTextModel,
        PreTrainedTokenizerFast,
        T5Config,
        T5EncoderModel,
    )
    from wan_local.wan.tiny.tokenizer import tokenizer_json

    torch.manual_seed(0)
    words = Tokenizer.from_str(tokenizer_json())
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    clip = CLIPTextConfig(
        vocab_size=259,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        projection_dim=16,
        bos_token_id=2,
        eos_token_id=1,
        pad_token_id=0,
    )
    t5 = T5Config(vocab_size=259, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    pipeline = FluxKontextPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 7,
            up_block_types=("UpDecoderBlock2D",) * 7,
            block_out_channels=(4,) * 7,
            layers_per_block=1,
            latent_channels=1,
            norm_num_groups=1,
            shift_factor=0.06,
            scaling_factor=1.5,
        ),
        text_encoder=CLIPTextModel(clip),
        tokenizer=PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=77, **special),
        text_encoder_2=T5EncoderModel(t5),
        tokenizer_2=PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=64, **special),
        transformer=FluxTransformer2DModel(
            in_channels=4,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=1,
            joint_attention_dim=16,
            pooled_projection_dim=16,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=True,
        ),
    )
    folder = tmp_path_factory.mktemp("models") / "FLUX.1-Kontext-dev"
    pipeline.save_pretrained(folder)
    return folder


class Watched(DevicePlacement):
    """Tells which models were on the device together."""

    def __init__(self):
        super().__init__("cpu")
        self.present, self.meetings = set(), []

    def own(self, module, name, stack):
        owned, watched = super().own(module, name, stack), self

        class Doors:
            def on_device(self, memory, patches=()):
                from contextlib import contextmanager

                @contextmanager
                def enter():
                    watched.present.add(name)
                    watched.meetings.append(frozenset(watched.present))
                    with owned.on_device(memory, patches) as module:
                        yield module
                    watched.present.discard(name)

                return enter()

        return Doors()


def test_kontext_does_what_the_whole_pipeline_does(tiny_flux):
    from diffusers import FluxKontextPipeline

    whole = FluxKontextPipeline.from_pretrained(tiny_flux, local_files_only=True)
    whole.set_progress_bar_config(disable=True)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (256, 128, 3), np.uint8))
    arguments = {
        "image": picture,
        "prompt": ARMS_DOWN,
        "height": 256,
        "width": 128,
        "guidance_scale": 2.5,
        "num_inference_steps": 2,
        "max_area": 256 * 128,
        "_auto_resize": False,
    }
    placement = Watched()
    ours = Kontext(tiny_flux, placement)
    assert not placement.meetings  # nothing is read before it is needed
    expected = whole(**arguments, generator=torch.Generator().manual_seed(3)).images[0]
    result = ours(**arguments, generator=torch.Generator().manual_seed(3)).images[0]
    # Weights at other addresses may take another path through the CPU's matrix products, which
    # rounds a few of the pixels the other way.
    apart = np.abs(np.asarray(result).astype(int) - np.asarray(expected))
    assert apart.max() <= 1 and (apart > 0).mean() < 1e-3
    text = {"FLUX text_encoder", "FLUX text_encoder_2"}
    assert all(not (meeting & text) or meeting <= text for meeting in placement.meetings)
    visits = len(placement.meetings)
    ours(**arguments, generator=torch.Generator().manual_seed(3))
    assert len(placement.meetings) == visits + 2  # the same text is not encoded twice


def test_both_pictures_are_edited_by_a_real_small_kontext(tiny_flux):
    generator = np.random.default_rng(0)
    video = generator.integers(0, 255, (2, 260, 150, 3), np.uint8)
    reference = generator.integers(0, 255, (130, 200, 3), np.uint8)
    pipeline, watcher = Kontext(tiny_flux, DevicePlacement("cpu")), Counts()
    result = edit_images(video, reference, track((150, 260), 2), pipeline, watcher, seed=1)
    assert watcher.done[-1] == watcher.total == 56
    assert result.driving.shape == video[1].shape
    assert result.reference.shape == reference.shape
    assert result.driving.std() > 0
    assert not np.array_equal(result.reference, reference)


def test_missing_flux_folder_says_what_to_download_and_the_alternative(tmp_path):
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(MissingFileError) as error:
            Kontext(folder, DevicePlacement("cpu"))
        assert "black-forest-labs/FLUX.1-Kontext-dev" in error.value.fix
        assert "any other tool" in error.value.fix


def test_other_flux_pipeline_is_refused(tmp_path):
    for content in ('{"_class_name": "FluxPipeline"}', "[]", "no json"):
        (tmp_path / "model_index.json").write_text(content)
        with pytest.raises(ModelError, match="not FluxKontextPipeline"):
            Kontext(tmp_path, DevicePlacement("cpu"))


def test_incomplete_flux_folder_names_what_is_missing(tiny_flux, tmp_path):
    index = json.loads((tiny_flux / "model_index.json").read_text())
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    for name in ("vae", "transformer", "tokenizer", "tokenizer_2", "scheduler", "text_encoder"):
        (tmp_path / name).mkdir()
    with pytest.raises(MissingFileError, match=r"lacks text_encoder_2\."):
        Kontext(tmp_path, DevicePlacement("cpu"))


def test_damaged_flux_weights_are_an_error_of_the_file(tiny_flux, tmp_path):
    import shutil

    folder = tmp_path / "damaged"
    shutil.copytree(tiny_flux, folder)
    for weights in (folder / "text_encoder").glob("*.safetensors"):
        weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelError, match="text_encoder of 'damaged' cannot be read"):
        Kontext(folder, DevicePlacement("cpu"))(prompt="x")
