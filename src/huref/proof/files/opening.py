"""The secret `opening`: proof-v1, section 5.2. Nothing of it may reach a log, an error or another file.

It lies apart from what is public: of the commitment in `sealed` in `sealed.secret`, a folder of mode 700. In folders
that were made before it lies beside the commitment, and is found there too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from huref.errors import MissingFileError, UsageError
from huref.files.atomic import make_folder
from huref.files.canonical_json import canonical_json
from huref.proof.arithmetic.field import ORDER, integers
from huref.proof.files.commitment import pack_strings, take_strings
from huref.proof.files.container import Reader, checked
from huref.proof.files.layout import Layout
from huref.proof.files.secret import SecretKind, asks_for_passphrase, read_secret, write_secret

NAME = "opening"
SECRET_SUFFIX = ".secret"
SCHEMA = "huref.opening/1"
KIND = SecretKind(b"HUREFOP1", "opening", SCHEMA)
_BLINDING_DOMAIN = b"huref/row-blinding/1"


@dataclass(frozen=True)
class Opening:
    """What opens a commitment. Its representation shows no secret.

    Attributes:
        seed: 32 bytes; blindings follow from it.
        layout, strings: public, as in the commitment.
        rows: (N, d) int16.
    """

    seed: bytes
    layout: Layout
    strings: tuple[bytes, ...]
    rows: np.ndarray

    def __repr__(self) -> str:
        return f"Opening of {self.rows.shape[0]} rows"

    def blindings(self) -> np.ndarray:
        """`z_i` of every row, (N,) objects."""
        return row_blindings(self.seed, self.rows.shape[0])


def row_blindings(seed: bytes, count: int) -> np.ndarray:
    """`SHAKE-256(domain, seed, i)`, 64 bytes, modulo p."""
    prefix = _BLINDING_DOMAIN + seed
    drawn = (hashlib.shake_256(prefix + index.to_bytes(8, "little")).digest(64) for index in range(count))
    return integers(int.from_bytes(data, "little") % ORDER for data in drawn)


def find_opening(folder: Path, secret: Path | None = None) -> Path:
    """Where the opening of a folder's commitment is; if there is none, where it goes.

    Args:
        folder: with the `commitment`; an opening that lies beside it, as it did before, is the one.
        secret: the folder that was chosen for it; None for the usual one, `FOLDER.secret`.
    """
    beside = folder / NAME
    if secret is None and beside.exists():
        return beside
    named = folder.resolve() if folder.name in ("", "..") or folder.is_symlink() else folder
    return (secret or named.parent / f"{named.name}{SECRET_SUFFIX}") / NAME


def require_opening(folder: Path, secret: Path | None = None) -> Path:
    """The same, of an opening that has to be there.

    Raises:
        MissingFileError: there is none.
    """
    path = find_opening(folder, secret)
    if not path.exists():
        raise MissingFileError(
            "the opening of the commitment is not at hand",
            where=str(path),
            expected="the secret file that `huref commit` wrote",
            got="nothing at that path",
            next_step="name its folder with --secret; without it nothing can be proved",
        )
    return path


def make_secret_folder(path: Path, folder: Path) -> None:
    """Make the folder of an opening that is to be written, for its owner alone, apart from what is public.

    Args:
        path: of the opening.
        folder: of the commitment.

    Raises:
        UsageError: what is public would hold the secret.
        OutputError: it cannot be made.
    """
    if path.parent.resolve().is_relative_to(folder.resolve()):
        raise UsageError(
            "the secret would lie within what is public",
            where="--secret",
            expected=f"a folder outside {folder}",
            got=str(path.parent),
            next_step=f"leave --secret out: {folder.name}{SECRET_SUFFIX} is made beside {folder.name}",
        )
    make_folder(path.parent, 0o700)


def write_opening(opening: Opening, path: Path, passphrase: str | None = None) -> None:
    """Write a new file that only its owner can read; encrypted if there is a passphrase. Never overwrites.

    Raises:
        OutputError: the file exists, or cannot be written.
    """
    write_secret(KIND, _body(opening), path, passphrase)


def is_encrypted(path: Path) -> bool:
    """Whether an opening asks for a passphrase.

    Raises:
        InputError: no opening.
    """
    return asks_for_passphrase(KIND, path)


def read_opening(path: Path, passphrase: str | None = None) -> Opening:
    """Read an opening.

    Raises:
        UsageError: no passphrase, or a wrong one.
        InputError: none, or damaged.
    """
    return _parse_body(read_secret(KIND, path, passphrase), str(path))


def _body(opening: Opening) -> Iterator[bytes]:
    header = canonical_json(opening.layout.to_dict()).encode()
    strings = pack_strings(opening.strings)
    yield opening.seed + len(header).to_bytes(4, "little") + header
    yield len(strings).to_bytes(8, "little") + strings
    for start in range(0, opening.rows.shape[0], 256):
        yield opening.rows[start : start + 256].astype("<i2").tobytes()


def _parse_body(body: bytes | memoryview, where: str) -> Opening:
    reader = Reader(body, where)
    seed = reader.take(32, "seed")
    text = reader.take(reader.number(4, "header length"), "header")
    layout = checked(reader, lambda: Layout.from_dict(json.loads(text)))
    inner = Reader(reader.take(reader.number(8, "length of token strings"), "token strings"), where)
    strings = take_strings(inner, layout.n_tokens)
    inner.end()
    rows = np.frombuffer(reader.view(2 * layout.n_rows * layout.width, "integers"), "<i2")
    reader.end()
    return Opening(seed, layout, strings, rows.reshape(layout.n_rows, layout.width))
