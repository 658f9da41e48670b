"""What `huref verify` does with a file: recognises it, verifies it, and holds it against what was published.

torch is loaded only where a portrait has to be drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from huref.errors import RejectedError, UsageError
from huref.fingerprints.file import load_fingerprint
from huref.fingerprints.record import Fingerprint
from huref.numerics.cosine import cosine
from huref.private.answers import WEIGHTS_KIND, Verification, check_answer, check_weights
from huref.proof.arithmetic.parallel import decode_many_points
from huref.proof.files.commitment import FRAME as COMMITMENT
from huref.proof.files.commitment import NAME as COMMITMENT_NAME
from huref.proof.files.commitment import Commitment, parse_commitment, read_commitment
from huref.proof.files.container import read_file
from huref.proof.files.proof import parse_proof
from huref.proof.inference.commitment import FRAME as WEIGHTS
from huref.proof.inference.commitment import NAME as WEIGHTS_NAME
from huref.proof.inference.commitment import parse_commitment as parse_inference_commitment
from huref.proof.inference.proof_file import FRAME as ANSWER
from huref.proof.sketch.exact import float_sketches
from huref.proof.sketch.opened_rows import FRAME as ROWS
from huref.proof.sketch.opened_rows import OpenedRows, excluded_share, parse_rows, verify_rows
from huref.proof.sketch.verifier import Verified, passed_over, verify_commitment, verify_sketches

SAME_VECTOR = {"canonical-2": 0.9999, "canonical": 0.99999, "paper": 0.99999}
"""By recipe, the least cosine of a proof's vector and a published fingerprint's: proof-v1, section 4."""

SAME_PICTURE = 1.0
"""Largest mean difference, in levels of 255, of a published portrait from the proof's: docs/explanation/proofs.md."""

SAME_PART = 8.0
"""Largest mean difference in any of 8 x 8 parts of it."""

SMALLEST_PICTURE = 64
"""Side in pixels: two portraits of fewer may be alike within `SAME_PICTURE`."""

_rejected = partial(RejectedError, next_step="it was made from other weights, another recipe or another generator")


@dataclass(frozen=True)
class Published:
    """What a proof is held against.

    Attributes:
        fingerprint: a fingerprint file that ought to be of the committed weights.
        image: a portrait, PNG, as `huref fingerprint` or `huref render` writes it.
        nonce: of an audit, for opened rows.
        model: weights that opened rows ought to be of.
    """

    fingerprint: Path | None = None
    image: Path | None = None
    nonce: bytes | None = None
    model: Path | None = None

    def refuse(self, names: tuple[str, ...], kind: str) -> None:
        """Refuse what a file of this kind cannot be held against.

        Raises:
            UsageError: any of `names` is given.
        """
        given = [f"--{name}" for name in names if getattr(self, name) is not None]
        if given:
            raise UsageError(
                f"a file of kind {kind} cannot be held against that",
                where=", ".join(given),
                expected="fingerprint proofs: --fingerprint, --image; opened rows: --nonce, --model",
                got=kind,
                next_step="leave it out",
            )


def verify(
    path: str | Path, commitment: str | Path | None = None, published: Published | None = None
) -> Verification:
    """Verify a commitment, or a proof with its commitment.

    Args:
        commitment: folder or file; not needed where `path` is a commitment itself, or where one lies beside the
            proof or in the folder above.

    Raises:
        RejectedError: something that does not hold.
        InputError: a file that is none of these, or damaged.
        UsageError: a proof without its commitment, or something to hold a commitment against.
    """
    path, commitment = Path(path), None if commitment is None else Path(commitment)
    published = published or Published()
    data = read_file(path)
    if data.startswith(COMMITMENT.magic):
        published.refuse(("fingerprint", "image", "nonce", "model"), "commitment")
        return _commitment(parse_commitment(data, str(path)))
    if data.startswith(WEIGHTS.magic):
        published.refuse(("fingerprint", "image", "nonce", "model"), WEIGHTS_KIND)
        return check_weights(parse_inference_commitment(data, str(path)))
    name = WEIGHTS_NAME if data.startswith(ANSWER.magic) else COMMITMENT_NAME
    if commitment is None:
        commitment = _nearby(path, name)
    found = _proof(data, commitment, published, str(path))
    used = commitment / name if commitment.is_dir() else commitment
    return replace(found, details={**found.details, "commitment_file": str(used)})


