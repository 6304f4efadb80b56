"""Our socket types. The record behind each is named beside it."""

from comfy_api.latest import io

from ..wan.media.sound import Audio

WanModel = io.Custom("WAN_MODEL")  # wan.payloads.WanModel
WanText = io.Custom("WAN_TEXT")  # wan.payloads.TextEmbeds
WanCondition = io.Custom("WAN_CONDITION")  # wan.payloads.ImageCondition
WanAnimate = io.Custom("WAN_ANIMATE")  # wan.payloads.AnimateCondition
WanLatent = io.Custom("WAN_LATENT")  # wan.payloads.VideoLatents
WanCache = io.Custom("WAN_CACHE")  # wan.sample.cache.CachePolicy
WanGuidance = io.Custom("WAN_GUIDANCE")  # wan.sample.guidance.Guidance
WanOptions = io.Custom("WAN_OPTIONS")  # wan.sample.settings.SampleOptions
WanDriving = io.Custom("WAN_DRIVING")  # wan.preprocess.video.DrivingVideo
WanPoseModel = io.Custom("WAN_POSE_MODEL")  # wan.preprocess.pose.onnx.PoseModels
WanPose = io.Custom("WAN_POSE")  # wan.preprocess.pose.PoseTrack
WanRife = io.Custom("WAN_RIFE")  # wan.upsample.rife.load.Rife
PoseKeypoint = io.Custom("POSE_KEYPOINT")  # OpenPose dictionaries, as core and other packs speak


def to_audio(audio: Audio | None):
    """Sound as AUDIO sockets carry it, or None."""
    return audio and {"waveform": audio.samples[None], "sample_rate": audio.rate}


def from_audio(audio) -> Audio | None:
    """What an AUDIO socket carries as our record, or None."""
    return audio and Audio(audio["waveform"][0], int(audio["sample_rate"]))
