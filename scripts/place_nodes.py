"""Finds places for the nodes of every graph and writes them to scripts/places.json.

Stages stand beside each other from left to right, nodes that feed others of their stage before
those. What is searched for is how high each node stands: so that no wire crosses another or runs
over a node, and wires are short. Seeds are fixed, so that the same graphs give the same places.
Run after a graph has changed, then make_workflows.py: python scripts/place_nodes.py [names]
"""

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from graph import PLACES, STAGES, Graph, Node
from graphs import GRAPHS

Array = np.ndarray
TOP, LEFT, TITLE, PADDING = 120, 600, 30, 20
BETWEEN_NODES, BETWEEN_COLUMNS, BETWEEN_STAGES = 50, 60, 100
_STEP, _LOWEST, _SAMPLES = 20, 1500, 16  # pixels
_OVERLAP, _OVER_NODE, _CROSSING = 2000.0, 300.0, 200.0
_TRIES, _MOVES = 6, 9000


def columns_of(graph: Graph) -> list[list[list[Node]]]:
    """The nodes of each stage, in columns."""
    found = []
    for stage in STAGES:
        nodes = [n for n in graph.nodes if n.stage == stage]
        depth = {}
        for node in graph.nodes_in_order():
            if node.stage == stage:
                before = [depth[s] for s, _ in node.links.values() if s in depth]
                depth[node.id] = max(before, default=-1) + 1
        if nodes:
            deepest = max(depth.values())
            found.append([[n for n in nodes if depth[n.id] == d] for d in range(deepest + 1)])
    return found


def lefts(graph: Graph) -> dict[int, int]:
    """Left edge of each node by its id."""
    x, found = LEFT, {}
    for stage in columns_of(graph):
        for column in stage:
            found |= dict.fromkeys((n.id for n in column), x)
            x += max(n.size[0] for n in column) + BETWEEN_COLUMNS
        x += BETWEEN_STAGES - BETWEEN_COLUMNS
    return found


class Wires:
    """All wires of a graph over a row of sampled x."""

    def __init__(self, graph: Graph) -> None:
        self.nodes = list(graph.nodes)
        row = {n.id: i for i, n in enumerate(self.nodes)}
        left = lefts(graph)
        self.left = np.array([left[n.id] for n in self.nodes])
        self.size = np.array([n.size for n in self.nodes])
        ends = []
        for node in self.nodes:
            for slot, (source, out) in enumerate(node.links.values()):
                ends.append((row[source], out, row[node.id], slot))
        self.source, out, self.target, slot = np.array(ends).T
        self.leave, self.enter = 14 + 20 * out, 14 + 20 * slot
        begin = self.left[self.source] + self.size[self.source, 0]
        end = self.left[self.target]
        self.x = np.arange(LEFT, int(end.max()) + _SAMPLES, _SAMPLES)
        share = (self.x[None] - begin[:, None]) / np.maximum(1, end - begin)[:, None]
        self.inside = (share >= 0) & (share <= 1)
        share = np.clip(share, 0, 1)
        self.bend = share * share * (3 - 2 * share)
        own = np.zeros((len(ends), len(self.nodes)), bool)
        own[np.arange(len(ends)), self.source] = own[np.arange(len(ends)), self.target] = True
        right = self.left + self.size[:, 0]
        under = (self.x[None] > self.left[:, None]) & (self.x[None] < right[:, None])
        self.may_cover = under[None] & self.inside[:, None] & ~own[:, :, None]
        # Wires from one output may run together.
        apart = (self.source[:, None] != self.source) | (out[:, None] != out)
        self.pairs = np.argwhere(np.triu(apart, 1))
        same_column = (self.left[:, None] < right) & (self.left < right[:, None])
        self.beside = np.argwhere(np.triu(same_column, 1))

    def cost(self, y: Array) -> float:
        """What is wrong with nodes that stand so high, one y each."""
        low = y + self.size[:, 1]
        upper, lower = self.beside.T
        room = np.maximum(y[upper] - low[lower], y[lower] - low[upper]) - TITLE
        overlap = np.maximum(0, BETWEEN_NODES - room).sum()
        crossings, covered = self.count(y)
        begin, end = y[self.source] + self.leave, y[self.target] + self.enter
        length = np.abs(begin - end).sum()
        return float(
            _OVERLAP * (overlap > 0) + overlap * 10 + _CROSSING * crossings + _OVER_NODE * covered
            + 0.1 * length + 0.2 * (low.max() - TOP) + 0.05 * (y - TOP).sum()
        )  # fmt: skip

    def count(self, y: Array) -> tuple[int, int]:
        """How often wires cross, and how often one runs over a node."""
        begin, end = y[self.source] + self.leave, y[self.target] + self.enter
        height = begin[:, None] + (end - begin)[:, None] * self.bend
        top, low = y - TITLE - 6, y + self.size[:, 1] + 6
        is_on = (height[:, None] > top[None, :, None]) & (height[:, None] < low[None, :, None])
        covered = int((is_on & self.may_cover).any(-1).sum())
        first, second = self.pairs.T
        sign = np.sign(height[first] - height[second])
        both = self.inside[first] & self.inside[second]
        turned = both[:, 1:] & both[:, :-1] & (sign[:, 1:] * sign[:, :-1] < 0)
        return int(turned.any(-1).sum()), covered


