"""Which layer of one model is whose partner in the other."""

from __future__ import annotations

import numpy as np

from huref.numerics.assignment import assign


def match_layers(table: np.ndarray) -> list[tuple[int, int]]:
    """Partners that make the sum of a table of likenesses greatest; every layer has one partner at most.

    Args:
        table: (n, m); NaN where a pair was not tried.

    Returns:
        (row, column) of min(n, m) pairs or fewer, by row; never one that was not tried.
    """
    is_tried = ~np.isnan(table)
    rows, columns = assign(np.where(is_tried, table, -1e3))
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if is_tried[i, j]]