def _nearby(path: Path, name: str) -> Path:
    """The folder of a proof that nobody named a commitment for, or the folder above, whichever holds `name`.

    Raises:
        UsageError: neither does.
    """
    home = path.parent
    for folder in (home, home / ".." if home.name in ("", "..") else home.parent):
        if (folder / name).is_file():
            return folder
    raise UsageError(
        "a proof needs the commitment that it is about",
        where="--commitment",
        expected="the folder or file that its maker published",
        got=f"none, and no file {name} beside the proof",
        next_step=f"huref verify {path} --commitment DIR",
    )


def _proof(data: bytes, commitment: Path, published: Published, where: str) -> Verification:
    if data.startswith(ANSWER.magic):
        published.refuse(("fingerprint", "image", "nonce", "model"), "inference")
        return check_answer(commitment, data, where)
    found = read_commitment(commitment)
    if data.startswith(ROWS.magic):
        published.refuse(("fingerprint", "image"), "rows")
        return _rows(found, parse_rows(data, found, where), published)
    proof = parse_proof(data, found.layout, where)
    refused = ("nonce", "model") if proof.claim.kind == "fingerprint" else ("fingerprint", "image", "nonce", "model")
    published.refuse(refused, proof.claim.kind)
    return _sketches(verify_sketches(found, proof, decode_many_points), published)


def published_fingerprint(verified: Verified) -> Fingerprint:
    """The fingerprint that a valid proof establishes, as a file would have it."""
    layout, vector = verified.commitment.layout, verified.vector
    if vector is None:
        raise ValueError("a proof for one comparison has no fingerprint")
    return Fingerprint(
        model=layout.model,
        architecture=layout.architecture,
        recipe=layout.recipe,
        vector=vector,
        sketches=float_sketches(verified.proof.sketches),
        tokens={"used": layout.n_tokens},
        geometry={"n_layers": layout.n_layers, "width": layout.width},
        weights={"format": "commitment", "root": verified.commitment.root.hex()},
        notes=("from a proof about committed integers",),
        version=verified.proof.claim.version,
    )


def _commitment(commitment: Commitment) -> Verification:
    verify_commitment(commitment, decode_many_points)
    return _result("commitment", commitment, (_bounded(commitment),), None, {})


def _rows(commitment: Commitment, opened: OpenedRows, published: Published) -> Verification:
    if published.nonce is None:
        raise UsageError(
            "opened rows show nothing without the auditor's own nonce",
            where="--nonce",
            expected="the nonce that you drew after the root was published",
            got="none",
            next_step="--nonce HEX",
        )
    chosen = verify_rows(commitment, opened, published.nonce)
    n_rows = commitment.layout.n_rows
    share = excluded_share(len(chosen))
    shown = [
        f"{len(chosen)} of {n_rows} rows, picked by your nonce, are the committed ones",
        f"with 95 % confidence fewer than {share:.1%} of all rows would have failed",
    ]
    if published.model is not None:
        _require_rows_of(published.model, commitment, opened, chosen)
        shown.append(f"they are the rows of {published.model.name}")
    details = {"rows": chosen.tolist(), "excluded_share": share}
    return _result("rows", commitment, tuple(shown), None, details)


def _require_rows_of(model: Path, commitment: Commitment, opened: OpenedRows, chosen: np.ndarray) -> None:
    from huref.proof.sketch.quantisation import same_integers

    layout = commitment.layout
    rows = np.ma.MaskedArray(np.zeros((layout.n_rows, layout.width), np.int16), mask=True)
    rows[chosen] = opened.rows
    if not same_integers(model, layout, commitment.strings, rows):
        raise _rejected(
            "the rows are not the model's", where=str(model), expected="the rows of the commitment", got="others"
        )


def _sketches(verified: Verified, published: Published) -> Verification:
    commitment, claim = verified.commitment, verified.proof.claim
    count = int(verified.proof.chosen.sum())
    details: dict[str, Any] = {"rows": claim.rows, "tokens": count, "terms": list(verified.proof.sketches)}
    shown = [_bounded(commitment)]
    if left_out := passed_over(commitment.layout):
        shown.append(f"left out as adding next to nothing, which is the owner's word: {', '.join(left_out)}")
    if verified.vector is None:
        shown.append(
            f"the sketches of {count} tokens for a comparison with {(claim.peer or b'').hex()} come from them"
        )
    else:
        terms = ", ".join(verified.proof.sketches)
        shown.append(f"the 512 numbers below are the fingerprint of these integers: {terms}")
        shown += _held_against(verified, published, details)
    return _result(claim.kind, commitment, tuple(shown), verified.vector, details)


