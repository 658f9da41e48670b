"""What a place elsewhere holds: files with their sizes and digests, and how to get bytes of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

from huref.errors import UnsafeFileError
from huref.model.source.remote.blocks import Fetch

MOST_FILES = 20_000
"""Files of one repository."""


@dataclass(frozen=True)
class RemoteEntry:
    """One file elsewhere.

    Attributes:
        name: its path in the repository, `/` between the parts.
        size: bytes.
        digest: of its contents, `sha256:HEX` or `git:HEX` (the hash of a git blob); `tag:TEXT` where a server
            says only that.
        fetch: gives any range of it.
        whole: writes all of it into an empty file.
    """

    name: str
    size: int
    digest: str
    fetch: Fetch = field(repr=False)
    whole: Callable[[BinaryIO], None] = field(repr=False)

    @property
    def sha256(self) -> str | None:
        """Of its contents, hexadecimal, where the server says it."""
        return self.digest.removeprefix("sha256:") if self.digest.startswith("sha256:") else None

    def is_what_it_says(self, data: bytes) -> bool:
        """Whether bytes have the digest that was told."""
        kind, _, told = self.digest.partition(":")
        if kind == "sha256":
            return hashlib.sha256(data).hexdigest() == told
        if kind == "git":
            return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == told
        return kind == "tag" and bool(told) and len(data) == self.size


@dataclass(frozen=True)
class Listing:
    """A repository, a folder on a server, or a bucket's.

    Attributes:
        shown: what the user wrote.
        place: folders below huref's own where its files stand in for it, the last one for this version.
        version: a commit, or what stands for one.
        files: all of them.
        main: of which file or folder in it the user spoke; empty for the whole.
        cached: gives the path of a file in the hub's own cache, or None.
    """

    shown: str
    place: tuple[str, ...]
    version: str
    files: tuple[RemoteEntry, ...]
    main: str = ""
    cached: Callable[[str], str | None] = field(default=lambda _: None, repr=False)


def is_inside(name: str, shown: str) -> bool:
    """Whether a listed file is one that can lie on a disk under its name; odd ones are no part of a model.

    Raises:
        UnsafeFileError: it leads outside its folder.
    """
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or re.match("[A-Za-z]:", name):
        raise UnsafeFileError(
            "the listing names a file outside its folder",
            where=shown,
            expected="plain paths within the repository",
            got=ascii(name)[:120],
            next_step="do not use this model unless you know why",
        )
    is_odd = any(part in ("", ".") or len(part.encode("utf-8", "replace")) > 200 for part in parts)
    return not is_odd and len(name) <= 500 and re.search(r'[:<>|"?*\x01-\x1f\x7f]', name) is None
