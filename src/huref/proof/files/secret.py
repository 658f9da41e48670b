"""Files that only their owner may read, encrypted on request: proof-v1, section 5.2.

Nothing of what they hold may reach a log, an error or another file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huref.errors import OutputError, UsageError
from huref.files.canonical_json import canonical_json
from huref.proof.files.container import MAX_FILE, Frame, Reader, checked, read_file

PIECE = 1 << 20
_SCRYPT = {"n": 1 << 15, "r": 8, "p": 1}


@dataclass(frozen=True)
class SecretKind(Frame):
    """A kind of secret file: a frame whose header says its schema."""

    schema: str


def write_secret(kind: SecretKind, body: Iterable[bytes], path: Path, passphrase: str | None = None) -> None:
    """Write a new file of mode 600; encrypted if there is a passphrase. Never overwrites.

    Raises:
        OutputError: the file exists, or cannot be written.
    """
    encryption = None
    if passphrase is not None:
        encryption = {"cipher": "AES-256-GCM", "kdf": "scrypt", **_SCRYPT, "salt": secrets.token_hex(16)}
    header = {"schema": kind.schema, "encryption": encryption}
    if encryption is not None and passphrase is not None:
        body = _encrypted(body, _key(passphrase, encryption), canonical_json(header).encode())
    partial = path.with_name(f".{path.name}.partial")
    try:
        if path.exists():
            raise FileExistsError(0, "there is one already, and it is never overwritten")
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(kind.pack(header, b""))
            file.writelines(body)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    except OSError as error:
        raise OutputError(
            f"cannot write the {kind.name}",
            where=str(path),
            expected=f"a folder that can be written, with no {kind.name} in it",
            got=error.strerror or str(error),
            next_step="choose another folder",
        ) from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def read_secret(kind: SecretKind, path: Path, passphrase: str | None = None) -> bytes | memoryview:
    """The body of a secret file.

    Raises:
        UsageError: no passphrase, or a wrong one.
        InputError: none, or damaged.
    """
    reader = kind.begin(read_file(path, MAX_FILE * 64), str(path))
    text, document = reader.header()
    if document.get("schema") != kind.schema or set(document) != {"schema", "encryption"}:
        raise reader.fault(f"is no {kind.name} of version 1", kind.schema, str(document.get("schema")))
    if document["encryption"] is None:
        return reader.rest()
    if passphrase is None:
        raise _bad_passphrase(path, "none")
    return _decrypted(reader.rest(), passphrase, document["encryption"], text, path)


def asks_for_passphrase(kind: SecretKind, path: Path) -> bool:
    """Whether a secret file is encrypted.

    Raises:
        InputError: no such file.
    """
    with path.open("rb") as file:
        reader = kind.begin(file.read(len(kind.magic) + 4 + (1 << 16)), str(path))
    return reader.header()[1].get("encryption") is not None


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
        "a secret file cannot be decrypted",
        where=str(path),
        expected="the passphrase that it was made with",
        got=got,
        next_step="set HUREF_PASSPHRASE, or type it when asked",
    )
