"""Artefacts in one safetensors file: arrays as tensors, everything else as canonical JSON, and a digest of both.

The JSON stands under the metadata key `huref`, the only one: safetensors writes several in random order. A file comes
from anybody and is read as hostile: nothing larger than its kind can be is read into memory, and what is malformed
raises an error of ours that names the artefact. What the document and the tensors mean is each artefact's own matter.
No torch.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np

from huref.errors import CorruptFileError, HurefError, InputError, MissingFileError, UnsafeFileError
from huref.files.canonical_json import canonical_json

_KEY = "huref"
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)

Artefact = TypeVar("Artefact")


@dataclass(frozen=True)
class TensorFileKind:
    """A kind of artefact, and what errors say about it.

    Attributes:
        name: with its article, where it has one: "a fingerprint".
        unreadable: what a damaged one is called: "not a readable fingerprint".
        suffix: of its files.
        schema: the `schema_version` that this huref writes, `NAME/MAJOR.MINOR`; it reads every minor one.
        max_bytes: no file of this kind is larger.
        made_by: the command that writes one.
        redo: what to do about a file that cannot be used.
    """

    name: str
    unreadable: str
    suffix: str
    schema: str
    max_bytes: int
    made_by: str
    redo: str

    @property
    def noun(self) -> str:
        """The name without its article."""
        return self.name.removeprefix("a ")

    def corrupt(self, path: Path, got: str) -> CorruptFileError:
        """The error for a file that is no artefact of this kind, or damaged."""
        return CorruptFileError(
            self.unreadable, where=str(path), expected=f"a {self.schema} file", got=got[:200], next_step=self.redo
        )


def tensor_file_bytes(document: Mapping[str, Any], tensors: Mapping[str, np.ndarray], digest: str) -> bytes:
    """A file's bytes; equal contents give equal bytes.

    Args:
        digest: of both, which becomes the document's `sha256`.
    """
    from safetensors.numpy import save

    data: bytes = save(dict(tensors), metadata={_KEY: canonical_json({**document, "sha256": digest})})
    return data


def read_tensor_file(
    path: Path,
    kind: TensorFileKind,
    digest: Callable[[Mapping[str, Any], Mapping[str, np.ndarray]], str],
    parse: Callable[[dict[str, Any], dict[str, np.ndarray]], Artefact],
) -> Artefact:
    """Read an artefact whose version and digest are right.

    Args:
        digest: hexadecimal, of the document without its `sha256`, and the tensors.
        parse: makes the artefact of both; what it raises about them means that the file is none.

    Raises:
        MissingFileError: no such file.
        UnsafeFileError: larger than any file of this kind.
        CorruptFileError: not an artefact of this kind, or damaged.
        InputError: one of another major format version, or a file that cannot be read.
    """
    data = _read(path, kind)
    try:
        document, tensors = _contents(data)
        _require_version(document, path, kind)
        if document.pop("sha256", "") != digest(document, tensors):
            raise ValueError("contents that do not have the digest that the file gives for them")
        return parse(document, tensors)
    except _MALFORMED as error:
        raise kind.corrupt(path, f"{type(error).__name__}: {error}") from None
    except InputError:
        raise
    except HurefError as error:
        raise kind.corrupt(path, error.what) from None


def digest_of(domain: bytes, texts: Iterable[str], tensors: Mapping[str, np.ndarray]) -> str:
    """Hexadecimal SHA-256 over a domain, texts, and the tensors' data sorted by name.

    Texts are UTF-8 with their length in 8 bytes in front; all numbers are little-endian.
    """
    hasher = hashlib.sha256(domain)
    for text in texts:
        encoded = text.encode()
        hasher.update(len(encoded).to_bytes(8, "little") + encoded)
    for name in sorted(tensors):
        hasher.update(tensors[name].tobytes())
    return hasher.hexdigest()


def typed(value: Any, kind: type) -> Any:
    """A value of a document that has to be of this type; True and False are no numbers.

    Raises:
        TypeError: it is of another.
    """
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"a {type(value).__name__} in place of a {kind.__name__}")
    return value


def _read(path: Path, kind: TensorFileKind) -> bytes:
    if not path.is_file():
        raise MissingFileError(
            f"no such {kind.noun}",
            where=str(path),
            expected=f"a *{kind.suffix} file",
            got="a folder" if path.is_dir() else "nothing at that path",
            next_step=kind.made_by,
        )
    try:
        with path.open("rb") as file:
            data = file.read(kind.max_bytes + 1) if (size := path.stat().st_size) <= kind.max_bytes else b""
    except OSError as error:
        raise InputError(f"{kind.name} cannot be read", where=str(path), got=error.strerror or str(error)) from None
    if max(size, len(data)) > kind.max_bytes:
        raise UnsafeFileError(
            f"a file larger than any {kind.noun}",
            where=str(path),
            expected=f"at most {kind.max_bytes} bytes",
            got=str(max(size, len(data))),
            next_step=kind.redo,
        )
    return data


def _contents(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Document and tensors; an error of `_MALFORMED` where there are none."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors: dict[str, np.ndarray] = load(data)
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    document = json.loads(header["__metadata__"][_KEY], parse_constant=_refuse_constant)
    return typed(document, dict), tensors


def _require_version(document: Mapping[str, Any], path: Path, kind: TensorFileKind) -> None:
    """Refuse another major version, and say which huref reads it."""
    found = str(document.get("schema_version", "none"))
    expected = kind.schema.rsplit(".", 1)[0]
    if found.split(".")[:-1] == expected.split("."):
        return
    name, _, major = expected.partition("/")
    writer = document.get("version")
    writer = f"huref {writer[:60]}" if isinstance(writer, str) and writer else "the huref"
    number = re.fullmatch(f"{re.escape(name)}/([0-9]{{1,6}})[.].*", found)
    is_newer = number is not None and int(number[1]) > int(major)
    raise InputError(
        f"{kind.name} of another format version{', newer than this huref reads' if is_newer else ''}",
        where=str(path),
        expected=f"{expected}.x",
        got=found[:60],
        next_step=f"install {writer} that wrote it, or a later one"
        if is_newer
        else f"read the file with {writer} that wrote it, or {kind.redo}",
    )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
