"""Two owners compare their models without showing weights: `huref compare --private`, docs/explanation/proofs.md.

Each side holds a folder with its commitment and, elsewhere, its opening, and gets the other's commitment. Run by
either, in any order and as often as one likes, this makes the proof that is its to make, and gives the result once
both are there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from huref.errors import InputError, UsageError
from huref.files.atomic import write_atomically
from huref.kinship.record import ICS_OF
from huref.kinship.verdict import FALSE_ACCUSATION_RATE, Background, background_of, load_calibration
from huref.progress import Progress, Report
from huref.proof.arithmetic.parallel import decode_many_points
from huref.proof.files.commitment import Commitment, read_commitment
from huref.proof.files.container import read_file
from huref.proof.files.opening import find_opening
from huref.proof.files.proof import claim_of, parse_proof
from huref.proof.sketch.pair import DEFAULT_ROWS, PrivateScore, score_pair
from huref.proof.sketch.prover import prove_compare
from huref.proof.sketch.verifier import Verified, passed_over, verify_sketches

ACCUSED_FROM = {"canonical-2": 0.5, "canonical": 0.75}
"""By recipe, an ICS that accuses: unrelated pairs reach 0.17 and 0.66 (docs/explanation/proofs.md)."""

_SCORES = {**ICS_OF, "paper": "ics"}
"""By recipe, what its ICS is called in JSON."""

LUCK = 6
"""Standard errors that a verdict allows for: 2^27 roots, tried by an owner who knows both models, give that many."""


@dataclass(frozen=True)
class PrivateComparison:
    """Where a private comparison stands.

    Attributes:
        a, b: names of the models, claims of their owners.
        roots: of the two commitments, hexadecimal.
        recipe: of A's commitment, and of B's where the two can be compared.
        score: the ICS and its error; None while a proof is missing.
        background: where the ICS stands among unrelated pairs, or None.
        verdict: `derived` or `inconclusive`; a private comparison never says independent.
        made: proofs that this run wrote.
        missing: proofs that are still to come.
        notes: reasons and caveats.
    """

    a: str
    b: str
    roots: tuple[str, str]
    recipe: str
    score: PrivateScore | None
    background: Mapping[str, Any] | None
    verdict: str
    made: tuple[str, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0 for a verdict, 3 for none."""
        return 3 if self.verdict == "inconclusive" else 0

    def to_dict(self) -> dict[str, Any]:
        """The `--json` document."""
        score = self.score
        return {
            "schema_version": "huref.private-comparison/1.1",
            "a": self.a,
            "b": self.b,
            "roots": list(self.roots),
            "recipe": self.recipe,
            **{name: score.ics if score and recipe == self.recipe else None for recipe, name in _SCORES.items()},
            "error": None if score is None else score.error,
            "interval": None if score is None else list(score.interval),
            "tokens": None if score is None else score.n_tokens,
            "rows": None if score is None else score.rows,
            "terms": [] if score is None else [asdict(term) for term in score.terms],
            "background": self.background,
            "verdict": self.verdict,
            "made": list(self.made),
            "missing": list(self.missing),
            "notes": list(self.notes),
        }


def compare_private(
    a: Path,
    b: Path,
    rows: int | None = None,
    passphrase: str | None = None,
    report: Report | None = None,
    *,
    secret: Path | None = None,
) -> PrivateComparison:
    """Do what can be done now for a comparison of two commitments.

    Args:
        a, b: folders with a `commitment` each; the one whose `opening` is at hand is proved for.
        rows: m of a proof that is made here; None for 64.
        secret: folder of A's opening; None for `A.secret`.

    Raises:
        RejectedError: a proof that does not hold, or commitments that cannot be compared.
        UsageError: the other owner's proof has more rows or fewer: it is not theirs to decide how much is shown.
        HurefError: see `huref.errors`.
    """
    folders, commitments = (a, b), (read_commitment(a), read_commitment(b))
    paths = tuple(folder / proof_name(other) for folder, other in zip(folders, reversed(commitments), strict=True))
    chosen = DEFAULT_ROWS if rows is None else rows
    made = []
    places = zip(folders, reversed(commitments), paths, (secret, None), strict=True)
    for folder, other, path, place in places:
        if not path.exists() and find_opening(folder, place).exists():
            _require_rows(paths, chosen)
            proof = prove_compare(folder, other, chosen, passphrase, report, secret=place)
            write_atomically(path, proof.to_bytes())
            made.append(str(path))
    missing = tuple(str(path) for path in paths if not path.exists())
    started = PrivateComparison(
        commitments[0].layout.model,
        commitments[1].layout.model,
        (commitments[0].root.hex(), commitments[1].root.hex()),
        commitments[0].layout.recipe.name,
        None,
        None,
        "inconclusive",
        tuple(made),
        missing,
        tuple(f"{Path(path).name} of the other owner is still to come" for path in missing),
    )
    return started if missing else _judged(started, _verified(paths, commitments, report))


