"""Stand-in for ComfyUI's public node API; only `comfy_api.latest` exists here."""
