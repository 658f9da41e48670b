"""What the ridge of canonical-2's dual frame costs and brings, and which feed-forward term: over a zoo, and SmolLM2.

    OMP_NUM_THREADS=1 python lab/benchmarks/dual_frame.py --zoo ZOO --attacks ATTACKS --out FILE

The terms are computed in float64 from their definitions, apart from huref's own code: with the dual frame
D = X (X^T X + lambda I)^-1, or X itself where there is no ridge, the mean over the last two attention and
feed-forward blocks that do something of the correlations of D C D^T. Pairs, groups and kinds are the bench's.

Feed-forward terms: `gate_down` with columns of unit length (the recipe canonical), `unit up_down` (rows of unit
length in the frame), `gate-weighted up_down` (canonical-2), `contraction`, the mean of four sum (up . p) gate down^T
with public directions p. Of every row `qk` is that of canonical-2, each head by the size of what it writes.
Attacked copies of trained offspring are compared with the base, so that they read as the offspring do.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from huref.demo.bundled import bundled_model
from huref.errors import TokenizerError
from huref.fingerprints.sketch import token_signs
from huref.model.model import open_model
from huref.model.tokens import TokenSelection, common, shared
from huref.numerics.arrays import float32
from huref_lab.bench.pairs import Pair, choose_pairs, with_attacks
from huref_lab.zoo.record import load_zoo

Matrix = NDArray[Any]
RIDGES = (None, 3.0, 1.0, 0.3, 0.1, 0.03)
TERMS = ("gate_down", "unit up_down", "gate-weighted up_down", "contraction")
CHOSEN = "gate-weighted up_down"
HARD = ("twins", "base's twin", "twin's offspring", "student")
_TOKENS, _BLOCKS, _DIRECTIONS = 4096, 2, 4


def _unit(rows: Matrix) -> Matrix:
    length = np.linalg.norm(rows, axis=0)
    found: Matrix = np.divide(rows, length, out=np.zeros_like(rows), where=length > 1e-20)
    return found


@dataclass(eq=False)
class Side:
    """One model: its last blocks that do something, and what they are seen from a frame."""

    path: Path
    change: Callable[[Matrix], Matrix] | None = None
    _seen: dict[str, tuple[Matrix, dict[tuple[float | None, str, int], Matrix]]] = field(default_factory=dict)

    @cached_property
    def model(self) -> Any:
        return open_model(self.path)

    @cached_property
    def attention(self) -> list[tuple[Matrix, ...]]:
        return self._last(self._attention)

    @cached_property
    def feed_forward(self) -> list[tuple[Matrix | None, Matrix, Matrix]]:
        return self._last(self._feed_forward)

    def _last(self, read: Callable[[int], Any]) -> list[Any]:
        found = (read(layer) for layer in reversed(range(self.model.weights.geometry.n_layers)))
        return list(islice((block for block in found if block is not None), _BLOCKS))

    def _read(self, stored: Matrix) -> Matrix:
        matrix = float32(stored).astype(np.float64)
        return matrix if self.change is None else self.change(matrix)

    def _stream(self, rows: Matrix, gain: Matrix | None) -> Matrix:
        rows = rows if gain is None else rows * float32(gain)
        return rows - rows.mean(-1, keepdims=True) if self.model.weights.architecture.norm == "layer" else rows

    def _behind(self, name: str) -> Matrix | None:
        weights = self.model.weights
        return weights.read(name) if name in weights and not weights.architecture.norm_after_residual else None

    def _attention(self, layer: int) -> tuple[Matrix, ...] | None:
        block = self.model.weights.attention(layer)
        if not float32(block.Wo).any():
            return None
        q, k, v = (self._stream(self._read(W), block.gain) for W in (block.Wq, block.Wk, block.Wv))
        behind = self._behind(f"layers.{layer}.post_attention_norm")
        o = self._stream(self._read(block.Wo).transpose(0, 2, 1), behind)
        per_group = len(q) // len(k)
        k, v = np.repeat(k, per_group, 0), np.repeat(v, per_group, 0)
        gains = (np.ones(1) if gain is None else float32(gain) for gain in (block.q_gain, block.k_gain))
        (q_gain, k_gain), is_normed = gains, block.q_gain is not None
        wide = np.repeat(k_gain, per_group, 0) if k_gain.ndim == 2 else k_gain
        return q, k, v, o, q_gain, wide, np.array([is_normed])

    def _feed_forward(self, layer: int) -> tuple[Matrix | None, Matrix, Matrix] | None:
        block = self.model.weights.feed_forward(layer)
        if not float32(block.down).any():
            return None
        behind = self._behind(f"layers.{layer}.post_feed_forward_norm")
        gate = None if block.gate is None else self._stream(self._read(block.gate), block.gain)
        return gate, self._stream(self._read(block.up), block.gain), self._stream(self._read(block.down).T, behind)

    def seen(self, tokens: TokenSelection) -> tuple[Matrix, dict[tuple[float | None, str, int], Matrix]]:
        """Q (K, n) and by ridge, kind and block the term in its directions, at unit length; kept."""
        if tokens.digest not in self._seen:
            self._seen = {tokens.digest: self._terms(tokens)}
        return self._seen[tokens.digest]

    def _terms(self, tokens: TokenSelection) -> tuple[Matrix, dict[tuple[float | None, str, int], Matrix]]:
        X = self._stream(self._read(self.model.weights.embedding(tokens.ids)), None)
        X -= X.mean(0)
        Q, R = np.linalg.qr(X)
        G, signs = X.T @ X, token_signs(tokens.strings, _DIRECTIONS, "directions")[0]
        found = {}
        for ridge in RIDGES:
            W = np.eye(len(G))
            if ridge is not None:
                W = np.linalg.inv(G + ridge * np.trace(G) / len(G) * np.eye(len(G)))
            for kind, block, term in self._blocks(R @ W, signs @ X @ W):
                length = np.linalg.norm(term)
                found[ridge, kind, block] = float32(term / length if length else term)
        return Q.astype(np.float32), found

    def _blocks(self, frame: Matrix, directions: Matrix) -> Iterator[tuple[str, int, Matrix]]:
        for block, (*heads, q_gain, k_gain, is_normed) in enumerate(self.attention):
            q, k, v, o = (frame @ side.transpose(0, 2, 1) for side in heads)  # (h, n, e)
            if is_normed.any():
                q, k = (
                    side
                    / np.sqrt(np.square(side).sum((1, 2) if gain.size == side.shape[2] else None, keepdims=True))
                    * gain.reshape(-1, 1, side.shape[2])
                    for side, gain in ((q, q_gain), (k, k_gain))
                )
            written = v @ o.transpose(0, 2, 1)
            weight = np.linalg.norm(written, axis=(1, 2))[:, None, None]
            yield "qk", block, (weight * (q @ k.transpose(0, 2, 1))).sum(0)
            yield "vo", block, written.sum(0)
        for block, (gate, up, down) in enumerate(self.feed_forward):
            u, d = frame @ up.T, frame @ down.T
            yield "unit up_down", block, _unit(u) @ _unit(d).T
            if gate is None:
                yield "gate-weighted up_down", block, u @ d.T
                continue
            g = frame @ gate.T
            yield "gate-weighted up_down", block, u * np.linalg.norm(g, axis=0) @ d.T
            yield "gate_down", block, _unit(g) @ _unit(d).T
            for i, p in enumerate(directions):
                yield f"contraction {i}", block, g * (up @ p) @ d.T


def scores(a: Side, b: Side) -> dict[str, float] | None:
    """By ridge and feed-forward term, the mean correlation of `qk`, `vo` and that term; None of too few tokens."""
    rows = a.model.n_rows, b.model.n_rows
    try:
        if a.model.vocabulary.digest == b.model.vocabulary.digest:
            tokens = common(a.model.vocabulary, _TOKENS, a.model.n_rows), common(b.model.vocabulary, _TOKENS, rows[1])
        else:
            tokens = shared(a.model.vocabulary, b.model.vocabulary, _TOKENS, rows, is_common=True)
    except TokenizerError:
        return None
    (Qa, A), (Qb, B) = a.seen(tokens[0]), b.seen(tokens[1])
    P = Qa.T @ Qb
    each: dict[tuple[float | None, str], list[float]] = {}
    for key in A.keys() & B.keys():
        ridge, kind = key[0], key[1].rstrip(" 0123456789")
        each.setdefault((ridge, kind), []).append(float((A[key] * (P @ B[key] @ P.T)).sum()))
    found = {}
    for ridge in RIDGES:
        for term in TERMS:
            kinds = ("qk", "vo", term if (ridge, term) in each else "gate-weighted up_down")
            means = [float(np.mean(each[ridge, kind])) for kind in kinds if (ridge, kind) in each]
            found[f"{ridge} {term}"] = float(np.mean(means))
    return found


def _half(job: tuple[Path, Path | None, int, int]) -> list[dict[str, Any]]:
    folder, attacks, part, n_parts = job
    zoo = load_zoo(folder)
    zoo = zoo if attacks is None else with_attacks(zoo, attacks)
    sides: dict[str, Side] = {}
    rows = []
    for pair in choose_pairs(zoo, 400)[part::n_parts]:
        a, b = (sides.setdefault(name, Side(zoo.folder / zoo[name].path)) for name in (pair.a, pair.b))
        found = scores(a, b)
        if found is not None:
            rows.append({"pair": pair, "scores": found})
    return rows


def _auc(kin: Matrix, strangers: Matrix) -> float:
    return float((kin[:, None] > strangers).mean() + 0.5 * (kin[:, None] == strangers).mean())


def _tables(rows: list[dict[str, Any]]) -> Iterator[str]:
    def of(key: str, truth: str, groups: Collection[str] = ()) -> Matrix:
        pairs = [row["pair"] for row in rows]
        wanted = [pair.truth == truth and (not groups or _group(pair) in groups) for pair in pairs]
        return np.array([row["scores"][key] for row, is_wanted in zip(rows, wanted, strict=True) if is_wanted])

    kin, strangers = (sum(row["pair"].truth == truth for row in rows) for truth in ("kin", "independent"))
    yield f"{kin} pairs of kin, {strangers} of strangers\n"
    heads = f"{'AUC':>9}{'hard':>9}{'TPR@1%':>9}{'TPR@0':>9}{'strangers: mean':>17}{'highest':>9}"
    yield f"{'feed-forward term':24}{'ridge':>7}{heads}"
    for term in TERMS:
        for ridge in RIDGES:
            key = f"{ridge} {term}"
            K, S = of(key, "kin"), of(key, "independent")
            H = of(key, "independent", HARD)
            shares = [np.mean(np.quantile(S, 0.99) < K), np.mean(S.max() < K)]
            yield (
                f"{term:24}{ridge or 'none':>7}{_auc(K, S):9.4f}{_auc(K, H):9.4f}{shares[0]:9.3f}{shares[1]:9.3f}"
                f"{S.mean():17.3f}{S.max():9.3f}"
            )
    heads = "".join(f"{ridge or 'none':>14}" for ridge in RIDGES)
    yield f"\n{CHOSEN}: mean and lowest of kin, mean and highest of strangers, by ridge\n{'':36}{heads}"
    for truth, extreme in (("kin", np.min), ("independent", np.max)):
        names = {_group(row["pair"]) for row in rows if row["pair"].truth == truth}
        for name in sorted(names):
            found = [of(f"{ridge} {CHOSEN}", truth, (name,)) for ridge in RIDGES]
            yield f"{name:36}" + "".join(f"{values.mean():8.3f}/{extreme(values):.2f} " for values in found)


def _group(pair: Pair) -> str:
    return pair.kind if pair.truth == "kin" else pair.group


def _noise(size: float) -> Callable[[Matrix], Matrix]:
    dice = np.random.default_rng(7)
    return lambda W: W + size * W.std() * dice.standard_normal(W.shape)


def _rounded(bits: int) -> Callable[[Matrix], Matrix]:
    """In blocks of 32 along the stored rows, with a scale each, as usual formats do."""

    def change(W: Matrix) -> Matrix:
        blocks = W.reshape(-1, 32)
        scale = np.abs(blocks).max(1, keepdims=True) / (2 ** (bits - 1) - 1)
        found: Matrix = np.round(blocks / np.maximum(scale, 1e-12)) * scale
        return found.reshape(W.shape)

    return change


def _pruned(share: float) -> Callable[[Matrix], Matrix]:
    return lambda W: np.where(np.abs(W) > np.quantile(np.abs(W), share), W, 0)


CHANGES = {
    "noise on every weight, 20 %": _noise(0.2),
    "noise on every weight, 35 %": _noise(0.35),
    "rounded to 4 bits": _rounded(4),
    "rounded to 3 bits": _rounded(3),
    "rounded to 2 bits": _rounded(2),
    "half of the weights zero": _pruned(0.5),
    "70 % of the weights zero": _pruned(0.7),
}


def _real(path: Path) -> Iterator[str]:
    """A real model against copies of itself that were damaged everywhere, embeddings too."""
    yield f"\n{path.name} against copies, {CHOSEN}, by ridge\n{'':36}" + "".join(f"{r or 'none':>9}" for r in RIDGES)
    base = Side(path)
    for name, change in CHANGES.items():
        found = scores(base, Side(path, change)) or {}
        yield f"{name:36}" + "".join(f"{found[f'{ridge} {CHOSEN}']:9.3f}" for ridge in RIDGES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--attacks", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    start = time.perf_counter()
    jobs = [(options.zoo, options.attacks, part, options.jobs) for part in range(options.jobs)]
    with ProcessPoolExecutor(options.jobs) as pool:
        rows = [row for half in pool.map(_half, jobs) for row in half]
    command = "lab/benchmarks/dual_frame.py --zoo ZOO --attacks ATTACKS --out FILE"
    lines = [f"command: {command}", *_tables(rows), *_real(bundled_model())]
    lines.append(f"\n{time.perf_counter() - start:.0f} s; {platform.machine()}, numpy {np.__version__}")
    options.out.write_text("\n".join(lines) + "\n")
    document = [{"a": r["pair"].a, "b": r["pair"].b, **r["scores"]} for r in rows]
    options.out.with_suffix(".json").write_text(json.dumps(document))


if __name__ == "__main__":
    main()
