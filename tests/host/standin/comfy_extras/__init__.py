"""Core nodes of the stand-in. A class between them and `io.ComfyNode` keeps scanners that list
a pack's nodes by syntax from taking these for ours."""

from comfy_api.latest import io


class CoreNode(io.ComfyNode):
    """Base of the nodes the host brings."""
