"""The pose of the person in the driving video: measured, taken over, drawn."""

from comfy_api.latest import io

from ..wan.errors import WanError
from ..wan.media.sequence import MadeFrames, pixels
from ..wan.preprocess.pose.detect import PersonChoice, PersonRule
from ..wan.preprocess.pose.measure import measure_poses
from ..wan.preprocess.pose.onnx import ModelKind
from ..wan.preprocess.pose.openpose import read_openpose, write_openpose
from ..wan.preprocess.pose.overlay import draw_overlay, draw_overlays
from ..wan.preprocess.pose.skeleton import draw_track
from ..wan.preprocess.pose.track import describe_misses, drop_uncertain, smooth_track
from . import compat
from .host_progress import NodeReporter
from .images import glimpse, to_image
from .onnx_files import (
    DEVICES,
    TINY,
    find_onnx,
    fingerprint,
    onnx_choices,
    onnx_default,
    open_models,
)
from .preprocess import CATEGORY, check_pose
from .sockets import PoseKeypoint, WanDriving, WanPose, WanPoseModel


class WanLocalPoseModelLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.Schema(
            node_id="WanLocalPoseModelLoader",
            display_name="Wan Pose Model Loader",
            category="wan/1 load",
            description="Opens the models that find a person and measure the pose.",
            search_aliases=["onnx", "yolo", "vitpose", "detection model loader"],
            inputs=[
                compat.make_input(
                    io.Combo.Input,
                    "detector",
                    options=onnx_choices(),
                    default=onnx_default(ModelKind.DETECTOR),
                    tooltip="Finds people: yolov10m.onnx in models/detection. The tiny one sees "
                    "only the puppet that our tests draw.",
                ),
                compat.make_input(
                    io.Combo.Input,
                    "pose",
                    options=onnx_choices(),
                    default=onnx_default(ModelKind.POSE),
                    tooltip="Measures joints: ViTPose-H or ViTPose-L whole-body (.onnx) in "
                    "models/detection, with its data file, if it has one, beside it.",
                ),
                compat.make_input(
                    io.Combo.Input,
                    "device",
                    options=list(DEVICES),
                    default=DEVICES[0],
                    tooltip="auto: the best that the installed onnxruntime can use. A GPU needs "
                    "onnxruntime-gpu (or -directml) instead of onnxruntime.",
                    advanced=True,
                ),
            ],
            outputs=[
                WanPoseModel.Output(
                    "pose_model", display_name="pose_model", tooltip="For Wan Pose Extract."
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, detector):
        # One input only, as the host repeats the answer; the other is looked at when it runs.
        try:
            if detector not in (None, TINY):  # a linked value is not known yet
                find_onnx(detector, ModelKind.DETECTOR)
        except WanError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, detector, pose, **_):
        return fingerprint(detector, pose)

    @classmethod
    def execute(cls, detector, pose, device):
        model = open_models(detector, pose, device)
        NodeReporter(cls, {}).note(model.summary)
        return io.NodeOutput(model)


class WanLocalPoseExtract(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        rules = [rule.value for rule in PersonRule]
        return compat.Schema(
            node_id="WanLocalPoseExtract",
            display_name="Wan Pose Extract",
            category=CATEGORY,
            description="Measures the pose of one person in every frame of a driving video: body, "
            "hands and face.",
            search_aliases=["pose detection", "dwpose", "vitpose", "pose and face detection"],
            inputs=[
                WanDriving.Input("driving", tooltip="From Wan Read Driving Video."),
                WanPoseModel.Input("pose_model", tooltip="From Wan Pose Model Loader."),
                compat.make_input(
                    io.Combo.Input,
                    "person",
                    options=rules,
                    default=rules[0],
                    tooltip="Whom to measure where several people are seen. largest: in each frame "
                    "anew, as the reference does. The others choose once and follow that person.",
                ),
                compat.make_input(
                    io.Int.Input,
                    "person_index",
                    default=0,
                    min=0,
                    max=99,
                    tooltip="For index: counted from the left, 0 = left-most.",
                ),
                compat.make_input(
                    io.Float.Input,
                    "point_x",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="For nearest to a point: part of the width, 0 = left, 1 = right.",
                ),
                compat.make_input(
                    io.Float.Input,
                    "point_y",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="For nearest to a point: part of the height, 0 = top, 1 = bottom.",
                ),
                compat.make_input(
                    io.Float.Input,
                    "smoothing",
                    default=0.0,
                    min=0.0,
                    max=10.0,
                    step=0.1,
                    tooltip="Calms jitter, in frames: 1 keeps fast moves. 0 = off, as the "
                    "reference does.",
                ),
                compat.make_input(
                    io.Float.Input,
                    "min_score",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Points that the model is less sure of count as not seen. 0 = off, as "
                    "the reference does; a skeleton shows points from 0.5 on.",
                ),
            ],
            outputs=[
                WanPose.Output(
                    "pose",
                    display_name="pose",
                    tooltip="For Wan Pose Draw, Wan Face Crop and Wan Segment Person.",
                ),
                PoseKeypoint.Output(
                    "pose_keypoints",
                    display_name="pose_keypoints",
                    tooltip="The same as OpenPose dictionaries, for nodes of other packs.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        driving,
        pose_model,
        person,
        person_index,
        point_x,
        point_y,
        smoothing,
        min_score,
    ):
        reporter = NodeReporter(cls, {"find the person": 1, "measure the pose": 2})
        choice = PersonChoice(PersonRule(person), person_index, point_x, point_y)
        models = pose_model.detector, pose_model.pose
        track = measure_poses(driving.frames, *models, choice, reporter=reporter)
        missed = describe_misses({"person": track.misses}, len(track))
        if missed:
            reporter.note(missed)
        track = smooth_track(drop_uncertain(track, min_score, min_score, min_score), smoothing)
        overlay = MadeFrames(
            len(track), lambda n: draw_overlay(pixels(driving.frames, n), track, n)
        )
        return io.NodeOutput(track, write_openpose(track), ui=glimpse(overlay, cls))


class WanLocalPoseFromKeypoints(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.Schema(
            node_id="WanLocalPoseFromKeypoints",
            display_name="Wan Pose from Keypoints",
            category=CATEGORY,
            description="Takes poses from other nodes: OpenPose, DWPose or SDPose. Of several "
            "people in a frame the largest is taken.",
            search_aliases=["pose keypoint", "openpose json", "dwpose", "sdpose"],
            inputs=[
                PoseKeypoint.Input(
                    "pose_keypoints",
                    tooltip="One pose for each frame, from a node that gives POSE_KEYPOINT.",
                )
            ],
            outputs=[
                WanPose.Output(
                    "pose",
                    display_name="pose",
                    tooltip="For Wan Pose Draw, Wan Face Crop and Wan Segment Person.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, pose_keypoints):
        track = read_openpose(pose_keypoints)
        missed = describe_misses({"person": track.misses}, len(track))
        if missed:
            NodeReporter(cls, {}).note(missed)
        return io.NodeOutput(track)


class WanLocalPoseDraw(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.Schema(
            node_id="WanLocalPoseDraw",
            display_name="Wan Pose Draw",
            category=CATEGORY,
            description="Draws poses as the skeleton video that Wan Animate reads.",
            search_aliases=["draw vitpose", "skeleton", "pose video"],
            inputs=[
                WanPose.Input("pose", tooltip="From Wan Pose Extract or Wan Pose from Keypoints."),
                WanDriving.Input(
                    "driving",
                    optional=True,
                    tooltip="The video the pose was measured in, for the overlay only.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "pose_video",
                    display_name="pose_video",
                    tooltip="The skeleton on black, in the size that was measured.",
                ),
                io.Image.Output(
                    "overlay",
                    display_name="overlay",
                    tooltip="Skeleton and person box over the driving video, to see whether they "
                    "fit; red boxes where nobody was found. Without a driving video it is the "
                    "pose video again.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, pose, driving=None):
        phases = ["draw the skeleton"] + ["draw the overlay"] * (driving is not None)
        reporter = NodeReporter(cls, dict.fromkeys(phases, 1))
        if driving is not None:
            check_pose(driving, pose)
        drawn = overlay = to_image(draw_track(pose, reporter=reporter), reporter)
        if driving is not None:
            overlay = to_image(draw_overlays(driving.frames, pose, reporter=reporter), reporter)
        return io.NodeOutput(drawn, overlay)
