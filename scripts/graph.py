"""What a shipped graph is made of."""

from dataclasses import dataclass, field

REGISTRY_NAME = "wan-local"
TINY = "tiny (random weights, for a try without a download)"
TINY_ANIMATE = "tiny Animate (random weights, for a try without a download)"
AUTO = "auto"
_FILES = """\
Put these files into your ComfyUI folder, then press **R**:

| file | folder |
|---|---|
{files}

Any other file of the same models works as well, and so does a folder in Diffusers layout
in `models/diffusers`: the loader reads from the weights what they are.
"""

REPACKAGED = "https://huggingface.co/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files"


@dataclass(frozen=True)
class Node:
    """One node of a graph."""

    id: int
    kind: str
    title: str
    at: tuple[int, int]
    size: tuple[int, int]
    outputs: tuple[tuple[str, str], ...]
    """(name, type) of each output."""
    widgets: dict = field(default_factory=dict)
    """Value by input name, in the order of the node's schema; a linked one keeps its value."""
    links: dict = field(default_factory=dict)
    """(node id, output slot) by input name, in the order of the node's schema."""
    models: tuple[tuple[str, str, str], ...] = ()
    """(file, url, folder) that the page may offer to download."""

    @property
    def registry(self) -> str:
        """The pack that brings the node."""
        return REGISTRY_NAME if self.kind.startswith("WanLocal") else "comfy-core"


@dataclass(frozen=True)
class Graph:
    """One shipped graph."""

    name: str
    uuid: str
    nodes: tuple[Node, ...]
    note: str
    note_at: tuple[int, int]
    note_size: tuple[int, int]
    groups: tuple[tuple[str, tuple[int, int, int, int], str], ...]

    def __getitem__(self, node_id: int) -> Node:
        return next(n for n in self.nodes if n.id == node_id)


def list_files(models: tuple) -> str:
    """The files of a graph with links and folders, for its note."""
    rows = "\n".join(f"| [{name}]({url}) | `models/{folder}` |" for name, url, folder in models)
    return _FILES.format(files=rows)
