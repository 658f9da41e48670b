"""The forward pass by torch: differentiable in the weights, in any type that torch computes in.

The pass itself is `huref.forward.passes`; these are its operations on tensors, which know their gradients.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from huref.demo.tensors import as_array, as_tensor
from huref.forward import passes
from huref.forward.decoder import Decoder


class TensorOperations:
    """`huref.forward.operations.Operations` by torch."""

    def constant(self, numbers: NDArray[np.float64], dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(numbers).to(dtype)

    def cast(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return x.to(dtype)

    def widened(self, x: Tensor) -> Tensor:
        return x.float() if x.dtype == torch.bfloat16 else x

    def embedding(self, table: Tensor, ids: Tensor) -> Tensor:
        return functional.embedding(ids, table)

    def linear(self, x: Tensor, weight: Tensor) -> Tensor:
        return functional.linear(x, weight)

    def sigmoid(self, x: Tensor) -> Tensor:
        return x.sigmoid()

    def tanh(self, x: Tensor) -> Tensor:
        return x.tanh()

    def silu(self, x: Tensor) -> Tensor:
        return functional.silu(x)

    def relu(self, x: Tensor) -> Tensor:
        return functional.relu(x)

    def relu2(self, x: Tensor) -> Tensor:
        return functional.relu(x) ** 2

    def gelu(self, x: Tensor) -> Tensor:
        return functional.gelu(x)

    def gelu_tanh(self, x: Tensor) -> Tensor:
        return functional.gelu(x, approximate="tanh")

    def softmax(self, x: Tensor) -> Tensor:
        return x.softmax(-1)

    def causal_softmax(self, scores: Tensor) -> Tensor:
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        return scores.masked_fill(~allowed, -torch.inf).softmax(-1)

    def largest(self, x: Tensor, count: int) -> Tensor:
        kept = x.topk(count, dim=-1)
        return torch.zeros_like(x).scatter(-1, kept.indices, kept.values)

    def repeat(self, x: Tensor, count: int, axis: int) -> Tensor:
        return x.repeat_interleave(count, dim=axis)

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(tuple(parts), dim=-1)

    def interleave(self, first: Tensor, second: Tensor) -> Tensor:
        return torch.stack((first, second), dim=-1).flatten(-2)


TENSORS = TensorOperations()


def learning(decoder: Decoder) -> Decoder:
    """A copy that holds tensors: float32, leaves of the graph of gradients."""
    return decoder.with_each(lambda array: as_tensor(array).float().clone().requires_grad_())


def trained(decoder: Decoder) -> Decoder:
    """Back to arrays, of the same memory."""
    return decoder.with_each(lambda tensor: as_array(tensor.detach()))


def logits(decoder: Decoder, ids: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """`huref.forward.passes.logits` of a decoder that holds tensors.

    Args:
        ids: (b, n) int64.
        dtype: type to compute in, weights converted as they are used; None computes in their own.

    Returns:
        (b, n, v).
    """
    scores: Tensor = passes.logits(decoder, ids, dtype, TENSORS)
    return scores


def next_token_loss(decoder: Decoder, ids: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Mean cross-entropy in nats of each token given those before it, a scalar in float32 or wider."""
    scores = TENSORS.widened(logits(decoder, ids[:, :-1], dtype))
    return functional.cross_entropy(scores.flatten(0, 1), ids[:, 1:].flatten())
