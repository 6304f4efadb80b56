"""The hosts the node pack is tested on: a stand-in of ours and every real ComfyUI found."""

import sys
from pathlib import Path

PACK_ROOT = Path(__file__).resolve().parents[2]
STANDIN = Path(__file__).resolve().parent / "standin"


def use_standin():
    """Make `comfy`, `comfy_api`, `folder_paths` and so on importable from the stand-in."""
    if str(STANDIN) not in sys.path:
        sys.path.insert(0, str(STANDIN))
