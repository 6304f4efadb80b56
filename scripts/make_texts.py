"""Writes locales/ and web/docs/ from the nodes' schemas and scripts/texts/.

Run from the repository root: python scripts/make_texts.py
"""

import importlib.util
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests" / "host" / "standin")]
from node_texts import LANGUAGES, TEXTS, help_page, locale, open_texts  # noqa: E402


def all_texts(schemas: list) -> dict[str, str]:
    """Content by path below the repository's root."""
    more = json.loads((TEXTS / "help.json").read_text("utf-8"))
    found = {}
    for language in LANGUAGES:
        texts = open_texts(language)
        definitions = json.dumps(locale(schemas, texts), indent=1, ensure_ascii=False)
        found[f"locales/{language}/nodeDefs.json"] = definitions + "\n"
        for schema in schemas:
            page = help_page(schema, texts, more[schema.node_id])
            found[f"web/docs/{schema.node_id}/{language}.md"] = page
    return found


def _schemas() -> list:
    """Of all nodes, opened on the tests' stand-in for ComfyUI."""
    spec = importlib.util.spec_from_file_location(
        "wan_local", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["wan_local"] = module
    spec.loader.exec_module(module)
    from wan_local.nodes import NODES

    return [node.GET_SCHEMA() for node in NODES]


def main() -> None:
    """Write all of them."""
    for name, content in all_texts(_schemas()).items():
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, "utf-8")


if __name__ == "__main__":
    main()
