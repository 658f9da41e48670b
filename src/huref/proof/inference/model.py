"""The integer reference model: a plain Llama whose every step is exact. proof-inference-v1, section 4.

No floating-point rounding anywhere: products of integers run in float64 only where every partial sum is below 2^53.
Shapes: n tokens, and the letters of `huref.model.arch.canonical`; T = n (n + 1) / 2 pairs (t, u) with u <= t, row
by row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isqrt

import numpy as np

from huref.errors import InconclusiveError
from huref.proof.arithmetic.field import matmul
from huref.proof.inference.precision import Precision, Scales, Shape
from huref.proof.inference.tables import exp_table, rope_tables, silu_table

Step = Callable[[int, int], None]
_DIGIT = 24


@dataclass(frozen=True, repr=False)
class IntegerModel:
    """Integer weights in the canonical gauge.

    Attributes:
        shape: sizes, constants, exponents.
        matrices: int16 (rows, d) by name, in the order of `shape.matrices()`.
    """

    shape: Shape
    matrices: Mapping[str, np.ndarray]

    def layer(self, layer: int, role: str) -> np.ndarray:
        """A layer's matrix, (rows, d)."""
        return self.matrices[f"layers.{layer}.{role}"]


@dataclass(frozen=True, repr=False)
class Norm:
    """One norm of a run. `residual` (n, d) objects; `squares`, `root` (n,) objects; `normed`, `rest` (n, d) int64."""

    residual: np.ndarray
    squares: np.ndarray
    root: np.ndarray
    normed: np.ndarray
    rest: np.ndarray


@dataclass(frozen=True, repr=False)
class Attention:
    """One layer's attention.

    Attributes:
        q: (n, h, e) rotated, k: (n, g, e) rotated, v: (n, g, e), mixed: (n, h, e), all unrounded.
        top, distance, score_rest, exp, total, weight, weight_rest: (h, T).
        update, rest: (n, d): what joins the residual stream, and what rounding left.
    """

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    top: np.ndarray
    distance: np.ndarray
    score_rest: np.ndarray
    exp: np.ndarray
    total: np.ndarray
    weight: np.ndarray
    weight_rest: np.ndarray
    mixed: np.ndarray
    update: np.ndarray
    rest: np.ndarray


@dataclass(frozen=True, repr=False)
class FeedForward:
    """One layer's feed-forward block: gate, gate_rest, silu, up, inner (n, f); update, rest (n, d)."""

    gate: np.ndarray
    gate_rest: np.ndarray
    silu: np.ndarray
    up: np.ndarray
    inner: np.ndarray
    update: np.ndarray
    rest: np.ndarray


@dataclass(frozen=True, repr=False)
class Run:
    """Every intermediate integer of one run: what a proof commits to.

    Attributes:
        tokens: the prompt.
        norms: 2 L + 1, in the order of the computation.
        attention, feed_forward: L each.
        hidden: (d,) the last position's normed activation times the final gain.
        logits, logit_rest: (V,) of the last position.
    """

    tokens: tuple[int, ...]
    norms: Sequence[Norm]
    attention: Sequence[Attention]
    feed_forward: Sequence[FeedForward]
    hidden: np.ndarray
    logits: np.ndarray
    logit_rest: np.ndarray


def run_model(model: IntegerModel, tokens: Sequence[int], precision: Precision, step: Step | None = None) -> Run:
    """The answer to a prompt, and everything on the way.

    Args:
        step: called with (layers done, layers).

    Raises:
        InconclusiveError: an activation leaves the range that the precision provides.
    """
    engine = _Engine(model, Scales(precision, model.shape), len(tokens))
    x = model.matrices["embedding"][list(tokens)].astype(object) * engine.scales.embedding_factor
    norms, attention, feed_forward = [], [], []
    for layer in range(model.shape.layers):
        norms.append(engine.norm(x))
        attention.append(engine.attend(layer, norms[-1].normed))
        x = x + attention[-1].update
        norms.append(engine.norm(x))
        feed_forward.append(engine.feed_forward(layer, norms[-1].normed))
        x = x + feed_forward[-1].update
        if step:
            step(layer + 1, model.shape.layers)
    norms.append(engine.norm(x))
    hidden = norms[-1].normed[-1] * model.matrices["final_norm"][0].astype(np.int64)
    product = exact_product(hidden[None], model.matrices[model.shape.unembedding])[0]
    logits, rest = divided(product, engine.scales.logit_shift)
    return Run(tuple(tokens), norms, attention, feed_forward, hidden, logits.astype(np.int64), rest)


