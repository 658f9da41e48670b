"""Evidence files, `NAME.evidence.safetensors`: `docs/formats/evidence-v1.md`.

Maps of integers, scales and small matrices are tensors of a file that `huref.files.tensor_file` frames, everything
else is its document. A file comes from somebody who accuses or defends: it is read as hostile. Nothing in it is
believed before `huref.explanation.checking` has looked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from huref.errors import HurefError, OutputError
from huref.explanation.transform import SCHEMA_VERSION, TOLERANCE, Explanation, Share, Side
from huref.files.atomic import require_place, write_atomically
from huref.files.canonical_json import canonical_json
from huref.files.tensor_file import TensorFileKind, digest_of, read_tensor_file, tensor_file_bytes, typed
from huref.kinship.recovery.transform import (
    IDENTITY,
    NONE,
    RESIDUAL_KINDS,
    ROTATION,
    SIGNED,
    LayerTransform,
    ResidualTransform,
)

SUFFIX = ".evidence.safetensors"
MAX_LAYERS, MAX_WIDTH, MAX_PARTS, MAX_HEADS, MAX_HEAD = 4096, 1 << 17, 1 << 24, 4096, 4096
"""Far above any model; what a file may claim before anything is made of it."""

_DOMAIN = b"huref/evidence/1"
_KIND = TensorFileKind(
    name="evidence",
    unreadable="no readable evidence",
    suffix=SUFFIX,
    schema=SCHEMA_VERSION,
    max_bytes=1 << 31,
    made_by="huref explain A B --out FILE",
    redo="explain the models again: huref explain A B --out FILE",
)
_INTS = ("neurons", "first", "second", "experts", "heads", "heads_first", "heads_second", "groups")
_MAPS = ("qk", "vo")
_SHARE = ("n", "n_equal", "n_rounded", "dot", "square_a", "square_b")


def require_evidence_place(path: Path) -> None:
    """Refuse, before long work, a place that cannot be written, or that holds what is no evidence.

    Raises:
        OutputError: either.
    """
    require_place(path)
    if path.is_file() and path.stat().st_size:
        try:
            load_evidence(path)
        except HurefError as error:
            raise OutputError(
                "a file of another kind is in the way",
                where=str(path),
                expected="a free name, or earlier evidence",
                got=error.what,
                next_step="name another file, or move that one away",
            ) from None


def save_evidence(found: Explanation, path: Path) -> None:
    """Write an explanation; equal explanations give equal bytes.

    Raises:
        OutputError: the path cannot be written; nothing is left half-written.
    """
    write_atomically(path, evidence_bytes(found))


def evidence_bytes(found: Explanation) -> bytes:
    """What `save_evidence` writes."""
    document, tensors = _document(found), _tensors(found)
    return tensor_file_bytes(document, tensors, _digest(document, tensors))


def load_evidence(path: str | Path) -> Explanation:
    """Read an evidence file, and refuse what cannot be a transform: sizes, ranges, partners taken twice.

    Raises:
        MissingFileError: no such file.
        CorruptFileError: no evidence, or damaged, or a map that is none.
        UnsafeFileError: larger than any evidence.
        InputError: evidence of another major format version, or a file that cannot be read.
    """
    return read_tensor_file(Path(path), _KIND, _digest, _parse)


def _document(found: Explanation) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "version": found.version,
        "a": found.a.to_dict(),
        "b": found.b.to_dict(),
        "residual": found.residual.to_dict(),
        "tolerance": TOLERANCE,
        "shares": _numbers(found.shares),
        "before": _numbers(found.before),
        "commutes": {str(layer.layer): layer.commutes for layer in found.layers},
        "silent": {str(layer.layer): list(layer.silent) for layer in found.layers},
        "gains": dict(found.gains),
        "vocabulary": dict(found.vocabulary),
        "pcs_before": found.total_before.cosine,
        "pcs_after": found.total.cosine,
        "agreement": found.agreement,
        "notes": list(found.notes),
    }


def _tensors(found: Explanation) -> dict[str, np.ndarray]:
    rows = [(layer.layer, layer.feed_forward, layer.attention) for layer in found.layers]
    tensors = {"layers": np.array(rows, "<i4").reshape(-1, 3)}
    for name in ("axis", "sign", "rotation"):
        if (array := getattr(found.residual, name)) is not None:
            tensors[f"residual.{name}"] = array
    for layer in found.layers:
        arrays = {name: getattr(layer, name) for name in (*_INTS, "scales", *_MAPS)}
        tensors |= {f"layers.{layer.layer}.{name}": a for name, a in arrays.items() if a is not None and a.size}
    return {name: np.ascontiguousarray(array) for name, array in tensors.items()}


def _parse(document: Mapping[str, Any], tensors: dict[str, np.ndarray]) -> Explanation:
    """An explanation from its two parts; ValueError, KeyError or TypeError where they are none."""
    if document["tolerance"] != TOLERANCE:
        raise ValueError(f"another tolerance than {TOLERANCE}")
    a, b = _side(document["a"]), _side(document["b"])
    left = dict(tensors)
    residual = _residual(document["residual"], left)
    rows = _array(left.pop("layers"), "<i4", 2)
    if rows.shape[1] != 3 or not 0 < len(rows) <= b.n_layers or (np.diff(rows[:, 0]) <= 0).any():
        raise ValueError("a table of layers that is none")
    _within(rows[:, 0], 0, b.n_layers)
    _within(rows[:, 1:], NONE, a.n_layers)
    layers = tuple(_layer(tuple(int(i) for i in row), document, left) for row in rows)
    if left:
        raise ValueError(f"a tensor that has no place: {sorted(left)[0][:60]!r}")
    found = Explanation(
        a=a,
        b=b,
        residual=residual,
        layers=layers,
        shares=_shares(document["shares"]),
        before=_shares(document["before"]),
        gains=typed(document["gains"], dict),
        vocabulary={name: _whole(n) for name, n in typed(document["vocabulary"], dict).items()},
        notes=tuple(typed(note, str) for note in typed(document["notes"], list)),
        version=typed(document["version"], str),
    )
    figures = {
        "pcs_before": found.total_before.cosine,
        "pcs_after": found.total.cosine,
        "agreement": found.agreement,
    }
    for name, figure in figures.items():
        if abs(_number(document[name]) - figure) > 1e-9:
            raise ValueError("a summary that is not the sum of its parts")
    return found


def _residual(values: Mapping[str, Any], tensors: dict[str, np.ndarray]) -> ResidualTransform:
    kind, d_a, d_b = values["kind"], _whole(values["d_a"], 1, MAX_WIDTH), _whole(values["d_b"], 1, MAX_WIDTH)
    scale = _number(values["scale"])
    if kind not in RESIDUAL_KINDS or not 1e-6 < scale < 1e6:
        raise ValueError("no such map of the residual stream")
    axis = sign = rotation = None
    if kind == ROTATION:
        rotation = _floats(tensors.pop("residual.rotation"), 2)
        if rotation.shape != (d_a, d_b):
            raise ValueError("a rotation of another shape than the two widths")
    elif kind != IDENTITY:
        axis, sign = _array(tensors.pop("residual.axis"), "<i4", 1), _array(tensors.pop("residual.sign"), "i1", 1)
        _require_signed(axis, sign, kind, d_a, d_b)
    elif d_a != d_b:
        raise ValueError("the identity between streams of two widths")
    embeddings = values["embeddings"]
    return ResidualTransform(
        kind,
        d_a,
        d_b,
        axis,
        sign,
        rotation,
        scale,
        typed(values["method"], str),
        None if embeddings is None else _number(embeddings),
    )


def _require_signed(axis: np.ndarray, sign: np.ndarray, kind: str, d_a: int, d_b: int) -> None:
    if axis.shape != (d_b,) or sign.shape != (d_b,):
        raise ValueError("a permutation of another width")
    _injective(axis, d_a)
    if ((sign == 0) != (axis == NONE)).any() or (np.abs(sign) > 1).any() or (axis >= 0).sum() != min(d_a, d_b):
        raise ValueError("signs that do not go with their axes")
    if kind != SIGNED and (sign < 0).any():
        raise ValueError("a plain permutation with signs")


def _layer(row: tuple[int, ...], document: Mapping[str, Any], tensors: dict[str, np.ndarray]) -> LayerTransform:
    number, feeds, attends = row
    at = f"layers.{number}."
    parts: dict[str, Any] = {}
    for name in _INTS:
        if at + name in tensors:
            parts[name] = _array(tensors.pop(at + name), "<i4", 1)
            _within(parts[name], NONE, MAX_PARTS)
    if at + "scales" in tensors:
        parts["scales"] = _floats(tensors.pop(at + "scales"), 1)
    for name in _MAPS:
        if at + name in tensors:
            parts[name] = _floats(tensors.pop(at + name), 3)
    commutes = document["commutes"][str(number)]
    silent = tuple(typed(name, str) for name in typed(document["silent"][str(number)], list))
    layer = LayerTransform(
        number, feeds, attends, silent, commutes=None if commutes is None else _number(commutes), **parts
    )
    _require_neurons(layer)
    _require_heads(layer)
    return layer


def _require_neurons(layer: LayerTransform) -> None:
    """Arrays of one length, every neuron with a partner a scale; a block takes no neuron twice."""
    n = len(layer.neurons)
    sizes = {len(layer.first), len(layer.second), len(layer.scales)}
    if sizes != {n} or (layer.feed_forward >= 0) != bool(n) or bool(n) != bool(len(layer.experts)):
        raise ValueError("maps of neurons that do not go together")
    has_partner = layer.neurons >= 0
    if (np.abs(layer.scales[has_partner]) < 1e-20).any() or (layer.scales[~has_partner] != 0).any():
        raise ValueError("scales that do not go with their neurons")
    if len(layer.experts) == 1:
        _injective(layer.neurons, MAX_PARTS)


def _require_heads(layer: LayerTransform) -> None:
    h, g = len(layer.heads), len(layer.groups)
    is_there = layer.attention >= 0
    if {len(layer.heads_first), len(layer.heads_second)} != {h} or is_there != bool(h) or is_there != bool(g):
        raise ValueError("maps of heads that do not go together")
    if h > MAX_HEADS or (g and h % g):
        raise ValueError("heads that do not divide into groups")
    _injective(layer.heads, MAX_HEADS)
    for maps in (layer.qk, layer.vo):
        if maps is not None and (len(maps) != g or maps.shape[1] != maps.shape[2] or maps.shape[1] > MAX_HEAD):
            raise ValueError("maps of heads of another shape")


def _numbers(shares: Mapping[str, Share]) -> dict[str, list[float]]:
    return {name: [getattr(share, part) for part in _SHARE] for name, share in shares.items()}


def _shares(values: Mapping[str, Any]) -> dict[str, Share]:
    found = {}
    for name, numbers in typed(values, dict).items():
        if len(typed(numbers, list)) != len(_SHARE):
            raise ValueError("a share that is none")
        counts = [_whole(number, 0, 1 << 50) for number in numbers[:3]]
        sums = [_number(number) for number in numbers[3:]]
        if not counts[1] <= counts[2] <= counts[0] or min(sums[1:]) < 0:
            raise ValueError("a share of more than there is")
        found[typed(name, str)] = Share(*counts, *sums)
    return found


def _side(values: Mapping[str, Any]) -> Side:
    return Side(
        typed(values["name"], str),
        typed(values["digest"], str),
        typed(values["architecture"], str),
        _whole(values["n_layers"], 1, MAX_LAYERS),
        _whole(values["n_weights"], 1, 1 << 50),
    )


def _injective(partners: np.ndarray, n: int) -> None:
    _within(partners, NONE, n)
    known = partners[partners >= 0]
    if len(np.unique(known)) < len(known):
        raise ValueError("one part of A is the partner of two")


def _within(values: np.ndarray, low: int, stop: int) -> None:
    if values.size and not low <= int(values.min()) <= int(values.max()) < stop:
        raise ValueError(f"a number outside {low} to {stop - 1}")


def _array(array: np.ndarray, kind: str, n_axes: int) -> np.ndarray:
    if array.dtype != np.dtype(kind) or array.ndim != n_axes:
        raise ValueError(f"an array of type {array.dtype} and {array.ndim} axes in place of {kind} and {n_axes}")
    return array


def _floats(array: np.ndarray, n_axes: int) -> np.ndarray:
    if not np.isfinite(_array(array, "<f4", n_axes)).all():
        raise ValueError("numbers that are not finite")
    return array


def _whole(value: Any, low: int = 0, high: int = 1 << 40) -> int:
    if not low <= typed(value, int) <= high:
        raise ValueError(f"a number outside {low} to {high}")
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{value!r:.40} in place of a number")
    return float(value)


def _digest(document: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> str:
    """Hexadecimal SHA-256 over domain, canonical JSON, every tensor's name, type and shape, and their data."""
    kinds = [f"{name}:{tensors[name].dtype.str}:{list(tensors[name].shape)}" for name in sorted(tensors)]
    return digest_of(_DOMAIN, (canonical_json(document), *kinds), tensors)
