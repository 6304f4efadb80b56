"""How the shipped graphs look: nothing over anything else, stages from left to right."""

import json
import sys
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts"))
from graph import STAGES  # noqa: E402
from graphs import GRAPHS  # noqa: E402
from place_nodes import Wires  # noqa: E402

NAMES = [graph.name for graph in GRAPHS]
TITLE = 30  # pixels above a node's corner
# Wires that cross, where each of some nodes reads from nearly all before it.
MOST_CROSSINGS = {"wan_pose": 5, "wan_animation": 3, "wan_replacement": 5}
MOST_COVERED = {"wan_animation": 1, "wan_replacement": 2}  # wires that run behind a node


def page(name):
    return json.loads((ROOT / "workflows" / f"{name}.json").read_text("utf-8"))


def box(node):
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE, x + width, y + height


def overlap(first, second, gap=0):
    return (
        first[0] < second[2] + gap
        and second[0] < first[2] + gap
        and first[1] < second[3] + gap
        and second[1] < first[3] + gap
    )


def frame(group):
    x, y, width, height = group["bounding"]
    return x, y, x + width, y + height


@pytest.mark.parametrize("name", NAMES)
def test_no_node_is_over_another(name):
    for first, second in combinations(page(name)["nodes"], 2):
        assert not overlap(box(first), box(second), 15), (first["title"], second["title"])


@pytest.mark.parametrize("name", NAMES)
def test_groups_are_the_stages_in_their_order_and_hold_their_nodes(name):
    graph, content = next(g for g in GRAPHS if g.name == name), page(name)
    groups = content["groups"]
    titles = [group["title"].split(" (")[0] for group in groups]
    assert titles == [stage for stage in STAGES if stage in titles]
    assert [g["color"] for g in groups] == [STAGES[title] for title in titles]
    for left, right in pairwise(groups):
        assert frame(left)[2] < frame(right)[0]
    places = {n["id"]: box(n) for n in content["nodes"]}
    for node in graph.nodes:
        left, top, right, low = frame(groups[titles.index(node.stage)])
        x0, y0, x1, y1 = places[node.id]
        assert left < x0 and x1 < right and top + 30 < y0 and y1 < low, node.title


@pytest.mark.parametrize("name", NAMES)
def test_the_note_comes_first(name):
    content = page(name)
    note = next(n for n in content["nodes"] if n["type"] == "MarkdownNote")
    assert box(note)[2] < min(frame(group)[0] for group in content["groups"])


@pytest.mark.parametrize("name", NAMES)
def test_wires_go_to_the_right_and_keep_apart(name):
    graph, content = next(g for g in GRAPHS if g.name == name), page(name)
    places = {n["id"]: box(n) for n in content["nodes"]}
    for _, source, _, target, *_ in content["links"]:
        assert places[source][2] < places[target][0]
    wires = Wires(graph)
    crossings, covered = wires.count(np.array([graph.places[n.id][1] for n in wires.nodes]))
    real = name.removesuffix("_mini")
    assert crossings <= MOST_CROSSINGS.get(real, 0) and covered <= MOST_COVERED.get(real, 0)
