"""Two-dimensional convolutions by matrix products, for networks that draw or encode without torch."""

from __future__ import annotations

import numpy as np

from huref.numerics.arrays import Array, Floats

_NUMBERS, _PIXELS = 1 << 18, 256
"""Numbers laid out at once, 1 MiB, so that they stay in the cache; but not of fewer pixels, which multiply slowly."""


def convolved(x: Floats, kernel: Array, padding: int) -> Floats:
    """Convolution of stride 1 with zeros around the input, as networks define it: the kernel is not turned round.

    The neighbours of each pixel in its own row are laid side by side, some rows of pixels at a time, and multiplied
    at once with every row of the kernel; what falls to each row of the output is added up.

    Args:
        x: (n, h, w, i).
        kernel: (a, b, i, o), of any floating type and strides.
        padding: rows and columns of zeros on each side.

    Returns:
        (n, h + 2 padding - a + 1, w + 2 padding - b + 1, o).
    """
    down, across, inputs, outputs = kernel.shape
    edge = (padding, padding)
    padded = np.pad(x, ((0, 0), edge, edge, (0, 0)))
    height, width = padded.shape[1] - down + 1, padded.shape[2] - across + 1
    out = np.zeros((len(x), height, width, outputs), np.float32)
    table = np.array(kernel.transpose(1, 2, 0, 3), np.float32, order="C").reshape(across * inputs, down * outputs)
    n_rows = max(1, _PIXELS // width, _NUMBERS // (width * max(table.shape)))
    for picture, target in zip(padded, out, strict=True):
        for top in range(0, len(picture), n_rows):
            rows = picture[top : top + n_rows]
            shares = (_neighbours(rows, across, width) @ table).reshape(len(rows), width, down, outputs)
            for k in range(down):
                first, last = max(0, k - top), min(len(rows), height + k - top)
                if first < last:
                    target[top + first - k : top + last - k] += shares[first:last, :, k]
    return out


def _neighbours(rows: Floats, across: int, width: int) -> Floats:
    """(r, w, i) -> (r width, across i): each pixel and those on its right."""
    laid = np.empty((len(rows), width, across, rows.shape[-1]), np.float32)
    for k in range(across):
        laid[:, :, k] = rows[:, k : k + width]
    return laid.reshape(len(rows) * width, -1)
