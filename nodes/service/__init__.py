"""The hosted apps' API inside ComfyUI: graphs are filled, queued and followed here."""
