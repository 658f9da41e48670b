"""`huref publish`: what an owner may show of a model, laid out in one folder; what is secret is never in it.

The folder may be the one that `huref commit` wrote. Run again, this writes only what changed.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from huref.errors import CorruptFileError, HurefError, OutputError, UsageError
from huref.files.atomic import make_folder, require_place, write_atomically
from huref.fingerprints.file import SUFFIX, load_fingerprint
from huref.fingerprints.record import Fingerprint
from huref.fingerprints.references import fingerprint
from huref.portraits.files import save_picture, write
from huref.private.published import (
    CARD,
    MARK,
    PUBLIC_PARTS,
    SUMS,
    badge_name,
    card_text,
    find_secret,
    names_of,
    not_said,
    others,
    proof_name,
    read_sums,
    sums_text,
)
from huref.private.verification import SAME_VECTOR, fingerprint_cosine, published_fingerprint
from huref.progress import Report
from huref.proof.arithmetic.parallel import decode_many_points
from huref.proof.files.commitment import NAME as COMMITMENT
from huref.proof.files.commitment import Commitment, parse_commitment
from huref.proof.files.container import read_file
from huref.proof.files.opening import SECRET_SUFFIX, find_opening
from huref.proof.files.proof import parse_proof
from huref.proof.inference.commitment import NAME as INFERENCE
from huref.proof.inference.commitment import parse_commitment as parse_inference_commitment
from huref.proof.inference.link import NAME as LINK
from huref.proof.inference.link import parse_link
from huref.proof.sketch.prover import prove_fingerprint
from huref.proof.sketch.verifier import Verified, verify_sketches


@dataclass(frozen=True)
class PublishOptions:
    """What a publication is made from, beside the model.

    Attributes:
        commitment: the folder that `huref commit` wrote; None for the published folder itself, if it has one.
        secret: folder of the opening; None for the one where `huref commit` puts it.
        passphrase: of the opening.
        codes: add the codes of the model's neurons to the fingerprint.
        tokens_file: the ranking that was committed with, if one was.
        arch_file: an architecture file of your own.
    """

    commitment: Path | None = None
    secret: Path | None = None
    passphrase: str | None = field(default=None, repr=False)
    codes: bool = False
    tokens_file: Path | None = None
    arch_file: Path | None = None


@dataclass(frozen=True)
class PublishedFile:
    """One file of a publication.

    Attributes:
        name: in the folder.
        sha256: hexadecimal, of its bytes.
        bytes: its size.
        is_new: whether this run wrote it; if not, it was there already, to the last bit.
    """

    name: str
    sha256: str
    bytes: int
    is_new: bool


@dataclass(frozen=True)
class Publication:
    """What lies in a published folder.

    Attributes:
        folder: where.
        model: its name.
        root: of the commitment, hexadecimal, or None.
        recipe: of the fingerprint, by name.
        is_proved: whether a proof ties the fingerprint to the commitment.
        files: what may be uploaded.
        others: other files in the folder, which this neither made nor looked into, but for secrets.
        secret: the opening that stays where it is, or None where none was found.
        not_claimed: what all this does not say, in sentences.
    """

    folder: Path
    model: str
    root: str | None
    recipe: str
    is_proved: bool
    files: tuple[PublishedFile, ...]
    others: tuple[str, ...]
    secret: Path | None
    not_claimed: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The `--json` document."""
        return {
            "schema_version": "huref.published/1.0",
            "folder": str(self.folder),
            "model": self.model,
            "root": self.root,
            "recipe": self.recipe,
            "proved": self.is_proved,
            "files": [asdict(file) for file in self.files],
            "others": list(self.others),
            "opening_file": None if self.secret is None else str(self.secret),
            "not_claimed": list(self.not_claimed),
        }


