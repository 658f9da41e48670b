"""Two tiny owners with commitments and proofs: made without a model or torch, once per test session.

A and B are relatives: B's integers are A's with noise, and they share 260 of their token strings. Rows, strings and
seeds are fixed; the randomness of masks and blindings in the proofs is fresh, as in real ones.

    a(), b()                 owners: layout, strings, integers, seed
    commitment_a(), _b()     their commitments
    fingerprint_proof()      pi_1 of A
    compare_proofs()         pi_2 of A against B, and of B against A
    write_folder(a(), commitment_a(), path)  `commitment` there, `opening` in the secret folder
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from huref.fingerprints.recipe import Recipe
from huref.proof.arithmetic.curve import ShortCommitter, encode_points
from huref.proof.files.commitment import NAME as COMMITMENT
from huref.proof.files.commitment import Commitment, commitment_root
from huref.proof.files.layout import Layout, Matrix, Term
from huref.proof.files.opening import Opening, find_opening, make_secret_folder, write_opening
from huref.proof.files.proof import Claim, SketchProof
from huref.proof.sketch.no_wrap import column_norm, prove_no_wrap
from huref.proof.sketch.pair import pair_claim
from huref.proof.sketch.protocol import Secret, prove_sketches

WIDTH, BITS = 16, 12
N_A, N_B, N_SHARED = 270, 266, 260
ROWS_FINGERPRINT, ROWS_COMPARE = 8, 12
SHAPES = (("q", 16), ("k", 8), ("gate", 20), ("down", 20))


def a(groups: tuple[int, int] = (2, 1)) -> Opening:
    """Owner A, of two layers; its last layer is committed.

    Args:
        groups: heads summed in the term `qk`, (2, 1), or (1, 1) without the sum and with a smaller q.
    """
    return _owner("tiny-a", groups, 2)


def b() -> Opening:
    """Owner B, of three layers, so that its last layer has another number than A's."""
    return _owner("tiny-b", (2, 1), 3)


@cache
def commitment_a() -> Commitment:
    """A's commitment."""
    return committed(a())


@cache
def commitment_b() -> Commitment:
    """B's commitment."""
    return committed(b())


@cache
def fingerprint_proof() -> SketchProof:
    """pi_1 of A."""
    return prove_fingerprint(a(), commitment_a())


@cache
def compare_proofs() -> tuple[SketchProof, SketchProof]:
    """pi_2 of A against B, and of B against A."""
    return prove_compare(a(), commitment_a(), commitment_b()), prove_compare(b(), commitment_b(), commitment_a())


def committed(owner: Opening) -> Commitment:
    """A commitment to any small integers that fit the layout's bits."""
    layout, blindings = owner.layout, owner.blindings()
    committer = ShortCommitter(layout.width, 2 ** (layout.bits - 1))
    points = encode_points([committer.commit(row, z) for row, z in zip(owner.rows, blindings.tolist(), strict=True)])
    root = commitment_root(layout, owner.strings, points)
    return Commitment(layout, owner.strings, points, prove_no_wrap(layout, root, owner.rows, blindings))


def secret(owner: Opening) -> Secret:
    """What a prover knows."""
    return Secret(owner.layout, owner.strings, owner.rows, owner.blindings())


def prove_fingerprint(owner: Opening, commitment: Commitment) -> SketchProof:
    """pi_1 under the recipe of the commitment."""
    recipe = owner.layout.recipe
    claim = Claim("fingerprint", commitment.root, None, recipe.seed, recipe.sketch_rows, 1, "0.0.0")
    return prove_sketches(secret(owner), claim, np.ones(len(owner.strings), dtype=bool))


def prove_compare(owner: Opening, own: Commitment, other: Commitment, rows: int = ROWS_COMPARE) -> SketchProof:
    """pi_2, one side."""
    claim, chosen = pair_claim(own, other, rows)
    return prove_sketches(secret(owner), replace(claim, version="0.0.0"), chosen)


def write_folder(owner: Opening, commitment: Commitment, folder: Path, passphrase: str | None = None) -> None:
    """Write `commitment` into a folder and `opening` into the one beside it; both are made."""
    folder.mkdir(parents=True, exist_ok=True)
    make_secret_folder(find_opening(folder), folder)
    write_opening(owner, find_opening(folder), passphrase)
    (folder / COMMITMENT).write_bytes(commitment.to_bytes())


def _owner(name: str, groups: tuple[int, int], n_layers: int) -> Opening:
    rows = _integers(is_b=name == "tiny-b", n_q=8 * groups[0])
    n_tokens = N_B if name == "tiny-b" else N_A
    shapes = (("embedding", n_tokens), ("q", 8 * groups[0]), *SHAPES[1:])
    last = n_layers - 1
    matrices = [Matrix(part if part == "embedding" else f"{last}.{part}", n, 11) for part, n in shapes]
    layout = Layout(
        model=name,
        architecture="llama",
        recipe=Recipe("canonical", layers=str(last), n_tokens=256, sketch_rows=ROWS_FINGERPRINT),
        n_layers=n_layers,
        width=WIDTH,
        bits=BITS,
        norm=column_norm(rows),
        matrices=tuple(matrices),
        terms=(
            Term(f"{last}.qk", f"{last}.q", f"{last}.k", groups, 0 if groups == (1, 1) else 4),
            Term(f"{last}.gate_down", f"{last}.gate", f"{last}.down"),
        ),
    )
    return Opening(name.encode().ljust(32, b"."), layout, _strings(name, n_tokens), rows)


def _strings(name: str, count: int) -> tuple[bytes, ...]:
    own = [f" own-{name}-{i}".encode() for i in range(count - N_SHARED)]
    shared = [f" t{i}".encode() if i else b"\xff" for i in range(N_SHARED)]
    return tuple(own + shared) if name == "tiny-a" else tuple(shared + own)


def _integers(*, is_b: bool, n_q: int) -> np.ndarray:
    """(N, d) int16: A's integers, or B's, near A's where the strings are shared."""
    largest = 2 ** (BITS - 1) - 1
    base, noise = np.random.default_rng(1), np.random.default_rng(2 + is_b)
    X = {token: base.normal(0, 400, (token, WIDTH)) for token in (N_SHARED, N_A - N_SHARED)}
    shared, own = X[N_SHARED], X[N_A - N_SHARED]
    matrices = [base.normal(0, 400, (n, WIDTH)) for n in (16, *(n for _, n in SHAPES[1:]))]
    parts = [shared, own[: N_B - N_SHARED]] if is_b else [own, shared]
    parts += [matrices[0][:n_q], *matrices[1:]]
    spread = 150 if is_b else 0
    noisy = np.vstack(parts)
    return np.clip(np.rint(noisy + spread * noise.standard_normal(noisy.shape)), -largest, largest).astype(np.int16)


@cache
def smallest() -> Opening:
    """The smallest opening: three tokens, width 1, one term of rank 1."""
    rows = np.array([[3], [-7], [5], [4], [9]], dtype=np.int16)
    layout = Layout(
        model="t",
        architecture="l",
        recipe=Recipe("canonical", layers="0", n_tokens=256, sketch_rows=8),
        n_layers=1,
        width=1,
        bits=12,
        norm=column_norm(rows),
        matrices=(Matrix("embedding", 3, 0), Matrix("q", 1, 0), Matrix("k", 1, 0)),
        terms=(Term("0.qk", "q", "k"),),
    )
    return Opening(b"s" * 32, layout, (b"a", b"b", b"c"), rows)
