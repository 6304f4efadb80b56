"""How far a prompt is, weighed over its nodes."""

import statistics
from collections.abc import Mapping

LOADERS = ("LoadImage", "LoadVideo", "LoadAudio")
# Seconds that a node takes beside others, roughly, on real weights; samplers go by their steps.
_WEIGHTS = {
    "WanLocalModelLoader": 0.5,
    "WanLocalPromptEncode": 4,
    "WanLocalImageToVideo": 8,
    "WanLocalDecode": 10,
    "WanLocalPoseExtract": 15,
    "WanLocalPoseRetarget": 5,
    "WanLocalSegmentPerson": 15,
    "WanLocalMaskDilate": 3,
    "WanLocalAnimate": 8,
    "WanLocalRifeInterpolate": 10,
    "WanLocalLanczosResize": 4,
    "WanLocalSaveVideo": 5,
}
_SECONDS_A_STEP = 4
_STEPS = {
    "WanLocalSampler": "num_inference_steps",
    "WanLocalAnimateSampler": "sampling_steps",
    "KSampler": "steps",
    "KSamplerAdvanced": "steps",
}


class Speeds:
    """How the time of nodes on this machine compares with the table above, from earlier jobs."""

    def __init__(self) -> None:
        self._factors: dict[str, float] = {}

    def learn(self, node: Mapping, seconds: float) -> None:
        """A node took so long. The last job counts as much as all before it."""
        kind, factor = node["class_type"], max(seconds, 0.001) / _weight(node)
        self._factors[kind] = (self._factors.get(kind, factor) + factor) / 2

    def weight(self, node: Mapping) -> float:
        """What a node will take, in the same unit for all nodes."""
        kinds = self._factors
        usual = statistics.median(kinds.values()) if kinds else 1.0
        return _weight(node) * kinds.get(node["class_type"], usual)


class NodeProgress:
    """The share of a prompt that is done. It never falls.

    Args:
        graph: the prompt, as it was queued.
        speeds: what was learnt of its nodes.
    """

    def __init__(self, graph: Mapping[str, Mapping], speeds: Speeds) -> None:
        self._weights = {key: speeds.weight(node) for key, node in graph.items()}
        self._done: dict[str, float] = {}
        self._share = 0.0

    def finish(self, nodes) -> None:
        """These need nothing more, or came from the cache."""
        for node in nodes:
            self.move(node, 1.0)

    def move(self, node: str, share: float) -> None:
        """So much of a node is done, 0..1. Nodes that came up while it ran are not counted."""
        if node in self._weights:
            self._done[node] = max(self._done.get(node, 0.0), min(1.0, share))

    def of(self, node: str) -> float:
        """0..1 of one node."""
        return self._done.get(node, 0.0)

    @property
    def share(self) -> float:
        """0..1 of the whole."""
        done = sum(self._weights[node] * part for node, part in self._done.items())
        self._share = max(self._share, done / (sum(self._weights.values()) or 1))
        return self._share


def describe(node: Mapping, title: str, share: float) -> str:
    """What is happening, for example "Wan Sampler 7/20"."""
    steps = node["inputs"].get(_STEPS.get(node["class_type"], ""))
    if node["class_type"] == "WanLocalSampler" and isinstance(steps, int):
        return f"{title} {round(share * steps)}/{steps}"
    # In tenths, so that a log of it stays short.
    tenths = int(share * 10)
    return f"{title} {tenths}0 %" if tenths else title


def _weight(node: Mapping) -> float:
    kind, inputs = node["class_type"], node["inputs"]
    steps = inputs.get(_STEPS.get(kind, ""))
    if isinstance(steps, int):
        return max(1, steps) * _SECONDS_A_STEP
    return _WEIGHTS.get(kind, 0.2 if kind in LOADERS else 1)
