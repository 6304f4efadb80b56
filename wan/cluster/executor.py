"""The executor over a Ray cluster. The server's process holds the queue and the truth; a driver
beside it holds the connection to Ray, so that nothing of Ray is imported here."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping
from typing import Any

from ..service.executor import Job, Listener, Outcome, WorkerInfo
from ..service.queue import FairQueue
from ..service.statuses import Status
from .background import Background
from .collect import collect, is_ended
from .fleet import QUICK_SECONDS, Fleet
from .link import DriverLink
from .options import ClusterOptions
from .run import Run, make_order, put_inputs
from .storage import Storage
from .sweep import forget, keep_swept
from .view import View

log = logging.getLogger("wan_local")

_GRACE = 60.0
"""Seconds that a job has to notice that it was cancelled, before its worker is killed."""
_PATIENCE = 60.0
"""Seconds out of reach after which running jobs count as lost; Ray's workers end by then too."""
_SWEEP_SECONDS = 60.0
"""For the tasks of an earlier server to be taken over."""
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
        self._options, self._retries = options, retries
        self._grace, self._patience = grace, patience
        self._storage = Storage.open(options.storage)
        self._link = DriverLink(options, self._hear)
        self._queue = FairQueue()
        self._runs: dict[str, Run] = {}
        self._unsaved: set[str] = set()
        """Ended jobs whose end the server has not saved yet."""
        self._fleet = Fleet(options.models, most)
        self._is_reached = False
        self._early: dict[str, list[Mapping[str, Any]]] | None = {}
        """What workers said of jobs that were not taken over yet; None: that time is past."""
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
        self._fleet.expect_weights(job)
        self._wait(self._take(job))

    async def adopt(self, job: Job) -> bool:
        """Take over a job that is in the cluster or in the storage."""
        task_id = job.task_id
        outcome = await asyncio.to_thread(self._storage.outcome, task_id)
        attempts = await asyncio.to_thread(self._storage.attempts, task_id)
        if outcome is None and not attempts:
            return False
        run = self._take(job)
        run.attempt = max(attempts, default=1)
        self._queue.count(job)
        holder = self._fleet.holder(task_id)
        if outcome is not None:
            self._finish(run, {})
        elif holder is not None:
            run.worker, run.is_next = holder.name, holder.next_id == task_id
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
        self._ask_to_stop(run)
        run.killer = asyncio.get_running_loop().call_later(self._grace, self._kill, run)

    async def forget(self, task_id: str) -> None:
        """Delete what the storage has of an ended job."""
        self._unsaved.discard(task_id)
        self._background.spawn(forget(self._storage, task_id))

    async def workers(self) -> list[WorkerInfo]:
        """All of this service, those included that are starting."""
        return self._view.infos(self._fleet.workers)

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
            if message["said"]["kind"] != "ended":  # nothing to give because of that
                return
        elif kind == "ready":
            self._reached(message)
        elif kind == "lost":
            self._lost_reach()
        elif kind == "room":
            self._fleet.room = message["room"]
        elif kind == "up":
            self._fleet.up(message)
        elif kind == "gone":
            self._gone(message)
        elif kind == "refused":
            self._refused(message)
        self._dispatch()

    def _reached(self, message: Mapping[str, Any]) -> None:
        self._is_reached = True
        if self._giving_up is not None:
            self._giving_up.cancel()
        self.dashboard = message["dashboard"]
        self._fleet.find(message["workers"], message["room"], message["lacks"])
        for run in list(self._runs.values()):
            if not run.worker or run.is_ending:
                continue
            if run.worker not in self._fleet:
                self._lost(run, "its worker was lost with the cluster")
            elif run.order:  # it may not have arrived, and is done once however often it does
                self._link.send({"begin": run.order, "worker": run.worker})
                run.is_next = self._fleet.give(run.worker, run.job)
            if run.is_cancelled:
                self._ask_to_stop(run)
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
                self._lost(run, "the head of the cluster was lost")

    def _gone(self, message: Mapping[str, Any]) -> None:
        worker = self._fleet.remove(message["name"])
        if message["is_start"]:
            log.warning("A worker could not be started: %s", message["text"])
            self._tell_stages(f"waits: a worker could not be started ({message['text']})")
            loop = asyncio.get_running_loop()
            loop.call_later(self._fleet.start_failed(), self._start_again)
        where = f"the worker on node {worker.node} died" if worker else "its worker died"
        for run in list(self._runs.values()):
            if run.worker == message["name"] and not run.is_ending:
                log.warning("%s: %s", where, message["text"])
                self._lost(run, where)

    def _start_again(self) -> None:
        self._fleet.rested()
        self._dispatch()

    def _news(self, name: str, said: Mapping[str, Any]) -> None:
        run, task_id, kind = self._runs.get(said["task_id"]), said["task_id"], said["kind"]
        self._view.hear(name, said)
        if kind == "ended":
            self._free(name, said)
        if run is None:
            if self._early is not None:
                self._early.setdefault(task_id, []).append(said)
            return
        if said["attempt"] != run.attempt or said["number"] <= run.seen or run.is_ending:
            return
        run.seen, run.is_next = said["number"], False
        if kind == "ended":
            self._finish(run, said)
        elif kind == "status":
            self._listener.status(task_id, Status(said["status"]))
        elif kind == "progress":
            self._listener.progress(task_id, said["share"], said["stage"])
        elif kind == "log":
            self._listener.log(task_id, said["text"], mark=f"{run.attempt}_{said['number']}")

    def _free(self, name: str, said: Mapping[str, Any]) -> None:
        begun = self._fleet.ended(name, said)
        if said.get("is_broken"):  # nobody knows how its models are
            self._fleet.remove(name)
            self._link.send({"stop": name})
        else:
            self._begins(begun)

    def _begins(self, task_id: str) -> None:
        """A worker begins its next job, if it has one."""
        if task_id in self._runs:
            self._runs[task_id].is_next = False
            self._listener.status(task_id, Status.PREPARING)

    def _refused(self, message: Mapping[str, Any]) -> None:
        """A worker did not take a job, or gave it back before it began."""
        if message["state"] is not None:
            self._fleet.correct(message["name"], message["state"])
        run = self._runs.get(message["task_id"])
        if run is not None and run.attempt == message["attempt"]:
            self._background.spawn(self._lose(run, "its worker did not take it", not run.is_next))

    # What happens to jobs

    def _take(self, job: Job) -> Run:
        run = self._runs[job.task_id] = Run(job)
        return run

    def _wait(self, run: Run) -> None:
        """Queue it; its files go into the storage meanwhile."""
        if run.inputs is None:
            run.inputs = asyncio.create_task(asyncio.to_thread(put_inputs, self._storage, run.job))
        run.worker, run.is_next, run.order, run.seen = "", False, {}, 0
        self._queue.add(run.job)
        if not self._is_reached:
            self._listener.progress(run.job.task_id, 0.0, _OUT_OF_REACH)
        self._dispatch()
        self._tell_queue()

    def _dispatch(self) -> None:
        """Give waiting jobs to workers, and have workers started."""
        if not self._is_reached or not self._queue:
            return
        plan = self._fleet.plan(self._queue.walk())
        for job, name in plan.begins:
            self._queue.take(job.task_id)
            run = self._runs[job.task_id]
            run.worker, run.is_next = name, self._fleet.give(name, job)
            if run.is_next:
                loop = asyncio.get_running_loop()
                loop.call_later(QUICK_SECONDS, self._want_back, run, name)
            else:
                self._listener.status(job.task_id, Status.PREPARING)
            self._background.spawn(self._begin(run))
        for _ in range(plan.starts):
            name = f"worker-{secrets.token_hex(6)}"
            self._fleet.expect(name)
            self._link.send({"start": name})
        if plan.begins:
            self._tell_queue()

    def _want_back(self, run: Run, name: str) -> None:
        """It was to begin soon, and did not: another worker may be free earlier."""
        if run.is_next and run.worker == name and not run.is_ending:
            self._fleet.slow(name)
            self._link.send({"give_back": run.job.task_id, "worker": name})

    async def _begin(self, run: Run) -> None:
        job, name = run.job, run.worker
        try:
            files = await run.inputs
            record = {"worker": name}
            attempt = await asyncio.to_thread(self._storage.begin, job.task_id, record)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # each kind of storage has errors of its own
            self._begins(self._fleet.take(name, job.task_id))
            text = f"The storage of the cluster could not be written: {error}"
            self._end(run, Outcome(Status.FAILED, error=text))
            return
        if run.worker != name:  # it died meanwhile, and the job waits again
            return
        run.attempt = attempt
        if run.is_cancelled:
            self._begins(self._fleet.take(name, job.task_id))
            self._end(run, Outcome(Status.CANCELLED))
        else:  # a worker that is lost meanwhile is told by its own message
            run.order = make_order(job, run.attempt, files, self._options.models)
            self._link.send({"begin": run.order, "worker": name})

    def _lost(self, run: Run, reason: str) -> None:
        """Its worker died."""
        counts = not run.is_next or run.is_spared
        run.is_spared = run.is_spared or not counts
        self._background.spawn(self._lose(run, reason, counts))

    async def _lose(self, run: Run, reason: str, counts: bool = True) -> None:
        """Its worker does not have it any more: find its end all the same, try again, or fail it.

        Args:
            counts: whether the attempt does; False: it had not begun.
        """
        if run.is_ending or not run.worker:
            return
        run.worker = ""
        if await is_ended(self._storage, run.job.task_id):
            self._finish(run, {})
        elif run.is_cancelled:
            self._end(run, Outcome(Status.CANCELLED))
        elif not counts:
            run.unbegun += 1
            self._wait(run)
        elif run.tries <= self._retries:
            text = run.attempt_words(self._retries, reason)
            log.warning("%s: %s", run.job.task_id, text)
            self._queue.done(run.job.task_id)
            self._listener.retried(run.job.task_id, text)
            self._wait(run)
        else:
            text = run.attempt_words(self._retries, reason)
            self._end(run, Outcome(Status.FAILED, error=text))

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

    def _ask_to_stop(self, run: Run) -> None:
        for word in ("cancel", "give_back"):  # whether it runs or not
            self._link.send({word: run.job.task_id, "worker": run.worker})

    def _kill(self, run: Run) -> None:
        """It did not stop when it was asked."""
        if self._is_reached and run.worker:
            self._link.send({"stop": run.worker})
        else:
            self._background.spawn(self._lose(run, "it was cancelled"))

    async def _sweep(self) -> None:
        """Once, stop what nobody wants any more; then keep the storage small."""
        await asyncio.sleep(_SWEEP_SECONDS)
        self._early = None
        for worker in self._fleet.workers:
            if worker.task_id and worker.task_id not in self._runs:
                self._link.send({"cancel": worker.task_id, "worker": worker.name})
        await keep_swept(self._storage, self._runs, self._unsaved)

    def _tell_stages(self, stage: str) -> None:
        for job in self._queue.order():
            self._listener.progress(job.task_id, 0.0, stage)

    def _tell_queue(self) -> None:
        waiting = [job.task_id for job in self._queue.order()]
        self._listener.queue([*self._fleet.next_ids(), *waiting])