def place(graph: Graph) -> dict[int, tuple[int, int]]:
    """Left upper corner of each node by its id."""
    wires = Wires(graph)
    best, best_cost = None, float("inf")
    for seed in range(_TRIES):
        y, cost = _search(wires, np.random.default_rng(seed))
        if cost < best_cost:
            best, best_cost = y, cost
    best = best - best.min() + TOP
    places = zip(wires.nodes, wires.left, best, strict=True)
    return {node.id: (int(x), int(height)) for node, x, height in places}


def _search(wires: Wires, generator: np.random.Generator) -> tuple[Array, float]:
    """Simulated annealing over heights."""
    count = len(wires.nodes)
    y = _piled(wires)
    cost = wires.cost(y)
    best, best_cost = y, cost
    for move in range(_MOVES):
        heat = 400 * (1 - move / _MOVES) ** 2 + 0.5
        tried = y.copy()
        one = generator.integers(count)
        if generator.random() < 0.2:
            other = generator.integers(count)
            tried[one], tried[other] = y[other], y[one]
        else:
            reach = max(1, int(30 * (1 - move / _MOVES)))
            tried[one] += _STEP * generator.integers(-reach, reach + 1)
        tried = np.clip(tried, TOP, _LOWEST)
        found = wires.cost(tried)
        if found <= cost or generator.random() < np.exp((cost - found) / heat):
            y, cost = tried, found
            if cost < best_cost:
                best, best_cost = y, cost
    return best, best_cost


def _piled(wires: Wires) -> Array:
    """Each column's nodes below each other."""
    y = np.full(len(wires.nodes), TOP)
    for x in np.unique(wires.left):
        height = TOP
        for row in np.flatnonzero(wires.left == x):
            y[row] = height
            height += int(wires.size[row, 1]) + TITLE + BETWEEN_NODES
    return y


def main(names: list[str]) -> None:
    """Place the named graphs, or all."""
    places = json.loads(PLACES.read_text("utf-8")) if PLACES.is_file() else {}
    for graph in GRAPHS:
        if names and graph.name not in names:
            continue
        found = place(graph)
        wires = Wires(graph)
        y = np.array([found[n.id][1] for n in wires.nodes])
        crossings, covered = wires.count(y)
        print(f"{graph.name}: {crossings} crossings, {covered} wires over nodes")
        places[graph.name] = {str(key): list(value) for key, value in found.items()}
        PLACES.write_text(json.dumps(places, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
