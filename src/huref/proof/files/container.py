"""Strict binary files: magic, canonical JSON header, sections whose lengths follow. proof-v1, sections 2 and 5."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from huref.errors import CorruptFileError, HurefError, InputError, MissingFileError, UnsafeFileError
from huref.files.canonical_json import canonical_json

MAX_HEADER = 1 << 20
MAX_FILE = 1 << 31

T = TypeVar("T")


def pack(magic: bytes, header: Mapping[str, Any], sections: bytes) -> bytes:
    """A whole file."""
    text = canonical_json(header).encode()
    return magic + len(text).to_bytes(4, "little") + text + sections


def root_of(domain: bytes, header: Mapping[str, Any], sections: bytes) -> bytes:
    """32 bytes that bind a header and sections: SHA-256 of what a file of them would be, under a domain."""
    return hashlib.sha256(pack(domain, header, sections)).digest()


class Reader:
    """Takes a file apart from the front; nothing is allocated that the file does not hold.

    Args:
        data: the whole file, or a part with the same rules.
        where: what to call it in errors.
    """

    def __init__(self, data: bytes | memoryview, where: str) -> None:
        self._data = memoryview(data)
        self._at = 0
        self.where = where

    def take(self, count: int, what: str) -> bytes:
        """The next `count` bytes.

        Raises:
            CorruptFileError: there are fewer.
        """
        return bytes(self.view(count, what))

    def view(self, count: int, what: str) -> memoryview:
        """As `take`, without a copy."""
        left = len(self._data) - self._at
        if count > left:
            raise self.fault("ends too early", f"{count} bytes of {what}", f"{left} bytes")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, width: int, what: str) -> int:
        """An unsigned little-endian integer."""
        return int.from_bytes(self.take(width, what), "little")

    def rest(self) -> memoryview:
        """Everything that is left, without a copy."""
        return self.view(len(self._data) - self._at, "the rest")

    def end(self) -> None:
        """Refuse bytes that nothing claims."""
        left = len(self._data) - self._at
        if left:
            raise self.fault("has bytes that nothing claims", "its end", f"{left} bytes more")

    def magic(self, expected: bytes, what: str) -> None:
        """Refuse another kind of file, or another version."""
        found = self.take(min(len(expected), len(self._data)), "magic")
        if found != expected:
            got = "another version of it" if found[:7] == expected[:7] else "something else"
            raise self.fault(f"is no {what} that this huref reads", repr(expected.decode()), got)

    def header(self) -> tuple[bytes, dict[str, Any]]:
        """The header's bytes, and what they say.

        Raises:
            CorruptFileError: no JSON object, or not in its one encoding.
        """
        length = self.number(4, "header length")
        if length > MAX_HEADER:
            raise self.fault("has a header that is too long", f"at most {MAX_HEADER} bytes", str(length))
        text = self.take(length, "header")
        try:
            document = json.loads(text.decode("utf-8"))
            is_canonical = isinstance(document, dict) and canonical_json(document).encode() == text
        except (ValueError, RecursionError):
            is_canonical = False
        if not is_canonical:
            raise self.fault("has a header that is not canonical", "JSON, keys sorted, no spaces", "something else")
        return text, document

    def fault(self, what: str, expected: str, got: str) -> CorruptFileError:
        """An error about this file."""
        return CorruptFileError(
            f"the file {what}",
            where=self.where,
            expected=expected,
            got=got,
            next_step="the file is damaged, forged or of another version: ask its maker for it again",
        )


@dataclass(frozen=True)
class Frame:
    """What every file of one kind starts with: a magic and a header; and what errors call it."""

    magic: bytes
    name: str

    def pack(self, header: Mapping[str, Any], sections: bytes) -> bytes:
        """A whole file."""
        return pack(self.magic, header, sections)

    def open(self, data: bytes | memoryview, where: str, parse: Callable[[dict[str, Any]], T]) -> tuple[T, Reader]:
        """What `parse` makes of the header, and the reader where the sections begin.

        Raises:
            CorruptFileError: another kind of file, or a header that is not canonical or that `parse` refuses.
        """
        reader = self.begin(data, where)
        _, document = reader.header()
        return checked(reader, lambda: parse(document)), reader

    def begin(self, data: bytes | memoryview, where: str) -> Reader:
        """The reader where the header begins.

        Raises:
            CorruptFileError: another kind of file.
        """
        reader = Reader(data, where)
        reader.magic(self.magic, self.name)
        return reader


def checked(reader: Reader, make: Callable[[], T]) -> T:
    """What `make` makes of a parsed header; whatever is wrong with it becomes one error about the file."""
    try:
        return make()
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise reader.fault("has a header that says something impossible", "see docs/formats", str(error)) from None
    except HurefError as error:
        raise reader.fault("has a header that says something impossible", error.expected, error.got) from None


def read_file(path: Path, limit: int = MAX_FILE) -> bytes:
    """The bytes of a file of bounded size.

    Raises:
        MissingFileError: there is no such file.
        InputError: it cannot be read.
        UnsafeFileError: it is larger than `limit`.
    """
    try:
        size = path.stat().st_size
        if size > limit:
            raise UnsafeFileError(
                "a file that is too large", where=str(path), expected=f"at most {limit} bytes", got=f"{size} bytes"
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise MissingFileError(
            "no such file", where=str(path), expected="a file", next_step="check the name; `huref commit` makes it"
        ) from None
    except OSError as error:
        raise InputError("a file that cannot be read", where=str(path), got=error.strerror or str(error)) from None
