"""How near each key comes to its fair share of the workers while there are not enough for all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence


def fair_shares(demands: Mapping[str, int], workers: int) -> dict[str, float]:
    """Max-min fair: who wants less than an equal share gets it all, the others share the rest alike.

    Args:
        demands: workers that each key could use now, above 0.
        workers: that there are.
    """
    left, shares = float(workers), dict[str, float]()
    ordered = sorted(demands.items(), key=lambda item: item[1])
    for place, (key, demand) in enumerate(ordered):
        shares[key] = min(float(demand), left / (len(ordered) - place))
        left -= shares[key]
    return shares


def jain(values: Sequence[float]) -> float:
    """Jain's index: 1 where all are alike, 1 / n where one has everything, 0 where nobody has any."""
    squares = len(values) * sum(value * value for value in values)
    return sum(values) ** 2 / squares if squares else 0.0


class Shares:
    """Counts waiting and running jobs of each key, and what they had of their fair share."""

    def __init__(self) -> None:
        self.waiting: Counter[str] = Counter()
        self.running: Counter[str] = Counter()
        self._had: Counter[str] = Counter()
        self._time: Counter[str] = Counter()

    def pass_time(self, seconds: float, workers: int) -> None:
        """So much time goes by as things are. It counts only while somebody waits."""
        if not seconds or not any(self.waiting.values()):
            return
        keys = {key for key, count in (self.waiting + self.running).items() if count > 0}
        demands = {key: self.waiting[key] + self.running[key] for key in keys}
        for key, share in fair_shares(demands, workers).items():
            self._had[key] += seconds * min(1.0, self.running[key] / share) if share else 0.0
            self._time[key] += seconds

    def satisfaction(self) -> dict[str, float]:
        """By key what it had of its fair share, 0..1, on average over the time that counted."""
        return {key: self._had[key] / seconds for key, seconds in self._time.items()}