def _held_against(verified: Verified, published: Published, details: dict[str, Any]) -> list[str]:
    """Sentences about what was published; refuses what is of other numbers."""
    shown = []
    if published.fingerprint is not None and verified.vector is not None:
        given = load_fingerprint(published.fingerprint)
        proved = verified.commitment.layout.recipe
        if given.recipe.name != proved.name:
            raise _rejected(
                "the fingerprint is of another recipe than the proof",
                where=str(published.fingerprint),
                expected=f"{proved.name}: huref fingerprint MODEL --recipe {proved.name}",
                got=given.recipe.name,
            )
        score = fingerprint_cosine(given, published_fingerprint(verified))
        if given.recipe != proved or score < SAME_VECTOR[proved.name]:
            raise _rejected(
                "the fingerprint is not the proof's",
                where=str(published.fingerprint),
                expected=str(SAME_VECTOR[proved.name]),
                got=str(score),
            )
        details["fingerprint_cosine"] = score
        shown.append(f"the published fingerprint is theirs: cosine {score:.7f}")
    if published.image is not None:
        difference = require_picture(published.image, published_fingerprint(verified))
        details["image_difference"] = difference
        shown.append(f"the published portrait is theirs: mean difference {difference:.3f} of 255 levels")
    return shown


def fingerprint_cosine(given: Fingerprint, proved: Fingerprint) -> float:
    """The least cosine of vectors and sketches; -1 where the sketches are of other terms."""
    if set(given.sketches) != set(proved.sketches):
        return -1.0
    pairs = [(given.vector, proved.vector), *((given.sketches[key], proved.sketches[key]) for key in given.sketches)]
    return min(cosine(left, right) if left.shape == right.shape else -1.0 for left, right in pairs)


def require_picture(path: Path, item: Fingerprint) -> float:
    """Mean difference, in levels of 255, of a portrait from the fingerprint's own.

    Raises:
        InputError: no picture that can be read.
        RejectedError: the portrait of another fingerprint.
    """
    difference, worst = picture_differences(path, item)
    if difference > SAME_PICTURE or worst > SAME_PART:
        expected, got = (f"{SAME_PICTURE}, {SAME_PART} in the worst part", f"{difference:.3f}, {worst:.3f}")
        raise _rejected("the portrait is not the proof's", where=str(path), expected=expected, got=got)
    return difference


def picture_differences(path: Path, item: Fingerprint) -> tuple[float, float]:
    """Mean difference of a portrait from the fingerprint's own, in levels of 255; and that of its worst part.

    The parts are a grid of 8 x 8: what is painted over a corner is lost in the mean of the whole.

    Raises:
        InputError: no picture that can be read.
        RejectedError: no square picture, or one too small to tell dogs apart.
    """
    from huref.portraits.drawing import PictureOptions, draw
    from huref.portraits.image.png import read_png

    given = read_png(path)
    if given.shape[0] != given.shape[1] or given.shape[0] < SMALLEST_PICTURE:
        expected, got = f"a square of {SMALLEST_PICTURE} or more", f"{given.shape[1]} x {given.shape[0]}"
        raise _rejected("the portrait is not the proof's", where=str(path), expected=expected, got=got)
    drawn = draw([item], PictureOptions(size=given.shape[0]))
    levels = np.abs(drawn.astype(np.float64) - given.astype(np.float64)).mean(axis=2)
    parts = [part.mean() for band in np.array_split(levels, 8) for part in np.array_split(band, 8, axis=1)]
    return float(levels.mean()), float(max(parts))


def _bounded(commitment: Commitment) -> str:
    layout = commitment.layout
    bits = (2 * layout.mask_bound).bit_length()
    count = layout.n_rows * layout.width
    return f"the owner knows {count:,} integers below 2^{bits} behind the root"


def _result(
    kind: str, commitment: Commitment, shown: tuple[str, ...], vector: np.ndarray | None, details: Mapping[str, Any]
) -> Verification:
    layout = commitment.layout
    return Verification(kind, commitment.root.hex(), layout.model, layout.architecture, shown, vector, details)
