"""Pictures of templates, help pages and the README: there, of the right size, and shown."""

import re
from pathlib import Path

import pytest
from PIL import Image
from wan_local.nodes import NODES

ROOT = Path(__file__).resolve().parents[2]
NODE_IDS = [node.__name__ for node in NODES]
GRAPHS = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
MOST_BYTES = 200_000
"""A page with all of them must still open at once."""


def opened(path):
    with Image.open(path) as picture:
        picture.load()
        return picture


@pytest.mark.parametrize("name", GRAPHS)
def test_each_template_has_a_card(name):
    path = ROOT / "workflows" / f"{name}.jpg"
    picture = opened(path)
    assert picture.size == (768, 432) and picture.format == "JPEG"
    assert path.stat().st_size < MOST_BYTES
    low, high = picture.convert("L").getextrema()
    assert high - low > 100  # shows something


@pytest.mark.parametrize("node_id", NODE_IDS)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_each_help_page_shows_its_graph(node_id, language):
    page = (ROOT / "web" / "docs" / node_id / f"{language}.md").read_text("utf-8")
    (shown,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page)
    path = ROOT / "web" / "docs" / shown  # the page resolves links from there
    assert path == ROOT / "web" / "docs" / "img" / f"{node_id}.jpg"
    picture = opened(path)
    assert 250 < picture.width <= 900 and picture.height > 100
    assert path.stat().st_size < MOST_BYTES


def test_no_picture_is_left_over():
    helps = {path.stem for path in (ROOT / "web" / "docs" / "img").iterdir()}
    cards = {path.stem for path in (ROOT / "workflows").glob("*.jpg")}
    assert helps == set(NODE_IDS) and cards == set(GRAPHS)


def test_pictures_of_the_readme_are_there():
    text = (ROOT / "README.md").read_text("utf-8")
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert len(shown) >= 4
    for name in shown:
        opened(ROOT / name)
