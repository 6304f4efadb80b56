"""How many GPUs a rate of jobs needs, and how long jobs wait: queues with c servers.

Waiting is Erlang's formula for c servers, widened to other spreads of the service time as Allen and
Cunneen do. Jobs arrive independently of each other (Poisson).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import InputError

SHARE = 0.95
"""Of the jobs that shall begin within the wanted time."""
MOST = 100_000
"""Servers that are looked at."""


@dataclass(frozen=True)
class Demand:
    """What is wanted."""

    jobs_per_hour: float
    """Above 0."""
    wait: float
    """Seconds within which `SHARE` of the jobs shall begin, 0 or more."""
    variation: float
    """Standard deviation of the time of jobs, of its mean; 0 = all alike, 1 = as random as arrivals."""

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        values = (self.jobs_per_hour, self.wait, self.variation)
        if not all(map(math.isfinite, values)) or self.jobs_per_hour <= 0 or min(values) < 0:
            raise InputError(
                what=f"--jobs-per-hour {self.jobs_per_hour:g}, --wait {self.wait:g} and --variation "
                f"{self.variation:g} cannot be used together.",
                why="The rate is above 0, the other two are not below it.",
                fix="Write for example --jobs-per-hour 60 --wait 120 --variation 0.5.",
            )

    @property
    def per_second(self) -> float:
        """Jobs."""
        return self.jobs_per_hour / 3600


def chance_to_wait(servers: int, load: float) -> float:
    """Erlang C: how probable it is that a job finds all servers busy.

    Args:
        servers: 1 or more.
        load: arrivals a second times seconds of service; from `servers` on everybody waits.
    """
    if load >= servers:
        return 1.0
    blocked = 1.0  # Erlang B, by its recursion
    for count in range(1, servers + 1):
        blocked = load * blocked / (count + load * blocked)
    return _waiting(servers, load, blocked)


def mean_wait(servers: int, demand: Demand, service: float) -> float:
    """Seconds that a job waits on average; infinite where more arrives than can be served.

    Args:
        service: seconds of a job on one server.
    """
    load = demand.per_second * service
    if load >= servers:
        return math.inf
    spread = (1 + demand.variation**2) / 2
    return chance_to_wait(servers, load) * service / (servers - load) * spread


def late_share(servers: int, demand: Demand, service: float) -> float:
    """Share of the jobs that wait longer than wanted."""
    load = demand.per_second * service
    return _late(servers, load, chance_to_wait(servers, load), demand, service)


def servers_needed(demand: Demand, service: float) -> int:
    """The fewest servers with which `SHARE` of the jobs begin in time.

    Raises:
        InputError: more than `MOST`.
    """
    load, blocked = demand.per_second * service, 1.0
    for count in range(1, MOST + 1):
        blocked = load * blocked / (count + load * blocked)
        if load >= count:
            continue
        if _late(count, load, _waiting(count, load, blocked), demand, service) <= 1 - SHARE:
            return count
    raise InputError(
        what=f"{demand.jobs_per_hour:g} jobs an hour of {service:.0f} s need more than {MOST} GPUs.",
        why="That is more than is looked at.",
        fix="Ask for fewer jobs an hour.",
    )


def _waiting(servers: int, load: float, blocked: float) -> float:
    used = load / servers
    return blocked / (1 - used * (1 - blocked))


def _late(servers: int, load: float, waiting: float, demand: Demand, service: float) -> float:
    if load >= servers:
        return 1.0
    pace = (servers - load) / service * 2 / (1 + demand.variation**2)
    return waiting * math.exp(-pace * demand.wait)
