"""The executor that runs jobs in a process of its own, with the real process and tiny models."""

import asyncio
import os
import signal
import sys
import textwrap

import pytest
import torch
from serve_process import ASSETS, LONG, SMALL
from wan_local.wan import runner
from wan_local.wan.params import APPS, validate
from wan_local.wan.service.executor import Job
from wan_local.wan.service.progress import _WEIGHTS, JobProgress
from wan_local.wan.service.statuses import Status
from wan_local.wan.service.worker import WorkerExecutor
from wan_local.wan.tiny import MINIMUMS

SECONDS = 120
I2V, ANIMATE = "wan2-1-i2v", "wan-2-2-animate-v2v"
PICTURE = str(ASSETS / "sample.png")
DANCE = {
    "driving_video": str(ASSETS / "puppet.mp4"),
    "reference_image": str(ASSETS / "character.png"),
    "resolution_width": 64,
    "resolution_height": 64,
    "fps": 4,
    "clip_len": 5,
    "sampling_steps": 2,
}


class Bench:
    """An executor and all that it says."""

    def __init__(self, folder, arguments=(), **options):
        command = ["--models", "tiny", "--device", "cpu", *arguments]
        self.executor = WorkerExecutor(command, "cpu", **options)
        self.folder, self.said, self.ends = folder, [], {}
        self.order = []

    def __getattr__(self, kind):
        if kind not in ("status", "progress", "log", "preview"):
            raise AttributeError(kind)
        return lambda task_id, *what: self.said.append((task_id, kind, *what))

    def queue(self, order):
        self.order = order

    def ended(self, task_id, outcome):
        assert task_id not in self.ends, "told twice"
        self.ends[task_id] = outcome

    async def submit(self, name, app=I2V, raw=None, **values):
        given = {**SMALL, "input_image": PICTURE, **values} if raw is None else raw
        checked = validate(APPS[app].widened(MINIMUMS), given)
        folder = self.folder / name
        folder.mkdir()
        await self.executor.submit(Job(name, f"infsh/{app}", checked, folder))

    async def end(self, name):
        await self.until(lambda: name in self.ends)
        return self.ends[name]

    async def until(self, condition):
        async def poll():
            while not condition():
                await asyncio.sleep(0.01)

        await asyncio.wait_for(poll(), SECONDS)

    def of(self, name, kind):
        return [said[2:] for said in self.said if said[:2] == (name, kind)]

    async def running(self, name):
        await self.until(lambda: (Status.RUNNING,) in self.of(name, "status"))


def on_bench(folder, script, **options):
    async def main():
        bench = Bench(folder, **options)
        await bench.executor.start(bench)
        try:
            return await script(bench)
        finally:
            await bench.executor.close()

    return asyncio.run(main())


def test_both_apps_one_after_the_other(tmp_path):
    async def script(bench):
        await bench.submit("a", temporal_upsampling="rife2", spatial_upsampling="lanczos1.5")
        await bench.submit("b")
        await bench.submit("c", ANIMATE, DANCE)
        await asyncio.sleep(0)
        assert bench.order == ["b", "c"]
        ends = [await bench.end(name) for name in "abc"]
        assert [end.status for end in ends] == [Status.COMPLETED] * 3, ends
        for name, end, output in zip("abc", ends, ["video", "video", "output_video"], strict=True):
            # Nothing but the result, in the job's own folder alone.
            assert list((tmp_path / name).iterdir()) == [end.files[output]]
            assert end.facts["width"] and end.facts["frames"] and end.facts["seconds"]
            shares = [share for share, _ in bench.of(name, "progress")]
            assert shares == sorted(shares) and shares[0] >= 0 and 0.9 < shares[-1] <= 1
            statuses = [status for (status,) in bench.of(name, "status")]
            assert statuses[:2] == [Status.PREPARING, Status.SETTING_UP]
            assert Status.RUNNING in statuses and statuses[-1] is Status.UPLOADING
        # The model of a stays for b, and makes room for that of c.
        loads = {n: (0.0, "load the models") in bench.of(n, "progress") for n in "abc"}
        assert loads == {"a": True, "b": False, "c": True}
        stages = {stage.rpartition(" ")[0] for _, stage in bench.of("a", "progress")}
        assert {"sample", "decode", "interpolate", "resize", "encode prompt"} <= stages

    on_bench(tmp_path, script)


def test_a_kept_model_gives_the_same_video(tmp_path):
    async def script(bench):
        for name, seed in (("a", 5), ("b", 6), ("c", 5)):
            await bench.submit(name, seed=seed)
        videos = [(await bench.end(name)).files["video"].read_bytes() for name in "abc"]
        assert videos[0] == videos[2] != videos[1]

    on_bench(tmp_path, script)


def test_a_killed_process_fails_its_job_and_the_next_gets_another(tmp_path):
    async def script(bench):
        await bench.submit("a", **LONG)
        await bench.submit("b")
        await bench.running("a")
        first = bench.executor.pid
        os.kill(first, signal.SIGKILL)
        end = await bench.end("a")
        assert end.status is Status.FAILED and "signal 9" in end.error and "memory" in end.error
        assert (await bench.end("b")).status is Status.COMPLETED
        assert bench.executor.pid not in (None, first)
        # One that dies while nothing runs takes nothing with it.
        os.kill(bench.executor.pid, signal.SIGKILL)
        await bench.until(lambda: bench.executor.pid is None)
        await bench.submit("c")
        assert (await bench.end("c")).status is Status.COMPLETED

    on_bench(tmp_path, script)


