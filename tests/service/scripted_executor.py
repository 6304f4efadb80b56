"""An executor whose jobs do what a test says."""

import asyncio

from wan_local.wan.service.executor import Outcome, WorkerInfo
from wan_local.wan.service.statuses import Status


class ScriptedExecutor:
    """One job at a time; `script(job, tell)` runs each, and may wait for what the test decides.

    Without a script a job writes a small video's bytes and completes.
    """

    name = "scripted"
    dashboard = "http://127.0.0.1:1/"

    def __init__(self, make_result):
        self.make_result = make_result
        self.script = None
        self.refuse = None
        self.is_closed = False
        self.jobs, self.cancelled, self.forgotten = [], [], []
        self.waiting, self.running = [], None
        self.listener = self.worker = None
        self.done = 0

    async def start(self, listener):
        self.listener = listener
        self.worker = asyncio.create_task(self.work())
        self.news = asyncio.Event()

    async def submit(self, job):
        if self.refuse:
            raise self.refuse
        self.jobs.append(job)
        self.waiting.append(job)
        self.listener.queue([j.task_id for j in self.waiting])
        self.news.set()

    async def cancel(self, task_id):
        self.cancelled.append(task_id)
        for job in self.waiting:
            if job.task_id == task_id:
                self.waiting.remove(job)
                self.listener.ended(task_id, Outcome(Status.CANCELLED))
                return
        if self.running and self.running[0].task_id == task_id:
            self.running[1].cancel()

    async def adopt(self, job):
        return False

    async def forget(self, task_id):
        self.forgotten.append(task_id)

    async def workers(self):
        busy = self.running[0].task_id if self.running else None
        status = "busy" if busy else "idle"
        return [WorkerInfo("one", "here", status, busy, ("cpu",), ("a model",), self.done)]

    async def close(self):
        self.is_closed = True
        tasks = [task for task in (self.worker, self.running and self.running[1]) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def work(self):
        while True:
            while not self.waiting:
                self.news.clear()
                await self.news.wait()
            job = self.waiting.pop(0)
            self.listener.queue([j.task_id for j in self.waiting])
            task = asyncio.create_task(self.run(job))
            self.running = job, task
            try:
                outcome = await task
            except asyncio.CancelledError:
                if self.is_closed or not task.cancelled():
                    raise
                outcome = Outcome(Status.CANCELLED)
            self.running = None
            self.done += 1
            self.listener.ended(job.task_id, outcome)

    async def run(self, job):
        self.listener.status(job.task_id, Status.RUNNING)
        if self.script:
            return await self.script(job, self.listener)
        return self.completed(job)

    def completed(self, job):
        name = "video" if job.app.endswith("i2v") else "output_video"
        path = job.folder / "video.mp4"
        path.write_bytes(self.make_result())
        facts = {"width": 64, "height": 48, "fps": 8, "seconds": 1.0}
        return Outcome(Status.COMPLETED, {name: path}, facts)
