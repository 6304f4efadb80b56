"""ComfyUI-WanLocal: image to video, character animation and character replacement with Wan.

This file is only the door that ComfyUI knocks on. Nothing heavy is imported here: the nodes
come in when the host calls `comfy_entrypoint`, model libraries when a node first runs.
"""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():  # noqa: ANN201 - the type lives in the host
    """Called once by ComfyUI; returns the extension that lists our nodes."""
    try:
        from .nodes import WanLocalExtension
    except Exception:
        import logging

        # The host logs only the message of an exception raised here, never where it came from.
        logging.getLogger("wan_local").exception("ComfyUI-WanLocal could not load its nodes")
        raise
    from .nodes.service.setup import register

    register()
    return WanLocalExtension()
