"""Saved workflows keep working: ids stay, inputs and outputs are only appended."""

import json
from pathlib import Path

import pytest
from wan_local.nodes import NODES

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "nodes.json"
KNOWN = json.loads(GOLDEN.read_text("utf-8"))
SCHEMAS = {node.__name__: node for node in NODES}


def shape(node):
    schema = node.GET_SCHEMA()
    return {
        "inputs": [item.id for item in schema.inputs],
        "outputs": [[item.id, item.get_io_type()] for item in schema.outputs],
    }


@pytest.mark.parametrize("node_id", KNOWN)
def test_what_was_released_stays(node_id, stand_in):
    assert node_id in SCHEMAS
    now, before = shape(SCHEMAS[node_id]), KNOWN[node_id]
    assert now["inputs"][: len(before["inputs"])] == before["inputs"]
    assert now["outputs"][: len(before["outputs"])] == before["outputs"]
    assert SCHEMAS[node_id].GET_SCHEMA().node_id == node_id


def test_new_inputs_need_no_value(stand_in):
    """A workflow saved before they were there has none."""
    for node_id, before in KNOWN.items():
        for item in SCHEMAS[node_id].GET_SCHEMA().inputs[len(before["inputs"]) :]:
            assert item.optional, (node_id, item.id)


def test_every_node_is_held(stand_in):
    """Nodes of the next release too, so that their order is thought about now."""
    assert KNOWN.keys() == SCHEMAS.keys()
