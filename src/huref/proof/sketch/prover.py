"""From a folder with a commitment and its opening to a proof: no torch, no model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from huref.errors import UsageError
from huref.fingerprints.recipe import Recipe
from huref.progress import Progress, Report
from huref.proof.files.commitment import Commitment, read_commitment
from huref.proof.files.opening import Opening, read_opening, require_opening
from huref.proof.files.proof import Claim, SketchProof
from huref.proof.sketch.opened_rows import OpenedRows, open_rows
from huref.proof.sketch.opening_check import opens
from huref.proof.sketch.pair import DEFAULT_ROWS, pair_claim
from huref.proof.sketch.protocol import Secret, prove_sketches
from huref.version import __version__

_STEPS = 3


def prove_fingerprint(
    folder: Path, passphrase: str | None = None, report: Report | None = None, *, secret: Path | None = None
) -> SketchProof:
    """pi_1: the fingerprint of the committed integers, under the commitment's own recipe.

    Args:
        secret: folder of the opening; None for the one where `find_opening` looks.

    Raises:
        InputError: no commitment in the folder, or no opening of it.
        UsageError: an opening of another commitment, or a wrong passphrase.
    """
    commitment, opening = read_own(folder, passphrase, secret)
    recipe: Recipe = commitment.layout.recipe
    claim = Claim("fingerprint", commitment.root, None, recipe.seed, recipe.sketch_rows, 1, "")
    return _prove(opening, claim, np.ones(commitment.layout.n_tokens, dtype=bool), report)


def prove_compare(
    folder: Path,
    peer: Commitment,
    rows: int = DEFAULT_ROWS,
    passphrase: str | None = None,
    report: Report | None = None,
    *,
    secret: Path | None = None,
) -> SketchProof:
    """pi_2, one side: the sketches of the committed integers under the signs of a pair of commitments.

    Raises:
        RejectedError: the two commitments cannot be compared.
        InputError, UsageError: as `prove_fingerprint`.
    """
    commitment, opening = read_own(folder, passphrase, secret)
    claim, chosen = pair_claim(commitment, peer, rows)
    return _prove(opening, claim, chosen, report)


def prove_rows(
    folder: Path, nonce: bytes, count: int, passphrase: str | None = None, *, secret: Path | None = None
) -> OpenedRows:
    """Open the rows that a nonce picks: they are public from then on.

    Raises:
        InputError, UsageError: as `prove_fingerprint`, or no such audit.
    """
    commitment, opening = read_own(folder, passphrase, secret)
    return open_rows(commitment, opening, nonce, count, __version__)


def read_own(folder: Path, passphrase: str | None = None, secret: Path | None = None) -> tuple[Commitment, Opening]:
    """A folder's commitment and its opening, which must belong together.

    Raises:
        InputError, UsageError: as `prove_fingerprint`.
    """
    commitment = read_commitment(folder)
    path = require_opening(folder, secret)
    opening = read_opening(path, passphrase)
    is_same = opening.layout == commitment.layout and opening.strings == commitment.strings
    if not (is_same and opens(commitment.points, [opening.rows], opening.blindings())):
        raise UsageError(
            "the opening is of another commitment",
            where=str(path),
            expected="the two files that one `huref commit` wrote, unchanged",
            got="rows that do not open its points" if is_same else "files of different models or recipes",
            next_step="put them back together",
        )
    return commitment, opening


def require_model(
    reference: str | Path,
    folder: Path,
    passphrase: str | None = None,
    arch_file: Path | None = None,
    *,
    tokenizer: Path | None = None,
    secret: Path | None = None,
) -> None:
    """Refuse a model whose integers are not the committed ones; the recipe's token ranking is not needed.

    Raises:
        UsageError: another model, or weights that changed since.
    """
    from huref.proof.sketch.quantisation import same_integers

    _, opening = read_own(folder, passphrase, secret)
    if not same_integers(reference, opening.layout, opening.strings, opening.rows, arch_file, tokenizer):
        raise UsageError(
            "the commitment is of another model",
            where=str(folder),
            expected=f"the integers of {reference}",
            got="other integers",
            next_step="commit to this model, or leave it out to prove for what was committed",
        )


def _prove(opening: Opening, claim: Claim, chosen: np.ndarray, report: Report | None) -> SketchProof:
    steps = iter(range(_STEPS))

    def step(stage: str) -> None:
        if report:
            report(Progress(f"proving: {stage}", next(steps, _STEPS), _STEPS, "step"))

    secret = Secret(opening.layout, opening.strings, opening.rows, opening.blindings())
    return prove_sketches(secret, replace(claim, version=__version__), chosen, step)
