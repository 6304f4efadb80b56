"""The driving video: its frames, the face in it, and the person to replace."""

from comfy_api.latest import InputImpl, io

from ..wan.errors import GeometryError
from ..wan.geometry import SIZE_STEP
from ..wan.media.resize import resize_by_area
from ..wan.params import ANIMATE_APP
from ..wan.preprocess.mask.segment import segment_person
from ..wan.preprocess.mask.shape import (
    block_mask,
    dilate_mask,
    mask_background,
    match_mask,
    preview,
)
from ..wan.preprocess.pose.face import crop_faces, find_faces
from ..wan.preprocess.pose.track import describe_misses
from ..wan.preprocess.video import read_video, select_frames
from . import compat
from .host_progress import NodeReporter
from .images import glimpse, to_image
from .inputs import from_param
from .onnx_files import make_segmenter, segmenter_choices
from .sockets import WanDriving, WanPose, from_audio, to_audio

CATEGORY = "wan/3 preprocess"
SIZE_MODES = ("source size", "area")


class WanLocalReadDrivingVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.Schema(
            node_id="WanLocalReadDrivingVideo",
            display_name="Wan Read Driving Video",
            category=CATEGORY,
            description="Takes frames and sound out of the video that gives the motion. A file is "
            "read frame by frame, so that a long one takes no more memory than its result.",
            search_aliases=["load video", "wan animate video", "driving video", "resample fps"],
            inputs=[
                io.Video.Input("video", tooltip="From Load Video, or any node that gives a video."),
                from_param(ANIMATE_APP["fps"]),
                compat.make_input(
                    io.Combo.Input,
                    "size_mode",
                    options=list(SIZE_MODES),
                    default=SIZE_MODES[0],
                    tooltip="source size: the frames as they are. area: about as many pixels as "
                    "width x height, in the video's own aspect.",
                ),
                compat.make_input(
                    io.Int.Input,
                    "width",
                    default=1280,
                    min=SIZE_STEP,
                    max=8192,
                    step=SIZE_STEP,
                    tooltip="With height: the area of the frames, if size_mode is area.",
                ),
                compat.make_input(
                    io.Int.Input,
                    "height",
                    default=720,
                    min=SIZE_STEP,
                    max=8192,
                    step=SIZE_STEP,
                    tooltip="With width: the area of the frames, if size_mode is area.",
                ),
                compat.make_input(
                    io.Int.Input,
                    "start_frame",
                    default=0,
                    min=0,
                    max=10_000_000,
                    tooltip="Frames to leave out at the beginning, counted at the fps above. To "
                    "continue an earlier result: its number of frames less refert_num.",
                ),
                compat.make_input(
                    io.Int.Input,
                    "frame_limit",
                    default=0,
                    min=0,
                    max=10_000_000,
                    tooltip="At most so many frames; 0 = all.",
                ),
            ],
            outputs=[
                WanDriving.Output(
                    "driving",
                    display_name="driving",
                    tooltip="The frames, for the other Wan preprocess nodes.",
                ),
                io.Audio.Output(
                    "audio",
                    display_name="audio",
                    tooltip="The sound of the same time, for Create Video; nothing if there is "
                    "none.",
                ),
                io.Float.Output(
                    "effective_fps",
                    display_name="fps",
                    tooltip="Frames per second of the result: fps, or the video's own if that "
                    "is -1.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, video, fps, size_mode, width, height, start_frame, frame_limit):
        def fit(frame):
            return resize_by_area(frame, width * height)

        reporter = NodeReporter(cls, {"read video": 1})
        part = {"offset": start_frame, "max_frames": frame_limit or None}
        resize = fit if size_mode == "area" else None
        driving = read_driving(video, fps, resize, reporter, part)
        return io.NodeOutput(driving, to_audio(driving.audio), float(driving.fps))


class WanLocalDrivingFrames(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.Schema(
            node_id="WanLocalDrivingFrames",
            display_name="Wan Driving Frames",
            category=CATEGORY,
            description="Turns a driving video into images, for nodes that work on them.",
            search_aliases=["driving to image", "video frames"],
            inputs=[WanDriving.Input("driving", tooltip="From Wan Read Driving Video.")],
            outputs=[
                io.Image.Output("frames", display_name="frames", tooltip="All of its frames.")
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, driving):
        return io.NodeOutput(to_image(driving.frames, NodeReporter(cls, {})))


class WanLocalFaceCrop(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.Schema(
            node_id="WanLocalFaceCrop",
            display_name="Wan Face Crop",
            category=CATEGORY,
            description="Cuts the face out of each frame of a driving video, 512x512, as Wan "
            "Animate reads expressions. A frame without a face shows the place of the one before.",
            search_aliases=["face video", "face images", "pose and face detection"],
            inputs=[
                WanDriving.Input("driving", tooltip="The video the pose was measured in."),
                WanPose.Input("pose", tooltip="Where the face is, from Wan Pose Extract."),
                compat.make_input(
                    io.Float.Input,
                    "steady",
                    default=0.0,
                    min=0.0,
                    max=30.0,
                    step=0.5,
                    tooltip="Holds the cut still: one size for all frames, and a place averaged "
                    "over about so many frames. 0 follows the face exactly, as the reference does.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "face_video", display_name="face_video", tooltip="One 512x512 face a frame."
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, driving, pose, steady):
        check_pose(driving, pose)
        reporter = NodeReporter(cls, {"cut out the face": 1})
        faces = find_faces(pose, steady=steady)
        missed = describe_misses({"face": faces.misses}, len(pose))
        if missed:
            reporter.note(missed)
        crops = crop_faces(driving.frames, faces, reporter)
        return io.NodeOutput(to_image(crops, reporter), ui=glimpse(crops, cls))


class WanLocalSegmentPerson(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        methods = segmenter_choices()
        return compat.Schema(
            node_id="WanLocalSegmentPerson",
            display_name="Wan Segment Person",
            category=CATEGORY,
            description="Masks the person whose pose was measured, in every frame. A mask of any "
            "other node can be used instead.",
            search_aliases=["sam2", "person mask", "replacement mask", "grabcut"],
            inputs=[
                WanDriving.Input("driving", tooltip="The video the pose was measured in."),
                WanPose.Input("pose", tooltip="Where the person is, from Wan Pose Extract."),
                compat.make_input(
                    io.Combo.Input,
                    "method",
                    options=methods,
                    default=methods[0],
                    tooltip="SAM2 video models in models/sam2 (a folder with config.json, for "
                    "example sam2-hiera-large), or GrabCut, which cuts by colour and is coarser.",
                ),
            ],
            outputs=[
                io.Mask.Output(
                    "person_mask",
                    display_name="person_mask",
                    tooltip="1 = the person, for Wan Mask Dilate; empty where nobody was found.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, driving, pose, method):
        reporter = NodeReporter(cls, {"segment person": 1})
        found = segment_person(driving.frames, pose, make_segmenter(method), reporter)
        return io.NodeOutput(found.masks.float())


class WanLocalMaskDilate(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.Schema(
            node_id="WanLocalMaskDilate",
            display_name="Wan Mask Dilate",
            category=CATEGORY,
            description="Makes a person's mask larger and blocky, so that another figure has room, "
            "and cuts it out of the driving video.",
            search_aliases=["grow mask", "blockify mask", "background video", "dilate"],
            inputs=[
                io.Mask.Input(
                    "mask",
                    tooltip="1 = the person to replace, one mask a frame or one for all, at the "
                    "size of the driving video. From Wan Segment Person or any other node.",
                ),
                WanDriving.Input("driving", tooltip="The video that the mask belongs to."),
                from_param(ANIMATE_APP["mask_kernel_size"]),
                from_param(ANIMATE_APP["mask_iterations"]),
                from_param(ANIMATE_APP["mask_w_subdivisions"]),
                from_param(ANIMATE_APP["mask_h_subdivisions"]),
            ],
            outputs=[
                io.Mask.Output(
                    "dilated_mask", display_name="dilated_mask", tooltip="What will be replaced."
                ),
                io.Image.Output(
                    "background",
                    display_name="background",
                    tooltip="The driving video, black where the mask is.",
                ),
                io.Image.Output(
                    "mask_preview",
                    display_name="mask_preview",
                    tooltip="The driving video, red where the mask is, to look at.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        mask,
        driving,
        mask_kernel_size,
        mask_iterations,
        mask_w_subdivisions,
        mask_h_subdivisions,
    ):
        phases = ("grow mask", "block mask", "cut out mask", "preview mask")
        reporter, frames = NodeReporter(cls, dict.fromkeys(phases, 1)), driving.frames
        grown = dilate_mask(mask, mask_kernel_size, mask_iterations, reporter)
        grown = block_mask(grown, mask_w_subdivisions, mask_h_subdivisions, reporter)
        background = to_image(mask_background(frames, grown, reporter), reporter)
        red = preview(frames, grown, reporter)
        shown = to_image(red, reporter)
        masked = match_mask(grown, frames).float()
        return io.NodeOutput(masked, background, shown, ui=glimpse(red, cls))


def read_driving(video, fps, resize, reporter, part):
    """The selected frames of what a VIDEO socket carries; a file is not loaded as a whole."""
    options = {"reporter": reporter, **part}
    # A video made of frames has no file: asking for its stream would encode it.
    if not isinstance(video, InputImpl.VideoFromComponents) and not is_trimmed(video):
        source = video.get_stream_source()
        if isinstance(source, str):
            return read_video(source, fps, resize, **options)
    parts = video.get_components()
    rate, sound = parts.frame_rate, from_audio(parts.audio)
    return select_frames(parts.images, rate, fps, resize, audio=sound, **options)


def is_trimmed(video):
    """Whether a file is only used in part, which its path does not tell."""
    if hasattr(video, "get_active_trim_window"):
        return any(video.get_active_trim_window())
    # Hosts of 0.14 and after trim too, but the older of them do not say so.
    return any(getattr(video, f"_VideoFromFile__{name}", 0) for name in ("start_time", "duration"))


def check_pose(driving, pose):
    """Refuse a pose that was measured in another video.

    Raises:
        GeometryError: another size or length.
    """
    count, height, width = driving.frames.shape[:3]
    if (len(pose), *pose.size) != (count, width, height):
        raise GeometryError(
            what=f"The poses are of {len(pose)} frames of {pose.width}x{pose.height}, the driving "
            f"video has {count} of {width}x{height}.",
            why="Frame by frame they belong together.",
            fix="Connect the driving video that the poses were measured in.",
        )
