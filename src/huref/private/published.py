"""The files of a folder that `huref publish` made: their names, their sums, their card; and what never is among them.

docs/how-to/publish.md says what each is for.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

from huref.errors import CorruptFileError, MissingFileError
from huref.fingerprints.file import SUFFIX, fingerprint_digest
from huref.fingerprints.record import Fingerprint
from huref.private.answers import NOT_CLAIMED
from huref.proof.files.commitment import NAME as COMMITMENT
from huref.proof.files.container import read_file
from huref.proof.files.opening import KIND as OPENING
from huref.proof.inference.commitment import NAME as INFERENCE
from huref.proof.inference.commitment import OPENING_FRAME as INFERENCE_OPENING
from huref.proof.inference.link import NAME as LINK

PUBLIC_PARTS = (COMMITMENT, INFERENCE, LINK)
"""What `huref commit` writes for everybody."""

CARD, SUMS = "CARD.md", "SHA256SUMS"
MARK = "<!-- huref publish:"
"""How a card begins that huref may write again."""

_SECRETS = tuple(kind.magic[:7] for kind in (OPENING, INFERENCE_OPENING))
"""How every secret file begins, of whatever version."""

_SUM = re.compile(r"([0-9a-f]{64})  ([^/\\\x00-\x1f]+)")
_MAX_SUMS = 1 << 16


def picture_name(model: str) -> str:
    """Of the portrait."""
    return f"{model}.png"


def badge_name(model: str) -> str:
    """Of the badge."""
    return f"{model}.badge.svg"


def proof_name(model: str) -> str:
    """Of the proof of the fingerprint."""
    return f"{model}.proof"


def names_of(model: str) -> tuple[str, ...]:
    """All files that a publication of this model can have, in the order in which they are written."""
    first = (f"{model}{SUFFIX}", picture_name(model), badge_name(model))
    return (*first, *PUBLIC_PARTS, proof_name(model), CARD, SUMS)


def find_secret(folder: Path, *, follow_links: bool) -> Path | None:
    """A secret file in a folder or in any folder within it; known by how it begins, not by name."""
    for path in files_within(folder, follow_links=follow_links):
        with path.open("rb") as file:
            if file.read(8).startswith(_SECRETS):
                return path
    return None


def files_within(folder: Path, *, follow_links: bool) -> Iterator[Path]:
    """Every file in a folder and in the folders within it, each folder once.

    Args:
        follow_links: an owner's links, since what they lead to is uploaded; not those in a folder from elsewhere.
    """
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=follow_links):
        seen.add(os.path.realpath(place))
        folders[:] = sorted(name for name in folders if os.path.realpath(Path(place, name)) not in seen)
        paths = (Path(place, name) for name in sorted(names))
        yield from (path for path in paths if path.is_file() and (follow_links or not path.is_symlink()))


def others(folder: Path, names: Iterable[str], *, follow_links: bool) -> list[Path]:
    """Files in a folder that are none of the named ones, hidden ones left out."""
    known = {folder / name for name in names}
    found = files_within(folder, follow_links=follow_links)
    return [path for path in found if path not in known and not _is_hidden(path.relative_to(folder))]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def sums_text(files: Mapping[str, bytes]) -> str:
    """`SHA256SUMS`, as `sha256sum -c` reads it."""
    return "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items()))


def read_sums(folder: Path) -> dict[str, str]:
    """The digests of a folder's list, by name.

    Raises:
        MissingFileError: the folder has no list.
        CorruptFileError: a list of another form, or of files elsewhere.
    """
    path = folder / SUMS
    if not path.is_file():
        raise MissingFileError(
            "the folder was not published",
            where=str(folder),
            expected=f"a list {SUMS}, which `huref publish` writes",
            got="none",
            next_step="name a published folder, or one proof or commitment",
        )
    lines = read_file(path, _MAX_SUMS).decode("utf-8", "replace").splitlines()
    found = [_SUM.fullmatch(line) for line in lines]
    pairs = [(match[2], match[1]) for match in found if match]
    if not pairs or len(dict(pairs)) != len(lines):
        raise CorruptFileError(
            "a list of checksums of another form",
            where=str(path),
            expected="lines of 64 hexadecimal digits, two spaces and a file of this folder, each once",
            got=next((line[:80] for line, match in zip(lines, found, strict=True) if not match), "a name twice"),
            next_step="ask its maker for it again, or publish again",
        )
    return dict(pairs)


def card_text(item: Fingerprint, root: str, *, has_proof: bool) -> str:
    """What to paste into a model card: portrait, root, how to verify, and what it does not say."""
    name, recipe = _plain(item.model), item.recipe
    lines = [
        f"{MARK} paste this into the model card, and put the files of {SUMS} beside it -->",
        "## Fingerprint of the weights",
        "",
        f"![Portrait of the weights of {name}]({quote(picture_name(item.model))})",
        "",
        f"The picture is drawn from the weights of {name} by huref {item.version}: recipe {recipe.name}, "
        f"{recipe.encoder}, layers {recipe.layers}, {item.tokens['used']} tokens.",
        "",
        "| | |",
        "|---|---|",
        f"| fingerprint | {name}{SUFFIX} |",
        f"| its SHA-256, as the file gives it | `{fingerprint_digest(item)}` |",
    ]
    if root:
        lines.append(f"| root of the commitment to the weights | `{root}` |")
    if has_proof:
        lines.append(f"| proof that the fingerprint was computed from them | {_plain(proof_name(item.model))} |")
    lines += [
        "",
        "To verify, in a folder with these files:",
        "",
        f"    sha256sum -c {SUMS}",
        "    huref verify .",
        "",
    ]
    lines += ["What this does not say:", "", *(f"- {sentence}" for sentence in not_said(root, has_proof=has_proof))]
    return "\n".join([*lines, ""])


def not_said(root: str, *, has_proof: bool) -> tuple[str, ...]:
    """What a publication leaves open, in sentences."""
    if has_proof:
        return NOT_CLAIMED
    if root:
        return ("that the fingerprint is of the committed weights: there is no proof of it", *NOT_CLAIMED)
    return ("that the fingerprint is of the model named: without a commitment and a proof that is its owner's word",)


def _plain(text: str) -> str:
    """Text that Markdown and HTML print as it is."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>&~])", r"\\\1", text)
