"""What a reader of neuron codes learns about the weights: rows, layers that work, fine-tunes, operators.

    OMP_NUM_THREADS=1 .venv/bin/python lab/benchmarks/code_leakage.py ZOO [--only SECTION ...]

ZOO was made by `huref lab zoo`; SmolLM2 is the demo's. 20 minutes of one free core. The sections:

- `rows`: cosine of unit rows (norm gains folded in) with what a reader makes of their signs. Readers: *linear* is
  `P^+ sign`; *flat* is ridge logistic regression on the signs, which comes near the Bayes optimum (Aubin et al. 2020,
  arXiv 2006.06560), its ridge chosen on rows that the reader draws; *next* and *own* put in its prior the covariance
  of the next layer's rows, or of the very rows (no reader has it: an upper limit). *Shannon*: what no reader beats on
  average, from the rate-distortion function of Gaussian rows of flat or own covariance at so many bits.
- `wide`: the same of wider layers, synthetic, with the spectra of SmolLM2's embeddings and rows.
- `loss`: nats a token when the feed-forward rows of one, four or all layers are replaced by reconstructed directions
  at their true lengths. The best of three common shrinkages is taken for every way, found
  on the text itself, in the reader's favour.
- `blind`: a reader who does not know the embeddings: angles between rows; and one who knows the rows of a layer.
- `tuned`: base public, fine-tune private: the change, recovered from the fine-tune's codes.
- `sketches`: operators from sketches of codes and of a fingerprint, heads from their signs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from huref.demo import bundled_model
from huref.demo.training_text import standard_library_text
from huref.fingerprints.codes import CodeRecipe, unpacked
from huref.fingerprints.coding import (
    DualFrame,
    Projection,
    code_tokens,
    dual_projection,
    encode_layer,
    plain_projection,
)
from huref.fingerprints.pipeline import choose_tokens
from huref.fingerprints.recipe import Recipe
from huref.fingerprints.sketch import token_signs
from huref.fingerprints.sketching import sketch_model
from huref.fingerprints.terms import layer_terms, scaled
from huref.forward.checkpoint_writer import tokenizer_files
from huref.forward.decoder import Decoder, load_decoder
from huref.forward.passes import logits
from huref.model.model import Model, open_model
from huref.numerics.arrays import Floats, float32
from measure import machine
from sign_reading import RIDGES, change, cosines, covariance, estimate, low_rank, make_reader, shannon, unit, whole

ROLES = ("gate", "up", "down")
SHRINKAGES = ((1.0, 1.0), (1.0, 0.2), (0.6, 0.6))
"""Of gate and up rows, and of down rows; the last is about what the least mean square error asks for."""
SEQUENCES, LENGTH = 4, 96
SAMPLE = 256
"""Neurons of a layer whose rows are reconstructed where no layer has to work."""


@dataclass(frozen=True)
class Opened:
    """A model with what the measurements need of it."""

    name: str
    model: Model
    decoder: Decoder
    ids: np.ndarray

    @property
    def n_layers(self) -> int:
        return self.model.weights.geometry.n_layers

    def rows(self, layer: int) -> dict[str, Floats]:
        """Feed-forward rows (n, d) by role, gains folded in."""
        block = self.model.weights.feed_forward(layer)
        assert block.gate is not None
        gain = np.float32(1) if block.gain is None else float32(block.gain)
        return {
            "gate": float32(block.gate) * gain,
            "up": float32(block.up) * gain,
            "down": np.ascontiguousarray(float32(block.down).T),
        }


# Models and text.


def opened(path: Path, name: str, text: np.ndarray | None = None) -> Opened:
    """Open a model for the whole run, with 4 sequences of 97 tokens of Python source."""
    model = open_model(path)
    if text is None:
        from tokenizers import Tokenizer

        codec = Tokenizer.from_str(tokenizer_files(model.weights.checkpoint)["tokenizer.json"].decode())
        text = np.array(codec.encode(standard_library_text(40_000), add_special_tokens=False).ids, np.int64)
        text = text[: SEQUENCES * (LENGTH + 1)].reshape(SEQUENCES, -1)
    return Opened(name, model, load_decoder(model.weights, np.float32), text)


def log_chances(decoder: Decoder, ids: np.ndarray) -> Floats:
    """(n, v) log probabilities of the next token, one sequence."""
    z: Floats = logits(decoder, ids[None, :-1])[0]
    z = z - z.max(axis=1, keepdims=True)
    found: Floats = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return found


def losses(decoder: Decoder, ids: np.ndarray) -> np.ndarray:
    """Nats a token of each sequence."""
    return np.array([-log_chances(decoder, s)[np.arange(len(s) - 1), s[1:]].mean() for s in ids])


def divergence(reference: Sequence[Floats], decoder: Decoder, ids: np.ndarray) -> np.ndarray:
    """Kullback-Leibler divergence from a reference, nats a token, of each sequence."""
    return np.array(
        [(np.exp(p) * (p - log_chances(decoder, s))).sum(axis=1).mean() for p, s in zip(reference, ids, strict=True)]
    )


def with_rows(decoder: Decoder, rows: Mapping[int, Mapping[str, Floats]]) -> Decoder:
    """With the folded feed-forward rows of some layers replaced."""
    new = {}
    for layer, by_role in rows.items():
        at = f"layers.{layer}."
        new[f"{at}feed_forward_norm"] = np.ones_like(decoder.tensors[f"{at}feed_forward_norm"])
        new |= {f"{at}gate": by_role["gate"], f"{at}up": by_role["up"]}
        new[f"{at}down"] = np.ascontiguousarray(by_role["down"].T)
    return decoder.changed(new)


@cache
def _frame(model: Model, frame: str, bits: int) -> Projection:
    recipe = CodeRecipe(bits=bits)
    if frame == "plain":
        return plain_projection(model.weights.geometry.d_model, recipe)
    return dual_projection(model, code_tokens(model, recipe), recipe)


def view(side: Opened, layer: int, frame: str, bits: int) -> tuple[Floats, dict[str, Floats]]:
    """P and the signs (n, m) by role, from the codes that a file would hold; `both` is dual and plain together."""
    if frame == "both":
        (P, signs), (Q, others) = (view(side, layer, each, bits) for each in ("dual", "plain"))
        return np.concatenate([P, Q]), {r: np.concatenate([signs[r], others[r]], axis=1) for r in ROLES}
    projection = _frame(side.model, frame, bits)
    codes = encode_layer(side.model.weights, layer, projection, CodeRecipe(bits=bits))
    assert codes.up is not None
    return projection.P, {"gate": unpacked(codes.gate), "up": unpacked(codes.up), "down": unpacked(codes.down)}


def spread(values: Floats | np.ndarray) -> str:
    """`mean (5 % .. 95 %)`."""
    low, high = np.percentile(values, [5, 95])
    return f"{values.mean():.3f} ({low:.2f}..{high:.2f})"


# Sections.

FRAMES = (("dual", 256), ("dual", 512), ("plain", 256), ("both", 256))


def rows_section(sides: Sequence[Opened], layers: Mapping[str, Sequence[int]]) -> None:
    """How near the reconstructed unit rows come."""
    _head()
    for side in sides:
        for frame, bits in FRAMES:
            for role in ROLES:
                _rows_line(side, frame, bits, role, layers[side.name])


def _head() -> None:
    print(f"{'':24} {'bits':>8} {'row':>5} " + " ".join(f"{w:>20}" for w in ("linear", "flat", "next", "own")))


def _rows_line(side: Opened, frame: str, bits: int, role: str, layers: Sequence[int]) -> None:
    found: dict[str, list[Floats]] = {}
    limits, ridges = [], dict.fromkeys(("flat", "next", "own"), RIDGES)
    for layer in layers:
        true, after = side.rows(layer)[role], side.rows(layer + 1)[role]
        P, by_role = view(side, layer, frame, bits)
        signs, some = by_role[role][:SAMPLE], true[:SAMPLE]
        found.setdefault("linear", []).append(cosines(signs @ np.linalg.pinv(P).T, some))
        for name, prior in (("flat", None), ("next", covariance(after)), ("own", covariance(true, 1e-3))):
            reader = make_reader(P, prior, ridges[name])
            ridges[name] = (reader.ridge,)
            found.setdefault(name, []).append(cosines(estimate(reader, signs), some))
        limits.append(
            [shannon(s, P.shape[0]) for s in (np.ones(P.shape[1]), np.linalg.eigvalsh(covariance(true, 0)))]
        )
    cells = " ".join(f"{spread(np.concatenate(v)):>20}" for v in found.values())
    flat, own = np.mean(limits, axis=0)
    said = "256+256" if frame == "both" else str(bits)
    print(f"{side.name + ', ' + frame:24} {said:>8} {role:>5} {cells}  Shannon {flat:.3f} {own:.3f}", flush=True)


def wide_section(like: Opened) -> None:
    """Layers of other widths with the statistics of a real one."""
    _head()
    for width in (2048, 4096):
        _wide_lines(like, width)


def _wide_lines(like: Opened, width: int, n: int = SAMPLE) -> None:
    """Both spectra, of the embeddings and of the rows, stretched to the width, in directions that have nothing to do
    with each other."""
    dice = np.random.default_rng(1)
    tokens = code_tokens(like.model, CodeRecipe())
    X = float32(like.model.weights.embedding(tokens.ids))
    s = np.linalg.svd(X - X.mean(axis=0), compute_uv=False)
    energy = np.linalg.eigvalsh(covariance(like.rows(like.n_layers // 2)["gate"], 0))
    places = np.linspace(0, 1, width)
    s, energy = (np.interp(places, np.linspace(0, 1, len(v)), v) for v in (s, energy))
    energy = dice.permutation(energy)
    wide_X = dice.standard_normal((2 * width, width), np.float32) * float32(s)
    prior = np.diag(float32(energy * width / energy.sum()))
    true = dice.standard_normal((n, width), np.float32) * np.sqrt(np.diag(prior))
    names = tuple(str(i).encode() for i in range(2 * width))
    S = np.concatenate(token_signs(names, 256, "wide"))
    seen = DualFrame.of(wide_X, CodeRecipe().ridge).seen_by(S)
    for frame, bits, P in (("dual", 256, seen[:256]), ("dual", 512, seen), ("plain", 256, S[:256, :width])):
        signs = float32(np.where(true @ P.T < 0, -1, 1))
        readers = [estimate(make_reader(P, each), signs) for each in (None, prior)]
        cells = [signs @ np.linalg.pinv(P).T, readers[0], None, readers[1]]
        row = " ".join(f"{'-' if c is None else spread(cosines(c, true)):>20}" for c in cells)
        limits = [shannon(each, bits) for each in (np.ones(width), np.diag(prior))]
        print(
            f"{f'synthetic {width}, {frame}':24} {bits:>8} {'gate':>5} {row}  Shannon {limits[0]:.3f} {limits[1]:.3f}"
        )


LOSS_RIDGE = 0.03
"""What `rows` chooses on most layers; choosing it again for each of 90 matrices would change little."""


def loss_section(sides: Sequence[Opened]) -> None:
    """What a layer rebuilt from codes is worth."""
    for side in sides:
        n = side.n_layers
        four = sorted({int(i) for i in np.linspace(0, n - 1, 4).round()})
        middle = [n // 2]
        base = losses(side.decoder, side.ids)
        print(f"{side.name}: the model's own loss {base.mean():.3f}, text of {side.ids.size} tokens")
        for chosen in (middle, *([four] if n > len(four) else []), list(range(n))):
            _loss_lines(side, chosen, base)


def _loss_lines(side: Opened, layers: Sequence[int], base: np.ndarray) -> None:
    true = {layer: side.rows(layer) for layer in layers}
    dice = np.random.default_rng(2)
    silent = {i: {**true[i], "down": np.zeros_like(true[i]["down"])} for i in layers}
    none = losses(with_rows(side.decoder, silent), side.ids) - base
    _print_loss(layers, "zero", [none], none)
    shuffled = {i: {r: dice.permutation(m) for r, m in true[i].items()} for i in layers}
    _print_loss(layers, "shuffled rows", _tried(side, true, shuffled, base), none)
    ways = [("dual", 256, "flat"), ("dual", 256, "own"), ("dual", 512, "own"), ("both", 256, "own")]
    if len(layers) > 1:  # flat does worse than own and 512 as 256 + 256, which only four layers of a file have
        ways = ways[1::2] if len(layers) <= 4 else ways[1:2]
    for frame, bits, prior in ways:
        hats = {i: _hats(side, i, frame, bits, prior, true[i]) for i in layers}
        said = f"{frame} {'256+256' if frame == 'both' else bits}, prior {prior}"
        _print_loss(layers, said, _tried(side, true, hats, base), none)


def _hats(
    side: Opened, layer: int, frame: str, bits: int, prior: str, true: Mapping[str, Floats]
) -> dict[str, Floats]:
    P, signs = view(side, layer, frame, bits)
    found = {}
    for role in ROLES:
        known = None if prior == "flat" else covariance(true[role], 1e-3)
        reader = make_reader(P, known, (LOSS_RIDGE,))
        found[role] = estimate(reader, signs[role])
    return found


def _tried(
    side: Opened,
    true: Mapping[int, Mapping[str, Floats]],
    hats: Mapping[int, Mapping[str, Floats]],
    base: np.ndarray,
) -> list[np.ndarray]:
    """Added loss at each shrinkage of true lengths."""
    found = []
    for front, behind in SHRINKAGES:
        shrinkage = {"gate": np.float32(front), "up": np.float32(front), "down": np.float32(behind)}
        made = {}
        for layer, by_role in hats.items():
            length = {r: np.linalg.norm(true[layer][r], axis=1, keepdims=True) for r in ROLES}
            made[layer] = {r: float32(unit(by_role[r]) * (length[r] * shrinkage[r])) for r in ROLES}
        found.append(losses(with_rows(side.decoder, made), side.ids) - base)
    return found


def _print_loss(layers: Sequence[int], way: str, found: Sequence[np.ndarray], none: np.ndarray) -> None:
    """Added loss, and how much of it is spared beside layers that add nothing, sequence by sequence."""
    best = min(range(len(found)), key=lambda i: found[i].mean())
    spared = none - found[best]
    errors = [each.std(ddof=1) / np.sqrt(len(each)) for each in (found[best], spared)]
    said = f"layers {','.join(map(str, layers))}" if len(layers) <= 4 else f"all {len(layers)} layers"
    full = f"; full length {found[0].mean():+.3f}, best {SHRINKAGES[best]}" if len(found) > 1 else ""
    spares = f", spares {spared.mean():+.3f} +- {errors[1]:.3f}" if len(found) > 1 else ""
    print(f"  {said:20} {way:25} {found[best].mean():+.3f} +- {errors[0]:.3f}{spares}{full}", flush=True)


def blind_section(side: Opened, layer: int) -> None:
    """Angles without the embeddings, and what knowing one layer's rows is worth."""
    _, signs = view(side, layer, "dual", 256)
    tokens = code_tokens(side.model, CodeRecipe())
    X = float32(side.model.weights.embedding(tokens.ids))
    X = X - X.mean(axis=0)
    G = (X.T @ X).astype(np.float64)
    inverse = np.linalg.inv(G + CodeRecipe().ridge * np.trace(G) / len(G) * np.eye(len(G)))
    metric = float32(np.linalg.cholesky(inverse @ G @ inverse))
    dice = np.random.default_rng(3)
    for role in ROLES:
        true, s = side.rows(layer)[role], signs[role]
        i, j = (dice.integers(0, len(true), 20_000) for _ in range(2))
        i, j = i[i != j], j[i != j]
        found = np.sin(np.pi / 2 * (s[i] * s[j]).mean(axis=1))
        framed, plain = cosines((true @ metric)[i], (true @ metric)[j]), cosines(true[i], true[j])
        error = np.sqrt(np.square(found - framed).mean())
        print(
            f"  {role:5} angles of random pairs: cosine in the dual frame off by {error:.3f} (its spread "
            f"{framed.std():.3f}), correlation {np.corrcoef(found, framed)[0, 1]:.2f}; with the plain cosine "
            f"{np.corrcoef(found, plain)[0, 1]:.2f} (spread {plain.std():.3f})"
        )
    known = np.concatenate([unit(rows) for rows in side.rows(layer - 1).values()])
    said = np.concatenate([view(side, layer - 1, "dual", 256)[1][role] for role in ROLES])
    C = known.T @ known
    learnt = float32(np.linalg.solve(C + 0.01 * np.trace(C) / len(C) * np.eye(len(C)), known.T @ said).T)
    reader = make_reader(learnt, None)
    for role in ROLES:
        near = cosines(estimate(reader, signs[role]), side.rows(layer)[role])
        print(
            f"  {role:5} from codes and the {len(known)} known rows of layer {layer - 1}: {spread(near)}", flush=True
        )


