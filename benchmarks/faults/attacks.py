"""Files as a stranger might send them: damaged ones, and crafted ones.

`mutations` yields endless variants of a good file. What is in it decides how: any bytes, JSON,
TOML, safetensors, .npz. Every variant follows from its seed alone.
"""

from __future__ import annotations

import io
import itertools
import json
import operator
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

DEEP = 100_000
STRANGE_TEXT = (
    "",
    "\x00",
    "\x1b[31mred\x1b[2J",
    "../../../outside",
    "/tmp/outside",
    "<script>document.title = 'owned'</script>",
    '"><img src=x onerror=alert(1)>',
    "\u202egnp.exe",
    "a" * 100_000,
    "NaN",
    "\ud800".encode("utf-8", "surrogatepass").decode("utf-8", "replace"),
)
STRANGE_NUMBERS = (-1, 0, 2**31, 2**63, -(2**63), 10**30, 1e308, -0.0, 0.5)
STRANGE_JSON = ("NaN", "Infinity", "-Infinity", "1e999", "1" * 5000, "null", "[]", "{}", "true")
DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "U8", "BOOL", "X9")
Mutate = Callable[[bytes, random.Random], bytes]


class Explosive:
    """Runs a command where a pickle of it is loaded."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        import os

        return os.system, ("touch executed",)


def mutations(good: bytes, kind: str, seed: int) -> Iterator[bytes]:
    """Yield variants of a good file.

    Args:
        good: its content.
        kind: "bytes", "json", "jsonl", "toml", "safetensors" or "npz"; or "place" or "cache", of
            which every variant says what lies where.
        seed: of the draws.
    """
    if kind in ("place", "cache"):
        from cached import swaps
        from places import placements

        draw = placements if kind == "place" else swaps
        yield from (draw(random.Random(f"{seed} {number}")) for number in itertools.count())
    ways = (*PLAIN, *BY_KIND[kind])
    number = 0
    while True:
        rng = random.Random(f"{seed} {number}")
        changed = good
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            changed = rng.choice(ways)(changed, rng)
        yield changed
        number += 1


def flip(data: bytes, rng: random.Random) -> bytes:
    """Change a few bytes."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 8, 64))):
        if changed:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def cut(data: bytes, rng: random.Random) -> bytes:
    """Cut off an end, or take out a piece."""
    first, last = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return rng.choice((data[:first], data[last:], data[:first] + data[last:]))


def repeat(data: bytes, rng: random.Random) -> bytes:
    """Put a piece in twice or more, elsewhere."""
    first, last = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[first : min(last, first + 4096)] * rng.choice((1, 3)) + data[at:]


def replaced(data: bytes, rng: random.Random) -> bytes:
    """Something else altogether."""
    import pickle

    return rng.choice(
        (
            b"",
            b"\x00" * 4096,
            rng.randbytes(512),
            b"[" * DEEP,
            b'{"a":' * DEEP,
            b"\xff\xfe" + data[:100],
            pickle.dumps(Explosive()),
            b"\x80\x04\x95" + data[:64],
        )
    )


