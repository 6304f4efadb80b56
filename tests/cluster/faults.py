"""What fault tests share: jobs, their right results, and how a server and a cluster are broken."""

import io
import time
from functools import cache
from pathlib import Path

import av
import numpy as np
import requests
from ray_cluster import KEY
from serve_process import ASSETS, SMALL

I2V, ANIMATE = "infsh/wan2-1-i2v", "infsh/wan-2-2-animate-v2v"
PICTURE = str(ASSETS / "sample.png")
RUNS = {**SMALL, "num_inference_steps": 30, "num_frames": 17}
"""About two seconds of work."""
DANCE = {
    "driving_video": str(ASSETS / "puppet.mp4"),
    "reference_image": str(ASSETS / "character.png"),
    "resolution_width": 64,
    "resolution_height": 64,
    "fps": 8,
    "clip_len": 5,
    "sampling_steps": 20,
    "seed": 5,
}
"""Several clips."""
COMPLETED, FAILED, CANCELLED = 10, 11, 12


class Caller:
    """Talks with a server that may be away for a while."""

    def __init__(self, server):
        self.server = server

    def ask(self, method, path, **options):
        address = path if path.startswith("http") else self.server.base_url + path
        headers = {"Authorization": f"Bearer {KEY}"}
        return requests.request(method, address, headers=headers, timeout=30, **options)

    def data(self, method, path, **options):
        answer = self.ask(method, path, **options)
        assert answer.ok, answer.text
        return answer.json()["data"]

    def upload(self, path):
        data = Path(path).read_bytes()
        files = [{"filename": Path(path).name, "size": len(data)}]
        [made] = self.data("POST", "/files", json={"files": files})
        assert requests.put(made["upload_url"], data=data, timeout=30).ok
        return made["uri"]

    def run(self, app, values, **more):
        files = ("input_image", "driving_video", "reference_image")
        values = {k: self.upload(v) if k in files else v for k, v in values.items()}
        return self.data("POST", "/apps/run", json={"app": app, "input": values, **more})["id"]

    def i2v(self, seed, **values):
        return self.run(I2V, {**RUNS, "input_image": PICTURE, "seed": seed, **values})

    def task(self, task_id):
        return self.data("GET", f"/tasks/{task_id}")

    def until(self, task_id, *statuses, seconds=120):
        """The task, once it has one of the statuses or an end."""
        end = time.monotonic() + seconds
        while True:
            task = self.task(task_id)
            if task["status"] in statuses or task["status"] >= COMPLETED:
                return task
            assert time.monotonic() < end, task
            time.sleep(0.05)

    def end(self, task_id, seconds=120):
        return self.until(task_id, seconds=seconds)

    def frames(self, task):
        output = next(v for k, v in task["output"].items() if "video" in k)
        uri = output["uri"] if isinstance(output, dict) else output
        # A server that came back has another port.
        path = "/infsh" + uri.partition("/infsh")[2]
        answer = self.ask("GET", self.server.base_url.removesuffix("/infsh") + path)
        assert answer.ok, answer.text
        return decode(answer.content)


def decode(data):
    with av.open(io.BytesIO(data)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


@cache
def _runner():
    from wan_local.wan.engine import Engine
    from wan_local.wan.runner import JobRunner

    return JobRunner(Engine("tiny", "cpu"))


def expected(app, values, folder):
    """The frames that the same code makes without server and cluster."""
    from wan_local.wan.params import APPS, validate
    from wan_local.wan.tiny import MINIMUMS

    checked = validate(APPS[app.rpartition("/")[2]].widened(MINIMUMS), values)
    folder.mkdir()
    job = {"task_id": "t", "app": app, "values": checked, "folder": str(folder)}
    end = _runner().run(job, lambda *_, **__: None, lambda: False)
    assert end["status"] == COMPLETED, end
    [path] = end["files"].values()
    return decode(Path(path).read_bytes())


def statuses(task):
    return [event["status"] for event in task["events"]]
