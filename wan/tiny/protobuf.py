"""Protobuf's wire format, as much as the tiny models need: a field's number and type, its value."""

from __future__ import annotations

import struct


def varint(value: int) -> bytes:
    """A whole number, seven bits a byte."""
    value &= (1 << 64) - 1  # negative numbers are written as 64-bit two's complement
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    """A field that holds a whole number."""
    return varint(field << 3) + varint(value)


def real(field: int, value: float) -> bytes:
    """A field that holds a float32."""
    return varint(field << 3 | 5) + struct.pack("<f", value)


def message(field: int, body: bytes) -> bytes:
    """A field that holds bytes or another message."""
    return varint(field << 3 | 2) + varint(len(body)) + body


def text(field: int, value: str) -> bytes:
    """A field that holds text."""
    return message(field, value.encode("utf-8"))
