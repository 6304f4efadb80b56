"""A cluster of workers with one GPU each, simulated event by event. The same seed, the same run."""

from __future__ import annotations

import heapq
import math
import random
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.rules import Machine, Rules, Task
from bench.shares import Shares

_ARRIVE, _END, _CRASH, _NODE_CRASH, _RETURN = range(5)


@dataclass(frozen=True)
class Faults:
    """What breaks. Seconds; infinite means never."""

    worker_between: float = math.inf
    """Mean time from one crash of a worker to its next."""
    node_between: float = math.inf
    """Likewise of a node, with all of its workers."""
    worker_back: float = 30.0
    """Until a worker is there again, without any model."""
    node_back: float = 900.0
    retries: int = 1
    """Further attempts of a job."""


@dataclass(frozen=True)
class Site:
    """The hardware."""

    workers: int
    per_node: int = 8
    load_model: float = 0.0
    """Seconds to load all models of an app."""
    load_lora: float = 0.0
    """Seconds to change the LoRA alone."""


@dataclass
class Record:
    """What became of a job."""

    task: Task
    begun: float | None = None
    """Of the first attempt."""
    ended: float | None = None
    attempts: int = 0
    has_failed: bool = False
    pieces: int = 0
    """Finished, in storage."""

    @property
    def wait(self) -> float:
        """Seconds from arrival to the first attempt."""
        assert self.begun is not None
        return self.begun - self.task.arrival


@dataclass
class Attempt:
    """A job on a worker."""

    record: Record
    machine: Machine
    start: float
    load: float
    end: float


@dataclass
class Outcome:
    """All that is known afterwards. Times in seconds of GPUs."""

    records: list[Record]
    site: Site
    finished: float = 0.0
    """When the last job ended."""
    useful: float = 0.0
    """Work of which the result was kept."""
    lost: float = 0.0
    """Work that was done again."""
    loading: float = 0.0
    busy: float = 0.0
    """On all workers, from the beginning to the end of each attempt."""
    last_arrival: float = 0.0
    busy_by_then: float = 0.0
    """Of `busy` what lies before the last arrival: afterwards workers run idle one by one."""
    cold_loads: int = 0
    lora_loads: int = 0
    worker_crashes: int = 0
    node_crashes: int = 0
    interrupted: int = 0
    """Attempts that a crash ended."""
    longest_queue: int = 0
    queue_time: float = 0.0
    """Length of the queue by time, until the last arrival."""
    doubled: int = 0
    """Jobs that ended twice: always 0, or the simulation is wrong."""
    satisfaction: dict[str, float] = field(default_factory=dict)
    """As `Shares.satisfaction`, until the last arrival."""
    lengths: list[tuple[float, int]] = field(default_factory=list)
    """(second, jobs waiting), whenever that changed."""


