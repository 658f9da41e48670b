"""Scales of groups of columns, as most schemes have them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from huref.model.source.checkpoint import TensorInfo
from huref.model.source.packed.packed_tensor import require
from huref.numerics.arrays import Array, Floats, float32


@dataclass(frozen=True)
class Groups:
    """Which group each column belongs to.

    Attributes:
        of_column: (in,) int64 where columns are in no order; None where groups follow one another.
        count: how many.
        size: columns of a group; the last may have fewer.
        width: columns.
    """

    count: int
    size: int
    width: int
    of_column: Array | None = None

    def spread(self, table: Floats) -> Floats:
        """(n, count) numbers of groups to what broadcasts against `shaped` codes."""
        if self.of_column is not None:
            return table[:, self.of_column]
        if self.count * self.size != self.width:
            return np.repeat(table, self.size, axis=1)[:, : self.width]
        return table[:, :, None]

    def shaped(self, codes: Array) -> Floats:
        """(n, in) codes as float32 of a shape that `spread` broadcasts against, in memory of their own."""
        levels = codes.astype(np.float32, order="C")
        if self.of_column is None and self.count * self.size == self.width:
            return levels.reshape(len(levels), self.count, self.size)
        return levels


def groups_of(index: Array | None, count: int, size: int, width: int, part: TensorInfo) -> Groups:
    """Groups by an index of columns where there is one, else one after another.

    Raises:
        CorruptFileError: a column of no group, or fewer groups than the columns need.
    """
    if index is None:
        require(count > 0 and size > 0, part, "groups of at least one column", f"{count} groups of {size}")
        require(count == -(-width // size), part, f"groups of {size} of {width} columns", f"{count} groups")
        return Groups(count, size, width)
    found = index.astype(np.int64)
    lowest, highest = (int(found.min()), int(found.max())) if len(found) else (0, 0)
    require(lowest >= 0 and highest < count, part, f"groups from 0 to {count - 1}", f"from {lowest} to {highest}")
    if size > 0 and count == -(-width // size) and np.array_equal(found, np.arange(width) // size):
        return Groups(count, size, width)
    return Groups(count, size, width, found)


def group_size(declared: int | None, count: int, width: int, part: TensorInfo) -> int:
    """Columns of a group: as declared (-1 and 0 for all of a row), else what the number of groups says.

    Raises:
        CorruptFileError: a number of groups that no size gives.
    """
    require(count > 0 and width > 0, part, "at least one group", f"{count} groups of {width} columns")
    if declared is not None and count == (-(-width // declared) if declared > 0 else 1):
        return declared if declared > 0 else width
    require(width % count == 0, part, f"groups of equal size in {width} columns", f"{count} groups")
    require(declared is None, part, f"groups of {declared} of {width} columns, as declared", f"{count} groups")
    return width // count


def floats(values: Array) -> Floats:
    """Scales as float32, contiguous."""
    return np.ascontiguousarray(float32(values))
