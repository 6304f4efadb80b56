"""Our socket types. The record behind each is in wan/payloads.py."""

from comfy_api.latest import io

WanModel = io.Custom("WAN_MODEL")
WanText = io.Custom("WAN_TEXT")
WanCondition = io.Custom("WAN_CONDITION")
WanLatent = io.Custom("WAN_LATENT")
