"""Which job comes next: a pure queue that every executor of ours takes its order from."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator

from .executor import Job

_Line = list[tuple[int, str]]
"""(number, task id) of the waiting jobs of one key and priority, in the order they came in."""


class FairQueue:
    """Higher priorities first; within one, the API key with the fewest running jobs, and of several
    such keys the one that was served longest ago; within a key, first come first served."""

    def __init__(self) -> None:
        self._lines: dict[int, dict[str, _Line]] = {}
        self._jobs: dict[str, Job] = {}
        self._numbers: dict[str, int] = {}
        self._running: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._served: dict[str, int] = {}
        self._clock = 0

    def __len__(self) -> int:
        """Number of waiting jobs."""
        return len(self._jobs)

    def __contains__(self, task_id: str) -> bool:
        """Whether a job waits."""
        return task_id in self._jobs

    def add(self, job: Job) -> None:
        """Let a job wait. One that was in this queue before and is not `done` gets its old place
        in the line of its key."""
        self._leave(job.task_id)
        self._clock += 1
        number = self._numbers.setdefault(job.task_id, self._clock)
        lines = self._lines.setdefault(job.priority, {})
        insort(lines.setdefault(job.key_id, []), (number, job.task_id))
        self._jobs[job.task_id] = job

    def first(self) -> Job | None:
        """The next job, which goes on waiting; None: no job waits."""
        if not self._jobs:
            return None
        lines = self._lines[max(self._lines)]
        return self._jobs[lines[_next_key(lines, self._counts, self._served)][0][1]]

    def pop(self) -> Job | None:
        """Begin the next job, or None."""
        job = self.first()
        return None if job is None else self.take(job.task_id)

    def take(self, task_id: str) -> Job:
        """Begin a waiting job. Raises: KeyError, it does not wait."""
        job = self._jobs[task_id]
        self._drop(job)
        self.count(job)
        return job

    def count(self, job: Job) -> None:
        """Count a job as running that was begun elsewhere."""
        self._clock += 1
        self._numbers.setdefault(job.task_id, self._clock)
        self._running[job.task_id] = job.key_id
        self._counts[job.key_id] = self._counts.get(job.key_id, 0) + 1
        self._served[job.key_id] = self._clock

    def remove(self, task_id: str) -> Job | None:
        """Take a waiting job out for good; None if it does not wait."""
        job = self._jobs.get(task_id)
        if job is not None:
            self._drop(job)
            del self._numbers[task_id]
        return job

    def done(self, task_id: str) -> None:
        """A running job has ended."""
        self._leave(task_id)
        self._numbers.pop(task_id, None)

    def order(self) -> list[Job]:
        """All waiting jobs, next one first, as if each that begins ran on."""
        return list(self.walk())

    def walk(self) -> Iterator[Job]:
        """As `order`, one job after the other; the queue must not change meanwhile."""
        counts, served, clock = dict(self._counts), dict(self._served), self._clock
        for priority in sorted(self._lines, reverse=True):
            lines = {key: iter(line) for key, line in self._lines[priority].items()}
            heads = {key: [next(line)] for key, line in lines.items()}
            while heads:
                key = _next_key(heads, counts, served)
                clock += 1
                counts[key], served[key] = counts.get(key, 0) + 1, clock
                yield self._jobs[heads[key][0][1]]
                following = next(lines[key], None)
                if following is None:
                    del heads[key]
                else:
                    heads[key] = [following]

    def _drop(self, job: Job) -> None:
        lines = self._lines[job.priority]
        lines[job.key_id].remove((self._numbers[job.task_id], job.task_id))
        if not lines[job.key_id]:
            del lines[job.key_id]
        if not lines:
            del self._lines[job.priority]
        del self._jobs[job.task_id]

    def _leave(self, task_id: str) -> None:
        key = self._running.pop(task_id, None)
        if key is not None:
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]


def _next_key(lines: dict[str, _Line], counts: dict[str, int], served: dict[str, int]) -> str:
    """The key whose turn it is; of keys that were never served the one that has waited longest."""
    return min(lines, key=lambda key: (counts.get(key, 0), served.get(key, 0), lines[key][0]))
