"""A hash-based commitment to integer matrices, in numpy and hashlib: Reed-Solomon rows, salted hashes of columns.

The prototype that `hash_commitment.py` measures; no part of huref. A matrix of int16, R rows of `data` entries,
gets `pads` random field elements on each row. A row is a polynomial of degree < k = data + pads, its codeword the
values at the n-th roots of unity; a leaf is a salted hash of one column of codewords. Layout and test as in Ligero
(Ames, Hazay, Ishai, Venkitasubramaniam, eprint 2022/1608), evaluation as in Brakedown (eprint 2021/1043). Any `pads`
columns are jointly uniform: at that many nonzero points, the top `pads` coefficients act as a Vandermonde matrix.

The Fourier transform is a few dense ones by BLAS in float64: elements are limbs so short that no sum reaches 2^53,
hence exact in any order of summation. Twiddle factors are absorbed into the dense matrices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hash_fields import Array, Field, multiply, product, spread_limbs

CHUNK = 1 << 16  # float64 numbers in flight, so that passes over them stay in the cache


@dataclass(frozen=True)
class Code:
    """Reed-Solomon code of length n = product of `factors`; a row holds `data` integers, then `pads` elements."""

    field: Field
    factors: tuple[int, ...]
    data: int
    pads: int

    @property
    def n(self) -> int:
        """Length of a codeword."""
        return math.prod(self.factors)

    @property
    def k(self) -> int:
        """Length of a message, padding included."""
        return self.data + self.pads

    @cached_property
    def root(self) -> int:
        """A primitive n-th root of unity."""
        return pow(self.field.generator, (self.field.prime - 1) // self.n, self.field.prime)

    @cached_property
    def powers(self) -> Array:
        """root^i, uint64 (n,)."""
        found, value = [], 1
        for _ in range(self.n):
            found.append(value)
            value = value * self.root % self.field.prime
        return np.array(found, np.uint64)

    @cached_property
    def slices(self) -> tuple[int, int, int]:
        """Stride m between the inputs of one first transform; how many inputs hold data; the first with padding."""
        m = self.n // self.factors[0]
        return m, -(-self.data // m), self.data // m

    @cached_property
    def _kept(self) -> dict[str, Array]:
        return {}

    def _buffer(self, name: str, shape: tuple[int, ...]) -> Array:
        """Large memory kept between calls: fresh pages from the system cost as much as the arithmetic."""
        size = math.prod(shape)
        if name not in self._kept or self._kept[name].size < size:
            self._kept[name] = np.empty(size)
        return self._kept[name][:size].reshape(shape)

    @cached_property
    def first(self) -> Array:
        """First transforms with their twiddles: (m, limbs n1, inputs); padding brings all its limbs."""
        limbs = spread_limbs(self.field, self.powers)
        m, filled, padded = self.slices
        k1, rest = np.arange(self.factors[0])[:, None], np.arange(m)[:, None, None]
        j = rest + m * np.arange(-(-self.k // m))
        index = (j * k1) % self.n  # (m, n1, inputs)
        blocks = [limbs[:, 0][:, index[:, :, :filled]]]
        blocks += [limbs[:, b][:, index[:, :, padded:]] for b in range(self.field.limbs) if self.pads]
        matrix = np.concatenate(blocks, axis=-1)  # (limb, m, n1, inputs)
        return np.ascontiguousarray(matrix.transpose(1, 0, 2, 3)).reshape(m, -1, matrix.shape[-1])

    @cached_property
    def later(self) -> list[Array]:
        """Of every further factor: its transforms with twiddles, (m', limbs n_i, limbs n_i)."""
        limbs, found, length = spread_limbs(self.field, self.powers), [], self.n // self.factors[0]
        for factor in self.factors[1:]:
            m = length // factor
            j = np.arange(m)[:, None, None] + m * np.arange(factor)
            index = (j * np.arange(factor)[:, None] * (self.n // length)) % self.n
            matrix = limbs[:, :, index].transpose(2, 0, 3, 1, 4)  # (m', out, k, in, j)
            found.append(np.ascontiguousarray(matrix).reshape(m, self.field.limbs * factor, -1))
            length = m
        return found

    def prepare(self) -> None:
        """Make the public tables, which depend on nothing secret."""
        _ = self.first, self.later

    def encode(self, entries: Array, padding: Array) -> Array:
        """int16 (R, data) and elements (R, pads) -> codewords side by side, (n, R)."""
        rows, L, n1 = len(entries), self.field.limbs, self.factors[0]
        inputs = self._inputs(entries, padding)
        m = inputs.shape[0]
        state = self._buffer("state", (L, m, n1 * rows))
        step = max(1, CHUNK // (L * n1 * rows))
        spare = np.empty((step, n1 * rows))
        for j in range(0, m, step):
            sums = np.matmul(self.first[j : j + step], inputs[j : j + step])
            view = sums.reshape(len(sums), L, n1 * rows).transpose(1, 0, 2)
            self.field.normalise(view, spare[: len(sums)])
            state[:, j : j + step] = view
        for i, factor in enumerate(self.factors[1:]):
            state = self._transform(i, factor, state)
        return state.reshape(self.n, rows)

    def evaluate(self, messages: Array, positions: Array) -> Array:
        """Codewords of whole messages (a, k), elements, at some positions (t,) only: (a, t). Goldilocks only."""
        m, n1, a = self.slices[0], self.factors[0], len(messages)
        ends = -(-self.k // m)
        padded = np.zeros((a, ends * m), np.uint64)
        padded[:, : self.k] = messages
        matrix = self.powers[(m * np.arange(ends)[:, None] * np.arange(n1)) % self.n]
        short = product(self.field, padded.reshape(a, ends, m).transpose(0, 2, 1).reshape(a * m, ends), matrix)
        twiddles = self.powers[(positions[:, None] * np.arange(m)) % self.n]
        terms = multiply(short.reshape(a, m, n1)[:, :, positions % n1].transpose(0, 2, 1), twiddles[None])
        found: Array = (terms.astype(object).sum(axis=-1) % self.field.prime).astype(np.uint64)
        return found

    def _inputs(self, entries: Array, padding: Array) -> Array:
        """Entries and limbs of padding as the first transforms read them: (m, inputs, R)."""
        m, filled, padded = self.slices
        rows, L, ends = len(entries), self.field.limbs, -(-self.k // m)
        inputs = self._buffer("inputs", (m, filled + (ends - padded) * L * bool(self.pads), rows))
        whole = self.data // m
        body = entries[:, : whole * m].reshape(rows, whole, m)
        inputs[:, :whole] = body.transpose(2, 1, 0)
        if whole < filled:
            inputs[: self.data - whole * m, whole] = entries[:, whole * m :].T
            inputs[self.data - whole * m :, whole] = 0
        if self.pads:
            tail = np.zeros((L, rows, (ends - padded) * m))
            offset = self.data - padded * m
            tail[:, :, offset : offset + self.pads] = self.field.split(padding)
            inputs[:, filled:] = tail.reshape(L, rows, ends - padded, m).transpose(3, 0, 2, 1).reshape(m, -1, rows)
        return inputs

    def _transform(self, i: int, factor: int, state: Array) -> Array:
        """One further factor: limbs (L, m, K) -> limbs (L, m / factor, factor K), or elements after the last."""
        L, matrices = self.field.limbs, self.later[i]
        m, K = len(matrices), state.shape[-1]
        inputs, is_last = state.reshape(L * factor, m, K), m == 1
        shape = (factor, K) if is_last else (L, m, factor, K)
        found = np.empty(shape, self.field.dtype) if is_last else self._buffer(f"state {i}", shape)
        width = max(8, CHUNK // (L * factor))
        spare = np.empty((factor, min(width, K)))
        for j in range(m):
            for start in range(0, K, width):
                part = inputs[:, j, start : start + width]
                sums = np.matmul(matrices[j], part).reshape(L, factor, -1)
                if is_last:
                    found[:, start : start + width] = self.field.canonical(sums, spare[:, : part.shape[1]])
                else:
                    self.field.normalise(sums, spare[:, : part.shape[1]])
                    found[:, j, :, start : start + width] = sums
        return found if is_last else found.reshape(L, m, factor * K)
