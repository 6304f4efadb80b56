"""The miniature's tokenizer: one id per UTF-8 byte, as tokenizer.json and as SentencePiece.

Both are written by hand, because a trained one would need text and give other ids.
"""

from __future__ import annotations

import json
import struct
from typing import Any

PAD, EOS, UNK = 0, 1, 2
FIRST_BYTE = 3
"""Id of byte 0."""
_SPECIAL = ("<pad>", "</s>", "<unk>")
_BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))

# google/sentencepiece src/sentencepiece_model.proto: piece types and field numbers
_UNKNOWN, _CONTROL, _BYTE = 2, 3, 6
_BPE = 2  # TrainerSpec.ModelType; a unigram model may not be without ordinary pieces


def tokenizer_json() -> str:
    """`tokenizer.json` for the `tokenizers` library."""
    vocabulary = {piece: index for index, piece in enumerate((*_SPECIAL, *_BYTES))}
    document: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": index,
                "content": piece,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for index, piece in enumerate(_SPECIAL)
        ],
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


def sentencepiece_model() -> bytes:
    """A serialised SentencePiece `ModelProto` with the same ids."""
    kinds = (_CONTROL, _CONTROL, _UNKNOWN, *(_BYTE,) * 256)
    pieces = b"".join(
        _message(1, _text(1, piece) + _float(2, 0.0) + _number(3, kind))
        for piece, kind in zip((*_SPECIAL, *_BYTES), kinds, strict=True)
    )
    trainer = b"".join(
        (
            _number(3, _BPE),
            _number(4, len(kinds)),  # vocab_size
            _number(35, 1),  # byte_fallback
            _number(40, UNK),
            _number(41, -1),  # no begin-of-text piece
            _number(42, EOS),
            _number(43, PAD),
            _text(45, _SPECIAL[UNK]),
            _text(47, _SPECIAL[EOS]),
            _text(48, _SPECIAL[PAD]),
        )
    )
    # no dummy prefix, no removal of extra spaces, no replacement of spaces by U+2581
    normalizer = _text(1, "identity") + _number(3, 0) + _number(4, 0) + _number(5, 0)
    return pieces + _message(2, trainer) + _message(3, normalizer)


# protobuf wire format: a field is its number and wire type, then the value


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers are written as 64-bit two's complement
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", value)


def _message(field: int, body: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(body)) + body


def _text(field: int, value: str) -> bytes:
    return _message(field, value.encode("utf-8"))
