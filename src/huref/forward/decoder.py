"""A decoder of any known family in memory: arrays by canonical name, or tensors where there is training.

Attacks change them, training too; `huref.forward.passes` computes with them. It knows no family names and no stored
layouts; `huref.model.arch` says what the structure is, `Settings` what the configuration adds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from huref.errors import ArchitectureError
from huref.forward.operations import ACTIVATIONS, Values
from huref.forward.settings import Settings, read_settings
from huref.model.arch.canonical import Geometry
from huref.model.arch.roles import GLOBAL_ROLES, LAYER_ROLES
from huref.model.arch.weights import Architecture, CanonicalWeights
from huref.numerics.arrays import Array

LayerChange = Callable[[Mapping[str, Values], int], Mapping[str, Values]]
"""A layer's tensors by role, and its number -> those that change."""

_WRAPPERS = ("text_config", "vision_config", "audio_config", "visual")
"""Sections that only the config.json of a model of several senses has."""


@dataclass(frozen=True)
class Decoder:
    """A decoder's weights by canonical name. Functions return new ones.

    Attributes:
        architecture: the structure, from the family's file.
        geometry: the sizes; `n_layers` follows the layers that are there.
        settings: what the configuration adds.
        tensors: `embedding`, `layers.3.q`, `layers.3.q_bias`, ...; `unembedding` only where it is not the embedding.
        layer_origins: for every layer, the layer of the checkpoint whose stored names and per-layer settings it has.
        token_order: new token id -> old; None as long as nobody has renumbered the vocabulary.
        renumberable: token ids that the tokenizer's files allow to renumber; empty without such files.
        is_wrapped: the checkpoint holds tensors beside the decoder's that read or write its residual stream.
        is_entwined: some of them stand in its layers, behind the same norms.
    """

    architecture: Architecture
    geometry: Geometry
    settings: Settings
    tensors: Mapping[str, Values]
    layer_origins: tuple[int, ...]
    token_order: Array | None = None
    renumberable: Array = field(default_factory=lambda: np.empty(0, np.int64))
    is_wrapped: bool = False
    is_entwined: bool = False

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    @property
    def is_tied(self) -> bool:
        """Whether embedding and unembedding are one matrix."""
        return "unembedding" not in self.tensors

    @property
    def unembedding(self) -> Values:
        """(v, d), or (v, embed) where embeddings are narrower than the residual stream."""
        return self.tensors["embedding" if self.is_tied else "unembedding"]

    @property
    def layers(self) -> range:
        """The numbers of its layers."""
        return range(self.geometry.n_layers)

    @property
    def dtype(self) -> Any:
        """The type of the weights."""
        return self.tensors["embedding"].dtype

    def layer(self, index: int) -> dict[str, Values]:
        """One layer's tensors by role."""
        start = f"layers.{index}."
        roles = (f"{role}{suffix}" for role in LAYER_ROLES for suffix in ("", "_bias"))
        return {role: self.tensors[start + role] for role in roles if start + role in self.tensors}

    def has(self, role: str) -> bool:
        """Whether any layer has this role."""
        return any(f"layers.{i}.{role}" in self.tensors for i in self.layers)

    def changed(self, tensors: Mapping[str, Values]) -> Decoder:
        """With some tensors replaced or added."""
        return replace(self, tensors={**self.tensors, **tensors})

    def with_each(self, change: Callable[[Values], Values]) -> Decoder:
        """With every tensor changed."""
        return replace(self, tensors={name: change(tensor) for name, tensor in self.tensors.items()})

    def with_tokens(self, renumberable: Array) -> Decoder:
        """Knowing which token ids can be renumbered."""
        return replace(self, renumberable=renumberable)

    def with_layers(self, change: LayerChange) -> Decoder:
        """With every layer changed."""
        new = dict(self.tensors)
        for i in self.layers:
            new.update({f"layers.{i}.{role}": tensor for role, tensor in change(self.layer(i), i).items()})
        return replace(self, tensors=new)


def load_decoder(
    weights: CanonicalWeights, dtype: DTypeLike = np.float64, settings: Settings | None = None
) -> Decoder:
    """Read a whole model into memory.

    Args:
        settings: instead of the configuration's, where somebody else computes.

    Raises:
        ArchitectureError: the configuration asks for what the forward pass does not know.
    """
    given, settings = settings, settings or read_settings(weights)
    if given is None and settings.activation not in ACTIVATIONS:
        raise ArchitectureError(
            "the forward pass does not know this activation",
            where=weights.checkpoint.reference,
            expected=", ".join(ACTIVATIONS),
            got=settings.activation,
        )
    if weights.architecture.position == "learned" and "position" not in weights and given is None:
        raise ArchitectureError(
            "the description says learned positions, and none are stored",
            where=weights.checkpoint.reference,
            expected="a tensor of the role position",
            got=f"the family {weights.architecture.name} without one",
            next_step="correct `position` in the architecture file",
        )
    each = [f"{role}{suffix}" for role in LAYER_ROLES for suffix in ("", "_bias")]
    names = [f"{role}{suffix}" for role in GLOBAL_ROLES for suffix in ("", "_bias")]
    names += [f"layers.{i}.{role}" for i in range(weights.geometry.n_layers) for role in each]
    if weights.architecture.is_tied:
        names.remove("unembedding")
    tensors = {name: _read(weights, name, dtype) for name in names if name in weights}
    return Decoder(
        weights.architecture,
        weights.geometry,
        settings,
        tensors,
        tuple(range(weights.geometry.n_layers)),
        is_wrapped=bool(weights.beside) or any(section in weights.checkpoint.config for section in _WRAPPERS),
        is_entwined=weights.is_entwined,
    )


def _read(weights: CanonicalWeights, name: str, dtype: DTypeLike) -> Array:
    """One canonical tensor; 1 is added to a stored gamma in the wide type, so that taking it off again is exact."""
    role = weights.role(name)
    if role.adds_one:
        return weights.checkpoint.read(role.pieces[0].stored).astype(dtype) + 1
    return weights.read(name).astype(dtype, copy=False)
