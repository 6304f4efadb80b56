"""The miniature's tokenizer: one id per UTF-8 byte, as tokenizer.json and as SentencePiece.

Both are written by hand, because a trained one would need text and give other ids.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .protobuf import message, number, real, text

PAD, EOS, UNK = 0, 1, 2
FIRST_BYTE = 3
"""Id of byte 0."""
_SPECIAL = ("<pad>", "</s>", "<unk>")
_BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))

# google/sentencepiece src/sentencepiece_model.proto: piece types and field numbers
_UNKNOWN, _CONTROL, _BYTE = 2, 3, 6
_BPE = 2  # TrainerSpec.ModelType; a unigram model may not be without ordinary pieces


def tokenizer_json(words: Sequence[str] = ()) -> str:
    """`tokenizer.json` for the `tokenizers` library.

    Args:
        words: that have ids of their own, in this order after the bytes; each takes the space in
            front of it along.
    """
    vocabulary = {piece: index for index, piece in enumerate((*_SPECIAL, *_BYTES))}
    document: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(piece, number) for number, piece in enumerate(_SPECIAL)]
        + [_added(word, len(vocabulary) + number) for number, word in enumerate(words)],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": _SPECIAL[EOS], "type_id": 0}},
            ],
            "pair": [
                {"Sequence": {"id": "A", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 0}},
            ],
            "special_tokens": {
                _SPECIAL[EOS]: {"id": _SPECIAL[EOS], "ids": [EOS], "tokens": [_SPECIAL[EOS]]}
            },
        },
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": _SPECIAL[UNK],
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": [],
        },
    }
    return json.dumps(document, indent=1)


def _added(piece: str, number: int) -> dict[str, Any]:
    is_special = piece in _SPECIAL
    return {
        "id": number,
        "content": piece,
        # a whole word, with the space in front of it
        "single_word": not is_special and piece.isascii(),
        "lstrip": not is_special,
        "rstrip": False,
        "normalized": False,
        "special": is_special,
    }


def sentencepiece_model() -> bytes:
    """A serialised SentencePiece `ModelProto` with the same ids."""
    kinds = (_CONTROL, _CONTROL, _UNKNOWN, *(_BYTE,) * 256)
    pieces = b"".join(
        message(1, text(1, piece) + real(2, 0.0) + number(3, kind))
        for piece, kind in zip((*_SPECIAL, *_BYTES), kinds, strict=True)
    )
    trainer = b"".join(
        (
            number(3, _BPE),
            number(4, len(kinds)),  # vocab_size
            number(35, 1),  # byte_fallback
            number(40, UNK),
            number(41, -1),  # no begin-of-text piece
            number(42, EOS),
            number(43, PAD),
            text(45, _SPECIAL[UNK]),
            text(47, _SPECIAL[EOS]),
            text(48, _SPECIAL[PAD]),
        )
    )
    # no dummy prefix, no removal of extra spaces, no replacement of spaces by U+2581
    normalizer = text(1, "identity") + number(3, 0) + number(4, 0) + number(5, 0)
    return pieces + message(2, trainer) + message(3, normalizer)
