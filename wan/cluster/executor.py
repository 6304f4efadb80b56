"""The executor over a Ray cluster. The server's process holds the queue and the truth; a driver
beside it holds the connection to Ray, so that nothing of Ray is imported here."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ..errors import MissingFileError
from ..service.executor import Job, Listener, Outcome, WorkerInfo
from ..service.queue import FairQueue
from ..service.statuses import Status
from ..service.worker import missing_models
from .background import Background
from .collect import collect
from .link import DriverLink
from .options import ClusterOptions
from .placement import Worker, app_name, given, place
from .run import Run, make_order, put_inputs
from .storage import Storage, job_folder
from .sweep import sweep
from .view import View

log = logging.getLogger("wan_local")

_GRACE = 60.0
"""Seconds that a job has to notice that it was cancelled, before its worker is killed."""
_PATIENCE = 60.0
"""Seconds out of reach after which running jobs count as lost; Ray's workers end by then too."""
_LONGEST_PAUSE = 60.0
_SWEEP_SECONDS, _SWEEP_AGAIN = 60.0, 3600.0
_UNKNOWN = "unknown"
"""The worker of a job that an earlier server gave away."""
_OUT_OF_REACH = "waits: the cluster is out of reach"


class RayExecutor:
    """Runs jobs in workers of a Ray cluster.

    Args:
        options: the cluster, and how its workers are made.
        most: workers at the same time; None: as many as the cluster has room for.
        retries: how often a job is tried again whose worker died.
        grace: seconds between asking a job to stop and killing its worker.
        patience: seconds out of reach after which running jobs are given up.
    """

    name = "ray"

    def __init__(
        self,
        options: ClusterOptions,
        most: int | None = None,
        retries: int = 1,
        grace: float = _GRACE,
        patience: float = _PATIENCE,
    ) -> None:
        self._options, self._most, self._retries = options, most, retries
        self._grace, self._patience = grace, patience
        self._storage = Storage.open(options.storage)
        self._link = DriverLink(options, self._hear)
        self._queue = FairQueue()
        self._runs: dict[str, Run] = {}
        self._unsaved: set[str] = set()
        """Ended jobs whose end the server has not saved yet."""
        self._workers: dict[str, Worker] = {}
        self._lacks: dict[str, str] = {}
        self._room = 0
        self._is_reached = False
        self._early: dict[str, list[Mapping[str, Any]]] | None = {}
        """What workers said of jobs that were not taken over yet; None: that time is past."""
        self._start_pause, self._may_start = 1.0, True
        self._giving_up: asyncio.TimerHandle | None = None
        self._listener: Listener | None = None
        self._background = Background()
        self._view = View()
        self.dashboard: str | None = None

    async def start(self, listener: Listener) -> None:
        """Connect. Raises: WanError, the cluster or the storage cannot be used."""
        self._listener = listener
        await asyncio.to_thread(self._storage.check)
        await self._link.start()
        self._background.spawn(self._sweep())

    async def submit(self, job: Job) -> None:
        """Queue a job. Raises: ApiError requirements_not_met."""
        if app_name(job.app) in self._lacks:
            text = self._lacks[app_name(job.app)]
            raise missing_models(MissingFileError(text, "No worker can run this app.", ""))
        self._wait(self._take(job))

    async def adopt(self, job: Job) -> bool:
        """Take over a job that is in the cluster or in the storage."""
        task_id = job.task_id
        holder = next((w for w in self._workers.values() if w.task_id == task_id), None)
        outcome = await asyncio.to_thread(self._storage.outcome, task_id)
        attempts = await asyncio.to_thread(self._storage.attempts, task_id)
        if outcome is None and not attempts:
            return False
        run = self._take(job)
        run.attempt = max(attempts, default=1)
        self._queue.count(job)
        if outcome is not None:
            self._finish(run, {})
        elif holder is not None and holder.name in self._workers:
            run.worker = holder.name
            for said in (self._early or {}).pop(task_id, []):
                self._news(holder.name, said)
        else:
            run.worker = _UNKNOWN
            self._background.spawn(self._lose(run, "its worker died while the server was away"))
        return True

    async def cancel(self, task_id: str) -> None:
        """Take it out of the queue, or ask its worker to stop."""
        run = self._runs.get(task_id)
        if run is None or run.is_ending or run.is_cancelled:
            return
        if self._queue.remove(task_id) is not None:
            self._end(run, Outcome(Status.CANCELLED))
            self._tell_queue()
            return
        run.is_cancelled = True
        self._link.send({"cancel": task_id, "worker": run.worker})
        run.killer = asyncio.get_running_loop().call_later(self._grace, self._kill, run)

    async def forget(self, task_id: str) -> None:
        """Delete what the storage has of an ended job."""
        self._unsaved.discard(task_id)

        async def work() -> None:
            with suppress(Exception):  # the next sweep tries again
                await asyncio.to_thread(self._storage.delete, job_folder(task_id))

        self._background.spawn(work())

    async def workers(self) -> list[WorkerInfo]:
        """All of this service, those included that are starting."""
        return self._view.infos(self._workers.values())

    async def close(self) -> None:
        """End idle workers; jobs that run go on, and the next server finds them."""
        for run in self._runs.values():
            run.stop_waiting()
        if self._giving_up is not None:
            self._giving_up.cancel()
        await self._background.close()
        await self._link.close()

    # What the driver says

    def _hear(self, message: Mapping[str, Any]) -> None:
        kind = message["kind"]
        if kind == "news":
            self._news(message["name"], message["said"])
        elif kind == "ready":
            self._reached(message)
        elif kind == "lost":
            self._lost_reach()
        elif kind == "room":
            self._room = message["room"]
        elif kind == "up":
            self._start_pause = 1.0
            self._workers[message["name"]] = Worker.read(message)
        elif kind == "gone":
            self._gone(message)
        elif kind == "refused":
            run = self._runs.get(message["task_id"])
            if run is not None and run.attempt == message["attempt"]:
                self._background.spawn(self._lose(run, "its worker did not take it"))
        self._dispatch()

    def _reached(self, message: Mapping[str, Any]) -> None:
        self._is_reached, self._may_start, self._start_pause = True, True, 1.0
        if self._giving_up is not None:
            self._giving_up.cancel()
        self._room, self._lacks = message["room"], message["lacks"]
        self.dashboard = message["dashboard"]
        found = [Worker.read(one) for one in message["workers"]]
        self._workers = {worker.name: worker for worker in found}
        for run in list(self._runs.values()):
            if not run.worker or run.is_ending:
                continue
            if run.worker not in self._workers:
                self._background.spawn(self._lose(run, "its worker was lost with the cluster"))
            elif run.order:  # it may not have arrived, and is done once however often it does
                self._link.send({"begin": run.order, "worker": run.worker})
                self._workers[run.worker] = given(
                    self._workers[run.worker], run.job, self._options.models
                )
            if run.is_cancelled:
                self._link.send({"cancel": run.job.task_id, "worker": run.worker})
        self._tell_stages("")

    def _lost_reach(self) -> None:
        if self._is_reached:
            self._is_reached = False
            loop = asyncio.get_running_loop()
            self._giving_up = loop.call_later(self._patience, self._give_up)
        self._tell_stages(_OUT_OF_REACH)

    def _give_up(self) -> None:
        for run in list(self._runs.values()):
            if run.worker and not run.is_ending:
                self._background.spawn(self._lose(run, "the head of the cluster was lost"))

    def _gone(self, message: Mapping[str, Any]) -> None:
        worker = self._workers.pop(message["name"], None)
        if message["is_start"]:
            log.warning("A worker could not be started: %s", message["text"])
            self._tell_stages(f"waits: a worker could not be started ({message['text']})")
            self._may_start = False
            asyncio.get_running_loop().call_later(self._start_pause, self._start_again)
            self._start_pause = min(2 * self._start_pause, _LONGEST_PAUSE)
        where = f"the worker on node {worker.node} died" if worker else "its worker died"
        for run in list(self._runs.values()):
            if run.worker == message["name"] and not run.is_ending:
                log.warning("%s: %s", where, message["text"])
                self._background.spawn(self._lose(run, where))

    def _start_again(self) -> None:
        self._may_start = True
        self._dispatch()

    def _news(self, name: str, said: Mapping[str, Any]) -> None:
        run, task_id, kind = self._runs.get(said["task_id"]), said["task_id"], said["kind"]
        self._view.hear(name, said)
        if kind == "ended" and name in self._workers:
            self._free(name, said)
        if run is None:
            if self._early is not None:
                self._early.setdefault(task_id, []).append(said)
            return
        if said["attempt"] != run.attempt or said["number"] <= run.seen or run.is_ending:
            return
        run.seen = said["number"]
        if kind == "ended":
            self._finish(run, said)
        elif kind == "status":
            self._listener.status(task_id, Status(said["status"]))
        elif kind == "progress":
            self._listener.progress(task_id, said["share"], said["stage"])
        elif kind == "log":
            self._listener.log(task_id, said["text"], mark=f"{run.attempt}_{said['number']}")

    def _free(self, name: str, said: Mapping[str, Any]) -> None:
        worker = self._workers[name]
        if worker.task_id == said["task_id"]:
            self._workers[name] = replace(worker, task_id="")
        if said.get("is_broken"):  # nobody knows how its models are
            del self._workers[name]
            self._link.send({"stop": name})

    # What happens to jobs

    def _take(self, job: Job) -> Run:
        run = self._runs[job.task_id] = Run(job)
        return run

    def _wait(self, run: Run) -> None:
        """Queue it; its files go into the storage meanwhile."""
        if run.inputs is None:
            run.inputs = asyncio.create_task(asyncio.to_thread(put_inputs, self._storage, run.job))
        run.worker, run.order, run.seen = "", {}, 0
        self._queue.add(run.job)
        if not self._is_reached:
            self._listener.progress(run.job.task_id, 0.0, _OUT_OF_REACH)
        self._dispatch()
        self._tell_queue()

    def _dispatch(self) -> None:
        """Give waiting jobs to workers, and have workers started."""
        if not self._is_reached or not self._queue:
            return
        room = self._room if self._may_start else 0
        plan = place(
            self._queue.order(), self._workers.values(), room, self._most, self._options.models
        )
        for job, name in plan.begins:
            self._queue.take(job.task_id)
            self._workers[name] = given(self._workers[name], job, self._options.models)
            run = self._runs[job.task_id]
            run.worker = name
            self._listener.status(job.task_id, Status.PREPARING)
            self._background.spawn(self._begin(run))
        for _ in range(plan.starts):
            name = f"worker-{secrets.token_hex(6)}"
            self._workers[name] = Worker(name, is_up=False)
            self._room -= 1
            self._link.send({"start": name})
        if plan.begins:
            self._tell_queue()

    async def _begin(self, run: Run) -> None:
        job, name = run.job, run.worker
        try:
            files = await run.inputs
            record = {"worker": name}
            attempt = await asyncio.to_thread(self._storage.begin, job.task_id, record)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # each kind of storage has errors of its own
            self._release(name, job.task_id)
            text = f"The storage of the cluster could not be written: {error}"
            self._end(run, Outcome(Status.FAILED, error=text))
            return
        if run.worker != name:  # it died meanwhile, and the job waits again
            return
        run.attempt = attempt
        if run.is_cancelled:
            self._release(name, job.task_id)
            self._end(run, Outcome(Status.CANCELLED))
        else:  # a worker that is lost meanwhile is told by its own message
            run.order = make_order(job, run.attempt, files, self._options.models)
            self._link.send({"begin": run.order, "worker": name})

    def _release(self, name: str, task_id: str) -> None:
        worker = self._workers.get(name)
        if worker is not None and worker.task_id == task_id:
            self._workers[name] = replace(worker, task_id="")

    async def _lose(self, run: Run, reason: str) -> None:
        """Its worker is gone: find its end all the same, try again, or fail it."""
        if run.is_ending or not run.worker:
            return
        run.worker, attempt = "", run.attempt
        if await self._is_ended(run.job.task_id):
            self._finish(run, {})
        elif run.is_cancelled:
            self._end(run, Outcome(Status.CANCELLED))
        elif attempt <= self._retries:
            whole = self._retries + 1
            text = f"attempt {attempt + 1} of {whole}: {reason}"
            log.warning("%s: %s", run.job.task_id, text)
            self._queue.done(run.job.task_id)
            self._listener.retried(run.job.task_id, text)
            self._wait(run)
        else:
            text = f"Attempt {attempt} of {attempt} ended too early: {reason}. Run it again, or "
            text += "with fewer frames if memory is short; the cluster's logs may say more."
            self._end(run, Outcome(Status.FAILED, error=text))

    async def _is_ended(self, task_id: str) -> bool:
        try:
            return await asyncio.to_thread(self._storage.outcome, task_id) is not None
        except Exception:
            log.exception("The storage could not be read")
            return False

    def _finish(self, run: Run, said: Mapping[str, Any]) -> None:
        """Fetch what it made, and tell how it ended."""
        run.stop_waiting()

        async def work() -> None:
            job = run.job
            outcome = await collect(self._storage, job.task_id, job.folder, said)
            self._end(run, outcome)

        self._background.spawn(work())

    def _end(self, run: Run, outcome: Outcome) -> None:
        run.stop_waiting()
        self._runs.pop(run.job.task_id, None)
        self._unsaved.add(run.job.task_id)
        self._queue.done(run.job.task_id)
        self._listener.ended(run.job.task_id, outcome)
        self._dispatch()

    def _kill(self, run: Run) -> None:
        """It did not stop when it was asked."""
        if self._is_reached and run.worker:
            self._link.send({"stop": run.worker})
        else:
            self._background.spawn(self._lose(run, "it was cancelled"))

    async def _sweep(self) -> None:
        """Time and again, delete what belongs to no job; once, stop what nobody wants any more."""
        await asyncio.sleep(_SWEEP_SECONDS)
        self._early = None
        for worker in self._workers.values():
            if worker.task_id and worker.task_id not in self._runs:
                self._link.send({"cancel": worker.task_id, "worker": worker.name})
        while True:
            await sweep(self._storage, self._runs, self._unsaved)
            await asyncio.sleep(_SWEEP_AGAIN)

    def _tell_stages(self, stage: str) -> None:
        for job in self._queue.order():
            self._listener.progress(job.task_id, 0.0, stage)

    def _tell_queue(self) -> None:
        self._listener.queue([job.task_id for job in self._queue.order()])
