"""Character animation of any length: encode, sample and decode, clip by clip."""

from .loop import AnimateSettings, Animation, animate

__all__ = ["AnimateSettings", "Animation", "animate"]
