"""Our socket types. The record behind each is named beside it."""

from comfy_api.latest import io

WanModel = io.Custom("WAN_MODEL")  # wan.payloads.WanModel
WanText = io.Custom("WAN_TEXT")  # wan.payloads.TextEmbeds
WanCondition = io.Custom("WAN_CONDITION")  # wan.payloads.ImageCondition
WanLatent = io.Custom("WAN_LATENT")  # wan.payloads.VideoLatents
WanCache = io.Custom("WAN_CACHE")  # wan.sample.cache.CachePolicy
WanGuidance = io.Custom("WAN_GUIDANCE")  # wan.sample.guidance.Guidance
WanOptions = io.Custom("WAN_OPTIONS")  # wan.sample.denoise.SampleOptions
WanDriving = io.Custom("WAN_DRIVING")  # wan.preprocess.video.DrivingVideo
WanPoseModel = io.Custom("WAN_POSE_MODEL")  # nodes.onnx_files.PoseModel
WanPose = io.Custom("WAN_POSE")  # wan.preprocess.pose.PoseTrack
WanRife = io.Custom("WAN_RIFE")  # wan.upsample.rife.load.Rife
PoseKeypoint = io.Custom("POSE_KEYPOINT")  # OpenPose dictionaries, as core and other packs speak
