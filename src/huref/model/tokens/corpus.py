"""Text files of any size as chunks of whole lines, and the official choice of texts to count."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from huref.errors import MissingFileError

CHUNK_BYTES = 1 << 20
LONGEST_LINE = 32 << 20
"""A line longer than this is cut at a space, so that memory stays bounded whatever the file."""

# Every character of a counted text is below U+0250 (Latin with its extensions, and controls) or in
# U+0400-U+04FE (Cyrillic): the official code's condition, its last letter (U+04FF) left out as there.
_LATIN_OR_CYRILLIC = re.compile("[\x00-\u024f\u0400-\u04fe]*")


def is_latin_or_cyrillic(text: str) -> bool:
    """Whether the official code would count this text: one foreign character, even a dash, excludes it."""
    return _LATIN_OR_CYRILLIC.fullmatch(text) is not None


def corpus_size(files: Sequence[Path]) -> int:
    """Bytes of all files.

    Raises:
        MissingFileError: a file is not there or cannot be read.
    """
    try:
        return sum(path.stat().st_size for path in files)
    except OSError as error:
        raise _unreadable(error) from error


def read_chunks(files: Sequence[Path], size: int = CHUNK_BYTES) -> Iterator[bytes]:
    """Chunks of about `size` bytes that end where a line ends; no line spans two files.

    Raises:
        MissingFileError: a file cannot be read.
    """
    for path in files:
        try:
            with path.open("rb") as file:
                rest = b""
                while chunk := file.read(size):
                    tail = file.readline(LONGEST_LINE)
                    chunk = rest + chunk + tail
                    # Before a space: never inside a character, seldom inside a token.
                    cut = chunk.rfind(b" ") if len(tail) == LONGEST_LINE and tail[-1:] != b"\n" else -1
                    rest = chunk[cut:] if cut > 0 else b""
                    yield chunk[:cut] if rest else chunk
                if rest:
                    yield rest
        except OSError as error:
            raise _unreadable(error) from error


def split_lines(chunk: bytes) -> tuple[list[str], int]:
    """The lines of a chunk, each with its newline, and how many were dropped as no UTF-8."""
    lines = chunk.split(b"\n")
    raw = [line + b"\n" for line in lines[:-1]] + [line for line in lines[-1:] if line]
    texts = []
    for line in raw:
        try:
            texts.append(line.decode())
        except UnicodeDecodeError:
            continue
    return texts, len(raw) - len(texts)


def _unreadable(error: OSError) -> MissingFileError:
    return MissingFileError(
        "a corpus file cannot be read",
        where=str(error.filename),
        expected="text files in UTF-8",
        got=error.strerror or str(error),
    )
