"""How far stored weights may lie from what they were rounded from, where a packed format says it of each value."""

from __future__ import annotations

from dataclasses import replace

from huref.model.arch.reader import Reader
from huref.model.arch.weights import CanonicalWeights
from huref.model.source.checkpoint import Rows
from huref.numerics.arrays import Floats, float32


def packed_bounds(weights: CanonicalWeights, name: str, rows: Rows = None) -> Floats | None:
    """The bound of each value of a canonical tensor, or of some of its rows.

    None where the stored type says it (`huref.numerics.rounding`), as for all that is not packed.
    """
    bounds = weights.checkpoint.bounds(weights.stored_names(name))
    if bounds is None:
        return None
    return float32(Reader(bounds).read(replace(weights.role(name), adds_one=False), rows))
