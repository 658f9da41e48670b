"""From a run of the integer model to the rows that a proof commits to: proof-inference-v1, section 5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from huref.proof.inference.inventory import Inventory, Limbs
from huref.proof.inference.model import Run

Values = dict[str, np.ndarray]
"""Block name to (rows, width) integers."""


def activation_rows(run: Run, inventory: Inventory) -> Values:
    """Every block that is committed before the first challenge."""
    whole = _numbers(run, inventory)
    values: Values = {}
    for name, item in inventory.limbs.items():
        rows = whole.pop(name)
        for i in range(item.count):
            values[item.block(i)] = _limb(rows, item, i)
    values |= whole
    values["counts"] = _counts(values, inventory)
    return {block.name: values[block.name] for block in inventory.activations}


def _numbers(run: Run, inventory: Inventory) -> Values:
    """Numbers before they are cut in limbs, and the blocks that are not cut."""
    scales, norms, blocks = inventory.scales, run.norms, run.feed_forward
    layers = run.attention
    squares, roots = (np.stack([getattr(norm, name) for norm in norms]) for name in ("squares", "root"))
    product = roots * (squares + scales.epsilon)
    low = scales.root_target - roots * product
    padded = np.zeros(-(-run.logits.size // inventory.shape.width) * inventory.shape.width, dtype=object)
    padded[: run.logits.size] = run.logit_rest
    rest = np.concatenate([a.weight_rest for a in layers])
    total = np.concatenate([a.total for a in layers])
    is_top = np.concatenate([_first_of_each(a.distance == 0, inventory.n) for a in layers])
    return {
        "token": norms[0].residual // scales.embedding_factor,
        "norm.y": _rows([norm.normed for norm in norms]),
        "norm.r": _rows([norm.rest for norm in norms]),
        "o.y": _rows([a.update for a in layers]),
        "o.r": _rows([a.rest for a in layers]),
        "down.y": _rows([b.update for b in blocks]),
        "down.r": _rows([b.rest for b in blocks]),
        "logit.r": padded.reshape(-1, inventory.shape.width),
        "gate.r": _rows([b.gate_rest for b in blocks]),
        "top": np.concatenate([a.top for a in layers]),
        "score.r": np.concatenate([a.score_rest for a in layers]),
        "weight": np.concatenate([a.weight for a in layers]),
        "left": rest,
        "right": 2 * total - 1 - rest,
        "peak": is_top.astype(np.int64),
        "root": roots,
        "low": low,
        "high": 2 * product + squares + (scales.epsilon - 1) - low,
        "hidden": run.hidden[None],
        "gate.y": _rows([b.gate for b in blocks]) + (1 << (scales.precision.gate_bits - 1)),
        "silu": _rows([b.silu for b in blocks]),
        "up": _rows([b.up for b in blocks]),
        "inner": _rows([b.inner for b in blocks]),
        "q": _heads([a.q for a in layers]),
        "k": _heads([a.k for a in layers]),
        "v": _heads([a.v for a in layers]),
        "mixed": _heads([a.mixed for a in layers]),
        "distance": np.concatenate([a.distance for a in layers]),
        "exp": np.concatenate([a.exp for a in layers]),
        "total": total,
        "squares": squares,
        "product": product,
    }


def _rows(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(list(parts))


def _heads(parts: Sequence[np.ndarray]) -> np.ndarray:
    """L of (n, heads, e) -> (L n heads, e)."""
    return np.concatenate([part.reshape(-1, part.shape[2]) for part in parts])


def _limb(rows: np.ndarray, item: Limbs, i: int) -> np.ndarray:
    moved = rows.astype(object) + item.offset
    return ((moved >> (item.limb * i)) & ((1 << item.limb) - 1)).astype(np.int64)


def _first_of_each(holds: np.ndarray, n: int) -> np.ndarray:
    """(h, T) bool: of each position's true entries the first alone."""
    first = np.zeros_like(holds)
    start = 0
    for count in range(1, n + 1):
        piece = holds[:, start : start + count]
        first[np.arange(len(holds)), start + piece.argmax(axis=1)] = True
        start += count
    return first


def _counts(values: Mapping[str, np.ndarray], inventory: Inventory) -> np.ndarray:
    """How often each entry of the tables is looked up: (rows, f) int64, padded with zeros."""
    width = inventory.widths["f"]
    counts = np.zeros(-(-inventory.n_entries // width) * width, dtype=np.int64)
    for places in entry_indices(values, inventory).values():
        counts += np.bincount(places.ravel(), minlength=counts.size)
    return counts.reshape(-1, width)


def entry_indices(values: Mapping[str, np.ndarray], inventory: Inventory) -> dict[str, np.ndarray]:
    """For each lookup, by the name of its inverses, which table entry each number is: (rows, width) int64."""
    found = {}
    for lookup in inventory.lookups:
        starts = np.array([inventory.table_start(int(tag)) for tag in lookup.tags], dtype=np.int64)
        found[lookup.inverse.name] = values[lookup.block].astype(np.int64) + starts[:, None]
    return found
