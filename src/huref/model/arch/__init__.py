"""Named tensors of a checkpoint -> canonical weights; the only place that knows model families.

`open_weights(checkpoint)` finds the family's file in `data/`, checks that every stored tensor has its place,
and returns `CanonicalWeights`, which read lazily. A new family is one YAML file: docs/how-to/add-an-architecture.md.
"""

from huref.model.arch.canonical import Attention, FeedForward, Geometry
from huref.model.arch.weights import Architecture, CanonicalWeights, open_weights

__all__ = ["Architecture", "Attention", "CanonicalWeights", "FeedForward", "Geometry", "open_weights"]
