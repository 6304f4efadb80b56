"""A host that knows fewer schema arguments gets every node, and a newer one every argument."""

import asyncio
import dataclasses

import pytest
from comfy_api.latest import io
from wan_local.nodes import NODES, WanLocalExtension, compat

BARE = ("node_id", "display_name", "category", "inputs", "outputs", "hidden", "is_output_node")


def schemas_with(*fields):
    """A schema class of the host with exactly these fields, all of them optional."""
    entries = [(name, object, dataclasses.field(default=None)) for name in fields]
    return dataclasses.make_dataclass("Schema", entries)


@pytest.fixture
def host_of(monkeypatch):
    """Makes the host's schema one with these fields."""

    def make(*fields):
        made = schemas_with(*fields)
        monkeypatch.setattr(io, "Schema", made)
        monkeypatch.setattr(compat, "_SCHEMA_FIELDS", {f.name for f in dataclasses.fields(made)})

    return make


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_a_host_with_few_arguments_gets_every_node(stand_in, host_of, node):
    host_of(*BARE)
    schema = node.define_schema()
    assert schema.node_id == node.__name__ and schema.outputs is not None


def test_a_newer_host_gets_the_newer_arguments(stand_in, host_of):
    host_of(*BARE, "description", "search_aliases", "is_input_list", "is_experimental")
    known = [node.define_schema() for node in NODES]
    assert all(schema.search_aliases and schema.description for schema in known)


def test_the_stand_in_is_such_an_older_host(stand_in):
    assert "search_aliases" not in {field.name for field in dataclasses.fields(io.Schema)}
    assert {node.__name__ for node in NODES} <= stand_in.object_info().keys()


def test_inputs_lose_what_the_host_does_not_know():
    class Old:
        def __init__(self, id, default=None):
            self.id, self.default = id, default

    made = compat.make_input(Old, "steps", default=3, advanced=True, tooltip="how many")
    assert (made.id, made.default) == ("steps", 3)


def test_a_node_that_cannot_be_built_leaves_the_others(stand_in, monkeypatch, caplog):
    broken = NODES[3]

    def refuse(*_):
        raise TypeError("an argument this host does not know")

    monkeypatch.setattr(broken, "GET_SCHEMA", refuse)
    offered = asyncio.run(WanLocalExtension().get_node_list())
    assert set(offered) == set(NODES) - {broken}
    assert broken.__name__ in caplog.text and "left out" in caplog.text
