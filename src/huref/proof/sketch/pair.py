"""One comparison of two commitments: proof-v1, section 9. Public arithmetic on two proofs; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from huref.errors import InconclusiveError, RejectedError, UsageError
from huref.fingerprints.sketch import jackknife, mean_cosines, slots_of, split_key
from huref.proof.arithmetic.signs import FEWEST_TOKENS, pair_seed, shared_tokens
from huref.proof.files.commitment import Commitment
from huref.proof.files.layout import Layout
from huref.proof.files.proof import ROWS, Claim
from huref.proof.sketch.exact import float_sketches
from huref.proof.sketch.verifier import Verified

DEFAULT_ROWS = 64


@dataclass(frozen=True)
class MatchedTerm:
    """A term of A, its partner of B, and the cosine of their sketches."""

    key_a: str
    key_b: str
    cosine: float


@dataclass(frozen=True)
class PrivateScore:
    """The ICS of two committed models, estimated from proved sketches.

    Attributes:
        ics: mean of the terms' cosines, in [-1, 1].
        error: standard error, by the jackknife over rows and over columns of the signs.
        terms: what it is made of.
        n_tokens: shared tokens.
        rows: m.
    """

    ics: float
    error: float
    terms: tuple[MatchedTerm, ...]
    n_tokens: int
    rows: int

    @property
    def interval(self) -> tuple[float, float]:
        """Three standard errors on either side, within [-1, 1]."""
        return max(-1.0, self.ics - 3 * self.error), min(1.0, self.ics + 3 * self.error)


def pair_claim(own: Commitment, other: Commitment, rows: int = DEFAULT_ROWS) -> tuple[Claim, np.ndarray]:
    """What the owner of `own` has to prove for a comparison with `other`: the claim and the tokens' choice.

    Raises:
        RejectedError: the two cannot be compared.
        UsageError: no such number of rows.
    """
    if rows not in ROWS:
        raise UsageError(
            "no such number of rows",
            where="--rows",
            expected=f"{ROWS.start} to {ROWS.stop - 1}, in steps of {ROWS.step}",
            got=str(rows),
            next_step=f"--rows {DEFAULT_ROWS}",
        )
    chosen = shared_tokens(own.strings, other.strings)
    _require_comparable(own, other, int(chosen.sum()))
    if 4 * rows > chosen.sum():
        raise UsageError(
            "so many rows would give the terms away",
            where="--rows",
            expected=f"at most a quarter of the {int(chosen.sum())} shared tokens",
            got=str(rows),
            next_step=f"--rows {DEFAULT_ROWS}",
        )
    seed = pair_seed(own.root, other.root)
    return Claim("compare", own.root, other.root, seed, rows, 1, ""), chosen


def score_pair(a: Verified, b: Verified) -> PrivateScore:
    """The ICS of two proofs that `verify_sketches` has accepted.

    Raises:
        RejectedError: they are not proofs for one comparison with each other.
        InconclusiveError: a sketch of zeros.
    """
    chosen = shared_tokens(a.commitment.strings, b.commitment.strings)
    _require_comparable(a.commitment, b.commitment, int(chosen.sum()))
    reverse = shared_tokens(b.commitment.strings, a.commitment.strings)
    claims = (a.proof.claim, b.proof.claim)
    is_pair = claims[0].peer == b.commitment.root and claims[1].peer == a.commitment.root
    is_same = claims[0].rows == claims[1].rows and claims[0].seed == claims[1].seed
    is_chosen = np.array_equal(a.proof.chosen, chosen) and np.array_equal(b.proof.chosen, reverse)
    if not (is_pair and is_same and is_chosen):
        raise RejectedError(
            "two proofs that are not of one comparison",
            where="the pair",
            expected="each other's roots, one seed, one number of rows, all shared tokens",
            got=f"peers {'match' if is_pair else 'differ'}, tokens {'match' if is_chosen else 'differ'}",
            next_step="both owners: `huref prove compare` again with the two commitments at hand",
        )
    ours, theirs = (float_sketches(side.proof.sketches) for side in (a, b))
    matched = [
        (key, other, ours[key].astype(np.float64), theirs[other].astype(np.float64))
        for key, other in _partners(a.commitment.layout, b.commitment.layout).items()
    ]
    left, right = (np.stack([item[i] for item in matched]) for i in (2, 3))
    _require_numbers(left, right)
    cosines = mean_cosines(left, right)
    terms = tuple(MatchedTerm(m[0], m[1], float(c)) for m, c in zip(matched, cosines, strict=True))
    return PrivateScore(float(cosines.mean()), jackknife(left, right), terms, int(chosen.sum()), claims[0].rows)


def _require_numbers(left: np.ndarray, right: np.ndarray) -> None:
    """Refuse sketches without a direction: committed zeros, or as good as."""
    moments = [moment.any(axis) for moment in (left, right) for axis in (1, 2)]
    if not all((moment.sum(1) > 1).all() for moment in moments):
        raise InconclusiveError(
            "a sketch of zeros",
            where="the pair",
            expected="numbers in more than one row and column of every matched sketch",
            got="zeros: a cosine is not defined",
            next_step="a layer adds nothing, as inserted ones do: both owners, commit with --recipe canonical-2",
        )


def _partners(a: Layout, b: Layout) -> dict[str, str]:
    """By term of A the term of B of the same kind and in the same place from the end."""
    theirs = {slot: key for key, slot in _slots(b).items()}
    return {key: theirs[slot] for key, slot in _slots(a).items() if slot in theirs}


def _slots(layout: Layout) -> dict[str, tuple[str, int]]:
    """By term its kind and its place from the end, in the order of the terms."""
    keys = [term.key for term in layout.terms]
    places = slots_of(keys, layout.n_layers, is_dual=layout.recipe.is_dual)
    return {key: (split_key(key)[1], places[key]) for key in keys}


def _require_comparable(a: Commitment, b: Commitment, n_shared: int) -> None:
    reasons: Mapping[str, bool] = {
        "one commitment twice": a.root == b.root,
        "different recipes": a.layout.recipe.name != b.layout.recipe.name,
        f"{n_shared} shared tokens": n_shared < FEWEST_TOKENS,
        "no term in common": not _partners(a.layout, b.layout),
    }
    for reason, is_so in reasons.items():
        if is_so:
            raise RejectedError(
                "two commitments that cannot be compared",
                where=f"{a.layout.model} and {b.layout.model}",
                expected=f"two commitments of one recipe with {FEWEST_TOKENS} tokens and a term in common",
                got=reason,
                next_step="both owners: commit with the same recipe and layers",
            )
