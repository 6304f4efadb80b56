"""Turn prompts into token ids, from either of the two tokenizer files Wan comes with.

transformers' T5 tokenizer is not used: built from a SentencePiece file it maps every character
to the unknown token without a word (engine.md 6).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..errors import InputError, MissingFileError, ModelError
from ..payloads import Tokenizer
from .header import read_header

END = "</s>"
SPIECE_TENSOR = "spiece_model"
"""Name of the uint8 tensor in which ComfyUI's text encoder files carry the tokenizer."""
_FILES = ("tokenizer.json", "spiece.model")


class _Loaded:
    """A tokenizer that is read on its first use (the real one takes a second).

    Args:
        load: returns a function from text to ids without special tokens, and the end id.
    """

    def __init__(self, load: Callable[[], tuple[Callable[[str], list[int]], int]]) -> None:
        self._load = load
        self._ready: tuple[Callable[[str], list[int]], int] | None = None

    def encode(self, text: str, max_length: int) -> list[int]:
        """Ids of `text`, cut so that the last of at most `max_length` is the end id.

        Raises:
            InputError: `max_length` is below 1.
        """
        if max_length < 1:
            raise InputError(
                what=f"max_length is {max_length}.",
                why="The end-of-text id alone takes one place.",
                fix="Use 512, the length Wan was trained with.",
            )
        if self._ready is None:
            self._ready = self._load()
        tokenize, end = self._ready
        return [*tokenize(text)[: max_length - 1], end]


def find_tokenizer(path: Path) -> Path:
    """The tokenizer file that `path` (a file, or a folder that holds one) means.

    Raises:
        MissingFileError: there is none.
    """
    candidates = [path / name for name in _FILES] if path.is_dir() else [path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise MissingFileError(
        what=f"No tokenizer is in '{path}'.",
        why="Prompts cannot be read without it.",
        fix=f"Put {' or '.join(_FILES)} of google/umt5-xxl there.",
    )


def open_tokenizer(path: Path) -> Tokenizer:
    """A tokenizer for prompts.

    Args:
        path: `tokenizer.json`, a SentencePiece `*.model`, a text encoder file that carries a
            `spiece_model` tensor, or a folder with one of the first two.
    Raises:
        MissingFileError: there is no such file.
        ModelError: the text encoder file carries no tokenizer.
    """
    file = find_tokenizer(Path(path))
    if file.suffix == ".json":
        return _Loaded(lambda: _load_json(file))
    if file.suffix == ".safetensors":
        if SPIECE_TENSOR not in read_header(file).tensors:
            raise ModelError(
                what=f"'{file.name}' carries no tokenizer ('{SPIECE_TENSOR}').",
                why="Prompts cannot be read without one.",
                fix="Choose ComfyUI's umt5_xxl file, or put tokenizer.json of google/umt5-xxl "
                "into a folder 'tokenizer' beside it.",
            )
        return _Loaded(lambda: _load_pieces(_read_piece_tensor(file), file))
    return _Loaded(lambda: _load_pieces(file.read_bytes(), file))


def _load_json(file: Path) -> tuple[Callable[[str], list[int]], int]:
    from tokenizers import Tokenizer as JsonTokenizer

    try:
        tokenizer = JsonTokenizer.from_file(str(file))
    except Exception as error:
        raise _broken(file, error) from error
    # files come with padding and truncation of their own, set up for training
    tokenizer.no_padding()
    tokenizer.no_truncation()
    end = tokenizer.token_to_id(END)
    if end is None:
        raise _broken(file, f"it has no {END} token")
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids, end


def _load_pieces(model: bytes, file: Path) -> tuple[Callable[[str], list[int]], int]:
    import sentencepiece

    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    except Exception as error:
        raise _broken(file, error) from error
    return lambda text: processor.encode(text, out_type=int), processor.eos_id()


def _read_piece_tensor(file: Path) -> bytes:
    from safetensors import safe_open

    with safe_open(file, framework="np") as tensors:
        return tensors.get_tensor(SPIECE_TENSOR).tobytes()


def _broken(file: Path, reason: object) -> ModelError:
    return ModelError(
        what=f"'{file.name}' cannot be read as a tokenizer: {reason}.",
        why="Prompts cannot be read without it.",
        fix="Delete the file and download it again.",
    )
