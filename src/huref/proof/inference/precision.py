"""Sizes and scales of the integer model: proof-inference-v1, section 2.

A number of scale `s` stands for the real number `integer / 2^s`. Every constant here is public.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

MATRICES = ("q", "k", "v", "o", "gate", "up", "down")
"""Of a layer, in the order of the commitment; `o` and `down` are stored transposed: every row has d entries."""

_MOST = 1 << 20
_MOST_LAYERS = 1024


@dataclass(frozen=True)
class Precision:
    """How many bits each activation keeps.

    Attributes:
        name: what a statement calls it.
        limb: bits of a limb in range checks; it changes the proof, not the function.
        norm_bits: signed bits of a normed activation.
        root_scale: of `1 / rms`; root_bits: its bits.
        residual_scale: of the residual stream, unless the embedding has a finer one.
        update_bits: signed bits of what a branch adds to the residual stream.
        rope_scale: of the rotary table.
        score_scale: of attention scores; score_bits: of a score's distance to the largest; top_bits: signed, of that.
        exp_scale: of the exponential's table; prob_scale: of attention weights.
        gate_scale, gate_bits: of the input of SiLU, signed; silu_scale: of its value.
        logit_scale: of the answer.
    """

    name: str
    limb: int = 18
    norm_bits: int = 18
    root_scale: int = 20
    root_bits: int = 32
    residual_scale: int = 14
    update_bits: int = 36
    rope_scale: int = 14
    score_scale: int = 9
    score_bits: int = 16
    top_bits: int = 18
    exp_scale: int = 16
    prob_scale: int = 15
    gate_scale: int = 10
    gate_bits: int = 17
    silu_scale: int = 12
    logit_scale: int = 8


PRECISIONS = {
    "standard": Precision("standard"),
    "small": Precision(
        "small",
        limb=9,
        root_scale=16,
        score_scale=4,
        score_bits=10,
        exp_scale=9,
        prob_scale=10,
        gate_scale=5,
        gate_bits=10,
        silu_scale=8,
    ),
}
"""`small` has tables of a thousand entries instead of a hundred thousand: for tests and demonstrations."""


@dataclass(frozen=True)
class Shape:
    """The sizes and constants of a plain Llama, and the exponents of its committed matrices.

    Attributes:
        layers, width, heads, groups, head_dim, hidden, vocabulary: L, d, h, g, e, f, V.
        theta: base of the rotary positions, an exact fraction as text.
        epsilon: of every norm, likewise.
        is_tied: the unembedding is the embedding.
        exponents: by matrix name; real weights are about the integers times `2^-exponent`.

    Raises:
        ValueError: sizes that contradict each other or the caps.
    """

    layers: int
    width: int
    heads: int
    groups: int
    head_dim: int
    hidden: int
    vocabulary: int
    theta: str
    epsilon: str
    is_tied: bool
    exponents: Mapping[str, int]

    def __post_init__(self) -> None:
        sizes = (self.layers, self.width, self.heads, self.groups, self.head_dim, self.hidden, self.vocabulary)
        if not all(isinstance(size, int) and not isinstance(size, bool) and 1 <= size <= _MOST for size in sizes):
            raise ValueError("sizes out of range")
        if self.heads % self.groups or self.head_dim % 2:
            raise ValueError("sizes that contradict each other")
        if self.layers > _MOST_LAYERS or self.head_dim > 1024 or max(sizes[1:6]) > 1 << 16:
            raise ValueError("sizes that are too large")
        if not all(re.fullmatch("[1-9][0-9]{0,39}(/[1-9][0-9]{0,39})?", text) for text in (self.theta, self.epsilon)):
            raise ValueError("theta or epsilon is no fraction")
        theta, epsilon = Fraction(self.theta), Fraction(self.epsilon)
        if not (1 < theta < 1 << 64 and 0 < epsilon < 1) or str(theta) != self.theta or str(epsilon) != self.epsilon:
            raise ValueError("theta or epsilon out of range, or not in lowest terms")
        if list(self.exponents) != list(self.matrices()):
            raise ValueError("exponents of other matrices")
        if not all(
            isinstance(e, int) and not isinstance(e, bool) and -16 <= e <= 40 for e in self.exponents.values()
        ):
            raise ValueError("exponents out of range")

    def matrices(self) -> dict[str, int]:
        """Rows of each committed matrix, by name, in the order of the points; every row has d entries."""
        query, key = self.heads * self.head_dim, self.groups * self.head_dim
        rows = dict(zip(MATRICES, (query, key, key, query, *[self.hidden] * 3), strict=True))
        named = {"embedding": self.vocabulary, "final_norm": 1}
        if not self.is_tied:
            named["unembedding"] = self.vocabulary
        for layer in range(self.layers):
            named |= {f"layers.{layer}.{role}": count for role, count in rows.items()}
        return named

    @property
    def unembedding(self) -> str:
        """The name of the matrix that gives the logits."""
        return "embedding" if self.is_tied else "unembedding"

    @property
    def n_rows(self) -> int:
        """Rows, and so points, of all matrices."""
        return sum(self.matrices().values())

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it; the exponents as a list in the order of the matrices."""
        return {**asdict(self), "exponents": list(self.exponents.values())}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Shape:
        """The inverse of `to_dict`.

        Raises:
            ValueError, KeyError, TypeError: it says something impossible.
        """
        exponents, rest = list(document["exponents"]), {k: v for k, v in document.items() if k != "exponents"}
        layers, is_tied = rest["layers"], rest["is_tied"]
        if not isinstance(is_tied, bool) or not isinstance(layers, int) or not 1 <= layers <= _MOST_LAYERS:
            raise ValueError("is_tied or layers out of range")
        names = ["embedding", "final_norm"] + ["unembedding"] * (not is_tied)
        names += [f"layers.{layer}.{role}" for layer in range(layers) for role in MATRICES]
        if len(names) != len(exponents):
            raise ValueError("another number of exponents")
        return cls(**rest, exponents=dict(zip(names, exponents, strict=True)))


