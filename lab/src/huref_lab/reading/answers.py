"""Answers that people gave in the reading study (`huref_lab.reading.form`), pooled and scored.

A file of answers comes from somebody else's computer: its size is limited, and every entry is checked against what
the page can have written before it counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from huref.errors import CorruptFileError, UsageError
from huref.model.source.json_file import read_object
from huref_lab.reading.bands import BANDS, Share

MAX_BYTES = 1 << 20
"""Of a file of answers; 200 of them take 30,000."""

_MAX_BASES = 1000


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class AskedAbout(_Closed):
    """Which page was answered."""

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    bases: Annotated[int, Field(ge=2, le=_MAX_BASES)]
    questions: Annotated[int, Field(ge=1, le=1000)]
    models: Literal["drawn", "real"]
    encoder: Annotated[str, Field(max_length=40)] | None
    psi: float
    cutoff: int
    seed: int


class Answer(_Closed):
    """One portrait and the base that was picked for it; None stands for none of them."""

    question: Annotated[int, Field(ge=1, le=1000)]
    truth: Annotated[int, Field(ge=0, lt=_MAX_BASES)] | None
    ics: Annotated[float, Field(ge=-1, le=1)]
    picked: Annotated[int, Field(ge=0, lt=_MAX_BASES)] | None
    seconds: Annotated[float, Field(ge=0)]


class Answers(_Closed):
    """One person's file."""

    schema_version: Literal["huref.reading-answers/1.0"]
    study: AskedAbout
    session: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    finished: Annotated[str, Field(max_length=40)]
    answers: Annotated[list[Answer], Field(min_length=1, max_length=1000)]


@dataclass(frozen=True)
class Row:
    """One line of the score: kinship, right answers, chance, and how long an answer took (median, seconds)."""

    name: str
    share: Share
    chance: float
    seconds: float


@dataclass(frozen=True)
class Score:
    """Several people's answers together.

    Attributes:
        people: files.
        studies: different pages that were answered.
        rows: a band a row, closest first, then the strangers; only those with answers.
    """

    people: int
    studies: int
    rows: tuple[Row, ...]

    def to_dict(self) -> dict[str, Any]:
        """The `--json` document."""
        rows = [
            {
                "kinship": row.name,
                "right": row.share.hits,
                "answers": row.share.trials,
                "share": row.share.rate,
                "interval": list(row.share.interval),
                "chance": row.chance,
                "median_seconds": row.seconds,
            }
            for row in self.rows
        ]
        return {
            "schema_version": "huref.reading-score/1.0",
            "people": self.people,
            "studies": self.studies,
            "rows": rows,
        }

    def to_text(self) -> str:
        """A table for the terminal."""
        lines = [
            f"{self.people} {'person' if self.people == 1 else 'people'}, "
            f"{self.studies} {'page' if self.studies == 1 else 'different pages'}",
            f"  {'kinship (ICS)':<14}{'right':>12}{'share':>8}{'95 % interval':>16}{'chance':>9}{'seconds':>9}",
        ]
        for row in self.rows:
            low, high = row.share.interval
            lines.append(
                f"  {row.name:<14}{f'{row.share.hits} of {row.share.trials}':>12}{100 * row.share.rate:>6.0f} %"
                f"{f'{100 * low:.0f} to {100 * high:.0f} %':>16}{100 * row.chance:>7.0f} %{row.seconds:>9.1f}"
            )
        return "\n".join([*lines, "Intervals take every answer as independent; one person's answers are not quite."])


def read_answers(path: Path) -> Answers:
    """One file as the page saves it.

    Raises:
        MissingFileError: no such file.
        UnsafeFileError: larger than 1 MiB.
        CorruptFileError: not such a file, or one that contradicts itself.
    """
    document = read_object(path, MAX_BYTES)
    try:
        found = Answers.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        at = ".".join(str(part) for part in first["loc"])
        raise _corrupt(path, f"{at}: {first['msg']}", str(first["input"])[:80]) from None
    numbers = [answer.question for answer in found.answers]
    if len(set(numbers)) != len(numbers) or max(numbers) > found.study.questions:
        raise _corrupt(path, f"each of questions 1 to {found.study.questions} at most once", str(numbers)[:80])
    for answer in found.answers:
        highest = max(-1 if base is None else base for base in (answer.truth, answer.picked))
        if highest >= found.study.bases:
            raise _corrupt(path, f"bases 0 to {found.study.bases - 1}", f"base {highest}")
    return found


def score_answers(files: Sequence[Answers]) -> Score:
    """Everybody's answers in one table.

    Raises:
        UsageError: no files, or one person's answers twice.
    """
    sessions = [item.session for item in files]
    repeated = sorted({session for session in sessions if sessions.count(session) > 1})
    if not files or repeated:
        raise UsageError(
            "answers cannot be pooled",
            where="answers",
            expected="one file or more, each person's once",
            got=f"session {repeated[0]} more than once" if repeated else "no file",
        )
    asked = [(answer, item.study.bases) for item in files for answer in item.answers]
    groups = {
        band.name: [(a, bases) for a, bases in asked if a.truth is not None and band.holds(a.ics)] for band in BANDS
    }
    groups["strangers"] = [(answer, bases) for answer, bases in asked if answer.truth is None]
    rows = tuple(_row(name, group) for name, group in groups.items() if group)
    return Score(len(files), len({item.study.id for item in files}), rows)


def _row(name: str, group: Sequence[tuple[Answer, int]]) -> Row:
    share = Share.of(answer.picked == answer.truth for answer, _ in group)
    chance = sum(1 / (bases + 1) for _, bases in group) / len(group)
    seconds = sorted(answer.seconds for answer, _ in group)
    middle = (seconds[(len(seconds) - 1) // 2] + seconds[len(seconds) // 2]) / 2
    return Row(name, share, chance, middle)


def _corrupt(path: Path, expected: str, got: str) -> CorruptFileError:
    return CorruptFileError(
        "not a file of answers as the study's page saves it",
        where=str(path),
        expected=expected,
        got=got,
        next_step="ask for the file again, unedited; leave it out otherwise",
    )
