"""Character animation and replacement: what is sampled, and the sampler."""

import torch
from comfy_api.latest import io

from ..wan.animate import AnimateSettings, animate
from ..wan.animate.inputs import Figure, condition_figure, make_scene, video_size
from ..wan.animate.loop import Places
from ..wan.decode.colour import COLOUR_MATCHES
from ..wan.geometry import SIZE_STEP
from ..wan.media.frames import to_pixels
from ..wan.params import ANIMATE_APP, I2V_APP
from ..wan.payloads import Mode
from ..wan.sample.guidance import Guidance
from ..wan.sample.settings import PLAIN_OPTIONS, SampleSettings
from . import compat, host
from .host_progress import NodeReporter
from .images import as_frames, collect_image
from .inputs import clip_features, clip_vision_input, from_param, seed_input
from .relighting import AUTO, find_relighting, relighting_choices
from .sockets import WanAnimate, WanDriving, WanModel, WanOptions, WanPose, WanText


class WanLocalAnimate(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.Schema(
            node_id="WanLocalAnimate",
            display_name="Wan Animate",
            category="wan/2 encode",
            description="Brings a character, the motion of a driving video and, for replacement, "
            "its scene together for Wan Animate Sampler.",
            search_aliases=["wan animate to video", "animate embeds", "character replacement"],
            inputs=[
                WanModel.Input("model", tooltip="Wan 2.2 Animate weights, from Wan Model Loader."),
                WanDriving.Input("driving", tooltip="From Wan Read Driving Video."),
                WanPose.Input(
                    "pose", tooltip="From Wan Pose Extract, or from Wan Pose Retarget after it."
                ),
                io.Image.Input(
                    "reference_image",
                    tooltip="The character. Of a batch the first picture is taken.",
                ),
                from_param(ANIMATE_APP["mode"]),
                from_param(ANIMATE_APP["resolution_width"], min=64, step=SIZE_STEP),
                from_param(ANIMATE_APP["resolution_height"], min=64, step=SIZE_STEP),
                from_param(I2V_APP["vae_tile_size"], default=0),
                compat.make_input(
                    io.Combo.Input,
                    "relighting",
                    options=relighting_choices(),
                    default=AUTO,
                    tooltip="The LoRA that fits the character to the light of the scene, in "
                    "replacement only. auto: a file in models/loras with relight in its name.",
                ),
                compat.make_input(
                    io.Float.Input,
                    "relighting_strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="Of the relighting LoRA. 0 leaves the character in its own light.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Replacement: what is made anew, from Wan Mask Dilate. Refused in "
                    "animation.",
                ),
                io.Image.Input(
                    "background",
                    optional=True,
                    tooltip="Replacement: the driving video without the person, from Wan Mask "
                    "Dilate. Refused in animation.",
                ),
                io.Image.Input(
                    "pose_video",
                    optional=True,
                    tooltip="A skeleton video of your own in place of the drawn one, in the size "
                    "of the result.",
                ),
                io.Image.Input(
                    "face_video",
                    optional=True,
                    tooltip="Face pictures of your own in place of those cut out of the driving "
                    "video, for example from Wan Face Crop with steady.",
                ),
                clip_vision_input(),
            ],
            outputs=[
                WanAnimate.Output(
                    "animation",
                    display_name="animation",
                    tooltip="For Wan Animate Sampler.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, relighting, **_):
        return host.fingerprint(find_relighting(relighting) if relighting else None)

    @classmethod
    def execute(
        cls,
        model,
        driving,
        pose,
        reference_image,
        mode,
        resolution_width,
        resolution_height,
        vae_tile_size,
        relighting,
        relighting_strength,
        mask=None,
        background=None,
        pose_video=None,
        face_video=None,
        clip_vision_output=None,
    ):
        reporter = NodeReporter(cls, {"encode image": 1, "encode reference": 2})
        reference = torch.from_numpy(to_pixels(reference_image[0]))
        scene = make_scene(Mode(mode), driving, mask, as_frames(background))
        size = video_size(Mode(mode), reference, driving, resolution_width * resolution_height)
        features = clip_features(clip_vision_output)
        figure = Figure(reference, pose, as_frames(pose_video), as_frames(face_video), features)
        light = find_relighting(relighting, relighting_strength)
        reporter.note(f"{mode}, {size[0]}x{size[1]}, {len(pose)} frames")
        condition = condition_figure(
            model, driving, figure, size, reporter, scene, light, vae_tile_size
        )
        return io.NodeOutput(condition)


class WanLocalAnimateSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.Schema(
            node_id="WanLocalAnimateSampler",
            display_name="Wan Animate Sampler",
            category="wan/4 sample",
            description="Samples and decodes a character animation or replacement of any length, "
            "clip by clip, with live preview.",
            search_aliases=["wan animate", "long video", "clip loop", "context window"],
            inputs=[
                WanModel.Input("model", tooltip="The same model as in the nodes before."),
                WanText.Input("text", tooltip="From Wan Prompt Encode; the prompt may be empty."),
                WanAnimate.Input("animation", tooltip="From Wan Animate."),
                seed_input(),
                from_param(ANIMATE_APP["sampling_steps"], min=1),
                from_param(ANIMATE_APP["guide_scale"]),
                from_param(ANIMATE_APP["sample_solver"]),
                from_param(ANIMATE_APP["shift"]),
                from_param(ANIMATE_APP["clip_len"], step=4),
                from_param(ANIMATE_APP["refert_num"]),
                compat.make_input(
                    io.Combo.Input,
                    "colour_match",
                    options=list(COLOUR_MATCHES),
                    default=COLOUR_MATCHES[0],
                    tooltip="Holds colours that drift over many clips: later clips get those of "
                    "the first, or all get those of the character's picture.",
                ),
                from_param(I2V_APP["vae_tile_size"], default=0),
                from_param(ANIMATE_APP["offload_model"]),
                compat.make_input(
                    io.Boolean.Input,
                    "resume",
                    default=True,
                    tooltip="Keeps finished clips of a long video on disk: after an interruption "
                    "or a crash the same run goes on behind the last of them.",
                ),
                io.Image.Input(
                    "previous_frames",
                    optional=True,
                    tooltip="An earlier result that this one continues. Its last refert_num frames "
                    "are those that the driving video begins with; they are not made again.",
                ),
                WanOptions.Input(
                    "options",
                    optional=True,
                    tooltip="From Wan Sampling Options: joint pass and attention kernel.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "frames",
                    display_name="frames",
                    tooltip="All frames, as many as the driving video has.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model,
        text,
        animation,
        seed,
        sampling_steps,
        guide_scale,
        sample_solver,
        shift,
        clip_len,
        refert_num,
        colour_match,
        vae_tile_size,
        offload_model,
        resume,
        previous_frames=None,
        options=PLAIN_OPTIONS,
    ):
        sample = SampleSettings(
            steps=sampling_steps,
            guidance=Guidance(guide_scale, cfg_star=False),
            solver=sample_solver,
            shift=shift,
            seed=seed,
            options=options,
        )
        settings = AnimateSettings(
            sample, clip_len, refert_num, colour_match, vae_tile_size, offload_model
        )
        places = Places(host.kept_folder() if resume else None, host.temporary_folder())
        reporter = NodeReporter(cls, {"animate": 1})
        made = animate(model, text, animation, settings, reporter, places, previous_frames)
        frames = collect_image(made.frames(), made.num_frames, made.height, made.width, reporter)
        made.close()
        return io.NodeOutput(frames)