def tuned_section(base: Opened, zoo: Path) -> None:
    """Changes of a public base."""
    for size in (0.02, 0.1, 0.3):
        _synthetic_change(base, base.n_layers // 2, size)
    tiny = zoo / "models" / "llama-tied-1"
    tiny_base = opened(tiny / "base", "llama-tied-1")
    for child in ("tune-light", "tune-heavy", "continued-1x"):
        _real_change(tiny_base, opened(tiny / child, child, tiny_base.ids), range(tiny_base.n_layers))
    for child in ("tune-light", "tune-heavy"):
        _real_change(base, opened(zoo / "models" / "smollm2" / child, f"smollm2/{child}", base.ids), (5, 15, 25))


def _synthetic_change(base: Opened, layer: int, size: float, rank: int = 8) -> None:
    """A change of rank 8 with a tenth of its size in noise, on unit rows."""
    dice = np.random.default_rng(5)
    public = unit(base.rows(layer)["gate"])
    n, d = public.shape
    low = dice.standard_normal((n, rank), np.float32) @ dice.standard_normal((rank, d), np.float32)
    noise = dice.standard_normal((n, d), np.float32)
    true = low / np.linalg.norm(low) + 0.1 * noise / np.linalg.norm(noise)
    true *= size * np.sqrt(n) / np.linalg.norm(true)
    for frame in ("dual", "both"):
        P = np.concatenate(
            [_frame(base.model, f, 256).P for f in (("dual", "plain") if frame == "both" else (frame,))]
        )
        signs = float32(np.where((public + true) @ P.T < 0, -1, 1))
        flips = (signs != np.where(public @ P.T < 0, -1, 1)).mean() * P.shape[0]
        rows = change(P, signs, public, size)
        joint = low_rank(P, signs, public, size, rank)
        limit = joint_limit(P, true)
        print(
            f"  rank {rank} of {size:.0%} of a row, {frame:5} {flips:5.1f} of {len(P)} signs flipped; cosine "
            f"with the change, by rows {spread(cosines(rows, true))}, whole {whole(rows, true):.3f}, told the rank "
            f"{whole(joint, true):.3f}; part within reach of the directions {limit:.3f}",
            flush=True,
        )


def joint_limit(P: Floats, true: Floats) -> float:
    """Share of a matrix' length that lies in the row space of P."""
    Q, _ = np.linalg.qr(P.T)
    return float(np.linalg.norm(true @ Q) / np.linalg.norm(true))


def _real_change(base: Opened, child: Opened, layers: Sequence[int] | range) -> None:
    """A real fine-tune: cosine of the change, and how much nearer the base with it comes to the fine-tune."""
    P = _frame(base.model, "dual", 256).P
    made, target, near, sizes = {}, {}, [], []
    for layer in layers:
        public, private = base.rows(layer), child.rows(layer)
        _, signs = view(child, layer, "dual", 256)
        made[layer], target[layer] = {}, private
        for role in ROLES:
            true = unit(private[role]) - unit(public[role])
            size = float(np.linalg.norm(true) / np.sqrt(len(true)))
            found = change(P, signs[role], public[role], max(size, 1e-4))
            best = max(0.0, float((found * true).sum() / max(float(np.square(found).sum()), 1e-30)))
            length = np.linalg.norm(private[role], axis=1, keepdims=True)
            made[layer][role] = float32(unit(unit(public[role]) + best * found) * length)
            near.append(whole(found, true))
            sizes.append(size)
    reference = [log_chances(child.decoder, s) for s in base.ids]
    kl = [divergence(reference, d, base.ids) for d in (base.decoder, with_rows(base.decoder, made))]
    kl.append(divergence(reference, with_rows(base.decoder, target), base.ids))
    gain = (kl[0] - kl[1]) / np.maximum(kl[0] - kl[2], 1e-9)
    print(
        f"  {child.name:20} change {np.mean(sizes):.3f} of a row; cosine with it {np.mean(near):.3f} "
        f"({min(near):.2f}..{max(near):.2f} by layer and role); from the fine-tune, nats: base {kl[0].mean():.4f}, "
        f"with the recovered change {kl[1].mean():.4f}, the true one {kl[2].mean():.4f}: {gain.mean():.0%} of it "
        f"({gain.min():.0%}..{gain.max():.0%})",
        flush=True,
    )


def sketches_section(side: Opened) -> None:
    """Operators of the last layer: from 64 x 64 sketches of codes, of a fingerprint, from signs of heads."""
    layer, recipe, model = side.n_layers - 1, Recipe("canonical"), side.model
    P = _frame(model, "dual", 256).P
    codes = encode_layer(model.weights, layer, _frame(model, "dual", 256), CodeRecipe())
    tokens = choose_tokens(model, recipe)
    X = float32(model.weights.embedding(tokens.ids))
    X = X - X.mean(axis=0)
    S = np.concatenate(token_signs(tokens.strings, recipe.sketch_rows, recipe.seed))
    S1X, S2X = np.split((S - S.mean(axis=1, keepdims=True)) @ X, 2)
    prints = sketch_model(model, tokens, recipe).terms
    half = len(P) // 2
    root = float32(np.linalg.cholesky((X.T @ X).astype(np.float64) + 1e-6 * np.eye(X.shape[1])))
    for term in layer_terms(model.weights, layer, recipe):
        M = _operator(term.left, term.left_gain, term.inner, term.right, term.right_gain)
        _operator_line(side, f"{term.kind}, fingerprint", S1X, prints[term.key], S2X, M, root)
        if term.kind in codes.operators:
            Y = codes.operators[term.kind].astype(np.float16).astype(np.float32)
            _operator_line(side, f"{term.kind}, codes", P[:64], Y, P[half : half + 64], M, root)
    rows = side.rows(layer)
    up, down = (rows[r] / np.linalg.norm(rows[r] @ P.T, axis=1, keepdims=True) for r in ("up", "down"))
    _operator_line(side, "up_down, codes", P[:64], codes.operators["up_down"], P[half : half + 64], up.T @ down, root)
    block = model.weights.attention(layer)
    gain = np.ones(X.shape[1], np.float32) if block.gain is None else float32(block.gain)
    q, k = float32(block.Wq) * gain, float32(block.Wk) * gain
    other = np.roll(P, half, axis=0)
    inverse = np.linalg.pinv((P @ P.T) * (other @ other.T), rcond=1e-6)
    near = []
    for head, signs in enumerate(unpacked(codes.qk)):
        guess = (P * (inverse @ signs)[:, None]).T @ other
        near.append(whole(float32(guess), q[head].T @ k[head * len(k) // len(q)]))
    print(
        f"  {side.name:14} q^T k of {len(near)} heads from 256 signs each: cosine {spread(np.array(near))}",
        flush=True,
    )


def _operator(
    left: Floats, left_gain: Floats | None, inner: Floats | None, right: Floats, right_gain: Floats | None
) -> Floats:
    a, b = scaled(float32(left), left_gain), scaled(float32(right), right_gain)
    product: Floats = (a.T if inner is None else a.T * inner) @ b
    return product


def _operator_line(side: Opened, said: str, A: Floats, Y: Floats, B: Floats, M: Floats, root: Floats) -> None:
    """Cosines of the least operator that has this sketch, plainly and as the tokens see it."""
    found = np.linalg.pinv(A) @ Y @ np.linalg.pinv(B).T
    seen = whole(root.T @ found @ root, root.T @ M @ root)
    print(f"  {side.name:14} {said:24} cosine {whole(found, M):.3f}, in the metric of tokens {seen:.3f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoo", type=Path)
    parser.add_argument("--only", nargs="+", default=[])
    options = parser.parse_args()
    print(machine())
    real = opened(bundled_model(), "SmolLM2")
    tiny = opened(options.zoo / "models" / "llama-tied-1" / "base", "llama-tied-1")
    sides = (real, tiny)
    sections: dict[str, Callable[[], None]] = {
        "rows": lambda: rows_section(sides, {"SmolLM2": (5, 15, 25), "llama-tied-1": (0, 1, 2)}),
        "wide": lambda: wide_section(real),
        "loss": lambda: loss_section(sides),
        "blind": lambda: blind_section(real, 15),
        "tuned": lambda: tuned_section(real, options.zoo),
        "sketches": lambda: [sketches_section(side) for side in sides] and None,
    }
    for name, run in sections.items():
        if not options.only or name in options.only:
            start = time.perf_counter()
            print(f"\n{name}", flush=True)
            run()
            print(f"({time.perf_counter() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