@dataclass(frozen=True)
class Scales:
    """Everything that follows from a precision and a shape: shifts and constants of the integer model.

    A product of scale a becomes a number of scale b by a shift of `a - b` bits, rounded half up.
    """

    precision: Precision
    shape: Shape

    def __post_init__(self) -> None:
        shifts = [self.norm_shift, self.logit_shift]
        for layer in range(self.shape.layers):
            shifts += [self.score_shift(layer), self.gate_shift(layer), self.o_shift(layer), self.down_shift(layer)]
        if not all(1 <= shift <= 128 for shift in shifts):
            raise ValueError("weights so large or so small that the integer model has no digits to round")

    @property
    def norm(self) -> int:
        """Scale of normed activations, so that `sqrt(d)` just fits."""
        root = 0
        while 4**root <= self.shape.width:
            root += 1
        return self.precision.norm_bits - 1 - root

    @property
    def residual(self) -> int:
        """Scale of the residual stream."""
        return max(self.precision.residual_scale, self.shape.exponents["embedding"])

    @property
    def embedding_factor(self) -> int:
        """What turns the embedding's integers into the residual stream's."""
        return 1 << (self.residual - self.shape.exponents["embedding"])

    @property
    def epsilon(self) -> int:
        """What is added to a sum of squares: `d epsilon` at twice the residual scale, rounded half up."""
        exact = Fraction(self.shape.epsilon) * self.shape.width * (1 << 2 * self.residual)
        return int(exact + Fraction(1, 2))

    @property
    def root_target(self) -> int:
        """`root^2 (sum of squares + epsilon)` is at most this, and would be more for the next root."""
        return self.shape.width << (2 * self.residual + 2 * self.precision.root_scale)

    @property
    def slack_bits(self) -> int:
        """Bits of the two slacks of a root."""
        return self.root_target.bit_length() + 2

    @property
    def norm_shift(self) -> int:
        """From residual times root to a normed activation."""
        return self.residual + self.precision.root_scale - self.norm

    @property
    def score_factor(self) -> int:
        """`1 / sqrt(e)` at scale 14, rounded down."""
        root = 0
        while (root + 1) ** 2 * self.shape.head_dim <= 1 << 28:
            root += 1
        return root

    def exponent(self, layer: int, role: str) -> int:
        """Of a layer's matrix."""
        return self.shape.exponents[f"layers.{layer}.{role}"]

    def score_shift(self, layer: int) -> int:
        """From the product of rotated queries and keys, times the score factor, to a score."""
        weights = self.exponent(layer, "q") + self.exponent(layer, "k")
        return 2 * (self.norm + self.precision.rope_scale) + weights + 14 - self.precision.score_scale

    def o_shift(self, layer: int) -> int:
        """From the output projection to the residual stream."""
        weights = self.exponent(layer, "v") + self.exponent(layer, "o")
        return self.precision.prob_scale + self.norm + weights - self.residual

    def gate_shift(self, layer: int) -> int:
        """From the gate's product to the input of SiLU."""
        return self.norm + self.exponent(layer, "gate") - self.precision.gate_scale

    def down_shift(self, layer: int) -> int:
        """From the down projection to the residual stream."""
        weights = self.exponent(layer, "up") + self.exponent(layer, "down")
        return self.precision.silu_scale + self.norm + weights - self.residual

    @property
    def logit_shift(self) -> int:
        """From the unembedding's product to a logit."""
        weights = self.shape.exponents["final_norm"] + self.shape.exponents[self.shape.unembedding]
        return self.norm + weights - self.precision.logit_scale

    def rest_bits(self, n_tokens: int) -> int:
        """Bits of the remainder of an attention weight's division."""
        return self.precision.exp_scale + 1 + n_tokens.bit_length()


def limbs(bits: int, limb: int) -> tuple[int, ...]:
    """Sizes of the limbs of a number of so many bits, lowest first."""
    return (*[limb] * (bits // limb), *([bits % limb] if bits % limb else []))
