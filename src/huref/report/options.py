"""What a report is asked for; checked before anything is loaded or compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from huref.choices import option, take_texts_for_paths
from huref.errors import UsageError
from huref.files.atomic import require_place


@dataclass(frozen=True)
class ReportOptions:
    """What to hand a comparison on as.

    Attributes:
        html: file of the page, or None.
        sarif: file of the SARIF log, or None.
        hash_files: sha256 of every file, whatever its size.
        transform: what `huref explain` saved: checked against the two models again, and told.
    """

    html: Path | None = None
    sarif: Path | None = None
    hash_files: bool = False
    transform: Path | None = None

    def __post_init__(self) -> None:
        take_texts_for_paths(self, "html", "sarif", "transform")
        if self.html is not None and self.html == self.sarif:
            raise UsageError(
                "two reports into one file", where=option("sarif"), expected="a file of its own", got=str(self.sarif)
            )
        for name, is_set in (("hash_files", self.hash_files), ("transform", self.transform is not None)):
            if is_set and not self.paths:
                raise UsageError(
                    "no report to write into", where=option(name), expected="--report FILE or --sarif FILE"
                )
        for path, beginning in ((self.html, b"<!doctype html>"), (self.sarif, b'{\n  "$schema"')):
            if path is not None:
                require_place(path, beginning)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files to be written."""
        return tuple(path for path in (self.html, self.sarif) if path is not None)
