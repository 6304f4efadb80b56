"""`python -m wan serve` with the tiny models as a process that tests start, kill and start again."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "assets"
KEY = "inf_of_these_tests"
SMALL = {
    "prompt": "a red ball rolls over the floor",
    "size": "64x64",
    "num_frames": 5,
    "num_inference_steps": 2,
    "seed": 11,
}
LONG = {"num_inference_steps": 100, "num_frames": 81, "size": "160x160"}
"""What makes a job outlast whatever a test does before it stops it: seconds, where a fast machine
is through with a hundred steps of a smaller picture in less than one."""


class ServeProcess:
    """One server over a data folder."""

    more = ()

    def __init__(self, data):
        self.data = data
        self.process = None
        self.start()

    def start(self):
        command = [
            sys.executable,
            "-m",
            "wan",
            "serve",
            "--models",
            "tiny",
            "--port",
            "0",
            "--data",
            str(self.data),
            *self.more,
        ]
        environment = {**os.environ, "WAN_LOCAL_API_KEY": KEY, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.errors = []
        threading.Thread(target=self._read, args=(self.process.stderr,), daemon=True).start()
        self.base_url = self.process.stdout.readline().strip()
        assert self.base_url.startswith("http://"), "".join(self.errors)
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def _read(self, stream):
        self.errors.extend(iter(stream.readline, ""))

    def kill(self):
        """As a power cut would: no clean-up at all. Its worker notices that it is alone."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=20)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=20)
