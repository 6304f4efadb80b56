"""Stand-in for ComfyUI's `comfy` package: what a node pack may ask of it, on the CPU."""
