"""Kinship: align two models, and see whether their parts are the same parts.

    relate(a, b)       -> Relation      the map between the residual streams, matched layers, every score
    pair_neurons(x, y) -> Pairing       pairing agreement of two layers
    aligned_scores     -> kind: score   operators compared weight by weight

What identifies a lineage is not what a network computes, which its data decide, but which of its parts sit together,
which only its first weights decide (docs/explanation/method.md).
"""

from huref.kinship.alignment.aligned import aligned_scores, operators, rotation_deviation
from huref.kinship.alignment.layers import LayerPlan, plan_layers
from huref.kinship.alignment.pairing import Pairing, Stack, pair_heads, pair_layers, pair_neurons
from huref.kinship.alignment.relation import Relation, relate
from huref.kinship.alignment.residual_map import ResidualMap, SharedRows, identity_map, procrustes_map, shared_rows
from huref.kinship.alignment.weights_map import outstanding, weights_map
from huref.model.layers import Heads, Neurons, read_heads, read_neurons

__all__ = [
    "Heads",
    "LayerPlan",
    "Neurons",
    "Pairing",
    "Relation",
    "ResidualMap",
    "SharedRows",
    "Stack",
    "aligned_scores",
    "identity_map",
    "operators",
    "outstanding",
    "pair_heads",
    "pair_layers",
    "pair_neurons",
    "plan_layers",
    "procrustes_map",
    "read_heads",
    "read_neurons",
    "relate",
    "rotation_deviation",
    "shared_rows",
    "weights_map",
]
