"""Are two files, or two things that a command said, the same, and if not, by how much do they differ?"""

from __future__ import annotations

import io
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

NORMAL = (
    # What must differ: time, memory, dates. Nothing else. Each is (pattern, replacement) on text.
    (re.compile(r'("(?:[a-z]+_)?seconds(?:_[a-z_]+)?": ?|"peak_rss_bytes": ?)[0-9.e+-]+'), r'\1"*"'),
    (re.compile(r'("seconds": ?)\[[0-9.e+,\s-]*\]'), r'\1"*"'),
    (re.compile(r"[0-9.]+ s a pair, [0-9.]+ s to prepare"), "* s a pair, * s to prepare"),
    (re.compile(r"(?:Loading weights|Writing model shards): [^\r\n]{0,200}[\r\n]*"), ""),  # bars of transformers
    (re.compile(r"(MB \([0-9.]+ %\) in )[0-9.]+ s"), r"\1* s"),
    (re.compile(r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)"), "<time>"),
    (re.compile(r"\b20\d\d-\d\d-\d\d \d\d:\d\d(?::\d\d)?(?: UTC)?"), "<time>"),
)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


@dataclass
class Found:
    """What a comparison of one thing said."""

    equal: bool
    difference: str = "0"
    size: float = 0.0
    detail: list[str] = field(default_factory=list)


def normal(data: bytes, tree: str) -> str:
    """Text without what must differ, and without the place of the source tree."""
    text = data.decode("utf-8", "surrogateescape").replace(tree, "<tree>")
    for pattern, replacement in NORMAL:
        text = pattern.sub(replacement, text)
    return text


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of a JSON document with its path; a number of any key is a leaf."""
    if isinstance(value, dict):
        yield f"{path}{{}}", sorted(value)
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}")
    elif isinstance(value, list):
        yield f"{path}[]", len(value)
        for index, item in enumerate(value):
            yield from leaves(item, f"{path}[{index}]")
    else:
        yield path, value


def by_document(a: Any, b: Any) -> Found:
    """JSON documents: the leaves that differ, numbers by how much."""
    left, right = dict(leaves(a)), dict(leaves(b))
    worst, detail, others = 0.0, [], 0
    for key in {**left, **right}:
        one, two = left.get(key, "<none>"), right.get(key, "<none>")
        if type(one) is type(two) and one == two:
            continue
        if isinstance(one, int | float) and isinstance(two, int | float) and not key.endswith("[]"):
            worst = max(worst, abs(one - two))
        else:
            others += 1
        detail.append(f"`{key}`: {one!r} -> {two!r}")
    if not detail:
        return Found(False, "order of keys or layout", 0.0, ["the same document, written otherwise"])
    said = f"{worst:.3g}" + (f", and {others} other values" if others else "")
    return Found(False, said, worst, detail)


def around(a: str, b: str) -> tuple[str, str]:
    """Two lines cut to what surrounds their first difference."""
    place = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    start = max(0, place - 60)
    return a[start : place + 100], b[start : place + 100]


def by_numbers(a: str, b: str) -> Found:
    """Text: the same words with other numbers, or other words."""
    both = itertools.zip_longest(a.splitlines(), b.splitlines(), fillvalue="")
    lines = ["`{}` -> `{}`".format(*around(x, y)) for x, y in both if x != y]
    if _NUMBER.sub("#", a) == _NUMBER.sub("#", b):
        pairs = zip(_NUMBER.findall(a), _NUMBER.findall(b), strict=True)
        worst = max(abs(float(x) - float(y)) for x, y in pairs)
        return Found(False, f"{worst:.3g}", worst, lines)
    return Found(False, "other words", float("inf"), lines)


def by_text(a: bytes, b: bytes, trees: tuple[str, str]) -> Found:
    """Text or JSON, written by the source trees `trees`."""
    one, two = normal(a, trees[0]), normal(b, trees[1])
    if one == two:
        return Found(True)
    try:
        documents = json.loads(one), json.loads(two)
    except ValueError:
        return by_numbers(one, two)
    return by_document(*documents)


def safetensors(data: bytes) -> tuple[dict[str, Any], dict[str, tuple[str, tuple[int, ...], bytes]]]:
    """Metadata, and of each tensor its type, shape and bytes."""
    size = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    metadata = header.pop("__metadata__", {})
    found = {}
    for name, item in header.items():
        start, end = item["data_offsets"]
        found[name] = (item["dtype"], tuple(item["shape"]), body[start:end])
    return metadata, found


_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1"}


def numbers(item: tuple[str, tuple[int, ...], bytes]) -> np.ndarray:
    """A tensor of `safetensors` as float64; its bytes where numpy has no such type."""
    kind, shape, data = item
    if kind == "BF16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4").astype(float).reshape(shape)
    return np.frombuffer(data, _TYPES.get(kind, "u1")).astype(float).reshape(shape if kind in _TYPES else -1)


def by_tensors(a: bytes, b: bytes) -> Found:
    """Safetensors files: metadata, names, types, shapes, and how far numbers moved."""
    if a == b:
        return Found(True)
    (meta_a, one), (meta_b, two) = safetensors(a), safetensors(b)
    detail, worst = [], 0.0
    if meta_a != meta_b:
        for key in sorted({**meta_a, **meta_b}):
            if meta_a.get(key) != meta_b.get(key):
                detail.append(f"metadata `{key}`: {str(meta_a.get(key))[:200]} -> {str(meta_b.get(key))[:200]}")
    if sorted(one) != sorted(two):
        detail.append(f"tensors: only before {sorted(set(one) - set(two))}, only after {sorted(set(two) - set(one))}")
        worst = float("inf")
    for name in sorted(set(one) & set(two)):
        if one[name] == two[name]:
            continue
        if one[name][:2] != two[name][:2]:
            detail.append(f"`{name}`: {one[name][:2]} -> {two[name][:2]}")
            worst = float("inf")
            continue
        moved = float(np.abs(numbers(one[name]) - numbers(two[name])).max())
        worst = max(worst, moved)
        detail.append(f"`{name}`: by at most {moved:.3g}")
    return Found(False, f"{worst:.3g}" if detail else "layout of the file", worst, detail or ["layout of the file"])


def by_pixels(a: bytes, b: bytes) -> Found:
    """PNG files: their texts, their sizes, and how far pixels moved."""
    if a == b:
        return Found(True)
    from PIL import Image

    one, two = Image.open(io.BytesIO(a)), Image.open(io.BytesIO(b))
    detail = []
    text_a, text_b = getattr(one, "text", {}), getattr(two, "text", {})
    detail += [
        f"text `{key}`: {str(text_a.get(key))[:200]} -> {str(text_b.get(key))[:200]}"
        for key in sorted({**text_a, **text_b})
        if text_a.get(key) != text_b.get(key)
    ]
    if one.size != two.size or one.mode != two.mode:
        return Found(False, f"{one.mode} {one.size} -> {two.mode} {two.size}", float("inf"), detail)
    moved = float(np.abs(np.asarray(one).astype(float) - np.asarray(two).astype(float)).max())
    return Found(False, f"{moved:.0f} of 255", moved, detail or ["pixels, or the file's compression"])


def by_bytes(a: bytes, b: bytes) -> Found:
    """Any other files: how many bytes differ, and from where."""
    if a == b:
        return Found(True)
    if len(a) != len(b):
        return Found(False, f"{len(a)} -> {len(b)} bytes", float("inf"), [])
    other = sum(x != y for x, y in zip(a, b, strict=True))
    first = next(i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y)
    return Found(False, f"{other} of {len(a)} bytes", float(other), [f"from byte {first} on"])


TEXT = (".json", ".txt", ".html", ".sarif", ".svg", ".md", ".csv", ".sha256")


def by_file(path: str, a: bytes, b: bytes, trees: tuple[str, str]) -> Found:
    """Files that a step wrote, by the ending of their name."""
    if path.endswith(".safetensors"):
        return by_tensors(a, b)
    if path.endswith(".png"):
        return by_pixels(a, b)
    return by_text(a, b, trees) if path.endswith(TEXT) else by_bytes(a, b)
