"""What a report needs beside the comparison: what was read, and how to repeat it. `collection` fills it in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FileRecord:
    """One file that was opened.

    Attributes:
        name: as the folder has it.
        size: in bytes.
        sha256: hexadecimal, or empty: not computed, for the reason that `Evidence.hashing` gives.
        path: as a report may show it, relative to the folder in which huref ran.
    """

    name: str
    size: int
    sha256: str = ""
    path: str = ""


@dataclass(frozen=True)
class InputRecord:
    """One of the two inputs.

    Attributes:
        reference: what the user wrote, without the folders of a path outside the working folder.
        is_saved: a saved fingerprint; else weights.
        architecture: the family's name.
        storage: the weights' format.
        files: what was opened.
        bytes_read: bytes of weights that the comparison asked for; None for a saved fingerprint.
        contents: label and text: what a saved fingerprint holds, by its own account.
        portrait: PNG of the fingerprint's picture, or empty for the reason that `portrait_note` gives.
        portrait_note: how the portrait was made, or why there is none.
    """

    reference: str
    is_saved: bool = False
    architecture: str = ""
    storage: str = ""
    files: tuple[FileRecord, ...] = ()
    bytes_read: int | None = None
    contents: tuple[tuple[str, str], ...] = ()
    portrait: bytes = b""
    portrait_note: str = ""

    @property
    def bytes_total(self) -> int:
        """Size of all files in bytes."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class Evidence:
    """What stands behind a comparison.

    Attributes:
        inputs: A and B.
        command: the arguments that repeat it, `huref` first.
        settings: label and text of every choice that shaped the result.
        expect: the verdict that a policy wanted, or None.
        exit_code: how the command ends.
        hashing: which files have a sha256, and why the others have none.
        accused_from: agreement below which kinship is never named, or None.
        accusation_rate: p-value above which it is never named, or None.
        transform: the recovered transform, label and text; empty where none was given.
        version: of huref.
        made: UTC, ISO 8601.
    """

    inputs: tuple[InputRecord, InputRecord]
    command: tuple[str, ...]
    settings: tuple[tuple[str, str], ...]
    expect: str | None
    exit_code: int
    hashing: str
    version: str
    made: str
    accused_from: float | None = None
    accusation_rate: float | None = None
    transform: tuple[tuple[str, str], ...] = ()
