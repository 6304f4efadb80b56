"""Options that plug into the sampler. Each can be left out."""

from comfy_api.latest import io

from ..wan.params import I2V_APP
from ..wan.sample.cache import MagCache, TeaCache
from ..wan.sample.cache.plan import RESOLUTIONS
from ..wan.sample.guidance import Guidance
from ..wan.sample.rope import Riflex
from ..wan.sample.settings import AS_LOADED, LINEARS, SampleOptions
from . import compat
from .inputs import from_param
from .sockets import WanCache, WanGuidance, WanOptions

_CATEGORY = "wan/4 sample"
_TABLE_TOOLTIP = (
    "Which published table is used. auto: 720p for FLF2V weights and where the file's name says "
    "so, else 480p."
)


def _cache_output():
    return WanCache.Output("cache", display_name="cache", tooltip="For Wan Sampler.")


class WanLocalTeaCache(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.Schema(
            node_id="WanLocalTeaCache",
            display_name="Wan TeaCache",
            category=_CATEGORY,
            description="Skips the steps that change little, to reach a wanted speed-up. The "
            "sampler says how many forwards were skipped.",
            search_aliases=["teacache", "step skip", "speed"],
            inputs=[
                from_param(I2V_APP["tea_cache"], step=0.25),
                from_param(I2V_APP["tea_cache_start_step_perc"]),
                compat.make_input(
                    io.Combo.Input,
                    "coefficients",
                    options=["auto", *RESOLUTIONS],
                    default="auto",
                    tooltip=_TABLE_TOOLTIP,
                ),
            ],
            outputs=[_cache_output()],
        )

    @classmethod
    def execute(cls, tea_cache, tea_cache_start_step_perc, coefficients):
        return io.NodeOutput(TeaCache(tea_cache, tea_cache_start_step_perc, coefficients))


class WanLocalMagCache(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.Schema(
            node_id="WanLocalMagCache",
            display_name="Wan MagCache",
            category=_CATEGORY,
            description="Skips steps by how much each is known to change the video. Usually "
            "closer to the full run than TeaCache at the same speed; not for few-step LoRAs.",
            search_aliases=["magcache", "step skip", "speed"],
            inputs=[
                compat.make_input(
                    io.Float.Input,
                    "threshold",
                    default=0.12,
                    min=0.0,
                    max=2.0,
                    step=0.01,
                    tooltip="Error that may add up before a step is computed. 0.12 is careful, "
                    "0.24 fast; 0 is off.",
                ),
                compat.make_input(
                    io.Int.Input,
                    "max_skips",
                    default=4,
                    min=0,
                    max=20,
                    tooltip="Most steps in a row that are skipped; 0 is off.",
                ),
                compat.make_input(
                    io.Float.Input,
                    "retention",
                    default=0.2,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Share of the steps at the beginning that is always computed.",
                ),
                compat.make_input(
                    io.Combo.Input,
                    "ratios",
                    options=["auto", *RESOLUTIONS],
                    default="auto",
                    tooltip=_TABLE_TOOLTIP,
                ),
            ],
            outputs=[_cache_output()],
        )

    @classmethod
    def execute(cls, threshold, max_skips, retention, ratios):
        return io.NodeOutput(MagCache(threshold, max_skips, retention, ratios))


class WanLocalGuidanceOptions(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.Schema(
            node_id="WanLocalGuidanceOptions",
            display_name="Wan Guidance Options",
            category=_CATEGORY,
            description="CFG* and zero initialisation. The scale itself is on Wan Sampler.",
            search_aliases=["cfg zero star", "cfg*", "zero init"],
            inputs=[
                from_param(I2V_APP["cfg_star_switch"]),
                from_param(I2V_APP["cfg_zero_step"]),
                compat.make_input(
                    io.Int.Input,
                    "zero_init_steps",
                    default=0,
                    min=0,
                    max=99,
                    tooltip="First steps that leave the noise as it is, as in the CFG-Zero* paper. "
                    "About 4 % of the steps; 0 is off.",
                ),
            ],
            outputs=[
                WanGuidance.Output("guidance", display_name="guidance", tooltip="For Wan Sampler.")
            ],
        )

    @classmethod
    def execute(cls, cfg_star_switch, cfg_zero_step, zero_init_steps):
        return io.NodeOutput(
            Guidance(
                cfg_star=cfg_star_switch,
                cfg_zero_step=cfg_zero_step,
                zero_init_steps=zero_init_steps,
            )
        )


class WanLocalSamplingOptions(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.Schema(
            node_id="WanLocalSamplingOptions",
            display_name="Wan Sampling Options",
            category=_CATEGORY,
            description="RIFLEx for long videos, the joint pass, the attention kernel and fp8.",
            search_aliases=["riflex", "sage attention", "joint pass", "long video"],
            inputs=[
                from_param(I2V_APP["enable_RIFLEx"]),
                compat.make_input(
                    io.Int.Input,
                    "riflex_k",
                    default=0,
                    min=0,
                    max=64,
                    tooltip="Which temporal frequency RIFLEx stretches; 0 takes the usual one, 6.",
                    advanced=True,
                ),
                compat.make_input(
                    io.Boolean.Input,
                    "riflex_force",
                    default=False,
                    tooltip="Apply RIFLEx to short videos too, whose motion it speeds up.",
                    advanced=True,
                ),
                from_param(I2V_APP["joint_pass"]),
                from_param(I2V_APP["attention"]),
                compat.make_input(
                    io.Combo.Input,
                    "linears",
                    options=list(LINEARS),
                    default=AS_LOADED,
                    optional=True,
                    tooltip="How the linear layers multiply. fp8: in 8 bits on cards that can "
                    "(RTX 40, H100 and newer), faster and a little less exact; elsewhere as "
                    "loaded, and the sampler says so.",
                    advanced=True,
                ),
            ],
            outputs=[
                WanOptions.Output("options", display_name="options", tooltip="For Wan Sampler.")
            ],
        )

    @classmethod
    def execute(
        cls, enable_RIFLEx, riflex_k, riflex_force, joint_pass, attention, linears=AS_LOADED
    ):
        riflex = Riflex(riflex_k or None, riflex_force) if enable_RIFLEx else None
        return io.NodeOutput(SampleOptions(riflex, joint_pass, attention, linears))
