"""What became of the norms' gains: kept, trained along, absorbed into the matrices behind them, or traded with those.

A gain can move into the matrices that read behind it without any change of the function; the folded matrices, on
which everything else is compared, do not see it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from huref.explanation.transform import Share
from huref.kinship.recovery.transform import LayerTransform, ResidualTransform
from huref.model.arch.weights import CanonicalWeights
from huref.numerics.arrays import Floats, float32
from huref.numerics.cosine import cosine

_CLOSE = 1e-3
_EVEN = 0.25
"""B's gains are taken for absorbed where they are so much more even than A's."""


def compare_gains(
    b: CanonicalWeights,
    a: CanonicalWeights,
    residual: ResidualTransform,
    layers: tuple[LayerTransform, ...],
    shares: Mapping[str, Share],
) -> dict[str, Any]:
    """How many norms in front of a branch, and at the end, have which gains.

    Returns:
        Counts: `same`; `trained`, no farther from A's than twice the folded matrices are; `absorbed`, even where A's
        are not; `traded`, farther from A's. `ratio`: the smallest and greatest factor of a traded gain, where axes
        of the two streams are the same ones. Empty where no norm has a gain.
    """
    counts, ratios = dict.fromkeys(("same", "trained", "absorbed", "traded"), 0), list[Floats]()
    for name_b, name_a, readers in _norms(layers):
        if name_b not in b or name_a not in a:
            continue
        gain_b, plain_a = float32(b.read(name_b)), float32(a.read(name_a))
        gain_a = _carried(plain_a, residual)
        error = 1 - sum((shares.get(name, Share()) for name in readers), Share()).cosine
        if gain_a is not None and _are_close(gain_b, gain_a):
            counts["same"] += 1
        elif _unevenness(gain_b) < _EVEN * _unevenness(plain_a):
            counts["absorbed"] += 1
        elif gain_a is None:
            counts["same" if max(_unevenness(gain_b), _unevenness(plain_a)) < 1e-5 else "traded"] += 1
        elif _distance(gain_b, gain_a) <= 2 * error:
            counts["trained"] += 1
        else:
            counts["traded"] += 1
            is_there = np.abs(gain_a) > 1e-6
            ratios.append(gain_b[is_there] / gain_a[is_there])
    found: dict[str, Any] = {name: n for name, n in counts.items() if n}
    if ratios and len(joined := np.concatenate(ratios)):
        found["ratio"] = [float(joined.min()), float(joined.max())]
    return found


def _norms(layers: tuple[LayerTransform, ...]) -> list[tuple[str, str, tuple[str, ...]]]:
    """Norms of B and of A, and the weights of B that are read behind them."""
    found: list[tuple[str, str, tuple[str, ...]]] = [("final_norm", "final_norm", ("unembedding", "embedding"))]
    for layer in layers:
        for role, of, readers in (
            ("attention_norm", layer.attention, ("q", "k", "v")),
            ("feed_forward_norm", layer.feed_forward, ("gate", "up")),
        ):
            if of >= 0:
                at = f"layers.{layer.layer}."
                found.append((f"{at}{role}", f"layers.{of}.{role}", tuple(at + reader for reader in readers)))
    return found


def _carried(gain: Floats, residual: ResidualTransform) -> Floats | None:
    """A's gain in the order of B's axes; None where the axes are not the same ones."""
    if residual.rotation is not None:
        return None
    if residual.axis is None:
        return gain if residual.d_a == residual.d_b else None
    return gain[residual.axis] if (residual.axis >= 0).all() else None


def _are_close(left: Floats, right: Floats) -> bool:
    return left.shape == right.shape and float(np.abs(left - right).max()) <= _CLOSE * float(np.abs(right).max())


def _unevenness(gain: Floats) -> float:
    """Standard deviation over mean size; 0 where all axes have one number."""
    return float(gain.std(ddof=1)) / max(float(np.abs(gain).mean()), 1e-20)


def _distance(left: Floats, right: Floats) -> float:
    """One less the cosine: on the scale on which matrices are compared."""
    return 1 - cosine(left, right)
