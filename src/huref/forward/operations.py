"""What a forward pass does to numbers beyond arithmetic: a protocol, and numpy's way.

The pass is written once, against `Operations`. Here numpy computes; whoever trains brings operations on tensors that
know their gradients. Arithmetic, indexing, `swapaxes`, `reshape` and `mean` are spelt alike by both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Values = Any
"""An array; a tensor where there is training."""

ACTIVATIONS = {
    "silu": "silu",
    "relu": "relu",
    "relu2": "relu2",
    "gelu": "gelu",
    **dict.fromkeys(("gelu_new", "gelu_fast", "gelu_tanh", "gelu_pytorch_tanh"), "gelu_tanh"),
}
"""An activation in transformers' spelling -> the operation."""


class Operations(Protocol):
    """What arrays and tensors do in ways of their own. Where no axis is named, it is the last."""

    def constant(self, numbers: NDArray[np.float64], dtype: Any) -> Values:
        """Numbers that are no weights."""

    def cast(self, x: Values, dtype: Any) -> Values:
        """In another type; `x` itself where it has it already."""

    def widened(self, x: Values) -> Values:
        """In a type in which means are taken: float32 or wider."""

    def embedding(self, table: Values, ids: Values) -> Values:
        """Rows of a table (v, d), for ids of any shape."""

    def linear(self, x: Values, weight: Values) -> Values:
        """`x @ weight.T`, for a weight (out, in)."""

    def sigmoid(self, x: Values) -> Values:
        """1 / (1 + e^-x)."""

    def tanh(self, x: Values) -> Values:
        """The hyperbolic tangent."""

    def silu(self, x: Values) -> Values:
        """x sigmoid(x)."""

    def relu(self, x: Values) -> Values:
        """max(x, 0)."""

    def relu2(self, x: Values) -> Values:
        """max(x, 0) squared (So et al. 2021, arXiv 2109.08668)."""

    def gelu(self, x: Values) -> Values:
        """x times the normal distribution function (Hendrycks and Gimpel 2016, arXiv 1606.08415)."""

    def gelu_tanh(self, x: Values) -> Values:
        """The same approximated by a tanh."""

    def softmax(self, x: Values) -> Values:
        """Shares that sum to 1."""

    def causal_softmax(self, scores: Values) -> Values:
        """The same of (..., n, n), each row up to its own place; 0 behind it."""

    def largest(self, x: Values, count: int) -> Values:
        """The largest entries; 0 in place of the others."""

    def repeat(self, x: Values, count: int, axis: int) -> Values:
        """Each entry as often, in a row."""

    def join(self, parts: Sequence[Values]) -> Values:
        """One behind the other."""

    def interleave(self, first: Values, second: Values) -> Values:
        """In turns."""


class ArrayOperations:
    """By numpy, in float32 or float64."""

    def constant(self, numbers: NDArray[np.float64], dtype: Any) -> Values:
        return numbers.astype(dtype)

    def cast(self, x: Values, dtype: Any) -> Values:
        return x.astype(dtype, copy=False)

    def widened(self, x: Values) -> Values:
        return x

    def embedding(self, table: Values, ids: Values) -> Values:
        return table[ids]

    def linear(self, x: Values, weight: Values) -> Values:
        rows = x.reshape(-1, x.shape[-1])  # in one product, so that the weight is read once
        return (rows @ weight.T).reshape(*x.shape[:-1], len(weight))

    def sigmoid(self, x: Values) -> Values:
        small = np.exp(-np.abs(x))  # never overflows
        return np.where(x < 0, small, 1) / (1 + small)

    def tanh(self, x: Values) -> Values:
        return np.tanh(x)

    def silu(self, x: Values) -> Values:
        return x * self.sigmoid(x)

    def relu(self, x: Values) -> Values:
        return np.maximum(x, 0)

    def relu2(self, x: Values) -> Values:
        return np.maximum(x, 0) ** 2

    def gelu(self, x: Values) -> Values:
        from scipy.special import ndtr

        return x * ndtr(x)

    def gelu_tanh(self, x: Values) -> Values:
        return 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))

    def softmax(self, x: Values) -> Values:
        powers = np.exp(x - x.max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)

    def causal_softmax(self, scores: Values) -> Values:
        allowed = np.tri(scores.shape[-1], dtype=np.bool_)
        return self.softmax(np.where(allowed, scores, -np.inf))

    def largest(self, x: Values, count: int) -> Values:
        chosen = np.argsort(-x, axis=-1, kind="stable")[..., :count]
        kept = np.zeros_like(x)
        np.put_along_axis(kept, chosen, np.take_along_axis(x, chosen, -1), -1)
        return kept

    def repeat(self, x: Values, count: int, axis: int) -> Values:
        return np.repeat(x, count, axis)

    def join(self, parts: Sequence[Values]) -> Values:
        return np.concatenate(parts, axis=-1)

    def interleave(self, first: Values, second: Values) -> Values:
        return np.stack((first, second), axis=-1).reshape(*first.shape[:-1], -1)


ARRAYS = ArrayOperations()
