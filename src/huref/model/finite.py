"""A refusal of NaN and infinity."""

from __future__ import annotations

import torch
from torch import Tensor

from huref.errors import NotFiniteError
from huref.model.arch.weights import CanonicalWeights


def require_finite(tensor: Tensor, name: str, weights: CanonicalWeights) -> None:
    """Refuse NaN and infinity in something computed from `name`."""
    # A finite sum proves finite terms at a thirtieth of the cost; a sum may overflow, so only the full test refuses.
    if not bool(torch.isfinite(tensor.sum())) and not bool(torch.isfinite(tensor).all()):
        raise NotFiniteError(
            "NaN or infinity in a tensor that the fingerprint uses",
            where=f"{weights.checkpoint.reference}: {name}",
            expected="finite weights",
            got=f"{int((~torch.isfinite(tensor)).sum())} values that are not finite",
            next_step="the checkpoint is damaged or its training diverged: use an earlier one",
        )