def test_an_unforeseen_error_costs_one_job_and_its_process(tmp_path):
    async def script(bench):
        folder = tmp_path / "a"
        folder.mkdir()
        await bench.executor.submit(Job("a", "infsh/unknown", {}, folder))
        await bench.submit("b")
        await bench.until(lambda: bench.executor.pid is not None)
        first = bench.executor.pid
        end = await bench.end("a")
        assert end.status is Status.FAILED and end.error == "KeyError: 'unknown'"
        assert (await bench.end("b")).status is Status.COMPLETED
        assert bench.executor.pid not in (None, first)

    on_bench(tmp_path, script)


def test_an_input_that_cannot_be_used_costs_no_process_and_tells_no_folder(tmp_path):
    cut = tmp_path / "uploads" / "cut.png"
    cut.parent.mkdir()
    cut.write_bytes((ASSETS / "sample.png").read_bytes()[:3000])

    async def script(bench):
        await bench.submit("a", input_image=str(cut))
        await bench.submit("b")
        end = await bench.end("a")
        first = bench.executor.pid
        assert end.status is Status.FAILED and "cut.png" in end.error and "\n" not in end.error
        assert str(tmp_path) not in end.error
        assert (await bench.end("b")).status is Status.COMPLETED
        assert bench.executor.pid == first

    on_bench(tmp_path, script)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")])
def test_want_of_memory_is_said_in_words(error):
    assert "memory" in runner.error_words(error) and "fewer frames" in runner.error_words(error)


def test_want_of_memory_as_torch_says_it_on_a_cpu():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 58, dtype=torch.uint8)
    assert runner.error_words(raised.value).startswith("The memory of this machine is not enough")


def test_a_cancel_is_never_lost(tmp_path):
    async def script(bench):
        await bench.submit("waits")  # cancelled before anything happened
        await bench.executor.cancel("waits")
        assert bench.ends["waits"].status is Status.CANCELLED and bench.order == []
        await bench.submit("starts", **LONG)
        await asyncio.sleep(0.01)  # its process is being started
        assert bench.ends.keys() == {"waits"}
        await bench.executor.cancel("starts")
        assert (await bench.end("starts")).status is Status.CANCELLED
        for number in range(12):  # then at many moments of a warm process
            name = f"job{number}"
            await bench.submit(name, **LONG)
            await asyncio.sleep(number**2 * 0.005)
            await bench.executor.cancel(name)
            await bench.executor.cancel(name)
            assert (await bench.end(name)).status is Status.CANCELLED, name
            await bench.executor.cancel(name)  # has no effect any more
        await bench.submit("last")
        assert (await bench.end("last")).status is Status.COMPLETED
        assert not any((tmp_path / "job11").iterdir())

    on_bench(tmp_path, script)


def test_a_job_that_does_not_stop_is_killed_after_the_grace_time(tmp_path):
    async def script(bench):
        await bench.submit("a", **LONG)
        await bench.submit("b")
        await bench.running("a")
        first = bench.executor.pid
        os.kill(first, signal.SIGSTOP)  # it will not hear
        await bench.executor.cancel("a")
        assert (await bench.end("a")).status is Status.CANCELLED
        assert (await bench.end("b")).status is Status.COMPLETED
        assert bench.executor.pid not in (None, first)

    on_bench(tmp_path, script, grace=0.2)


NOISE = """
    import os, sys, threading, time

    def talk():
        while True:
            os.write(1, b"a library says without an end of line ")
            time.sleep(0.002)

    if "worker" in sys.argv or "worker" in sys.orig_argv:
        threading.Thread(target=talk, daemon=True).start()
"""


def test_what_libraries_print_does_not_disturb_the_messages(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(NOISE))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    async def script(bench):
        await bench.submit("a", num_inference_steps=20)
        assert (await bench.end("a")).status is Status.COMPLETED
        stages = {stage for _, stage in bench.of("a", "progress")}
        assert {f"sample {step}/20" for step in range(21)} <= stages  # not one was spoilt

    on_bench(tmp_path, script)


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_signals_for_the_server_leave_the_job_alone(tmp_path):
    async def script(bench):
        await bench.submit("a", num_inference_steps=10)
        await bench.running("a")
        pid = bench.executor.pid
        assert os.getpgid(pid) != os.getpgid(0)  # Ctrl-C goes to a group
        os.kill(pid, signal.SIGTERM)  # a service manager sends it to all processes
        os.kill(pid, signal.SIGINT)
        assert (await bench.end("a")).status is Status.COMPLETED

    on_bench(tmp_path, script)


def test_closing_ends_the_process_and_tells_nothing(tmp_path):
    async def script(bench):
        await bench.submit("a", **LONG)
        await bench.running("a")
        pid = bench.executor.pid
        await bench.executor.close()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert bench.ends == {}

    on_bench(tmp_path, script)


def test_the_share_never_falls_whatever_comes():
    progress = JobProgress(I2V)
    seen = []
    for phase in ["decode", "encode prompt", "of another pack", *_WEIGHTS, "sample"]:
        progress.start(phase, 3)
        for done in (0, 1, 3, 5, 2):
            progress.update(done)
            seen.append(progress.share)
    assert seen == sorted(seen) and seen[-1] == 1
    assert progress.stage(2) == "sample 2/3"
