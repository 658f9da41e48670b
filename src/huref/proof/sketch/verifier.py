"""Verification of commitments and of proofs about sketches: proof-v1, section 9. No torch is imported here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from py_arkworks_bls12381 import G1Point

from huref.errors import HurefError, RejectedError, UsageError
from huref.fingerprints.terms import DUAL_KINDS
from huref.proof.arithmetic.curve import decode_points
from huref.proof.arithmetic.equations import PointEquations
from huref.proof.arithmetic.signs import FEWEST_TOKENS, pair_seed
from huref.proof.files.commitment import Commitment
from huref.proof.files.layout import Layout, is_plain
from huref.proof.files.proof import SketchProof
from huref.proof.sketch.exact import vector_of
from huref.proof.sketch.no_wrap import require_no_wrap
from huref.proof.sketch.protocol import require_sketches

MOST_LAYERS = 1 << 16
_rejected = partial(RejectedError, next_step="do not rely on it: it is forged, damaged, or belongs to something else")

Decode = Callable[[bytes, str], list[G1Point]]


@dataclass(frozen=True)
class Verified:
    """What a valid proof establishes.

    Attributes:
        commitment: what it is about.
        proof: the claim and the exact sketches.
        vector: (512,) float32 that follows for a fingerprint; None for a comparison.
    """

    commitment: Commitment
    proof: SketchProof
    vector: np.ndarray | None


def verify_commitment(commitment: Commitment, decode: Decode = decode_points) -> None:
    """Check that a commitment bounds its integers, and that all its points are good.

    Args:
        decode: as for `verify_sketches`.

    Raises:
        CorruptFileError: a point that cannot be accepted.
        RejectedError: the bounds do not hold.
    """
    equations = PointEquations()
    _require_commitment(commitment, equations, decode)
    _require_all(equations, "the commitment's no-wrap proof does not hold", "commitment")


def verify_sketches(commitment: Commitment, proof: SketchProof, decode: Decode = decode_points) -> Verified:
    """Check a proof and the commitment that it is about.

    Args:
        decode: how the commitment's points are decoded; `huref.proof.arithmetic.parallel` has one for several
        processes.

    Raises:
        CorruptFileError: a point that cannot be accepted.
        RejectedError: the proof does not hold, or is about something else.
    """
    _require_claim(commitment, proof)
    equations = PointEquations()
    first = _require_commitment(commitment, equations, decode)
    require_sketches(commitment.layout, commitment.strings, proof, first, equations)
    _require_all(equations, "the proof does not hold", "equations of proof-v1, sections 7 and 8")
    vector = vector_of(commitment.layout, proof.sketches) if proof.claim.kind == "fingerprint" else None
    return Verified(commitment, proof, vector)


def _require_claim(commitment: Commitment, proof: SketchProof) -> None:
    """Section 9, 3."""
    claim, recipe = proof.claim, commitment.layout.recipe
    if claim.root != commitment.root:
        raise _rejected(
            "the proof is about another commitment",
            where="root",
            expected=commitment.root.hex(),
            got=claim.root.hex(),
        )
    if claim.kind == "fingerprint":
        expected = (recipe.seed, recipe.sketch_rows, commitment.layout.n_tokens)
        got = (claim.seed, claim.rows, int(proof.chosen.sum()))
        if got != expected:
            raise _rejected(
                "the proof is not of the commitment's recipe",
                where="seed, rows, tokens",
                expected=str(expected),
                got=str(got),
            )
        _require_recipe(commitment.layout)
        return
    seed = pair_seed(claim.root, claim.peer or b"")
    if claim.seed != seed or claim.root == claim.peer or proof.chosen.sum() < FEWEST_TOKENS:
        expected_text = f"{seed}, two commitments, at least {FEWEST_TOKENS} tokens"
        raise _rejected(
            "signs that are not those of the pair", where="seed, tokens", expected=expected_text, got=claim.seed
        )


def _require_recipe(layout: Layout) -> None:
    """The terms are of the recipe's layers."""
    layers, depth = layout.recipe.layers, layout.n_layers
    named: set[int] = set()
    if is_plain(layers):
        with contextlib.suppress(UsageError):
            named = set(layout.recipe.layer_indices(min(depth, MOST_LAYERS) if layers == "all" else depth))
    is_right = _is_dual(layout, named) if layout.recipe.is_dual else {term.layer for term in layout.terms} == named
    if not is_right or (layers == "all" and depth > MOST_LAYERS):
        raise _rejected(
            "the commitment is not of its recipe",
            where="terms",
            expected=f"layers {layers} of {depth}",
            got=", ".join(term.key for term in layout.terms[:12]),
        )


def _is_dual(layout: Layout, named: set[int]) -> bool:
    """Whether the terms are those of some blocks under canonical-2: of at most two of each part, or of named layers.

    Which blocks do something is for the owner to say: see `passed_over`.
    """
    by_kind = _layers_by_kind(layout)
    is_whole = by_kind["qk"] == by_kind["vo"] and len(by_kind) == len(DUAL_KINDS)
    if layout.recipe.layers == "last2":
        return is_whole and all(len(layers) <= len(named) for layers in by_kind.values())
    return is_whole and all(layers <= named for layers in by_kind.values())


def passed_over(layout: Layout) -> tuple[str, ...]:
    """Of a commitment under canonical-2, in words, which blocks of the recipe's layers it leaves out."""
    if not layout.recipe.is_dual:
        return ()
    by_kind, depth, layers = _layers_by_kind(layout), layout.n_layers, layout.recipe.layers
    told = []
    for part, kind in (("attention", "vo"), ("feed-forward", "up_down")):
        used = by_kind[kind]
        if layers == "last2":  # with fewer blocks than it asks for, every layer was looked at
            looked_at = depth if len(used) < min(2, depth) else depth - min(used)
        else:  # no range of layers is made: the depth is a claim
            looked_at = depth if layers == "all" else len(layers.split(","))
        if not used:
            told.append(f"all {part}")
        elif looked_at > len(used):
            told.append(f"{part} of {looked_at - len(used)} layers")
    return tuple(told)


def _layers_by_kind(layout: Layout) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {kind: set() for kind in DUAL_KINDS}
    for term in layout.terms:
        found.setdefault(term.kind, set()).add(term.layer)
    return found


def _require_commitment(commitment: Commitment, equations: PointEquations, decode: Decode) -> int:
    """Decode the points and add the equations of section 7; where the rows' points begin."""
    rows = equations.extend(decode(commitment.points, "commitment"))
    masks = equations.extend(decode_points(commitment.no_wrap.masks, "no-wrap proof"))
    try:
        require_no_wrap(commitment.layout, commitment.root, commitment.no_wrap, (rows, masks), equations)
    except HurefError as error:
        raise _rejected(error.what, where=error.where, expected=error.expected, got=error.got) from None
    return rows


def _require_all(equations: PointEquations, what: str, where: str) -> None:
    if not equations.hold():
        raise _rejected(what, where=where, expected="every equation", got="at least one that is false")
