"""Run by test_damaged_files.py: loads damaged weight files and tells how each ended.

Arguments: the pack's folder, a folder with whole files, a folder to write to. Prints one JSON list
of [case, outcome, CPU seconds, bytes of memory that the peak grew by].
"""

import json
import random
import resource
import struct
import sys
import time
from pathlib import Path

PACK, WHOLE, PLACE = map(Path, sys.argv[1:4])
sys.path.insert(0, str(PACK))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from wan.errors import WanError  # noqa: E402
from wan.load.text import load_text_encoder  # noqa: E402
from wan.load.transformer import load_transformer  # noqa: E402
from wan.load.vae import load_vae  # noqa: E402
from wan.preprocess.pose.onnx import ModelKind, OnnxModel, OnnxRuntime  # noqa: E402


def onnx(kind):
    """Opens a file and computes one picture with it."""
    runtime = OnnxRuntime("cpu")

    def load(path, _):
        model = OnnxModel(path, kind, runtime)
        height, width = (640, 640) if kind is ModelKind.DETECTOR else (256, 192)
        return model.run(np.zeros((1, 3, height, width), np.float32))

    return load


LOADERS = {
    "i2v.safetensors": load_transformer,
    "animate-fp8.safetensors": load_transformer,
    "i2v.gguf": load_transformer,
    "umt5.pth": load_text_encoder,
    "vae.pth": load_vae,
    "old-vae.pth": load_vae,
    "detector.onnx": onnx(ModelKind.DETECTOR),
    "pose.onnx": onnx(ModelKind.POSE),
}
MORE_MEMORY, MOST_SECONDS = 2 << 30, 10
HUGE = (2**31 - 1, 2**31, 2**40, 2**62, 2**63, 2**64 - 1)
numbers = random.Random(0)


