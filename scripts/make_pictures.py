"""Takes the pictures of help pages and templates from a ComfyUI that runs with this pack.

Needs playwright and Chromium. Run after nodes or graphs have changed, from the repository root:
python scripts/make_pictures.py http://127.0.0.1:8188
"""

import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from comfy_page import ComfyPage, open_browser
from node_texts import TEXTS
from PIL import Image, ImageDraw
from strips import make_strips

ROOT = Path(__file__).resolve().parents[1]
HELP, WORKFLOWS = ROOT / "web" / "docs" / "img", ROOT / "workflows"
THUMBNAIL = (768, 432)
"""Pixels; the shape of the cards in the template browser."""
SHEETS = ROOT / "assets" / "sheets"
_README_WIDTH, _TOLD = 1800, 6000  # pixels; milliseconds until the word that a job is done is gone
_HELP_WIDTH, _PAPER, _EDGE, _STRIP = 900, (20, 20, 20), 12, 142
_LABEL = "made by wan-mini, which comes with the pack"


def take_help(page: ComfyPage) -> None:
    """One small graph a node."""
    HELP.mkdir(parents=True, exist_ok=True)
    for kind, texts in json.loads((TEXTS / "help.json").read_text("utf-8")).items():
        page.surround(texts["around"], kind)
        picture = _taken(page)
        width = min(_HELP_WIDTH, picture.width)
        picture = picture.resize((width, round(picture.height * width / picture.width)))
        picture.save(HELP / f"{kind}.jpg", quality=82, optimize=True)


def take_thumbnails(page: ComfyPage) -> None:
    """Each shipped graph, under what the miniature makes with it."""
    strips = make_strips(page, _STRIP)
    page.reload()  # without its word that a job is done
    for path in sorted(WORKFLOWS.glob("*.json")):
        page.open(json.loads(path.read_text("utf-8")))
        card = Image.new("RGB", THUMBNAIL, _PAPER)
        _paste(card, strips[path.stem], _EDGE, _STRIP)
        top = 2 * _EDGE + _STRIP
        _paste(card, _taken(page), top, THUMBNAIL[1] - _EDGE - top)
        ImageDraw.Draw(card).text(
            (_EDGE, THUMBNAIL[1] - _EDGE - 8), _LABEL, fill=(150, 150, 150), font_size=13
        )
        card.save(path.with_suffix(".jpg"), quality=85, optimize=True)


def take_graphs(page: ComfyPage) -> None:
    """Those of the README, after they have run: results show under the nodes."""
    for name in ("i2v", "animation", "replacement"):
        page.open(json.loads((WORKFLOWS / f"wan_{name}_mini.json").read_text("utf-8")))
        page.wait_for(page.queue())
        page.page.wait_for_timeout(_TOLD)
        picture = _taken(page)
        picture.thumbnail((_README_WIDTH, _README_WIDTH), Image.LANCZOS)
        picture.save(SHEETS / f"graph_{name}.jpg", quality=80, optimize=True)


def _paste(card: Image.Image, picture: Image.Image, top: int, height: int) -> None:
    """In the middle of a row of the card, as large as fits."""
    picture.thumbnail((THUMBNAIL[0] - 2 * _EDGE, height), Image.LANCZOS)
    at = ((THUMBNAIL[0] - picture.width) // 2, top + (height - picture.height) // 2)
    card.paste(picture, at)


def _taken(page: ComfyPage) -> Image.Image:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "graph.png"
        page.picture(file, notes=False)
        return Image.open(file).convert("RGB")


def main() -> None:
    """Take all pictures."""
    with open_browser() as browser, ComfyPage(browser, sys.argv[1], size=(2400, 1350)) as page:
        take_help(page)
        take_thumbnails(page)
        take_graphs(page)


if __name__ == "__main__":
    main()
