"""The secret `opening`: proof-v1, section 5.2. Nothing of it may reach a log, an error or another file."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from huref.artefact import canonical_json
from huref.errors import OutputError, UsageError
from huref.proof.commitment_file import pack_strings, take_strings
from huref.proof.container import MAX_FILE, Reader, checked, pack, read_file
from huref.proof.field import ORDER, integers
from huref.proof.layout import Layout

NAME = "opening"
MAGIC = b"HUREFOP1"
SCHEMA = "huref.opening/1"
PIECE = 1 << 20
_TAG = 16
_SCRYPT = {"n": 1 << 15, "r": 8, "p": 1}
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


def write_opening(opening: Opening, path: Path, passphrase: str | None = None) -> None:
    """Write a new file that only its owner can read; encrypted if there is a passphrase. Never overwrites.

    Raises:
        OutputError: the file exists, or cannot be written.
    """
    encryption = None
    if passphrase is not None:
        salt = secrets.token_hex(16)
        encryption = {"cipher": "AES-256-GCM", "kdf": "scrypt", **_SCRYPT, "salt": salt}
    header = {"schema": SCHEMA, "encryption": encryption}
    body = _body(opening)
    if encryption is not None and passphrase is not None:
        body = _encrypted(body, _key(passphrase, encryption), canonical_json(header).encode())
    partial = path.with_name(f".{path.name}.partial")
    try:
        if path.exists():
            raise FileExistsError(0, "there is one already, and it is never overwritten")
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pack(MAGIC, header, b""))
            file.writelines(body)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    except OSError as error:
        raise OutputError(
            "cannot write the opening",
            where=str(path),
            expected="a folder that can be written, with no opening in it",
            got=error.strerror or str(error),
            next_step="choose another folder",
        ) from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def is_encrypted(path: Path) -> bool:
    """Whether an opening asks for a passphrase.

    Raises:
        InputError: no opening.
    """
    with path.open("rb") as file:
        reader = Reader(file.read(len(MAGIC) + 4 + (1 << 16)), str(path))
    reader.magic(MAGIC, "opening")
    return reader.header()[1].get("encryption") is not None


def read_opening(path: Path, passphrase: str | None = None) -> Opening:
    """Read an opening.

    Raises:
        UsageError: no passphrase, or a wrong one.
        InputError: none, or damaged.
    """
    data = read_file(path, MAX_FILE * 64)
    reader = Reader(data, str(path))
    reader.magic(MAGIC, "opening")
    text, document = reader.header()
    if document.get("schema") != SCHEMA or set(document) != {"schema", "encryption"}:
        raise reader.fault("is no opening of version 1", SCHEMA, str(document.get("schema")))
    body: bytes | memoryview = reader.rest()
    encryption = document["encryption"]
    if encryption is not None:
        if passphrase is None:
            raise _bad_passphrase(path, "none")
        body = _decrypted(body, passphrase, encryption, text, path)
    return _parse_body(body, str(path))


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


def _key(passphrase: str, encryption: dict[str, Any]) -> bytes:
    n, r, p = (encryption[name] for name in ("n", "r", "p"))
    salt = bytes.fromhex(encryption["salt"])
    return hashlib.scrypt(passphrase.encode(), salt=salt, n=n, r=r, p=p, maxmem=256 * n * r, dklen=32)


def _encrypted(body: Iterable[bytes], key: bytes, header: bytes) -> Iterator[bytes]:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    cipher = AESGCM(key)
    waiting, index = bytearray(), 0
    for piece in body:
        waiting += piece
        while len(waiting) > PIECE:
            yield _sealed(cipher, bytes(waiting[:PIECE]), index, header, is_last=False)
            del waiting[:PIECE]
            index += 1
    yield _sealed(cipher, bytes(waiting), index, header, is_last=True)


def _sealed(cipher: Any, piece: bytes, index: int, header: bytes, *, is_last: bool) -> bytes:
    sealed: bytes = cipher.encrypt(_nonce(index, is_last=is_last), piece, header)
    return len(sealed).to_bytes(4, "little") + sealed


def _nonce(index: int, *, is_last: bool) -> bytes:
    return index.to_bytes(8, "little") + int(is_last).to_bytes(4, "little")


def _decrypted(body: bytes | memoryview, passphrase: str, encryption: Any, header: bytes, path: Path) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    expected = {"cipher": "AES-256-GCM", "kdf": "scrypt", **_SCRYPT}
    reader = Reader(body, str(path))
    if not isinstance(encryption, dict) or {k: v for k, v in encryption.items() if k != "salt"} != expected:
        raise reader.fault("is encrypted in a way that this huref does not know", str(expected), "something else")
    cipher = AESGCM(checked(reader, lambda: _key(passphrase, encryption)))
    plain, index, left = bytearray(), 0, len(body)
    while left:
        length = reader.number(4, "length of a piece")
        left -= 4 + length
        piece = reader.take(length, "a piece")
        try:
            plain += cipher.decrypt(_nonce(index, is_last=not left), piece, header)
        except InvalidTag:
            if index == 0:
                raise _bad_passphrase(path, "another passphrase, or a damaged file") from None
            raise reader.fault("is damaged", "pieces as they were written", f"piece {index} is not") from None
        index += 1
    return bytes(plain)


def _bad_passphrase(path: Path, got: str) -> UsageError:
    return UsageError(
        "the opening cannot be decrypted",
        where=str(path),
        expected="the passphrase that it was made with",
        got=got,
        next_step="set HUREF_PASSPHRASE, or type it when asked",
    )
