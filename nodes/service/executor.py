"""Runs the service's jobs as prompts in ComfyUI's own queue."""

import asyncio
import copy
import logging
import platform
import shutil
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from ...wan.errors import Cancelled, WanError
from ...wan.progress import Reporter, Silent
from ...wan.service.executor import Job, Listener, Outcome, WorkerInfo
from ...wan.service.problems import ApiError
from ...wan.service.statuses import Status
from .. import host_server
from .events import EventSocket
from .graphs import Filled
from .links import FOLDER, InputLinks
from .outcome import outcome_of, refusal
from .progress import NodeProgress, Speeds
from .run import Run

log = logging.getLogger("wan_local")

# The host's flag may be cleared or come late: it is set again until the prompt has ended.
_CANCEL_SECONDS = 0.05
# Events can get lost, and a prompt that is deleted in the page tells nothing at all.
_NET_SECONDS = 2.0
_MISSES = 2

Fill = Callable[[Job, InputLinks, str, Reporter], Filled]
"""Makes a job's graph: may look through folders and download, is called in a thread, asks the
reporter whether it was cancelled. Raises ApiError."""


class _Preparation(Silent):
    """Follows what has to be done before a job can be queued."""

    def __init__(self, run: Run, listener: Listener) -> None:
        self._run, self._listener = run, listener

    def start(self, phase: str, total: int) -> None:
        """A phase begins."""
        self._listener.log(self._run.job.task_id, phase)

    def update(self, done: int, preview: object = None) -> None:
        """Some of it is done."""
        self.check_cancelled()

    def check_cancelled(self) -> None:
        """Raise Cancelled if the task was."""
        if self._run.cancel_asked:
            raise Cancelled