def publish(
    folder: str | Path, model: str | Path, options: PublishOptions | None = None, report: Report | None = None
) -> Publication:
    """Lay out what may be shown of a model: fingerprint, portrait, badge, commitment, proof, card, checksums.

    Args:
        folder: is made, or brought up to date.
        model: a folder, a weight file, or a saved fingerprint.

    Raises:
        UsageError: the folder holds a secret, or the model is not the committed one.
        OutputError: the folder has files of another model or of another commitment, which stay as they are.
        HurefError: see `huref.errors`.
    """
    folder, chosen = Path(folder), options or PublishOptions()
    require_no_secret(folder)
    require_place(folder / SUMS)
    sealed = chosen.commitment or folder
    parts = _public_parts(folder, sealed)
    commitment = _commitment(parts, folder, str(sealed))
    item = _fingerprint(model, commitment, chosen, report)
    _require_same_model(folder, item)
    proof = None if commitment is None else _proof(folder, commitment, item, chosen, report)
    root = "" if commitment is None else commitment.root.hex()
    files = _contents(item, parts, proof, root)
    _require_ours(folder, files, item.model)
    make_folder(folder)
    written = tuple(_written(folder / name, files[name]) for name in names_of(item.model) if name in files)
    opening = find_opening(sealed, chosen.secret)
    return Publication(
        folder=folder,
        model=item.model,
        root=root or None,
        recipe=item.recipe.name,
        is_proved=proof is not None,
        files=written,
        others=tuple(str(path.relative_to(folder)) for path in others(folder, files, follow_links=True)),
        secret=opening if commitment is not None and opening.exists() else None,
        not_claimed=not_said(root, has_proof=proof is not None),
    )


def require_no_secret(folder: Path) -> None:
    """Refuse a folder that holds a secret, in it, in a folder within it, or behind a link.

    Raises:
        UsageError: it does.
    """
    found = find_secret(folder, follow_links=True)
    if found is not None:
        raise UsageError(
            "the folder holds a secret",
            where=str(found),
            expected="a folder with nothing in it that must stay private",
            got="an opening: who has it knows the weights",
            next_step=f"move it to a folder of its own, {folder.name}{SECRET_SUFFIX} beside {folder.name}, "
            "and publish again",
        )


def _public_parts(folder: Path, sealed: Path) -> dict[str, bytes]:
    """The commitment's public files, by name: of the folder that holds them, or of the publication as it was.

    Each is read as what it is called: whatever else bears its name is not published.
    """
    if sealed.is_file():
        return {COMMITMENT: read_file(sealed)}
    found = {} if sealed == folder else {COMMITMENT: read_file(sealed / COMMITMENT)}
    for name in PUBLIC_PARTS:
        path = next((place / name for place in (sealed, folder) if (place / name).exists()), None)
        if path is not None and name not in found:
            found[name] = read_file(path)
    if INFERENCE in found:
        parse_inference_commitment(found[INFERENCE], str(sealed / INFERENCE))
    if LINK in found:
        parse_link(found[LINK], str(sealed / LINK))
    return found


def _commitment(parts: Mapping[str, bytes], folder: Path, where: str) -> Commitment | None:
    """The commitment to publish; refused if the folder has another one."""
    if COMMITMENT not in parts:
        return None
    commitment = parse_commitment(parts[COMMITMENT], where)
    path = folder / COMMITMENT
    if path.exists():
        before = parse_commitment(read_file(path), str(path))
        if before.root != commitment.root:
            raise _foreign(path, f"root {commitment.root.hex()}", f"root {before.root.hex()}")
    return commitment


def _fingerprint(
    model: str | Path, commitment: Commitment | None, chosen: PublishOptions, report: Report | None
) -> Fingerprint:
    """The fingerprint, under the recipe of the commitment if there is one."""
    recipe = None if commitment is None else commitment.layout.recipe
    item = fingerprint(
        model,
        recipe,
        tokens_file=chosen.tokens_file,
        arch_file=chosen.arch_file,
        codes=chosen.codes,
        report=report,
    )
    if not item.model.isprintable() or any(mark in item.model for mark in "/\\"):
        raise UsageError(
            "a model whose name is no name for files that others get",
            where=str(model),
            expected="a name of letters that can be printed, without slashes",
            got=ascii(item.model)[1:61],
            next_step="rename the model's folder",
        )
    if item.codes is not None and item.codes.plain:
        raise UsageError(
            "a fingerprint with codes that are to stay private",
            where=str(model),
            expected="one that was made without --plain-codes",
            got="codes in the model's own dimensions, docs/explanation/what-codes-reveal.md",
            next_step="name the model itself",
        )
    if recipe is not None and item.recipe != recipe:
        raise UsageError(
            "the commitment is of another choice of tokens",
            where="--tokens",
            expected=f"the ranking that was committed with: {recipe.ranking[:16] or 'none'}",
            got=item.recipe.ranking[:16] or "none",
            next_step="name the same file as for huref commit",
        )
    return item