def exact_product(x: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """`x matrix^T` for (n, k) int64 and (m, k) int16, k at most 2^14: (n, m) int64 where it fits, else objects."""
    weights = matrix.T.astype(np.float64)
    largest = int(np.abs(x).max(initial=0))
    if largest < 1 << _DIGIT:
        return (x.astype(np.float64) @ weights).astype(np.int64)
    total: np.ndarray = np.zeros((x.shape[0], matrix.shape[0]), dtype=object)
    for place in range(0, largest.bit_length() + 1, _DIGIT):
        is_last = place + _DIGIT > largest.bit_length()
        digit = x >> place if is_last else (x >> place) & ((1 << _DIGIT) - 1)
        total = total + ((digit.astype(np.float64) @ weights).astype(np.int64).astype(object) << place)
    return total


def divided(values: np.ndarray, shift: int) -> tuple[np.ndarray, np.ndarray]:
    """Rounded half up: `values + 2^(shift - 1) = quotient 2^shift + rest`, 0 <= rest < 2^shift."""
    moved = values + (1 << (shift - 1))
    quotient = moved >> shift
    return quotient, moved - (quotient << shift)


def causal_pairs(n_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """t and u of the T pairs with u <= t."""
    return np.tril_indices(n_tokens)


class _Engine:
    """The steps of a run."""

    def __init__(self, model: IntegerModel, scales: Scales, n_tokens: int) -> None:
        self.model = model
        self.scales = scales
        self.precision = scales.precision
        self.shape = model.shape
        self.turns = rope_tables(self.precision, self.shape, n_tokens)
        self.t, self.u = causal_pairs(n_tokens)

    def norm(self, x: np.ndarray) -> Norm:
        """(n, d) objects -> root mean square norm without gain."""
        scales = self.scales
        squares = (x * x).sum(axis=1)
        roots = [isqrt(scales.root_target // (int(s) + scales.epsilon)) for s in squares]
        root = np.array(roots, dtype=object)
        self.require((root > 0) & (root >> self.precision.root_bits == 0), "1 / rms")
        normed, rest = divided(x * root[:, None], scales.norm_shift)
        self.require(_is_signed(normed, self.precision.norm_bits), "a normed activation")
        return Norm(x, squares, root, normed.astype(np.int64), rest.astype(object))

    def attend(self, layer: int, x: np.ndarray) -> Attention:
        """Normed (n, d) int64 -> attention."""
        model, e = self.model, self.shape.head_dim
        q, k, v = (exact_product(x, model.layer(layer, role)).reshape(len(x), -1, e) for role in "qkv")
        q, k = self.rotated(q), self.rotated(k)
        score, score_rest = divided(self.scores(q, k), self.scales.score_shift(layer))
        top = self.row_wise(score, np.max)
        distance = top - score
        self.require(_is_signed(top, self.precision.top_bits), "an attention score")
        self.require(distance >> self.precision.score_bits == 0, "a difference of attention scores")
        exp = exp_table(self.precision)[distance.astype(np.int64)]
        total = self.row_wise(exp, np.sum)
        weight, weight_rest = np.divmod((exp << (self.precision.prob_scale + 1)) + total, 2 * total)
        mixed = self.mixed(weight, v)
        product = exact_product(mixed.reshape(len(x), -1), np.ascontiguousarray(model.layer(layer, "o").T))
        update, rest = self.update(product, self.scales.o_shift(layer))
        return Attention(q, k, v, top, distance, score_rest, exp, total, weight, weight_rest, mixed, update, rest)

    def feed_forward(self, layer: int, x: np.ndarray) -> FeedForward:
        """Normed (n, d) int64 -> feed-forward block."""
        model = self.model
        gate, gate_rest = divided(exact_product(x, model.layer(layer, "gate")), self.scales.gate_shift(layer))
        self.require(_is_signed(gate, self.precision.gate_bits), "an input of SiLU")
        silu = silu_table(self.precision)[gate + (1 << (self.precision.gate_bits - 1))]
        up = exact_product(x, model.layer(layer, "up"))
        inner = silu * up
        product = exact_product(inner, np.ascontiguousarray(model.layer(layer, "down").T))
        update, rest = self.update(product, self.scales.down_shift(layer))
        return FeedForward(gate, gate_rest, silu, up, inner, update, rest)

    def rotated(self, heads: np.ndarray) -> np.ndarray:
        """(n, heads, e): each pair (j, j + e / 2) turned by its position's angle, at the table's scale more."""
        cos, sin = (table[:, None, :] for table in self.turns)
        first, second = np.split(heads, 2, axis=2)
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=2)

    def scores(self, q: np.ndarray, k: np.ndarray) -> np.ndarray:
        """(h, T) objects: products of rotated queries and keys times the score factor."""
        per_group = self.shape.heads // self.shape.groups
        rows = []
        for head in range(self.shape.heads):
            table = matmul(q[:, head], np.ascontiguousarray(k[:, head // per_group].T))
            rows.append(table[self.t, self.u] * self.scales.score_factor)
        return np.stack(rows)

    def row_wise(self, values: np.ndarray, reduce: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """(h, T): for each pair (t, u) the maximum or sum over all u of that t."""
        out = np.empty_like(values)
        for head in range(values.shape[0]):
            for t in range(int(self.t[-1]) + 1):
                row = self.t == t
                out[head, row] = reduce(values[head, row])
        return out

    def mixed(self, weight: np.ndarray, v: np.ndarray) -> np.ndarray:
        """(n, h, e) int64: values in the attention's proportions."""
        n, per_group = v.shape[0], self.shape.heads // self.shape.groups
        square = np.zeros((weight.shape[0], n, n), dtype=np.int64)
        square[:, self.t, self.u] = weight
        return np.stack([square[h] @ v[:, h // per_group] for h in range(self.shape.heads)], axis=1)

    def update(self, product: np.ndarray, shift: int) -> tuple[np.ndarray, np.ndarray]:
        """What a branch adds to the residual stream: (n, d) objects each."""
        update, rest = divided(product.astype(object), shift)
        self.require(_is_signed(update, self.precision.update_bits), "an update of the residual stream")
        return update, rest

    def require(self, holds: np.ndarray | bool, what: str) -> None:
        """Refuse a run that leaves the provided range."""
        if not np.all(holds):
            raise InconclusiveError(
                f"{what} leaves the range of the integer model",
                where=f"precision {self.precision.name}",
                expected="activations of the size that language models have",
                next_step="another prompt, or the other precision",
            )


def _is_signed(values: np.ndarray, bits: int) -> np.ndarray:
    fits: np.ndarray = (values + (1 << (bits - 1))) >> bits == 0
    return fits
