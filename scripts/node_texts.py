"""What people read about a node, in two languages: locale files and help pages.

English stands in the nodes' schemas, Chinese in texts/zh.json beside it, typical values and cures of
both in texts/help.json.
"""

import json
from dataclasses import dataclass
from pathlib import Path

TEXTS = Path(__file__).parent / "texts"
LANGUAGES = ("en", "zh")
_HEADINGS = {
    "en": {
        "inputs": "Inputs",
        "outputs": "Outputs",
        "input": "input",
        "output": "output",
        "effect": "effect",
        "range": "range",
        "default": "default",
        "typical": "Typical values",
        "errors": "Errors and cures",
        "message": "message",
        "cure": "cure",
        "left out": "may be left out",
        "file": "a file",
        "yes or no": "on or off",
        "True": "on",
        "False": "off",
        "text": "text",
        "to": "{} to {}",
    },
    "zh": {
        "inputs": "输入",
        "outputs": "输出",
        "input": "输入",
        "output": "输出",
        "effect": "作用",
        "range": "范围",
        "default": "默认",
        "typical": "常用值",
        "errors": "错误与解决",
        "message": "错误信息",
        "cure": "解决",
        "left out": "可不接",
        "file": "文件",
        "yes or no": "开或关",
        "True": "开",
        "False": "关",
        "text": "文本",
        "to": "{} 至 {}",
    },
}
_NO_LIMIT = 2**31  # beyond it a bound is none that anybody meets


@dataclass(frozen=True)
class Texts:
    """Everything in one language."""

    language: str
    names: dict
    """Of inputs and outputs; those missing keep their own."""
    sentences: dict
    """By their English; empty in English."""

    def say(self, english: str) -> str:
        """A sentence of a schema.

        Raises:
            KeyError: it was never translated.
        """
        return self.sentences[english] if self.language != "en" and english else english

    def name(self, name: str) -> str:
        """What an input or output is called."""
        return self.names.get(name, name)


def open_texts(language: str) -> Texts:
    """The texts of one of `LANGUAGES`."""
    if language == "en":
        return Texts(language, {}, {})
    table = json.loads((TEXTS / f"{language}.json").read_text("utf-8"))
    return Texts(language, table["names"], table["texts"])


def locale(schemas: list, texts: Texts) -> dict:
    """`nodeDefs.json` of ComfyUI's page."""
    return {schema.node_id: _definition(schema, texts) for schema in schemas}


def _definition(schema: object, texts: Texts) -> dict:
    inputs = {
        i.id: {"name": texts.name(i.id), "tooltip": texts.say(i.tooltip)} for i in schema.inputs
    }
    outputs = {
        str(slot): {"name": texts.name(o.display_name), "tooltip": texts.say(o.tooltip)}
        for slot, o in enumerate(schema.outputs)
    }
    return {
        "display_name": texts.say(schema.display_name),
        "description": texts.say(schema.description),
        "inputs": inputs,
        "outputs": outputs,
    }


def help_page(schema: object, texts: Texts, more: dict) -> str:
    """Markdown for ComfyUI's help panel.

    Args:
        schema: of the node.
        texts: of the page's language.
        more: what texts/help.json says of the node.
    """
    words = _HEADINGS[texts.language]
    picture = f"![{texts.say(schema.display_name)}](img/{schema.node_id}.jpg)"
    parts = [f"# {texts.say(schema.display_name)}", texts.say(schema.description), picture]
    if schema.inputs:
        head = [words[w] for w in ("input", "effect", "range", "default")]
        rows = [_input_row(i, texts, words) for i in schema.inputs]
        parts += [f"## {words['inputs']}", _table(head, rows)]
    rows = [[_named(o.display_name, texts), texts.say(o.tooltip)] for o in schema.outputs]
    parts += [f"## {words['outputs']}", _table([words["output"], words["effect"]], rows)]
    column = LANGUAGES.index(texts.language)
    parts += [f"## {words['typical']}", "\n".join(f"- {t[column]}" for t in more["typical"])]
    if more["errors"]:
        rows = [[f"`{message}`", cures[column]] for message, *cures in more["errors"]]
        parts += [f"## {words['errors']}", _table([words["message"], words["cure"]], rows)]
    return "\n\n".join(parts) + "\n"


def _named(name: str, texts: Texts) -> str:
    """Its own name, which API and error messages use, and what the page calls it."""
    shown = texts.name(name)
    return f"`{name}`" if shown == name else f"{shown} `{name}`"


def _input_row(item: object, texts: Texts, words: dict) -> list[str]:
    facts = item.as_dict()
    allowed, default = _range(item, facts, words), facts.get("default")
    if allowed == words["file"] and default != "auto":
        default = None  # which differs with what is installed
    if item.optional and item.get_io_type().startswith(("WAN_", "IMAGE", "MASK", "AUDIO", "POSE")):
        allowed += f", {words['left out']}"
    shown = "" if default in (None, "") else f"`{words.get(str(default), _plain(default))}`"
    return [_named(item.id, texts), texts.say(item.tooltip), allowed, shown]


def _range(item: object, facts: dict, words: dict) -> str:
    kind = item.get_io_type()
    options = facts.get("options")
    if options:
        is_list_of_files = any(
            "(" in str(o) or "none found" in str(o) or ".safetensors" in str(o) for o in options
        )
        return words["file"] if is_list_of_files else ", ".join(f"`{o}`" for o in options)
    if kind in ("INT", "FLOAT"):
        low, high = facts.get("min"), facts.get("max")
        if high is None or high >= _NO_LIMIT:
            return f"≥ {_plain(low)}"
        return words["to"].format(_plain(low), _plain(high))
    return {"BOOLEAN": words["yes or no"], "STRING": words["text"]}.get(kind, f"`{kind}`")


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