def _require_same_model(folder: Path, item: Fingerprint) -> None:
    """Refuse a folder whose fingerprint is of another model, or of this one in another state."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        if path.name != f"{item.model}{SUFFIX}":
            raise _foreign(path, f"files of {item.model} alone", "a fingerprint of another name")
        before = load_fingerprint(path)
        if before.recipe != item.recipe:
            raise _foreign(path, f"a fingerprint under {item.recipe.to_dict()}", str(before.recipe.to_dict()))
        score = fingerprint_cosine(before, item)
        if score < SAME_VECTOR[item.recipe.name]:
            raise _foreign(path, "the fingerprint of this model", f"one of other weights: cosine {score:.6f}")


def _proof(
    folder: Path, commitment: Commitment, item: Fingerprint, chosen: PublishOptions, report: Report | None
) -> bytes | None:
    """The proof that the folder has, or a new one if the opening is at hand; it is of this fingerprint."""
    path, sealed = folder / proof_name(item.model), chosen.commitment or folder
    if path.exists():
        data = read_file(path)
        verified = _own_proof(data, commitment, path)
    elif find_opening(sealed, chosen.secret).exists():
        proof = prove_fingerprint(sealed, chosen.passphrase, report, secret=chosen.secret)
        data, verified = proof.to_bytes(), verify_sketches(commitment, proof, decode_many_points)
    else:
        return None
    score = fingerprint_cosine(item, published_fingerprint(verified))
    if score < SAME_VECTOR[item.recipe.name]:
        raise UsageError(
            "the model is not the committed one",
            where=item.model,
            expected=f"the fingerprint behind root {commitment.root.hex()}",
            got=f"cosine {score:.6f}",
            next_step="name the model that was committed, or commit to this one, into another folder",
        )
    return data


def _own_proof(data: bytes, commitment: Commitment, path: Path) -> Verified:
    """The proof that the folder has already, which must be one of this commitment's fingerprint."""
    try:
        proof = parse_proof(data, commitment.layout, str(path))
        if proof.claim.kind != "fingerprint":
            raise CorruptFileError("a proof of another kind")
        return verify_sketches(commitment, proof, decode_many_points)
    except HurefError as fault:
        raise _foreign(path, f"a proof of the fingerprint behind {commitment.root.hex()}", fault.what) from None


def _contents(item: Fingerprint, parts: Mapping[str, bytes], proof: bytes | None, root: str) -> dict[str, bytes]:
    """Every file of the publication, by name."""
    files = {
        **_drawn(item),
        **parts,
        **({} if proof is None else {proof_name(item.model): proof}),
        CARD: card_text(item, root, has_proof=proof is not None).encode(),
    }
    return {**files, SUMS: sums_text(files).encode()}


def _drawn(item: Fingerprint) -> dict[str, bytes]:
    """Fingerprint, portrait and badge, as they are written elsewhere."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        badge = place / badge_name(item.model)
        save_picture(item, badge, style="svg")
        return {path.name: path.read_bytes() for path in (*write(item, place), badge)}


def _require_ours(folder: Path, files: Mapping[str, bytes], model: str) -> None:
    """Refuse, before anything is written, to overwrite what no publication of this model made."""
    is_ours = (folder / f"{model}{SUFFIX}").is_file()
    for name, data in files.items():
        path = folder / name
        if path.is_dir() or (path.exists() and not is_ours and path.read_bytes() != data):
            raise _foreign(path, f"a file of the publication of {model}", "a folder" if path.is_dir() else "another")
    if (folder / CARD).exists() and not (folder / CARD).read_bytes().startswith(MARK.encode()):
        raise _foreign(folder / CARD, f"a card that begins with {MARK}", "a file of another origin")
    if (folder / SUMS).exists() and (strange := set(read_sums(folder)) - set(names_of(model))):
        raise _foreign(folder / SUMS, f"a list of the files of {model}", f"{sorted(strange)[0]} in it")


def _foreign(path: Path, expected: str, got: str) -> OutputError:
    return OutputError(
        "the folder has a file that is of something else, and it is not overwritten",
        where=str(path),
        expected=expected,
        got=got,
        next_step="publish into another folder, or move that file away",
    )


def _written(path: Path, data: bytes) -> PublishedFile:
    """Write a file unless it is there already."""
    is_new = not (path.is_file() and path.read_bytes() == data)
    if is_new:
        write_atomically(path, data)
    return PublishedFile(path.name, hashlib.sha256(data).hexdigest(), len(data), is_new)
