"""What people read about the nodes: tooltips, two languages, help pages."""

import json
import re
import sys
from pathlib import Path

import pytest
from wan_local.nodes import NODES

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts"))
from make_texts import all_texts  # noqa: E402
from node_texts import TEXTS, open_texts  # noqa: E402

IDS = [node.__name__ for node in NODES]


@pytest.fixture(scope="module")
def schemas():
    return [node.GET_SCHEMA() for node in NODES]


def sentences(schema):
    yield from (schema.display_name, schema.description)
    for item in [*schema.inputs, *schema.outputs]:
        yield item.tooltip


def names(schema):
    yield from (item.id for item in schema.inputs)
    yield from (item.display_name for item in schema.outputs)


@pytest.mark.parametrize("node", NODES, ids=IDS)
def test_everything_has_a_tooltip(node):
    schema = node.GET_SCHEMA()
    assert all(text and len(text) > 5 for text in sentences(schema))
    assert schema.outputs or schema.is_output_node


def test_every_text_is_translated_and_no_translation_is_left_over(schemas):
    chinese = open_texts("zh")
    said = {text for schema in schemas for text in sentences(schema)}
    assert said == set(chinese.sentences)
    assert {name for schema in schemas for name in names(schema)} == set(chinese.names)


def test_translations_are_chinese():
    chinese = open_texts("zh")
    kept = {"LoRA", "RIFE", "VAE", "CRF", "Wan LoRA", "Wan TeaCache", "Wan MagCache"}
    for text in [*chinese.sentences.values(), *chinese.names.values()]:
        assert text in kept or re.search(r"[\u4e00-\u9fff]", text), text


def test_numbers_are_the_same_in_both_languages():
    """A range that changed in one of them only."""
    for english, chinese in open_texts("zh").sentences.items():
        found, wanted = (sorted(re.findall(r"\d+(?:\.\d+)?", text)) for text in (chinese, english))
        assert set(wanted) <= set(found), english


def test_the_page_takes_every_text_as_it_is():
    """Its library for languages gives these signs a meaning of their own."""
    for language in ("en", "zh"):
        path = ROOT / "locales" / language / "nodeDefs.json"
        for node in json.loads(path.read_text("utf-8")).values():
            texts = [node["display_name"], node["description"]]
            for item in [*node["inputs"].values(), *node["outputs"].values()]:
                texts += [item["name"], item["tooltip"]]
            assert not any(set(text) & set("@{}|$") for text in texts)


@pytest.fixture
def fresh_schemas(stand_in, monkeypatch):
    """Of an installation without files: those of other tests would be offered and be defaults."""
    import folder_paths

    known = folder_paths.folder_names_and_paths
    empty = {key: ([], extensions) for key, (_, extensions) in known.items()}
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", empty)
    return [node.GET_SCHEMA() for node in NODES]


def test_locales_and_help_pages_are_what_the_schemas_say(fresh_schemas):
    wanted = all_texts(fresh_schemas)
    stale = [n for n, text in wanted.items() if (ROOT / n).read_text("utf-8") != text]
    assert not stale, "run python scripts/make_texts.py"
    for folder in ("locales", "web/docs"):
        found = {p.relative_to(ROOT).as_posix() for p in (ROOT / folder).rglob("*.*")}
        assert {n for n in found if not n.endswith(".jpg")} <= set(wanted)


def test_help_tells_of_messages_that_exist():
    source = "".join(
        path.read_text("utf-8")
        for folder in ("wan", "nodes")
        for path in sorted((ROOT / folder).rglob("*.py"))
    )
    source = re.sub(r'"\s*\n\s*f?"', "", source)
    for node, page in json.loads((TEXTS / "help.json").read_text("utf-8")).items():
        assert page["typical"], node
        for message, *cures in page["errors"]:
            assert len(cures) == 2
            parts = [part.strip(" .") for part in message.split("…")]
            assert all(part in source for part in parts), (node, message)
