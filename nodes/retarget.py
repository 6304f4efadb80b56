"""Fitting the motion to the proportions of the character."""

import torch
from comfy_api.latest import io

from ..wan.media.frames import to_pixels
from ..wan.params import ANIMATE_APP
from ..wan.preprocess.retarget.fit import fit_pose
from . import compat
from .flux import choose_editing, flux_choices
from .host_progress import NodeReporter
from .images import to_image
from .inputs import from_param
from .preprocess import CATEGORY, check_pose
from .sockets import WanDriving, WanPose, WanPoseModel


class WanLocalPoseRetarget(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        folders = flux_choices()
        return compat.Schema(
            node_id="WanLocalPoseRetarget",
            display_name="Wan Pose Retarget",
            category=CATEGORY,
            description="Gives the driving motion the bone lengths of the character, and its place "
            "in the picture. For animation; in replacement the person's own size counts.",
            search_aliases=["retarget_flag", "pose alignment", "body proportions", "use_flux"],
            inputs=[
                WanDriving.Input("driving", tooltip="The video the pose was measured in."),
                WanPose.Input("pose", tooltip="From Wan Pose Extract."),
                WanPoseModel.Input(
                    "pose_model", tooltip="From Wan Pose Model Loader: measures the character too."
                ),
                io.Image.Input("reference_image", tooltip="The character, as in Wan Animate."),
                from_param(ANIMATE_APP["resolution_width"], min=64, step=16),
                from_param(ANIMATE_APP["resolution_height"], min=64, step=16),
                compat.make_input(
                    io.Float.Input,
                    "ratio_limit",
                    default=0.0,
                    min=0.0,
                    max=10.0,
                    step=0.1,
                    tooltip="Keeps each bone's ratio within this factor of the median, against an "
                    "over-long limb whose joint was measured wrongly: 1.5 is cautious. 0 = off, as "
                    "the reference does.",
                ),
                from_param(
                    ANIMATE_APP["use_flux"],
                    tooltip="Has FLUX.1-Kontext bring both figures into one neutral pose before "
                    "their bones are compared: slower, and better for unusual poses.",
                ),
                compat.make_input(
                    io.Combo.Input,
                    "flux_model",
                    options=folders,
                    default=folders[0],
                    tooltip="For use_flux: a Diffusers folder of FLUX.1-Kontext-dev in "
                    "models/diffusers.",
                ),
                io.Image.Input(
                    "edited_driving",
                    optional=True,
                    tooltip="The second driving frame with its person in a neutral pose, edited in "
                    "any other way; used in place of FLUX, together with edited_reference.",
                ),
                io.Image.Input(
                    "edited_reference",
                    optional=True,
                    tooltip="The character in the same neutral pose.",
                ),
            ],
            outputs=[
                WanPose.Output(
                    "fitted_pose",
                    display_name="pose",
                    tooltip="In the size of the result, for Wan Animate and Wan Pose Draw.",
                ),
                io.Image.Output(
                    "measured_driving",
                    display_name="measured_driving",
                    tooltip="The driving frame that the bones were measured in, edited if so.",
                ),
                io.Image.Output(
                    "measured_reference",
                    display_name="measured_reference",
                    tooltip="The character as it was measured, edited if so.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        driving,
        pose,
        pose_model,
        reference_image,
        resolution_width,
        resolution_height,
        ratio_limit,
        use_flux,
        flux_model,
        edited_driving=None,
        edited_reference=None,
    ):
        phases = {"find the person": 1, "measure the pose": 1, "edit images": 20}
        reporter = NodeReporter(cls, phases)
        check_pose(driving, pose)
        fitted = fit_pose(
            driving.frames.numpy(),
            pose,
            torch.from_numpy(to_pixels(reference_image[0])),
            resolution_width * resolution_height,
            pose_model,
            reporter,
            choose_editing(use_flux, flux_model, edited_driving, edited_reference),
            ratio_limit or None,
        )
        pictures = fitted.pictures.driving[None], fitted.pictures.reference[None]
        return io.NodeOutput(fitted.pose, *(to_image(p, reporter) for p in pictures))
