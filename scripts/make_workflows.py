"""Writes workflows/*.json (what the page opens) and workflows/api/*.json (what POST /prompt takes).

Each graph is described once, in scripts/graphs*.py, so that the two formats cannot drift apart.
Run from the repository root: python scripts/make_workflows.py
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from graph import Graph, Node
from graphs import GRAPHS

WORKFLOWS = Path(__file__).resolve().parents[1] / "workflows"
# One extra value that the page keeps behind these widgets.
CONTROL_AFTER_GENERATE = "randomize"
BYPASSED = 4


def to_api(graph: Graph) -> dict:
    """The graph as POST /prompt takes it."""
    prompt = {}
    for node in graph.nodes:
        if node.is_bypassed:
            continue
        inputs = dict(node.widgets)
        for name, link in node.links.items():
            found = graph.resolve(*link)
            if found:
                inputs[name] = [str(found[0]), found[1]]
        prompt[str(node.id)] = {
            "class_type": node.kind,
            "inputs": inputs,
            "_meta": {"title": node.title},
        }
    return prompt


def to_ui(graph: Graph) -> dict:
    """The graph as the page opens it, schema version 0.4."""
    links = []
    for node in graph.nodes:
        for slot, (source, source_slot) in enumerate(node.links.values()):
            kind = graph[source].outputs[source_slot][1]
            links.append([len(links) + 1, source, source_slot, node.id, slot, kind])
    nodes = [_ui_node(graph, node, links, order) for order, node in enumerate(graph.nodes)]
    note = {
        "id": max(n.id for n in graph.nodes) + 1,
        "type": "MarkdownNote",
        "pos": list(graph.note_box[:2]),
        "size": list(graph.note_box[2:]),
        "flags": {},
        "order": len(nodes),
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "title": "Read me",
        "properties": {},
        "widgets_values": [graph.note],
        "color": "#432",
        "bgcolor": "#653",
    }
    return {
        "id": graph.uuid,
        "revision": 0,
        "last_node_id": note["id"],
        "last_link_id": len(links),
        "nodes": [*nodes, note],
        "links": links,
        "groups": [
            {"id": i, "title": title, "bounding": list(box), "color": colour, "font_size": 24}
            for i, (title, box, colour) in enumerate(graph.groups, 1)
        ],
        "config": {},
        "extra": {"ds": {"scale": 0.8, "offset": [40, 60]}},
        "version": 0.4,
    }


def _ui_node(graph: Graph, node: Node, links: list, order: int) -> dict:
    inputs = []
    for slot, (name, (source, source_slot)) in enumerate(node.links.items()):
        link = next(n for n, *_, target, at, _ in links if (target, at) == (node.id, slot))
        kind = graph[source].outputs[source_slot][1]
        entry = {"name": name, "type": kind, "link": link}
        if name in node.widgets:  # the page keeps the widget's value behind the link
            entry["widget"] = {"name": name}
        inputs.append(entry)
    outputs = []
    for slot, (name, kind) in enumerate(node.outputs):
        out = [n for n, source, at, *_ in links if (source, at) == (node.id, slot)]
        outputs.append({"name": name, "type": kind, "links": out or None, "slot_index": slot})
    properties = {"Node name for S&R": node.kind, "cnr_id": node.registry}
    if node.models:
        properties["models"] = [
            {"name": name, "url": url, "directory": folder} for name, url, folder in node.models
        ]
    return {
        "id": node.id,
        "type": node.kind,
        "pos": list(graph.places[node.id]),
        "size": list(node.size),
        "flags": {},
        "order": order,
        "mode": BYPASSED if node.is_bypassed else 0,
        "inputs": inputs,
        "outputs": outputs,
        "title": node.title,
        "properties": properties,
        "widgets_values": _widget_values(node),
    }


def _widget_values(node: Node) -> list:
    values = []
    for name, value in node.widgets.items():
        values.append(value)
        if name == "seed":
            values.append(CONTROL_AFTER_GENERATE)
    # The upload button counts as a widget of its own.
    return [*values, "image"] if node.kind in ("LoadImage", "LoadVideo") else values


def main() -> None:
    """Write every graph in both formats."""
    for graph in GRAPHS:
        for path, content in (
            (WORKFLOWS / f"{graph.name}.json", to_ui(graph)),
            (WORKFLOWS / "api" / f"{graph.name}.json", to_api(graph)),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf8")


if __name__ == "__main__":
    main()
