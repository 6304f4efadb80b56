"""Loads the pack the way ComfyUI does: by file location, under one name, `wan_local`.

The checkout's folder may have any name and must not be on sys.path, where its `nodes` and
`wan` folders would shadow packages of the same name.
"""

import importlib.util
import socket
import sys
from pathlib import Path

import hypothesis
import pytest
import torch

# The models are so small that a second thread costs more than it brings.
torch.set_num_threads(1)
# What a busy machine takes for an example says nothing about the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

ROOT = Path(__file__).resolve().parents[1]
STANDIN = ROOT / "tests" / "host" / "standin"


def load_pack():
    spec = importlib.util.spec_from_file_location(
        "wan_local", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["wan_local"] = module
    spec.loader.exec_module(module)


sys.path[:] = [p for p in sys.path if p and Path(p).resolve() != ROOT]
sys.path.insert(0, str(STANDIN))
sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT / "tests" / "service"))
sys.path.insert(0, str(ROOT / "tests" / "cluster"))
sys.path.insert(0, str(ROOT / "tests" / "load"))
sys.path.insert(0, str(ROOT / "tests" / "mini"))
sys.path.insert(0, str(ROOT / "tests" / "cluster"))
load_pack()

from cluster_fixtures import *  # noqa: E402, F403 - nodes
from forwards import forward  # noqa: E402, F401
from host.fixtures import *  # noqa: E402, F403 - host, stand_in, host_pool
from running_service import *  # noqa: E402, F403 - service, make_service


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Only this machine may be talked to: a test that reaches out fails at once."""
    connect = socket.socket.connect

    def guarded(self, address):
        host = address[0] if isinstance(address, tuple) else "unix"
        if host not in ("127.0.0.1", "::1", "localhost", "unix"):
            raise OSError(f"tests may not open a connection to {host}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """The random-weight miniatures, built once per test run."""
    from wan_local.wan.tiny import ensure_tiny

    return ensure_tiny(tmp_path_factory.mktemp("tiny"))


def open_tiny(folder: Path, variant: str):
    from wan_local.wan.load.model import load_model
    from wan_local.wan.payloads import Variant
    from wan_local.wan.residency import DevicePlacement
    from wan_local.wan.tiny import tiny_files

    return load_model(tiny_files(folder, Variant[variant]), DevicePlacement("cpu"))


@pytest.fixture(scope="session")
def i2v(tiny):
    return open_tiny(tiny, "I2V")


@pytest.fixture(scope="session")
def flf2v(tiny):
    return open_tiny(tiny, "FLF2V")


@pytest.fixture(scope="session")
def animate(tiny):
    return open_tiny(tiny, "ANIMATE")
