"""From fingerprint vector to picture.

The vector is the generator's z (docs/explanation/method.md): similar vectors give similar dogs. Rendering is in fp32
with fixed noise, so that a vector has one picture on every machine, within one level of 255.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from huref.choices import option
from huref.errors import NotFiniteError, UsageError
from huref.numerics.arrays import Floats
from huref.portraits.image.pixels import Pixels

if TYPE_CHECKING:
    from huref.portraits.generator.stylegan2 import Generator

CUTOFF = 8
"""How many style layers a truncation reaches, as in the paper."""

_BATCH_PIXELS = 1 << 18
"""Pixels drawn at once: sixteen pictures of 128 x 128."""


def to_pixels(pictures: Floats) -> Pixels:
    """fp32 (n, h, w, 3) in about [-1, 1] -> uint8."""
    levels: Pixels = np.clip(pictures * 127.5 + 128.0, 0, 255).astype(np.uint8)
    return levels


def render(
    vectors: NDArray[np.floating],
    generator: Generator | None = None,
    *,
    psi: float | None = None,
    cutoff: int = CUTOFF,
    label: int | None = None,
) -> Pixels:
    """Pictures of fingerprint vectors.

    Args:
        vectors: (n, 512), or (512,) for one; their length does not matter, only their direction.
        generator: the network; None takes the shipped one.
        psi: truncation, 0 for the mean dog, 1 for the full variety; None for the generator's usual one.
        cutoff: style layers that it reaches.
        label: class of a conditional generator, the same for all vectors; None takes its class 0.

    Returns:
        uint8 (n, h, w, 3).

    Raises:
        UsageError: vectors of another length than the generator's z, psi outside [0, 1], a class that is not there.
        NotFiniteError: vectors with NaN or infinity, or a vector of zeros, which has no direction.
        WeightsError: the shipped weights are damaged.
    """
    from huref.portraits.generator.file import shipped_generator

    network = generator if generator is not None else shipped_generator()
    rows = _checked(np.atleast_2d(np.asarray(vectors, dtype=np.float32)), network.config.z_dim)
    psi = network.usual_psi if psi is None else psi
    require_psi(psi)
    _require_label(label, network.config.label_dim)
    batch = max(1, _BATCH_PIXELS // network.config.resolution**2)
    pictures = []
    for start in range(0, len(rows), batch):
        z = rows[start : start + batch]
        labels = None if label is None else np.full(len(z), label)
        pictures.append(to_pixels(network(z, psi=psi, cutoff=cutoff, labels=labels)))
    return np.concatenate(pictures)


def require_psi(psi: float) -> None:
    """Refuse a truncation that is none.

    Raises:
        UsageError: not a number from 0 to 1.
    """
    if not 0.0 <= psi <= 1.0:
        raise UsageError(
            "no such truncation", where=option("psi"), expected="0, the mean dog, to 1, all variety", got=str(psi)
        )


def _require_label(label: int | None, classes: int) -> None:
    if label is not None and not 0 <= label < classes:
        raise UsageError(
            "the generator has no such class",
            where=option("label"),
            expected=f"0 to {classes - 1}" if classes else "none: this generator is not conditional",
            got=str(label),
        )


def _checked(rows: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Rows that can be rendered, or the error that says why not."""
    if rows.ndim != 2 or rows.shape[0] == 0 or rows.shape[1] != length:
        raise UsageError(
            "a vector does not fit the generator",
            where="vectors",
            expected=f"(n, {length}): rows as long as the generator's z",
            got=str(rows.shape),
            next_step="use a generator whose z is as long as the fingerprint's vector",
        )
    norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    if not np.isfinite(norms).all() or not (norms > 0).all():
        bad = int(np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))[0])
        raise NotFiniteError("a vector cannot be rendered", where=f"row {bad}", got=f"norm {norms[bad]}")
    return np.ascontiguousarray(rows)
