"""A real ComfyUI as a `Host`: a server process of its own, spoken to over HTTP and websocket."""

import asyncio
import atexit
import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import aiohttp

from . import PACK_ROOT
from .hosts import GONE, Host, HostError, PromptRefusedError

START_SECONDS = 180.0  # 12..24 s measured on two idle cores
PACK_FOLDER = "ComfyUI-WanLocal"
NODE_PREFIX = "WanLocal"
# A proxy of the machine must not be asked for the loopback address.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class RealHost(Host):
    """Starts the checkout's server with nothing but our pack; `close` always ends it.

    Args:
        checkout: folder with ComfyUI's main.py; its .venv is used where it has one.
        pack: pack folder, linked into custom_nodes.
        node_prefix: ids of the pack's nodes begin with it; starting fails when none is there.
        previews: start with --preview-method latent2rgb.
        env: more environment variables for the server.
        arguments: more command-line arguments for the server.
        others: folders of other packs that are to be there too.
    """

    def __init__(
        self,
        checkout,
        pack=PACK_ROOT,
        node_prefix=NODE_PREFIX,
        previews=True,
        env=None,
        arguments=(),
        others=(),
    ):
        super().__init__()
        self.checkout = Path(checkout)
        if not (self.checkout / "main.py").is_file():
            raise HostError(f"{checkout} holds no main.py; COMFYUI_PATH must name ComfyUI folders")
        self.name = self.checkout.name
        self.previews = previews
        self.base = Path(tempfile.mkdtemp(prefix="comfy_host_"))
        self.client_id = uuid.uuid4().hex
        self.process = None
        self._loop = None
        atexit.register(self.close)
        try:
            self._lay_base({PACK_FOLDER: pack} | {Path(path).name: path for path in others})
            self.port = free_port()
            self._launch(previews, env or {}, arguments)
            self._await_nodes(node_prefix)
            self._listen()
        except BaseException:
            self.close()
            raise

    def _lay_base(self, packs):
        for name in ("custom_nodes", "models", "input", "output", "temp", "user"):
            (self.base / name).mkdir()
        for name, folder in packs.items():
            (self.base / "custom_nodes" / name).symlink_to(folder, target_is_directory=True)

    def _launch(self, previews, env, arguments):
        python = self.checkout / ".venv" / "bin" / "python"
        command = [str(python if python.exists() else sys.executable), "main.py", "--cpu"]
        command += ["--port", str(self.port), "--base-directory", str(self.base)]
        command += ["--database-url", "sqlite:///:memory:", "--disable-auto-launch"]
        if "--disable-api-nodes" in (self.checkout / "comfy" / "cli_args.py").read_text("utf-8"):
            command.append("--disable-api-nodes")
        if previews:
            command += ["--preview-method", "latent2rgb"]
        command += arguments
        # The server's own environment must decide what is imported, not that of the tests.
        ours = ("PYTHON", "VIRTUAL_ENV", "PYTEST", "COMFYUI_PATH", "COV_")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
        # The models are so small that a second thread costs more than it brings.
        kept |= {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        with (self.base / "server.log").open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.checkout,
                env={**kept, **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=end_with_parent if sys.platform == "linux" else None,
            )

    def _await_nodes(self, prefix):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise HostError(f"{self.name}: the server ended at start\n{self.log()[-4000:]}")
            with contextlib.suppress(OSError, json.JSONDecodeError):
                known = self.object_info()
                if any(name.startswith(prefix) for name in known):
                    return
                # The server answers only after every pack was loaded: waiting changes nothing.
                text = f"{self.name}: started without a node named {prefix}..."
                raise HostError(f"{text}\n{self.log()[-6000:]}")
            time.sleep(0.3)
        raise HostError(f"{self.name}: not up in {START_SECONDS:.0f} s\n{self.log()[-4000:]}")

    @property
    def url(self):
        """Address for the pack's own routes."""
        return f"http://127.0.0.1:{self.port}"

    def object_info(self):
        return self._ask("/object_info")

    def validate(self, prompt):
        prompt_id = str(uuid.uuid4())
        try:
            errors = self._start(prompt, prompt_id, None)
        except PromptRefusedError as refused:
            return refused.body
        self._ask("/queue", {"delete": [prompt_id]})
        self._interrupt(prompt_id)
        while any(prompt_id in json.dumps(part) for part in self._ask("/queue").values()):
            time.sleep(0.02)
        return {"error": None, "node_errors": errors} if errors else {}

    def alive(self):
        if self.process is None or self.process.poll() is not None:
            return False
        with contextlib.suppress(OSError):
            return "system" in self._ask("/system_stats")
        return False

    def log(self):
        path = self.base / "server.log"
        return path.read_text("utf-8", errors="replace") if path.exists() else ""

    def close(self):
        atexit.unregister(self.close)
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop may have ended with the server
                self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join(timeout=10)
        if self.process is not None and self.process.poll() is None:
            self._signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))
                self.process.wait(timeout=10)
        shutil.rmtree(self.base, ignore_errors=True)

    def _signal(self, number):
        with contextlib.suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, number)  # its own session: its children as well
            else:
                self.process.send_signal(number)

    def _start(self, prompt, prompt_id, extra_pnginfo):
        body = {"prompt": prompt, "client_id": self.client_id, "prompt_id": prompt_id}
        if extra_pnginfo is not None:
            body["extra_data"] = {"extra_pnginfo": extra_pnginfo}
        try:
            return self._ask("/prompt", body).get("node_errors") or {}
        except urllib.error.HTTPError as error:
            if error.code != 400:
                raise HostError(f"/prompt: HTTP {error.code}\n{self.log()[-4000:]}") from error
            raise PromptRefusedError(json.load(error)) from None
        except OSError as error:
            raise HostError(f"{self.name}: no answer, {error}\n{self.log()[-4000:]}") from error

    def _interrupt(self, prompt_id):
        with contextlib.suppress(OSError):  # a dead server is told by its last event
            self._ask("/interrupt", {"prompt_id": prompt_id})

    def _ask(self, path, body=None):
        """GET, or POST of JSON when there is a body."""
        request = urllib.request.Request(self.url + path)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        with _opener.open(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else {}

    def _listen(self):
        """Collect the server's events in a thread until the server or `close` ends it."""
        ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()

        def work():
            asyncio.set_event_loop(self._loop)
            try:
                self._loop.run_until_complete(self._read_events(ready))
            except (aiohttp.ClientError, OSError):
                pass  # told by the event below
            finally:
                self._loop.close()
                self.events.put({"type": GONE, "data": {}})

        self._thread = threading.Thread(target=work, name=f"events-{self.name}", daemon=True)
        self._thread.start()
        if not ready.wait(timeout=30):
            raise HostError(f"{self.name}: no websocket\n{self.log()[-4000:]}")

    async def _read_events(self, ready):
        url = f"{self.url}/ws?clientId={self.client_id}"
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(url, max_msg_size=0) as stream,
        ):
            # Without this flag previews come without the id of their prompt.
            flags = {"supports_preview_metadata": True}
            await stream.send_json({"type": "feature_flags", "data": flags})
            closing = asyncio.ensure_future(self._closing.wait())
            while True:
                ready.set()
                message = asyncio.ensure_future(stream.receive())
                await asyncio.wait({message, closing}, return_when=asyncio.FIRST_COMPLETED)
                if closing.done() or message.result().type in (
                    aiohttp.WSMsgType.CLOSE,
                    aiohttp.WSMsgType.CLOSED,
                    aiohttp.WSMsgType.CLOSING,
                    aiohttp.WSMsgType.ERROR,
                ):
                    message.cancel()
                    closing.cancel()
                    return
                event = decode(message.result())
                if event is not None:
                    self.events.put(event)


def decode(message):
    """A websocket message as an event; None for what we have no use for."""
    if message.type is aiohttp.WSMsgType.TEXT:
        event = json.loads(message.data)
        return {"type": event["type"], "data": event.get("data") or {}}
    if message.type is not aiohttp.WSMsgType.BINARY:
        return None
    kind = int.from_bytes(message.data[:4], "big")
    if kind != 4:  # 4 = preview with metadata; others carry no prompt id
        return None
    length = int.from_bytes(message.data[4:8], "big")
    about = json.loads(message.data[8 : 8 + length])
    found = {"node": about.get("node_id"), "prompt_id": about.get("prompt_id")}
    found |= {"format": about.get("image_type"), "bytes": len(message.data) - 8 - length}
    return {"type": "preview", "data": found}


def free_port():
    """A port nobody listens on now. A stranger there would answer in the server's place."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def end_with_parent():
    """In the new process: end it when the tests' process ends, however that ends (Linux)."""
    pr_set_pdeathsig = 1  # linux/prctl.h
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