def json_value(data: bytes, rng: random.Random) -> bytes:
    """Change, remove or replace one value anywhere in a JSON document."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return data
    token = "@strange@"
    changed = _change(document, rng, token)
    text = json.dumps(changed)
    return text.replace(json.dumps(token), rng.choice(STRANGE_JSON)).encode("utf-8", "replace")


def json_lines(data: bytes, rng: random.Random) -> bytes:
    """Change one line of JSON lines."""
    lines = data.splitlines()
    if lines:
        at = rng.randrange(len(lines))
        lines[at] = json_value(lines[at], rng)
    return b"\n".join(lines)


def toml_value(data: bytes, rng: random.Random) -> bytes:
    """Replace the value of one line of TOML, or nest it deeply."""
    lines = data.decode("utf-8", "replace").splitlines()
    places = [n for n, line in enumerate(lines) if " = " in line]
    if not places:
        return data
    at = rng.choice(places)
    strange = (
        *(json.dumps(text) for text in STRANGE_TEXT),
        *(str(number) for number in STRANGE_NUMBERS),
        *("nan", "inf", "[]", "{}", "[[1]]", "1979-05-27", "true", "[" * DEEP),
    )
    lines[at] = f"{lines[at].partition(' = ')[0]} = {rng.choice(strange)}"
    return "\n".join(lines).encode("utf-8", "replace")


def tensors_header(data: bytes, rng: random.Random) -> bytes:
    """Lie in the header of a safetensors file: shapes, types, places, metadata, its length."""
    header, body = _split(data)
    if header is None:
        return data
    names = [name for name in header if name != "__metadata__"]
    way = rng.randrange(7)
    if way == 0 and "__metadata__" in header:
        inner = header["__metadata__"]
        key = rng.choice(list(inner)) if isinstance(inner, dict) and inner else None
        if key is not None:
            inner[key] = json_value(str(inner[key]).encode(), rng).decode("utf-8", "replace")
    elif way == 1:
        header = _change(header, rng, "@strange@")
    elif names and isinstance(entry := header[rng.choice(names)], dict):
        shape = entry.get("shape") or [1]
        if way == 2:
            entry["dtype"] = rng.choice(DTYPES)
        elif way == 3 and isinstance(shape, list):
            entry["shape"] = rng.choice(([], [0], shape[::-1], [*shape, 1], [2**40], [-1]))
        elif way == 4:
            entry["data_offsets"] = [0, rng.choice((0, len(body), 2**62))]
        elif way == 5:
            header[rng.choice(STRANGE_TEXT[:8])] = entry
        else:
            header.pop(rng.choice(names))
    if not isinstance(header, dict):
        header = {}
    text = json.dumps(header).encode("utf-8", "replace")
    length = rng.choice((len(text),) * 8 + (0, 2**40, 2**63))
    return struct.pack("<Q", length) + text + body


def tensors_numbers(data: bytes, rng: random.Random) -> bytes:
    """Leave a safetensors file whole, and put other numbers into one tensor of it."""
    header, body = _split(data)
    if header is None:
        return data
    names = [name for name in header if name != "__metadata__"]
    if not names or not isinstance(entry := header[rng.choice(names)], dict):
        return data
    try:
        first, last = entry["data_offsets"]
        size = {"F64": 8, "I64": 8, "F32": 4, "I32": 4}.get(entry["dtype"], 1)
        kind = {"F64": "<d", "F32": "<f", "I64": "<q", "I32": "<i"}.get(entry["dtype"], "<B")
        values = {"d": (float("nan"), float("inf"), -1.0, 1e30)}
        whole = (-1, 2**31 - 1, 10**6)
        number = rng.choice(values["d"] if kind in {"<d", "<f"} else whole)
        packed = struct.pack(kind, 255 if kind == "<B" else number)
        count = min(max((last - first) // size, 1), len(body))
        operator.index(first), operator.index(count)  # the header may lie
    except (KeyError, TypeError, ValueError, struct.error):
        return data
    changed = bytearray(body)
    for _ in range(rng.choice((1, count))):
        at = first + size * rng.randrange(count)
        changed[at : at + size] = packed
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(changed)


def arrays(data: bytes, rng: random.Random) -> bytes:
    """An .npz whose arrays have strange shapes, types or numbers, or lie about their size."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as good:
            found = {name: good[name] for name in good}
    except Exception:  # changed before; then it is made anew
        found = {}
    strange = (
        np.zeros(0),
        np.float64(3.0),
        np.full((4, 3), np.nan),
        np.full((4, 3), 1e300),
        np.array(["a", "b", "c"]),
        np.zeros((2, 2, 2)),
        np.zeros((100_000, 2), np.float32),
        np.array([Explosive()], dtype=object),
        np.zeros((3, 2), np.complex128),
        np.zeros(4, dtype=[("x", "f8")]),
    )
    name = rng.choice([*found, "embeddings", "names"])
    found[name] = rng.choice(strange)
    out = io.BytesIO()
    np.savez(out, **found)
    if rng.random() < 0.7:
        return out.getvalue()
    huge = io.BytesIO()
    fields = {"descr": "<f8", "fortran_order": False, "shape": rng.choice(((2**40,), (2**33, 8)))}
    np.lib.format.write_array_header_1_0(huge, fields)
    lie = io.BytesIO()
    with zipfile.ZipFile(lie, "w") as archive:
        archive.writestr("embeddings.npy", huge.getvalue() + b"\x00" * 64)
    return lie.getvalue()


def _split(data: bytes) -> tuple[dict[str, Any] | None, bytes]:
    try:
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
    except (struct.error, ValueError, RecursionError, OverflowError):
        return None, b""
    return (header if isinstance(header, dict) else None), data[8 + length :]


def _change(value: Any, rng: random.Random, token: str) -> Any:
    """Return a JSON value with one part changed, chosen by a walk from the top."""
    stop = rng.random() < 0.15
    if isinstance(value, dict) and value and not stop:
        key = rng.choice(list(value))
        way = rng.random()
        if way < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if way < 0.2:
            return {**value, rng.choice(STRANGE_TEXT): value[key]}
        return {**value, key: _change(value[key], rng, token)}
    if isinstance(value, list) and value and not stop:
        at = rng.randrange(len(value))
        if rng.random() < 0.1:
            return value * rng.choice((0, 2, 100))
        return [*value[:at], _change(value[at], rng, token), *value[at + 1 :]]
    options = (token, rng.choice(STRANGE_TEXT), rng.choice(STRANGE_NUMBERS), [], {}, None, [[[]]])
    return rng.choice(options)


PLAIN: tuple[Mutate, ...] = (flip, cut, repeat, replaced)
BY_KIND: dict[str, tuple[Mutate, ...]] = {
    "bytes": (),
    "json": (json_value,) * 8,
    "jsonl": (json_lines,) * 8,
    "toml": (toml_value,) * 8,
    "safetensors": (tensors_header, tensors_numbers) * 5,
    "npz": (arrays,) * 5,
}