class Cluster:
    """One run."""

    def __init__(
        self, site: Site, rules: Rules, tasks: Sequence[Task], faults: Faults, seed: int
    ) -> None:
        self._site, self._rules, self._faults = site, rules, faults
        self._random = random.Random(seed)
        self._queue = rules.queue()
        self._machines = [
            Machine(n, f"w{n:04}", f"n{n // site.per_node:03}") for n in range(site.workers)
        ]
        self._free = list(range(site.workers))
        self._running: dict[int, Attempt] = {}
        self._records = {task.task_id: Record(task) for task in tasks}
        self._open = len(self._records)
        self._events: list[tuple[float, int, int, object]] = []
        self._count, self._now = 0, 0.0
        self._shares, self._up = Shares(), site.workers
        self._outcome = Outcome(list(self._records.values()), site)
        self._outcome.last_arrival = max((task.arrival for task in tasks), default=0.0)
        for task in tasks:
            self._push(task.arrival, _ARRIVE, task)
        for number in range(site.workers):
            self._await_crash(_CRASH, number, faults.worker_between)
        for number in range(-(-site.workers // site.per_node)):
            self._await_crash(_NODE_CRASH, number, faults.node_between)

    def run(self) -> Outcome:
        """Until every job has ended."""
        handle = {
            _ARRIVE: self._arrive,
            _END: self._end,
            _CRASH: self._crash,
            _NODE_CRASH: self._crash_node,
            _RETURN: self._return,
        }
        while self._open:
            when, _, kind, about = heapq.heappop(self._events)
            counted = self._counting(self._now, when)
            self._outcome.queue_time += len(self._queue) * counted
            self._shares.pass_time(counted, self._up)
            self._now = when
            handle[kind](about)
            self._begin_jobs()
            self._note_length()
        self._outcome.finished = self._now
        self._outcome.satisfaction = self._shares.satisfaction()
        return self._outcome

    def _counting(self, begin: float, end: float) -> float:
        """Seconds of a span that lie before the last arrival."""
        return max(0.0, min(end, self._outcome.last_arrival) - begin)

    def _push(self, when: float, kind: int, about: object) -> None:
        self._count += 1
        heapq.heappush(self._events, (when, self._count, kind, about))

    def _await_crash(self, kind: int, number: int, between: float) -> None:
        if math.isfinite(between):
            self._push(self._now + self._random.expovariate(1 / between), kind, number)

    def _arrive(self, task: Task) -> None:
        self._queue.add(task)
        self._shares.waiting[task.key_id] += 1

    def _begin_jobs(self) -> None:
        while self._free and len(self._queue):
            task = self._queue.first()
            free = [self._machines[number] for number in self._free]
            machine = self._rules.choose(task, free)
            if machine is None:
                return
            self._begin(self._queue.take(task.task_id), machine)

    def _begin(self, task: Task, machine: Machine) -> None:
        assert machine.is_free and machine.number not in self._running  # one job on a GPU
        del self._free[bisect_left(self._free, machine.number)]
        self._shares.waiting[task.key_id] -= 1
        self._shares.running[task.key_id] += 1
        record, key = self._records[task.task_id], self._rules.key(task)
        load = 0.0
        if machine.app != task.app:
            load, self._outcome.cold_loads = self._site.load_model, self._outcome.cold_loads + 1
        elif machine.key != key:
            load, self._outcome.lora_loads = self._site.load_lora, self._outcome.lora_loads + 1
        machine.app, machine.key, machine.task_id = task.app, key, task.task_id
        record.attempts += 1
        record.begun = self._now if record.begun is None else record.begun
        left = task.service * (task.pieces - record.pieces) / task.pieces
        attempt = Attempt(record, machine, self._now, load, self._now + load + left)
        self._running[machine.number] = attempt
        self._push(attempt.end, _END, attempt)

    def _end(self, attempt: Attempt) -> None:
        number = attempt.machine.number
        if self._running.get(number) is not attempt:
            return  # a crash came first
        self._leave(attempt)
        self._outcome.loading += attempt.load
        self._outcome.useful += attempt.end - attempt.start - attempt.load
        insort(self._free, number)
        self._close(attempt.record, has_failed=False)

    def _leave(self, attempt: Attempt) -> None:
        del self._running[attempt.machine.number]
        attempt.machine.task_id = ""
        self._shares.running[attempt.record.task.key_id] -= 1
        self._outcome.busy += self._now - attempt.start
        self._outcome.busy_by_then += self._counting(attempt.start, self._now)

    def _close(self, record: Record, has_failed: bool) -> None:
        self._outcome.doubled += record.ended is not None
        record.ended, record.has_failed = self._now, has_failed
        self._queue.done(record.task.task_id)
        self._open -= 1

    def _crash(self, number: int) -> None:
        self._outcome.worker_crashes += 1
        self._take_down(number, self._faults.worker_back)
        self._await_crash(_CRASH, number, self._faults.worker_between)

    def _crash_node(self, node: int) -> None:
        self._outcome.node_crashes += 1
        first = node * self._site.per_node
        for number in range(first, min(first + self._site.per_node, self._site.workers)):
            self._take_down(number, self._faults.node_back)
        self._await_crash(_NODE_CRASH, node, self._faults.node_between)

    def _take_down(self, number: int, back: float) -> None:
        machine = self._machines[number]
        if not machine.is_up:
            return
        attempt = self._running.get(number)
        if attempt is not None:
            self._interrupt(attempt)
        else:
            del self._free[bisect_left(self._free, number)]
        machine.is_up, machine.app, machine.key = False, "", ""
        self._up -= 1
        self._push(self._now + back, _RETURN, number)

    def _interrupt(self, attempt: Attempt) -> None:
        """Finished pieces stay, the rest of the attempt is lost."""
        record, task = attempt.record, attempt.record.task
        self._leave(attempt)
        self._outcome.interrupted += 1
        spent = self._now - attempt.start
        loaded = min(spent, attempt.load)
        piece = task.service / task.pieces
        done = min(int((spent - loaded) / piece), task.pieces - record.pieces)
        record.pieces += done
        self._outcome.loading += loaded
        self._outcome.useful += done * piece
        self._outcome.lost += spent - loaded - done * piece
        if record.attempts > self._faults.retries:
            # What its finished pieces took has come to nothing after all.
            self._outcome.useful -= record.pieces * piece
            self._outcome.lost += record.pieces * piece
            self._close(record, has_failed=True)
        else:
            self._arrive(task)

    def _return(self, number: int) -> None:
        self._machines[number].is_up = True
        self._up += 1
        insort(self._free, number)

    def _note_length(self) -> None:
        length = len(self._queue)
        self._outcome.longest_queue = max(self._outcome.longest_queue, length)
        if not self._outcome.lengths or self._outcome.lengths[-1][1] != length:
            self._outcome.lengths.append((self._now, length))


def simulate(
    site: Site,
    rules: Rules,
    tasks: Sequence[Task],
    faults: Faults | None = None,
    seed: int = 0,
) -> Outcome:
    """Run all jobs to their end.

    Args:
        site: the workers.
        rules: who comes next, and where.
        tasks: the jobs.
        faults: what breaks; None: nothing.
        seed: of the crashes.
    """
    return Cluster(site, rules, tasks, faults or Faults(), seed).run()