def proof_name(peer: Commitment) -> str:
    """What the proof for a comparison with `peer` is called in its owner's folder."""
    return f"compare-{peer.root.hex()[:16]}.proof"


def _require_rows(paths: tuple[Path, ...], rows: int) -> None:
    """Refuse to answer a proof of another number of rows: more rows show more, fewer make chance likelier."""
    for path in paths:
        if path.exists() and (found := claim_of(read_file(path), str(path)).rows) != rows:
            raise UsageError(
                "the other proof has another number of rows",
                where=str(path),
                expected=f"{rows} rows",
                got=str(found),
                next_step=f"agree on a number; by hand: huref prove compare --rows {found}",
            )


def _verified(
    paths: tuple[Path, ...], commitments: tuple[Commitment, Commitment], report: Report | None
) -> tuple[Verified, Verified]:
    found = []
    for done, (path, commitment) in enumerate(zip(paths, commitments, strict=True)):
        if report:
            report(Progress("verifying", done, 2, "proof"))
        proof = parse_proof(read_file(path), commitment.layout, str(path))
        if proof.claim.kind != "compare":
            raise InputError("a proof of another kind", where=str(path), expected="compare", got=proof.claim.kind)
        found.append(verify_sketches(commitment, proof, decode_many_points))
    return found[0], found[1]


def _judged(started: PrivateComparison, sides: tuple[Verified, Verified]) -> PrivateComparison:
    score = score_pair(*sides)
    strings = [side.commitment.strings for side in sides]
    same = set(strings[0]) == set(strings[1])
    background: Background | None = None
    if started.recipe in ACCUSED_FROM:
        name = ICS_OF[started.recipe]
        background = background_of(load_calibration(), name, _surely(score), same_vocabulary=same)
    verdict, notes = _verdict(score, background, ACCUSED_FROM.get(started.recipe, 1.0))
    notes = (*notes, *(note for side in sides for note in _left_out(side.commitment)))
    document = None if background is None else background.to_dict()
    return replace(started, score=score, background=document, verdict=verdict, notes=notes)


def _left_out(commitment: Commitment) -> tuple[str, ...]:
    """Blocks that one owner left out."""
    parts = passed_over(commitment.layout)
    told = f"{commitment.layout.model}: left out as adding next to nothing, which is the owner's word: "
    return (told + ", ".join(parts),) if parts else ()


def _surely(score: PrivateScore) -> float:
    """What the ICS is at least, even if an owner tried many roots for the luckiest signs (proof-v1, section 12)."""
    return max(-1.0, score.ics - LUCK * score.error)


def _verdict(score: PrivateScore, background: Background | None, accused_from: float) -> tuple[str, tuple[str, ...]]:
    low, high = score.interval
    notes = [
        f"the ICS lies between {low:.3f} and {high:.3f} (three standard errors of the sketches)",
        "both sketches are proved; the signs come from both commitments, so neither owner could prepare for them",
        "it is not proved that the committed integers are the models' weights: "
        "docs/explanation/proofs.md says what ties them",
    ]
    if background is None:
        return "inconclusive", (*notes, "no background: unrelated pairs were not measured under this recipe")
    if score.rows < DEFAULT_ROWS:
        return "inconclusive", (*notes, f"sketches of {score.rows} rows: a verdict takes {DEFAULT_ROWS}")
    if _surely(score) >= accused_from and background.p_value <= FALSE_ACCUSATION_RATE:
        nearest = f"the nearest of {len(background.values)} unrelated pairs has {max(background.values):.3f}"
        return "derived", (*notes, f"{LUCK} standard errors lower it is above {accused_from}; {nearest}")
    why = (
        f"{LUCK} standard errors lower it is below {accused_from}: that excludes nobody, heavy training lowers it too"
    )
    return "inconclusive", (*notes, why)
