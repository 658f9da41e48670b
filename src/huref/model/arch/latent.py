"""Latent attention (DeepSeek-V2, arXiv 2405.04434) as heads: its factors multiplied, so that they do not matter.

Queries and keys are made of a few latent numbers, which a root-mean-square norm brings to size 1. The norm undoes the
scale of the matrix in front of it, and any map between that matrix and the next cancels in their product:

    q    q_b diag(g) q_a / |q_a|           without latent queries: q
    k    [ kv_b's keys diag(g) c / |c| ; the dimensions that rotate, one for all heads ]      c, the latents of kv_a
    v    kv_b's values diag(g) c / |c|

with `|.|` the length of a latent's row, root mean square over its rows, norm gains folded.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from huref.model.arch.canonical import Geometry
from huref.numerics.arrays import Array, Floats, float32


class Roles(Protocol):
    """Reads a layer's tensors by role."""

    def __call__(self, role: str) -> Array:
        """One that is there."""

    def maybe(self, role: str) -> Array | None:
        """One that need not be."""


def latent_heads(read: Roles, gain: Array | None, sizes: Geometry, nope: int) -> tuple[Array, Array, Array]:
    """Queries (h, e, d), keys (h, e, d) and values (h, u, d) of one layer, float32.

    Args:
        gain: (d,) of the norm in front of the layer, or None.
        nope: dimensions of a key that do not rotate; they come first.
    """
    h, d = sizes.n_heads, sizes.d_model
    latents, turning = np.split(float32(read("kv_a")), [-(sizes.head_dim - nope)])
    latents = _normed(latents, gain, read.maybe("kv_a_norm"))
    both = float32(read("kv_b")).reshape(h, -1, len(latents))
    keys, values = (part.reshape(-1, len(latents)) @ latents for part in np.split(both, [nope], axis=1))
    turning = np.broadcast_to(turning, (h, *turning.shape))
    k = np.concatenate([keys.reshape(h, nope, d), turning], axis=1)
    q = read.maybe("q")
    if q is None:
        q = float32(read("q_b")) @ _normed(float32(read("q_a")), gain, read.maybe("q_a_norm"))
    return q.reshape(h, sizes.head_dim, d), k, values.reshape(h, -1, d)


def _normed(latents: Floats, gain: Array | None, own: Array | None) -> Floats:
    """Rows (r, d) of latents as their norm leaves them; unchanged where there is no norm."""
    if own is None:
        return latents
    seen = latents if gain is None else latents * float32(gain)
    length = np.sqrt(np.square(seen, dtype=np.float64).sum() / len(seen))
    normed: Floats = latents * (float32(own) / np.float32(max(float(length), 1e-30)))[:, None]
    return normed
