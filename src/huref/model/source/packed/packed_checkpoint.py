"""A checkpoint of plain tensors over one whose tensors are packed, unpacked as they are read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from huref.model.source.checkpoint import Checkpoint, Rows
from huref.model.source.packed.packed_tensor import PackedTensor, RowNumbers
from huref.model.source.rows import resolve_rows
from huref.numerics.arrays import Array, Floats, float32
from huref.numerics.rounding import rounding_bound

_AT_ONCE = 1 << 18
"""Values that are unpacked together: few enough for their intermediate results to stay in a cache."""


class PackedCheckpoint(Checkpoint):
    """Plain names over packed tensors; what is not packed is passed through.

    Args:
        inner: the checkpoint as stored.
        packed: what schemes found, by plain name.
        aside: stored tensors that belong to a scheme and are no weights.
    """

    def __init__(self, inner: Checkpoint, packed: Mapping[str, PackedTensor], aside: frozenset[str]) -> None:
        self.inner, self.packed = inner, packed
        self.reference, self.folder, self.format = inner.reference, inner.folder, inner.format
        self.config, self.metadata, self.files = inner.config, inner.metadata, inner.files
        owner = {part: found for found in packed.values() for part in found.parts}
        infos = [owner[name].info if name in owner else info for name, info in inner.tensors.items()]
        self.tensors = {info.name: info for info in infos if info.name in packed or info.name not in aside}

    @property
    def bytes_read(self) -> int:  # type: ignore[override]
        """Bytes of weight files asked for so far, headers included."""
        return self.inner.bytes_read

    def read(self, name: str, rows: Rows = None) -> Array:
        if name not in self.packed:
            return self.inner.read(name, rows)
        return self._read(name, rows, is_bound=False)

    def read_table(self, name: str, rows: Rows = None) -> Array:
        if name not in self.packed:
            return self.inner.read_table(name, rows)
        return self._read_table(name, rows, is_bound=False)

    def bounds(self, names: Iterable[str]) -> Checkpoint | None:
        return None if self.packed.keys().isdisjoint(names) else _Bounds(self)

    def close(self) -> None:
        self.inner.close()

    def _read(self, name: str, rows: Rows, *, is_bound: bool) -> Floats:
        shape = self.packed[name].info.shape
        wanted = resolve_rows(rows, shape[0], name)
        if wanted is not None and len(shape) > 2:
            height = math.prod(shape[1:-1])
            wanted_rows = (wanted[:, None] * height + np.arange(height)).ravel()
            return self._read_table(name, wanted_rows, is_bound=is_bound).reshape(len(wanted), *shape[1:])
        table = self._read_table(name, wanted, is_bound=is_bound)
        return table.reshape(shape) if wanted is None else table

    def _read_table(self, name: str, rows: Rows, *, is_bound: bool) -> Floats:
        found = self.packed[name]
        shape = found.info.shape
        wanted = resolve_rows(rows, math.prod(shape[:-1]), name)
        if found.is_turned:
            return self._turned(found, wanted, is_bound)
        return self._unpack(found, wanted, math.prod(shape[:-1]), shape[-1], is_bound)

    def _unpack(self, found: PackedTensor, rows: RowNumbers, n_rows: int, width: int, is_bound: bool) -> Floats:
        """(n, width) values or bounds, a block of rows at a time."""
        n = n_rows if rows is None else len(rows)
        out = np.empty((n, width), np.float32)
        if not out.size:
            return out
        step = max(1, _AT_ONCE // width)
        with np.errstate(all="ignore"):  # infinite scales are reported by whoever uses the values
            blocks = found.load(self.inner, rows)
            for start in range(0, n, step):
                here = slice(start, min(start + step, n))
                scaled = blocks(here)
                values = scaled.bounds() if is_bound else scaled.values()
                out[here] = values.reshape(-1, width)
        return out

    def _turned(self, found: PackedTensor, rows: RowNumbers, is_bound: bool) -> Floats:
        """Rows of slabs that are stored the other way round: a slab at a time, each slab once."""
        n_slabs, height, width = found.info.shape
        every = np.arange(n_slabs * height) if rows is None else rows
        out = np.empty((len(every), width), np.float32)
        for slab in np.unique(every // max(height, 1)):
            stored = np.arange(slab * width, (slab + 1) * width)
            table = self._unpack(found, stored, n_slabs * width, height, is_bound).T
            places = np.flatnonzero(every // height == slab)
            out[places] = table[every[places] - slab * height]
        return out


class _Bounds(Checkpoint):
    """How far each value may lie from the number it was rounded from, under the names of the values."""

    def __init__(self, values: PackedCheckpoint) -> None:
        self.values = values
        self.reference, self.folder, self.format = values.reference, values.folder, values.format
        self.config, self.metadata, self.files = values.config, values.metadata, values.files
        self.tensors = values.tensors

    @property
    def bytes_read(self) -> int:  # type: ignore[override]
        """As of the values."""
        return self.values.bytes_read

    def read(self, name: str, rows: Rows = None) -> Array:
        if name in self.values.packed:
            return self.values._read(name, rows, is_bound=True)
        return self._plain(name, self.values.inner.read(name, rows))

    def read_table(self, name: str, rows: Rows = None) -> Array:
        if name in self.values.packed:
            return self.values._read_table(name, rows, is_bound=True)
        return self._plain(name, self.values.inner.read_table(name, rows))

    def _plain(self, name: str, values: Array) -> Floats:
        return rounding_bound(float32(values), self.tensors[name].dtype).reshape(values.shape)
