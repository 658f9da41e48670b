"""What `huref verify FOLDER` does with a published folder: sums, proofs, portrait, badge and card, held together.

The folder vouches for itself only: its root has to be compared with one that was published elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from huref.errors import CorruptFileError, MissingFileError, RejectedError
from huref.fingerprints.file import SUFFIX, fingerprint_digest, load_fingerprint
from huref.fingerprints.record import Fingerprint
from huref.portraits.image.svg import read_svg_metadata
from huref.private.answers import Verification
from huref.private.published import (
    CARD,
    PUBLIC_PARTS,
    SUMS,
    badge_name,
    find_secret,
    not_said,
    others,
    picture_name,
    proof_name,
    read_sums,
)
from huref.private.verification import Published, require_picture, verify
from huref.proof.files.commitment import NAME as COMMITMENT
from huref.proof.files.commitment import read_commitment
from huref.proof.files.container import read_file
from huref.proof.files.proof import FRAME as PROOF
from huref.proof.inference.answers import read_inference
from huref.proof.inference.commitment import NAME as INFERENCE
from huref.proof.inference.link import NAME as LINK
from huref.proof.inference.link import parse_link, verify_link
from huref.proof.inference.proof_file import FRAME as ANSWER

_MAX_CARD = 1 << 20
_rejected = partial(RejectedError, next_step="do not rely on it: ask its maker; its maker publishes again")


def verify_published(folder: str | Path, commitment: Path | None = None) -> Verification:
    """Check everything in a folder that `huref publish` made.

    Args:
        commitment: folder or file from elsewhere, whose root the folder's has to be.

    Raises:
        RejectedError: a file that is not the listed one, that belongs to another, or that must not be there.
        InputError: no published folder, or one with damaged files.
    """
    folder = Path(folder)
    sums = read_sums(folder)
    if (secret := find_secret(folder, follow_links=False)) is not None:
        raise _rejected("a published folder holds a secret", where=str(secret), expected="none", got="an opening")
    _require_sums(folder, sums)
    item = _fingerprint(folder, sums)
    shown = [f"all {len(sums)} files of {SUMS} are the listed ones"]
    root = read_commitment(folder / COMMITMENT).root.hex() if COMMITMENT in sums else ""
    if commitment is not None:
        _require_root(folder, root, read_commitment(commitment).root.hex())
    found = _proved(folder, sums, item, shown)
    _require_badge(folder, sums, item)
    _require_card(folder, sums, (root, fingerprint_digest(item)))
    shown += _inference(folder, sums)
    unlisted = others(folder, (*sums, SUMS), follow_links=False)
    shown += _other_proofs(folder, unlisted)
    details: dict[str, Any] = {
        "files": sorted(sums),
        "unlisted": [str(path.relative_to(folder)) for path in unlisted],
        "proved": found is not None,
        **({} if found is None else found.details),
    }
    unproved = () if found else not_said(root, has_proof=False)[:1]
    vector = None if found is None else found.vector
    return Verification("published", root, item.model, item.architecture, tuple(shown), vector, details, unproved)


def _require_sums(folder: Path, sums: Mapping[str, str]) -> None:
    for name, digest in sums.items():
        path = folder / name
        if not path.is_file():
            raise MissingFileError(
                "a listed file is missing", where=str(path), expected=f"the file with SHA-256 {digest}", got="none"
            )
        with path.open("rb") as file:
            got = hashlib.file_digest(file, "sha256").hexdigest()
        if got != digest:
            raise _rejected("a file is not the listed one", where=str(path), expected=digest, got=got)


def _require_root(folder: Path, root: str, expected: str) -> None:
    if root != expected:
        got = root or "none"
        raise _rejected("the folder is about another commitment", where=str(folder), expected=expected, got=got)


def _fingerprint(folder: Path, sums: Mapping[str, str]) -> Fingerprint:
    """The one fingerprint of the folder, whose portrait is there too."""
    names = [name for name in sums if name.endswith(SUFFIX)]
    if len(names) != 1:
        expected, got = "one fingerprint", f"{len(names)} of them"
        raise CorruptFileError("a published folder is of one model", where=str(folder), expected=expected, got=got)
    item = load_fingerprint(folder / names[0])
    if names[0] != f"{item.model}{SUFFIX}" or picture_name(item.model) not in sums:
        raise _rejected(
            "the fingerprint or its portrait has another name",
            where=str(folder / names[0]),
            expected=f"{item.model}{SUFFIX} and {picture_name(item.model)} in {SUMS}",
            got=", ".join(sorted(sums))[:200],
        )
    return item


def _proved(folder: Path, sums: Mapping[str, str], item: Fingerprint, shown: list[str]) -> Verification | None:
    """What the proof shows; without one, portrait and commitment by themselves. Adds sentences to `shown`."""
    fingerprint, picture = folder / f"{item.model}{SUFFIX}", folder / picture_name(item.model)
    if proof_name(item.model) in sums:
        found = verify(folder / proof_name(item.model), folder, Published(fingerprint, picture))
        if found.kind != "fingerprint":
            raise _rejected("the proof is of another kind", where=str(folder), expected="fingerprint", got=found.kind)
        shown += found.shown
        return found
    difference = require_picture(picture, item)
    shown.append(f"the portrait is the fingerprint's: mean difference {difference:.3f} of 255 levels")
    if COMMITMENT in sums:
        shown += verify(folder / COMMITMENT).shown
    return None


def _require_badge(folder: Path, sums: Mapping[str, str], item: Fingerprint) -> None:
    """The badge says that it is of this fingerprint; its pixels are not looked at."""
    path = folder / badge_name(item.model)
    if path.name not in sums:
        return
    try:
        named = json.loads(read_svg_metadata(path)["huref:picture"])["fingerprints"][0]["sha256"]
    except (LookupError, TypeError, ValueError):
        named = "none that can be read"
    if named != fingerprint_digest(item):
        expected = f"fingerprint {fingerprint_digest(item)}"
        raise _rejected(
            "the badge is of another fingerprint", where=str(path), expected=expected, got=str(named)[:80]
        )


def _require_card(folder: Path, sums: Mapping[str, str], named: tuple[str, str]) -> None:
    """The card names this root and this fingerprint."""
    if CARD not in sums:
        return
    text = read_file(folder / CARD, _MAX_CARD).decode("utf-8", "replace")
    if not named[0] and re.search(r"\broot\b", text):
        raise _rejected("the card names a root", where=str(folder / CARD), expected="none: no commitment", got="one")
    for digits in named:
        if digits not in text:
            raise _rejected(
                "the card names something else", where=str(folder / CARD), expected=digits, got="another, or none"
            )


def _inference(folder: Path, sums: Mapping[str, str]) -> list[str]:
    """Sentences about a commitment to all weights, and about what ties it to the fingerprint's."""
    shown: list[str] = []
    if INFERENCE in sums:
        shown += verify(folder / INFERENCE).shown
    if set(PUBLIC_PARTS) <= set(sums):
        path = folder / LINK
        commitment, inference = read_commitment(folder / COMMITMENT), read_inference(folder / INFERENCE)
        verify_link(commitment, inference, parse_link(read_file(path), str(path)))
        shown.append(f"rows of the commitment to all weights, {inference.root.hex()}, are the fingerprint's own")
    return shown


def _other_proofs(folder: Path, unlisted: list[Path]) -> list[str]:
    """Sentences about proofs that were put beside the listed files; opened rows take a nonce, and are passed over."""
    shown = []
    for path in unlisted:
        with path.open("rb") as file:
            is_proof = file.read(8) in (PROOF.magic, ANSWER.magic)
        if is_proof and path.parent == folder:
            shown += [f"{path.name}: {sentence}" for sentence in verify(path, folder).shown]
    return shown
