"""`python -m wan cluster-driver`: holds the connection to Ray for `serve`; JSON lines in and out.

A process of its own because Ray ends a driver whose head is gone: with version 2.60 calls answer
"unavailable" for 60 s, and then the process exits with status 1, whatever it is doing. The server
must outlive that.

In come {"start": name}, {"begin": job, "worker": name}, {"give_back": task_id, "worker": name},
{"cancel": task_id, "worker": name}, {"stop": name} and {"close": true}. Out go {"kind": ...} for ready, failed, up, gone, room, refused
and, with all that workers say, news.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ..child import Channel, end_with_server
from ..errors import WanError
from .cluster import Cluster, not_let_in
from .node import check_version
from .options import ClusterOptions

_CONNECT_SECONDS = 60.0
_POLL = 20.0
"""Seconds that a worker is asked to wait for news, at most."""
_SILENCE = 10.0
"""Seconds without an answer of the head after which the cluster counts as out of reach."""
_LOOK = 0.5
_START_SECONDS = 90.0
"""For a worker to start. After that the resources are somebody else's."""
_LEAVE_SECONDS = 2.0


class Driver:
    """Does what the server says, and tells what happens.

    Args:
        cluster: connected.
        channel: to the server.
        idle_seconds: after which a worker that hears nothing ends; it is asked more often.
    """

    def __init__(self, cluster: Cluster, channel: Channel, idle_seconds: float) -> None:
        self._cluster, self._channel = cluster, channel
        self._poll = min(_POLL, idle_seconds / 3)
        self._workers: dict[str, Any] = {}
        self._starting: set[str] = set()
        self._room: int | None = None
        """As last told; None: to be told again."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()

    async def run(self) -> None:
        """Work until the server says close, or is gone."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._listen, args=(loop,), daemon=True).start()
        report = await asyncio.to_thread(self._cluster.inspect)
        found = await self._find_workers()
        room = await asyncio.to_thread(self._cluster.room, len(self._workers), 0)
        self._tell("ready", workers=found, room=room, **report)
        for name in self._workers:
            self._spawn(self._pump(name))
        self._spawn(self._watch())
        await self._closing.wait()

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(self._hear, json.loads(line))
        os._exit(0)  # the server is gone

    def _hear(self, message: Mapping[str, Any]) -> None:
        if "start" in message:
            self._spawn(self._start(message["start"]))
        elif "begin" in message:
            self._spawn(self._begin(message["worker"], message["begin"]))
        elif "give_back" in message:
            self._spawn(self._give_back(message["worker"], message["give_back"]))
        elif "cancel" in message:
            worker = self._workers.get(message["worker"])
            if worker is not None:
                worker.cancel.remote(message["cancel"])
        elif "stop" in message:
            self._spawn(self._stop(message["stop"]))
        elif "close" in message:
            self._spawn(self._close())

    async def _find_workers(self) -> list[dict[str, Any]]:
        """Those that an earlier driver left and that answer."""
        found = []
        for name, worker in self._cluster.find_workers().items():
            try:
                state = await asyncio.wait_for(_answer(worker.hello.remote()), _SILENCE)
            except Exception:  # dying, or of a machine that is
                self._cluster.kill(worker)
                continue
            self._workers[name] = worker
            found.append({"name": name, **state})
        return found

    async def _start(self, name: str) -> None:
        self._starting.add(name)
        worker = None
        try:
            worker = self._cluster.start_worker(name)
            state = await asyncio.wait_for(_answer(worker.hello.remote()), _START_SECONDS)
            check_version(state["node"], state["version"])
        except Exception as error:
            if worker is not None:
                self._cluster.kill(worker)
            reason = self._cluster.words(error, _START_SECONDS)
            self._room = None
            self._tell("gone", name=name, text=reason, is_start=True)
            return
        finally:
            self._starting.discard(name)
        self._workers[name] = worker
        self._tell("up", name=name, **state)
        await self._pump(name)

    async def _begin(self, name: str, job: Mapping[str, Any]) -> None:
        task_id, attempt = job["task_id"], job["attempt"]

        async def ask(worker: Any) -> None:
            if not await _answer(worker.begin.remote(job)):
                await self._refused(name, worker, task_id, attempt)

        if name in self._workers:
            await self._ask(name, ask)
        else:
            self._tell("refused", name=name, task_id=task_id, attempt=attempt, state=None)

    async def _give_back(self, name: str, task_id: str) -> None:
        async def ask(worker: Any) -> None:
            attempt = await _answer(worker.give_back.remote(task_id))
            if attempt:
                await self._refused(name, worker, task_id, attempt)

        if name in self._workers:
            await self._ask(name, ask)

    async def _refused(self, name: str, worker: Any, task_id: str, attempt: int) -> None:
        state = await _answer(worker.state.remote())
        self._tell("refused", name=name, task_id=task_id, attempt=attempt, state=state)

    async def _ask(self, name: str, ask: Callable[[Any], Awaitable[None]]) -> None:
        try:
            await ask(self._workers[name])
        except Exception as error:
            if not self._cluster.is_death(error):  # of that `_pump` tells
                raise

    async def _stop(self, name: str) -> None:
        worker = self._workers.get(name)
        if worker is not None:
            self._cluster.kill(worker)

    async def _close(self) -> None:
        leaving = [
            asyncio.ensure_future(_answer(worker.leave.remote()))
            for worker in self._workers.values()
        ]
        if leaving:
            left, _ = await asyncio.wait(leaving, timeout=_LEAVE_SECONDS)
            for one in left:
                one.exception()  # that of a worker which ended, as it was asked to
        self._closing.set()

    async def _pump(self, name: str) -> None:
        """Pass on what a worker says until it is dead."""
        worker, after = self._workers[name], 0
        while True:
            try:
                found = await _answer(worker.news.remote(after, self._poll))
            except Exception as error:
                if self._cluster.is_death(error):
                    self._workers.pop(name, None)
                    self._room = None
                    self._tell("gone", name=name, text=self._cluster.words(error), is_start=False)
                    return
                await asyncio.sleep(_LOOK)  # out of reach; Ray decides whether it is dead
                continue
            for message in found:
                after = message["number"]
                self._channel.tell({"kind": "news", "name": name, "said": message})

    async def _watch(self) -> None:
        """Tell how many workers more there is room for; end when the head does not answer."""
        while True:
            asked = asyncio.ensure_future(
                asyncio.to_thread(self._cluster.room, len(self._workers), len(self._starting))
            )
            done, _ = await asyncio.wait([asked], timeout=_SILENCE)
            if not done or asked.exception() is not None:
                self._tell("lost", text="The head of the cluster does not answer.")
                os._exit(1)
            if asked.result() != self._room:
                self._room = asked.result()
                self._tell("room", room=self._room)
            await asyncio.sleep(_LOOK)

    def _tell(self, kind: str, **facts: Any) -> None:
        self._channel.tell({"kind": kind, **facts})

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _answer(reference: Any) -> Any:
    """The result of a call, of Ray's and of Ray Client's references."""
    return await reference


def run_driver(text: str) -> int:
    """Serve the server until it ends.

    Args:
        text: `ClusterOptions.as_text`.
    Returns:
        The exit status: 0 closed, 2 the cluster cannot be used.
    """
    end_with_server()
    channel = Channel()
    options = ClusterOptions.from_text(text)

    async def work() -> None:
        connecting = asyncio.ensure_future(asyncio.to_thread(Cluster.connect, options))
        done, _ = await asyncio.wait([connecting], timeout=_CONNECT_SECONDS)
        try:
            if not done:
                reason = f"no answer within {_CONNECT_SECONDS:g} s"
                raise not_let_in(options.address, reason)
            await Driver(connecting.result(), channel, options.idle_seconds).run()
        except WanError as error:
            channel.tell({"kind": "failed", "what": error.what, "why": error.why, "fix": error.fix})
            os._exit(2)  # not waiting for a thread that waits for the cluster

    asyncio.run(work())
    return 0
