"""A refusal of NaN and infinity."""

from __future__ import annotations

import numpy as np

from huref.errors import NotFiniteError
from huref.model.arch.weights import CanonicalWeights
from huref.numerics.arrays import Floats


def require_finite(values: Floats, name: str, weights: CanonicalWeights) -> None:
    """Refuse NaN and infinity in something computed from `name`."""
    # A finite sum proves finite terms at a thirtieth of the cost; a sum may overflow, so only the full test refuses.
    with np.errstate(all="ignore"):
        if np.isfinite(values.sum()):
            return
    if not (finite := np.isfinite(values)).all():
        raise NotFiniteError(
            "NaN or infinity in a tensor that the fingerprint uses",
            where=f"{weights.checkpoint.reference}: {name}",
            expected="finite weights",
            got=f"{int((~finite).sum())} values that are not finite",
            next_step="the checkpoint is damaged or its training diverged: use an earlier one",
        )