def cuts(data):
    """Ends in the header, at its border, and anywhere."""
    sizes = {0, 1, 3, 4, 7, 8, 9, 15, 16, 24, 100, len(data) // 2, len(data) - 1, len(data) - 64}
    sizes |= {numbers.randrange(len(data)) for _ in range(16)}
    for size in sorted(sizes):
        yield f"cut to {size}", data[:size]


def flips(data, header):
    """One bit in the header, and one anywhere."""
    for place in [numbers.randrange(header) for _ in range(50)]:
        yield f"bit of byte {place}", flip(data, place)
    for place in [numbers.randrange(len(data)) for _ in range(10)]:
        yield f"bit of byte {place} anywhere", flip(data, place)


def flip(data, place):
    changed = bytearray(data)
    changed[place] ^= 1 << numbers.randrange(8)
    return bytes(changed)


def safetensors_cases(data):
    (length,) = struct.unpack_from("<Q", data)
    yield from flips(data, 8 + length)
    for wrong in (0, 1, 2, length - 1, length + 1, length * 2, len(data), *HUGE):
        yield f"header of {wrong}", struct.pack("<Q", wrong) + data[8:]
    deep = b'{"a":' + b"[" * 100_000
    yield "deep header", struct.pack("<Q", len(deep)) + deep + data
    header = json.loads(data[8 : 8 + length])
    for change in range(60):
        entries = json.loads(json.dumps(header))
        text = damage_entries(entries, change)
        raw = json.dumps(entries).encode()
        yield text, struct.pack("<Q", len(raw)) + raw + data[8 + length :]


def damage_entries(entries, number):
    """Change one entry of a header; returns what was done."""
    name = numbers.choice([n for n in entries if n != "__metadata__"])
    entry, huge = entries[name], numbers.choice(HUGE)
    if number % 6 == 0:
        entry["shape"] = [huge] * max(1, len(entry["shape"]))
    elif number % 6 == 1:
        entry["shape"] = numbers.choice([[7], [-1], ["x"], [[1]], None, [1.5], [0], [1] * 99, "96"])
    elif number % 6 == 2:
        entry["data_offsets"] = numbers.choice(
            [[0, huge], [huge, huge], [9, 3], [], ["a", "b"], None]
        )
    elif number % 6 == 3:
        entry["dtype"] = numbers.choice(["F99", 7, None, "I64", "F4", "BF16", "C64"])
    elif number % 6 == 4:
        other = numbers.choice(["blocks.99999999.modulation", "x" * 100_000, "", "blocks.-1.x"])
        entries[other] = entries.pop(name)
        name = other[:30]
    else:
        heads = numbers.choice([0, -1, 1.5, "x", None, huge, [], {}])
        stored = numbers.choice([json.dumps({"num_attention_heads": heads}), "{", "[]", "7"])
        entries["__metadata__"] = numbers.choice([{"wan_local": stored}, 7, [], {"a": {}}])
        name = str(entries["__metadata__"])[:60]
    return f"entry {number} of {name}: {str(entry)[:60]}"


def gguf_cases(data):
    yield from flips(data, 4096)
    for place in (4, 8, 16):  # version, tensors, pairs
        for huge in (0, 1, 999_999, *HUGE):
            code = "<I" if place == 4 else "<Q"
            value = struct.pack(code, huge % (2 ** (32 if place == 4 else 64)))
            yield f"{huge} at {place}", data[:place] + value + data[place + len(value) :]
    for place in sorted(numbers.randrange(24, 6000) for _ in range(60)):
        huge = struct.pack("<Q", numbers.choice(HUGE))
        yield f"huge number at {place}", data[:place] + huge + data[place + 8 :]


class Trap:
    def __reduce__(self):
        return (Path.touch, (PLACE / "executed",))


def pickle_cases(data):
    yield from flips(data, 8000)  # the pickle, which comes first
    for place in [numbers.randrange(len(data) - 2000, len(data)) for _ in range(20)]:
        yield f"bit of byte {place} at the end", flip(data, place)  # the zip's directory
    names = {
        "repeated": {"conv1.weight": torch.zeros(1).expand(10**6, 10**6)},
        "code": {"conv1.weight": torch.zeros(1), "x": Trap()},
        "sparse": {"conv1.weight": torch.zeros(9, 9).to_sparse()},
        "numbers": {"conv1.weight": 7},
        "nested": {"state_dict": {"state_dict": {"a": torch.zeros(1)}}},
        "other keys": {1: torch.zeros(1)},
        "empty": {},
        "list": [torch.zeros(1)],
        "nothing": None,
    }
    for is_zip in (True, False):
        for name, content in names.items():
            torch.save(content, PLACE / "made.pth", _use_new_zipfile_serialization=is_zip)
            yield f"{name}, zip: {is_zip}", (PLACE / "made.pth").read_bytes()
    yield "packed", packed_zeros()
    for start in (
        b"\x80\x02",
        b"\x80\x02X\xff\xff\xff\x7f",
        b"PK\x03\x04",
        b"\x80\x04\x95" + b"\xff" * 8,
    ):
        yield f"starts with {start!r}", start + data[:1000]


def onnx_cases(data):
    """Protobuf has no header: lengths and names are everywhere."""
    yield from flips(data, len(data))
    for place in sorted(numbers.randrange(len(data) - 10) for _ in range(60)):
        huge = bytes([0xFF] * numbers.choice([4, 9])) + bytes([numbers.choice([0, 1, 0x7F])])
        yield f"other bytes at {place}", data[:place] + huge + data[place + len(huge) :]
    for place in sorted(numbers.randrange(len(data)) for _ in range(20)):
        yield f"bytes left out at {place}", data[:place] + data[place + 9 :]
    for place in sorted(numbers.randrange(len(data)) for _ in range(20)):
        yield f"bytes put in at {place}", data[:place] + b"/../../etc/passwd" + data[place:]
    yield "twice", data + data
    yield "nested", b"\x3a\xff\xff\xff\xff\x07" * 1000


def packed_zeros():
    """A zip whose small bytes become 4 GB of pickle."""
    import io
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("archive/data.pkl", "w", force_zip64=True) as entry:
            for _ in range(64):
                entry.write(bytes(1 << 24))
        archive.writestr("archive/version", "3")
    return buffer.getvalue()


def cases(name, data):
    yield from cuts(data)
    kinds = {".safetensors": safetensors_cases, ".gguf": gguf_cases, ".pth": pickle_cases}
    kinds[".onnx"] = onnx_cases
    yield from kinds[Path(name).suffix](data)


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def outcome(name, data):
    path = PLACE / name
    path.write_bytes(data)
    before, begin = peak(), time.process_time()
    resource.setrlimit(resource.RLIMIT_CPU, (int(begin) + MOST_SECONDS, resource.RLIM_INFINITY))
    try:
        LOADERS[name](path, torch.float32)
        end = "loaded"
    except WanError as error:
        is_clear = all(part.strip() for part in (error.what, error.why, error.fix))
        end = "refused" if is_clear and len(str(error)) < 2000 else f"unclear: {error!s:.300}"
    except BaseException as error:
        end = f"{type(error).__name__}: {error!s:.300}"
    seconds = time.process_time() - begin
    path.unlink()
    return end, round(seconds, 3), peak() - before


def main():
    for name in LOADERS:  # what is imported on first use is nobody's damage
        end, *_ = outcome(name, (WHOLE / name).read_bytes())
        assert end == "loaded", (name, end)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MORE_MEMORY, resource.RLIM_INFINITY))
    results = []
    for name in LOADERS:
        for text, data in cases(name, (WHOLE / name).read_bytes()):
            results.append([f"{name}: {text}", *outcome(name, data)])
    sys.stdout.write(json.dumps(results))


main()
