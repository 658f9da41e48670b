"""The error of a private comparison: sketches under many pair seeds, against the exact ICS.

    .venv/bin/python lab/benchmarks/private_error.py FOLDER [FOLDER ...]

Folders as `huref commit` wrote them, openings included. The first is compared with noisy copies of itself (normal
noise of a share of each matrix' own spread) and with every other folder. For each pair: the exact ICS over the shared
tokens, the root mean square error of the sketched one over the seeds, the mean of its jackknife error, and how often
the interval of three such errors holds the exact value.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from huref.fingerprints.sketch import jackknife, mean_cosines
from huref.proof.arithmetic.signs import centred_signs, shared_tokens
from huref.proof.files.layout import Layout
from huref.proof.files.opening import find_opening, read_opening
from huref.proof.sketch.exact import embedding, factor, matrix
from measure import machine

SEEDS = 24
ROWS = (64, 128)
NOISE = (0.1, 0.3, 0.6)


class Side:
    """One model's real numbers: tokens, X and factors as float32, brought to unit spread."""

    def __init__(self, layout: Layout, strings: tuple[bytes, ...], rows: np.ndarray, noise: float = 0.0) -> None:
        self.layout, self.strings = layout, strings
        real = rows.astype(np.float32)
        if noise:
            rng = np.random.default_rng(7)
            for item in layout.matrices:
                block = matrix(layout, real, item.name)
                block += noise * block.std() * rng.standard_normal(block.shape, np.float32)
        self.X = embedding(layout, real)
        self.factors = {t.key: (factor(layout, real, t, 0), factor(layout, real, t, 1)) for t in layout.terms}

    def sketches(self, chosen: np.ndarray, rows: int, seed: str) -> np.ndarray:
        """(terms, m, m) float64."""
        first, second = (S.astype(np.float32) @ self.X for S in centred_signs(self.strings, chosen, rows, seed))
        return np.stack(
            [(first @ L.T).astype(np.float64) @ (second @ R.T).T.astype(np.float64) for L, R in self.factors.values()]
        )

    def products(self, chosen: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """U and V of every term over the chosen tokens, centred, in the order of the token strings."""
        order = sorted(np.flatnonzero(chosen), key=lambda i: self.strings[i])
        X = self.X[order] - self.X[order].mean(axis=0)
        for L, R in self.factors.values():
            yield (X @ L.T).astype(np.float64), (X @ R.T).astype(np.float64)


def exact(a: Side, b: Side, chosen: tuple[np.ndarray, np.ndarray]) -> float:
    """Mean over the terms of the cosine of `U_A V_A^T` and `U_B V_B^T`."""

    def inner(left: tuple[np.ndarray, np.ndarray], right: tuple[np.ndarray, np.ndarray]) -> float:
        return float(((left[0].T @ right[0]) * (left[1].T @ right[1])).sum())

    pairs = list(zip(a.products(chosen[0]), b.products(chosen[1]), strict=True))
    return float(np.mean([inner(p, q) / np.sqrt(inner(p, p) * inner(q, q)) for p, q in pairs]))


def report(name: str, a: Side, b: Side) -> None:
    """One pair's lines."""
    chosen = (shared_tokens(a.strings, b.strings), shared_tokens(b.strings, a.strings))
    truth = exact(a, b, chosen)
    for rows in ROWS:
        found, errors = [], []
        for seed in range(SEEDS):
            left, right = (s.sketches(c, rows, f"seed {seed}") for s, c in zip((a, b), chosen, strict=True))
            found.append(mean_cosines(left, right).mean())
            errors.append(jackknife(left, right))
        off = np.abs(np.array(found) - truth)
        held = int((off <= 3 * np.array(errors)).sum())
        rms = float(np.sqrt((off**2).mean()))
        print(
            f"{name:<34}{int(chosen[0].sum()):>7}{rows:>5}{truth:>9.4f}{rms:>9.4f}{np.mean(errors):>11.4f}"
            f"{off.max():>9.4f}{held:>5} of {SEEDS}",
            flush=True,
        )


def main() -> None:
    """Compare the first folder's model with noisy copies and with the others."""
    folders = [Path(name) for name in sys.argv[1:]]
    if not folders:
        raise SystemExit(__doc__)
    openings = [read_opening(find_opening(folder)) for folder in folders]
    print(machine())
    print(f"{'pair':<34}{'tokens':>7}{'m':>5}{'ICS':>9}{'rms':>9}{'jackknife':>11}{'worst':>9}  held")
    first = openings[0]
    base = Side(first.layout, first.strings, first.rows)
    for noise in NOISE:
        report(f"itself with noise {noise}", base, Side(first.layout, first.strings, first.rows, noise))
    for opening in openings[1:]:
        report(opening.layout.model[:32], base, Side(opening.layout, opening.strings, opening.rows))


if __name__ == "__main__":
    main()
