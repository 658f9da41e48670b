"""What goes wrong on the way to bytes elsewhere, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from huref.errors import AccessError, CorruptFileError, NetworkError

if TYPE_CHECKING:
    from huref.model.source.remote.http import Address

SHOWN = 300
"""Letters that are shown of what a server says."""


def unreachable(shown: str, reason: str) -> NetworkError:
    """The error where a server gives no answer that can be used."""
    return NetworkError(
        "the network failed",
        where=shown,
        expected="the bytes that were asked for",
        got=reason[:SHOWN],
        next_step="try again: what was read is kept",
    )


def denied(address: Address, said: str) -> AccessError:
    """The error where this user may not read."""
    return AccessError(
        "the server denies access",
        where=address.shown,
        expected="a file that this user may read",
        got=said,
        next_step="check that your token may read it: hf auth whoami"
        if address.headers
        else "log in: hf auth login, or HF_TOKEN",
    )


def too_much(address: Address, expected: int) -> CorruptFileError:
    """The error where an answer does not end where it should."""
    return CorruptFileError(
        "a server sends more bytes than it announced",
        where=address.shown,
        expected=f"{expected:,} bytes",
        got="more",
        next_step="try again; if it goes on, tell who runs the server",
    )


def changed(address: Address, got: str) -> CorruptFileError:
    """The error where two answers are not of one file."""
    return CorruptFileError(
        "the file changed while it was read",
        where=address.shown,
        expected="one file from beginning to end",
        got=got,
        next_step="run the command again",
    )


def no_ranges(address: Address, status: int) -> NetworkError:
    """The error where a server gives no parts of a file."""
    return NetworkError(
        "this server sends whole files only",
        where=address.shown,
        expected="HTTP 206, the range that was asked for",
        got=f"HTTP {status}" + (f", all of {address.size:,} bytes" if address.size >= 0 else ""),
        next_step="--download, or huref.download(MODEL), fetches the model whole",
    )
