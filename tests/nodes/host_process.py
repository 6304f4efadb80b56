"""The start of scripts that run inside a host's own Python, without a server.

Arguments of those scripts: the host's folder (a ComfyUI or the stand-in), the pack's folder, the
tiny models.
"""

import importlib.util
import sys
from pathlib import Path

HOST, PACK, TINY = map(Path, sys.argv[1:4])
sys.argv[1:] = ["--cpu"]
sys.path.insert(0, str(HOST))
if (HOST / "comfy" / "options.py").is_file():  # else a real host does not read its arguments
    from comfy.options import enable_args_parsing

    enable_args_parsing()
_spec = importlib.util.spec_from_file_location(
    "wan_local", PACK / "__init__.py", submodule_search_locations=[str(PACK)]
)
sys.modules["wan_local"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sys.modules["wan_local"])
