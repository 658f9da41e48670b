"""What changed between two models, tensor by tensor: equal, within the rounding of how it is stored, or not."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from huref.fingerprints.file import require_weights
from huref.fingerprints.record import Reference
from huref.kinship.parameters import MOST_ROUNDED, rounding_of
from huref.model.arch.facts import sections
from huref.model.arch.weights import CanonicalWeights
from huref.model.name import distinct_names, require_names
from huref.numerics.arrays import float32, quietly
from huref.numerics.rows import inner_product
from huref.progress import Progress, Report, shows_progress
from huref.text import printable

SCHEMA = "huref.differences/1.0"
_BLOCK = 1 << 23
_LAYER = re.compile(r"layers\.(\d+)\.(.+)")
_STATES = ("equal", "rounded", "changed", "resized", "new", "missing")
_MARKS = {"equal": ".", "rounded": "~", "changed": "#", "resized": "R", "new": "+", "missing": "-"}


@dataclass(frozen=True)
class TensorDifference:
    """One tensor of A and its partner in B.

    Attributes:
        name: canonical: `layers.3.q`.
        state: `equal`; `rounded`, where 99 % of the values agree within the rounding of the stored types; `changed`;
            `resized`; `new`, in B only; `missing`, in A only.
        types: how both store it, or "".
        shapes: of both, or None.
        n_values: compared.
        share_equal, share_within: of the values, in [0, 1]; None where nothing was compared.
        cosine: of all values; None where nothing was compared, or one side is zero.
        relative: length of the difference over that of A's tensor; None where A's is zero.
        largest: largest difference of two values.
        not_finite: values of either that are NaN or infinite; they count as changed.
    """

    name: str
    state: str
    types: tuple[str, str]
    shapes: tuple[tuple[int, ...] | None, tuple[int, ...] | None]
    n_values: int = 0
    share_equal: float | None = None
    share_within: float | None = None
    cosine: float | None = None
    relative: float | None = None
    largest: float | None = None
    not_finite: int = 0

    @property
    def layer(self) -> int | None:
        """Of a layer, its number."""
        found = _LAYER.fullmatch(self.name)
        return int(found[1]) if found else None

    @property
    def kind(self) -> str:
        """The name without its layer."""
        found = _LAYER.fullmatch(self.name)
        return found[2] if found else self.name


@dataclass(frozen=True)
class Differences:
    """All tensors of two models, beside each other.

    Attributes:
        a, b: what the models are called.
        architectures: their families.
        tensors: A's in their order, then those that only B has.
        notes: what of either is stored and not read.
        settings: what differs of the configurations and changes what equal weights compute.
    """

    a: str
    b: str
    architectures: tuple[str, str]
    tensors: tuple[TensorDifference, ...]
    notes: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()

    @property
    def counts(self) -> Mapping[str, int]:
        """How many tensors are in which state; states without any are left out."""
        found = Counter(tensor.state for tensor in self.tensors)
        return {state: found[state] for state in _STATES if found[state]}

    @property
    def is_faithful(self) -> bool:
        """Whether B is A, or A stored in another way: everything equal or rounded.

        Where one of them has an output matrix and the other is tied to its embedding, that is what is compared.
        """
        return bool(self.tensors) and set(self.counts) <= {"equal", "rounded"} and not self.settings

    def to_dict(self) -> dict[str, Any]:
        """The `--json` document."""
        return {
            "schema_version": SCHEMA,
            "a": self.a,
            "b": self.b,
            "architectures": list(self.architectures),
            "is_faithful": self.is_faithful,
            "counts": dict(self.counts),
            "settings": list(self.settings),
            "tensors": [asdict(tensor) for tensor in self.tensors],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        """A map of layers by kinds, what changed most, and the sentence."""
        lines = [f"{self.a}  ->  {self.b}", *self._map(), *self._most_changed(), f"  {self._said()}"]
        return printable("\n".join([*lines, *(f"  note: {note}" for note in self.notes)]))

    def __repr__(self) -> str:
        told = ", ".join(f"{n} {state}" for state, n in self.counts.items())
        return f"Differences({self.a} -> {self.b}: {told})"

    def _said(self) -> str:
        told = ", ".join(f"{n} {state}" for state, n in self.counts.items())
        rounded = {stored for tensor in self.tensors if tensor.state == "rounded" for stored in tensor.types}
        types = sorted(rounded - {"F32", "F64"} or rounded)
        if self.settings and set(self.counts) <= {"equal", "rounded"}:
            return f"not faithful: {told}, but another configuration: {'; '.join(self.settings)}"
        if set(self.counts) == {"equal"}:
            return f"every value of all {len(self.tensors)} tensors is equal"
        if self.is_faithful:
            return f"faithful: {told}; what is not equal lies within the rounding of {', '.join(types)}"
        return f"not faithful: {told}, of {len(self.tensors)} tensors"

    def _map(self) -> list[str]:
        kinds = list(dict.fromkeys(tensor.kind for tensor in self.tensors if tensor.layer is not None))
        layers = sorted({tensor.layer for tensor in self.tensors if tensor.layer is not None})
        marks = {(tensor.kind, tensor.layer): _MARKS[tensor.state] for tensor in self.tensors}
        width = max((len(kind) for kind in (*kinds, *(t.name for t in self.tensors if t.layer is None))), default=0)
        lines = [
            f"  {tensor.name:<{width}}  {_MARKS[tensor.state]} {tensor.state}"
            for tensor in self.tensors
            if tensor.layer is None
        ]
        for kind in kinds:
            lines.append(f"  {kind:<{width}}  {''.join(marks.get((kind, layer), ' ') for layer in layers)}")
        if kinds:
            used = ", ".join(f"{_MARKS[state]} {state}" for state in self.counts)
            lines.append(f"  {'':<{width}}  layers {layers[0]} to {layers[-1]}, left to right: {used}")
        return lines

    def _most_changed(self) -> list[str]:
        changed = [t for t in self.tensors if t.state == "changed" and t.relative is not None]
        changed.sort(key=lambda tensor: -(tensor.relative or 0.0))
        lines = []
        for tensor in changed[:_SHOWN]:
            types = tensor.types[0] if tensor.types[0] == tensor.types[1] else " -> ".join(tensor.types)
            by, within = 100 * (tensor.relative or 0.0), 100 * (tensor.share_within or 0.0)
            lines.append(
                f"  {tensor.name:<28} {types}: differs by {by:.3g} % of its length, {within:.1f} % of it agrees"
            )
        if len(changed) > _SHOWN:
            lines.append(f"  and {len(changed) - _SHOWN} more; --json lists all")
        bad = [t for t in self.tensors if t.not_finite]
        return [*lines, *(f"  {t.name}: {t.not_finite} values are NaN or infinite" for t in bad[:_SHOWN])]


_SHOWN = 8
_FLOATS = {"F64", "F32", "F16", "BF16"}
_MOST_ROUNDING = 0.5
"""Of a tensor's length, what rounding to two bits changes; more was changed by somebody."""
_SETTINGS = (
    *("hidden_act", "hidden_activation", "activation_function", "rope_theta", "rope_scaling", "rope_parameters"),
    *("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "sliding_window", "num_experts_per_tok"),
)
"""Keys of config.json that change what equal weights compute."""


@shows_progress
@quietly
def diff(
    a: Reference,
    b: Reference,
    *,
    arch_file: str | Path | None = None,
    names: Sequence[str] | None = None,
    report: Report | None = None,
) -> Differences:
    """Compare two models tensor by tensor; every value of both is read, a block at a time.

    Args:
        a: what the other is said to be made of.
        b: the other: an update, a fine-tune, a quantisation.
        arch_file: an architecture file of the user's own.
        names: what to call them.
        report: called with a `Progress` at each step.

    Raises:
        UsageError: a saved fingerprint, which has no weights.
        InputError: see `huref.model.model.open_model`.
    """
    described = None if arch_file is None else Path(arch_file)
    paths = [require_weights(model, "compare") for model in (a, b)]
    if names:
        require_names(list(names), 2)
    called = tuple(names) if names else distinct_names(paths)
    from huref.model.arch import open_weights
    from huref.model.source import open_checkpoint

    with open_checkpoint(paths[0]) as first, open_checkpoint(paths[1]) as second:
        left, right = open_weights(first, described), open_weights(second, described)
        names_a, names_b = left.names(), right.names()
        found: list[TensorDifference] = []
        for done, name in enumerate(names_a):
            if report:
                report(Progress("comparing tensors", done, len(names_a), "tensor"))
            found.append(_compared(left, right, name) if name in right else _alone(left, name, 0))
        for name in (name for name in names_b if name not in set(names_a)):
            found.append(_compared(left, right, name) if name in left else _alone(right, name, 1))
        notes = [
            f"{model}: {note}" for model, side in zip(called, (left, right), strict=True) for note in side.notes()
        ]
        return Differences(
            called[0],
            called[1],
            (left.architecture.name, right.architecture.name),
            tuple(found),
            tuple(notes),
            _settings(left, right),
        )


def _settings(a: CanonicalWeights, b: CanonicalWeights) -> tuple[str, ...]:
    """What differs of heads, and of configurations of one format; llama.cpp's are not held against the others'."""
    x, y = vars(a.geometry), vars(b.geometry)
    found = [f"{key} {x[key]} and {y[key]}" for key in ("n_heads", "n_kv_heads", "head_dim") if x[key] != y[key]]
    configs = [(sections(side.checkpoint.config) or [side.checkpoint.config])[-1] for side in (a, b)]
    if all(configs) and not found:
        keys = [key for key in _SETTINGS if key in configs[0] and key in configs[1]]
        differing = [(key, *(config[key] for config in configs)) for key in keys]
        found += [f"{key} {one} and {other}" for key, one, other in differing if one != other]
    return tuple(found)


def _alone(weights: CanonicalWeights, name: str, side: int) -> TensorDifference:
    stored, shape = weights.stored_dtype(name), weights.shape(name)
    types = (stored, "") if side == 0 else ("", stored)
    shapes = (shape, None) if side == 0 else (None, shape)
    return TensorDifference(name, "new" if side else "missing", types, shapes)


def _compared(a: CanonicalWeights, b: CanonicalWeights, name: str) -> TensorDifference:
    types, shapes = (a.stored_dtype(name), b.stored_dtype(name)), (a.shape(name), b.shape(name))
    if shapes[0] != shapes[1]:
        return TensorDifference(name, "resized", types, shapes)
    n = equal = within = bad = 0
    dot = square_a = square_b = square_d = largest = 0.0
    step = max(1, _BLOCK // max(1, math.prod(shapes[0][1:])))
    for start in range(0, shapes[0][0], step):
        rows = slice(start, min(start + step, shapes[0][0]))
        x, y = float32(a.read(name, rows)), float32(b.read(name, rows))
        is_finite = np.isfinite(x) & np.isfinite(y)
        n += x.size
        if not is_finite.all():
            bad += int(x.size - np.count_nonzero(is_finite))
            x, y = np.where(is_finite, x, 0), np.where(is_finite, y, 0)
        equal += int(np.count_nonzero((x == y) & is_finite))
        within += min(rounding_of(a, b, name, rows).count(x, y), int(np.count_nonzero(is_finite)))
        difference = x - y
        dot += inner_product(x, y)
        square_a += inner_product(x, x)
        square_b += inner_product(y, y)
        square_d += inner_product(difference, difference)
        largest = max(largest, float(np.abs(difference).max(initial=0.0)))
    share = within / n if n else 1.0
    relative = math.sqrt(square_d / square_a) if square_a else None
    least = 1.0 if set(types) <= _FLOATS else MOST_ROUNDED  # a block's largest value may be clipped
    is_near = relative is None or relative <= _MOST_ROUNDING
    state = "equal" if equal == n else "rounded" if share >= least and not bad and is_near else "changed"
    scale = math.sqrt(square_a * square_b)
    return TensorDifference(
        name,
        state,
        types,
        shapes,
        n,
        equal / n if n else None,
        share if n else None,
        dot / scale if scale else None,
        relative,
        largest,
        bad,
    )
