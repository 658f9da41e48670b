"""Neuron codes: what a file keeps of a model's neurons, and how codes are taken apart. Numpy alone.

`docs/formats/codes-v1.md`; `huref.fingerprints.coding` makes codes of a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from huref.numerics.arrays import Floats

Packed = NDArray[np.uint8]
"""(n, bits / 8): bit i of a code is the bit of value `1 << i % 8` of byte `i // 8`; 1 where the sign is minus."""

OPERATORS = ("qk", "vo", "up_down")
"""A layer's operators on the residual stream, each a sum over heads or neurons and so free of their order."""

_ROLES = (("gate", "up"), ("gate", "down"), ("up", "down"))

_SIGNS_OF_BYTE = np.float32(1) - np.float32(2) * np.unpackbits(
    np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little"
).astype(np.float32)


@dataclass(frozen=True)
class CodeRecipe:
    """What decides codes, besides the model; only codes of one recipe compare.

    Attributes:
        bits: of a code, a multiple of 16.
        n_tokens: embedding rows that make the frame, as far as the vocabulary has so many; twice the width of a
            wider stream.
        ridge: lambda in units of the mean squared singular value of X.
        side: rows and columns of an operator's sketch.
        seed: of the signs.
    """

    bits: int = 256
    n_tokens: int = 4096
    ridge: float = 0.03
    side: int = 64
    seed: str = "huref/codes/1"

    def to_dict(self) -> dict[str, Any]:
        """A plain dictionary, for JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class LayerCodes:
    """What codes keep of one layer, or whole rows (n, d) float32 in place of their signs.

    A neuron or head whose code is all zero bits is silent: it has no direction.

    Attributes:
        gate: of each feed-forward neuron's gate row; of its up row where the block has no gate.
        up: of its up row, or None where there is no gate.
        down: of its down row.
        qk, vo: of each query head's operators, `q^T k` and `v^T o`.
        operators: kind -> (side, side) float32, two-sided sketch of a sum of outer products.
        n_copies: how many experts the neurons are spread over; 1 in a dense block.
    """

    gate: Packed | Floats
    up: Packed | Floats | None
    down: Packed | Floats
    qk: Packed
    vo: Packed
    operators: Mapping[str, Floats] = field(default_factory=dict)
    n_copies: int = 1

    def __len__(self) -> int:
        return len(self.gate)

    @cached_property
    def dependences(self) -> dict[str, float]:
        """By two roles, how alike a neuron's own two rows are, in the mean over neurons: about 0.05 where they have
        nothing to do with each other, up to 0.35 in trained models, 1 where one row is the other.

        As share of equal signs less share of unequal ones, without the sign.
        """
        roles = {"gate": self.gate, "down": self.down} | ({} if self.up is None else {"up": self.up})
        return {f"{x}|{y}": _likeness(roles[x], roles[y]) for x, y in _ROLES if x in roles and y in roles}

    @property
    def is_live(self) -> NDArray[np.bool_]:
        """(n,) bool: no row of the neuron is zero (a pruned or masked neuron has no direction)."""
        parts = (self.gate, self.down) if self.up is None else (self.gate, self.up, self.down)
        live: NDArray[np.bool_] = np.logical_and.reduce([part.any(axis=1) for part in parts])
        return live


@dataclass(frozen=True, eq=False)
class Codes:
    """What a file keeps of one model's neurons.

    Attributes:
        recipe: how they were made.
        tokens: digest of the strings that the frame rests on.
        n_tokens: how many those are.
        listed: (2048,) which strings of the public list are among them, bit by bit as in a code.
        layers: by index, codes in the tokens' frame.
        plain: by index, codes in the frame of the stream's own dimensions, of few layers; no heads, no operators.
        n_experts: of a mixture; 0 of a dense model.
    """

    recipe: CodeRecipe
    tokens: str
    n_tokens: int
    listed: Packed
    layers: Mapping[int, LayerCodes]
    plain: Mapping[int, LayerCodes]
    n_experts: int = 0

    def header(self) -> dict[str, Any]:
        """Everything but the arrays."""
        return {
            "recipe": self.recipe.to_dict(),
            "tokens": {"digest": self.tokens, "used": self.n_tokens},
            "layers": sorted(self.layers),
            "plain_layers": sorted(self.plain),
            "n_experts": self.n_experts,
        }

    def shared_tokens(self, other: Codes) -> int:
        """Strings that both frames rest on, as far as the public list tells."""
        if self.tokens == other.tokens:
            return self.n_tokens
        return int(np.bitwise_count(self.listed & other.listed).sum())


def _likeness(x: Packed | Floats, y: Packed | Floats) -> float:
    if x.dtype == np.uint8:
        differing = np.bitwise_count(np.bitwise_xor(x, y)).sum(axis=1, dtype=np.int64)
        return float(np.abs(1 - 2 * differing / (8 * x.shape[1])).mean()) if len(x) else 0.0
    scale = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    cosines = np.einsum("nd,nd->n", x, y) / np.maximum(scale, np.float32(1e-30))
    return float(np.arcsin(np.clip(np.abs(cosines), 0, 1)).mean() * 2 / np.pi)


def kept_layers(n_layers: int, most: int) -> tuple[int, ...]:
    """At most so many layers, at the same places from either end in models of any depth: where layers were dropped or
    doubled in the middle, those near the ends still stand there.
    """
    if n_layers <= most:
        return tuple(range(n_layers))
    places = [place for step in (4, 2, 1) for place in range(1, n_layers // 2, step)]
    ordered = dict.fromkeys(i for place in (*places, 0) for i in (place, n_layers - 1 - place))
    return tuple(sorted(list(ordered)[:most]))


def packed(seen: Floats) -> Packed:
    """Signs of projections (bits, ...), the codes of the rows after the first axis as rows."""
    bits = np.ascontiguousarray((seen < 0).reshape(len(seen), -1).T)
    return np.packbits(bits, axis=1, bitorder="little")


def unpacked(codes: Packed) -> Floats:
    """(n, bits) of +1 and -1."""
    signs: Floats = _SIGNS_OF_BYTE.take(codes, axis=0).reshape(len(codes), 8 * codes.shape[1])
    return signs