class ComfyExecutor:
    """The executor inside ComfyUI.

    Args:
        fill: makes the graph of a job.
        is_slow: whether making it may take minutes, as downloads do; it then happens after
            `submit` returned, and what is wrong fails the task.
    """

    name = "comfyui"
    dashboard = None

    def __init__(self, fill: Fill, is_slow: Callable[[Job], bool] = lambda _: False) -> None:
        self._fill = fill
        self._is_slow = is_slow
        self._links = InputLinks()
        self._runs: dict[str, Run] = {}
        self._speeds = Speeds()
        self._listener: Listener | None = None
        self._order: list[str] | None = None
        self._work: set[asyncio.Task] = set()
        self._done = 0

    async def start(self, listener: Listener) -> None:
        """Ready to take jobs."""
        self._listener = listener
        await asyncio.to_thread(self._links.clear)
        self._begin(self._watch())

    async def submit(self, job: Job) -> None:
        """Make the graph and queue it.

        Raises:
            ApiError: requirements_not_met or validation_error.
        """
        run = self._runs[job.task_id] = Run(job, self._speeds)
        if self._is_slow(job):
            self._begin(self._submit_later(run))
            return
        try:
            await self._queue(run)
        except Cancelled:
            await self._end(run, Outcome(Status.CANCELLED))
        except BaseException:
            run.is_ended = True
            await self._forget(run, keeps_result=False)
            raise

    async def cancel(self, task_id: str) -> None:
        """Take it out of the queue, or stop it."""
        run = self._runs.get(task_id)
        if run is None or run.is_ended or run.cancel_asked:
            return
        run.cancel_asked = True
        if not run.is_queued:
            return  # whoever queues it looks
        if host_server.delete_pending(run.prompt_id):
            await self._end(run, Outcome(Status.CANCELLED))
        else:
            self._begin(self._interrupt(run))

    async def adopt(self, job: Job) -> bool:
        """ComfyUI's queue ends with it."""
        return False

    async def forget(self, task_id: str) -> None:
        """Results stay where ComfyUI keeps them."""

    async def workers(self) -> list[WorkerInfo]:
        """ComfyUI runs one prompt at a time, which may be another's. It does not say what its
        models are."""
        from ..host_memory import placement

        running = host_server.queue_state().running
        ours = {run.prompt_id: run.job.task_id for run in self._runs.values()}
        return [
            WorkerInfo(
                "comfyui",
                platform.node(),
                "busy" if running else "idle",
                next((ours[prompt] for prompt in running if prompt in ours), None),
                (str(placement().device),),
                jobs_done=self._done,
            )
        ]

    async def close(self) -> None:
        """Stop what runs; nothing is told afterwards."""
        for run in self._runs.values():
            run.is_ended = True
            if run.is_queued:
                host_server.stop_listening(run.client_id)
                if not host_server.delete_pending(run.prompt_id):
                    host_server.interrupt_running(run.prompt_id)
        for work in list(self._work):
            work.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        self._runs.clear()

    async def _submit_later(self, run: Run) -> None:
        self._listener.status(run.job.task_id, Status.PREPARING)
        try:
            await self._queue(run)
        except Cancelled:
            await self._end(run, Outcome(Status.CANCELLED))
        except (ApiError, WanError) as error:
            detail = error.detail if isinstance(error, ApiError) else " ".join(str(error).split())
            await self._end(run, Outcome(Status.FAILED, error=detail))
        except Exception as error:
            log.exception("A job could not be queued")
            text = f"The job could not be queued: {type(error).__name__}."
            await self._end(run, Outcome(Status.FAILED, error=text))

    async def _queue(self, run: Run) -> None:
        prefix = f"{FOLDER}/{run.job.task_id}"
        run.filled = await asyncio.to_thread(
            self._fill, run.job, self._links, prefix, _Preparation(run, self._listener)
        )
        run.progress = NodeProgress(run.filled.graph, self._speeds)
        if run.cancel_asked:
            await self._end(run, Outcome(Status.CANCELLED))
            return
        host_server.listen(run.client_id, self._socket(run))
        body = {
            # The host keeps this very object and changes it while it runs.
            "prompt": copy.deepcopy(run.filled.graph),
            "prompt_id": run.prompt_id,
            "client_id": run.client_id,
            "extra_data": host_server.preview_options(),
        }
        try:
            status, answer = await host_server.queue_prompt(body)
        except BaseException:
            host_server.stop_listening(run.client_id)
            raise
        if status != 200:
            host_server.stop_listening(run.client_id)
            raise refusal(run.filled, answer)
        run.is_queued = True
        self._tell_queue()
        if run.cancel_asked:
            run.cancel_asked = False
            await self.cancel(run.job.task_id)

    def _socket(self, run: Run) -> EventSocket:
        def on_event(kind: str, data: dict) -> None:
            if run.is_ended:
                return
            if kind == "executing" and data.get("node") is None:
                self._begin(self._read_end(run))
            else:
                run.take(kind, data, self._listener)

        def on_picture(picture: bytes) -> None:
            if not run.is_ended:
                self._listener.preview(run.job.task_id, picture)

        def on_text(node: str, text: str) -> None:
            if not run.is_ended:
                run.say(node, text, self._listener)

        return EventSocket(run.prompt_id, on_event, on_picture, on_text, self._tell_queue)

    def _tell_queue(self) -> None:
        """The waiting tasks in order; others' prompts count too, under their own ids."""
        ours = {run.prompt_id: run.job.task_id for run in self._runs.values()}
        order = [ours.get(prompt, prompt) for prompt in host_server.queue_state().pending]
        if order != self._order and self._listener is not None:
            self._order = order
            self._listener.queue(order)

    async def _interrupt(self, run: Run) -> None:
        while not run.is_ended:
            # It may have been taken out of the queue, or be on its way from there.
            if host_server.delete_pending(run.prompt_id):
                await self._end(run, Outcome(Status.CANCELLED))
            else:
                host_server.interrupt_running(run.prompt_id)
                await asyncio.sleep(_CANCEL_SECONDS)

    async def _read_end(self, run: Run) -> None:
        """The host's last word on a prompt; history is complete when it comes."""
        entry = host_server.history(run.prompt_id)
        if entry is None or run.is_ended or run.is_read:
            return  # the net below sees to a missing entry
        run.is_read = True
        outcome = await asyncio.to_thread(outcome_of, run.filled, entry)
        if outcome.status is Status.FAILED:
            self._listener.log(run.job.task_id, outcome.error)
        await self._end(run, outcome)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_NET_SECONDS)
            try:
                await self._look()
            except Exception:
                log.exception("ComfyUI's queue could not be read")

    async def _look(self) -> None:
        state = host_server.queue_state()
        known = {*state.running, *state.pending}
        for run in list(self._runs.values()):
            if not run.is_queued or run.is_ended:
                continue
            if run.prompt_id in known:
                run.misses = 0
            elif host_server.history(run.prompt_id) is not None:
                await self._read_end(run)
            else:
                run.misses += 1
                if run.misses >= _MISSES:
                    text = "The job was deleted in ComfyUI's queue."
                    self._listener.log(run.job.task_id, text)
                    await self._end(run, Outcome(Status.CANCELLED))
        self._tell_queue()

    async def _end(self, run: Run, outcome: Outcome) -> None:
        if run.is_ended:
            return
        run.is_ended = True
        host_server.stop_listening(run.client_id)
        await self._forget(run, keeps_result=outcome.status is Status.COMPLETED)
        self._done += 1
        self._listener.ended(run.job.task_id, outcome)
        self._tell_queue()

    async def _forget(self, run: Run, keeps_result: bool) -> None:
        self._runs.pop(run.job.task_id, None)
        await asyncio.to_thread(self._clean, run.job.task_id, keeps_result)

    def _clean(self, task_id: str, keeps_result: bool) -> None:
        self._links.release(task_id)
        if not keeps_result:
            with suppress(OSError):
                shutil.rmtree(result_folder(task_id))

    def _begin(self, work: Awaitable) -> None:
        task = asyncio.ensure_future(work)
        self._work.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task) -> None:
        self._work.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("The service's work with ComfyUI failed", exc_info=task.exception())


def result_folder(task_id: str) -> Path:
    """Where the results of a task are written."""
    return host_server.output_folder() / FOLDER / task_id
