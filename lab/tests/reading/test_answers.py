"""Files of answers: what the page saves is pooled and scored; whatever else is refused in plain words."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huref.errors import CorruptFileError, MissingFileError, UnsafeFileError, UsageError
from huref_lab.reading.answers import MAX_BYTES, Answers, read_answers, score_answers
from huref_lab.reading.bands import BANDS, Share

GOOD: dict[str, Any] = {
    "schema_version": "huref.reading-answers/1.0",
    "study": {
        "id": "0123456789abcdef",
        "bases": 18,
        "questions": 4,
        "models": "drawn",
        "encoder": None,
        "psi": 1,
        "cutoff": 8,
        "seed": 0,
    },
    "session": "00000000000000a1",
    "finished": "2026-11-25T03:00:00.000Z",
    "answers": [
        {"question": 1, "truth": 4, "ics": 0.97, "picked": 4, "seconds": 1.5},
        {"question": 2, "truth": 5, "ics": 0.97, "picked": None, "seconds": 2.5},
        {"question": 3, "truth": 0, "ics": 0.5, "picked": 17, "seconds": 9},
        {"question": 4, "truth": None, "ics": 0, "picked": None, "seconds": 4},
    ],
}


def written(folder: Path, document: Any, name: str = "answers.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(document))
    return path


def changed(place: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """The good file with one thing otherwise; `...` takes it away."""
    document = copy.deepcopy(GOOD)
    inner: Any = document
    for step in place[:-1]:
        inner = inner[step]
    if value is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return document


def test_a_good_file_is_scored(tmp_path: Path) -> None:
    score = score_answers([read_answers(written(tmp_path, GOOD))])
    rows = {row.name: row for row in score.rows}
    assert {name: row.share for name, row in rows.items()} == {
        "0.95 to 1": Share(1, 2),
        "0.50 to 0.70": Share(0, 1),
        "strangers": Share(1, 1),
    }
    assert rows["0.95 to 1"].seconds == 2.0 and rows["strangers"].chance == pytest.approx(1 / 19)


def test_people_are_pooled(tmp_path: Path) -> None:
    """Three people, two pages; a page with fewer bases raises the chance."""
    other = changed(("session",), "00000000000000a2")
    third = changed(("session",), "00000000000000a3")
    third["study"] |= {"id": "fedcba9876543210", "bases": 17}
    third["answers"] = third["answers"][:1]
    files = [written(tmp_path, each, f"{k}.json") for k, each in enumerate((GOOD, other, third))]
    score = score_answers([read_answers(path) for path in files])
    assert (score.people, score.studies) == (3, 2)
    assert score.rows[0].share == Share(3, 5)
    assert score.rows[0].chance == pytest.approx((4 / 19 + 1 / 18) / 5)
    assert "3 people, 2 different pages" in score.to_text() and "3 of 5" in score.to_text()


@given(st.lists(st.tuples(st.floats(-1, 1), st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_every_answer_is_counted_once(asked: list[tuple[float, bool, bool]]) -> None:
    document = copy.deepcopy(GOOD)
    document["study"]["questions"] = len(asked)
    document["answers"] = []
    for k, (ics, is_stranger, is_right) in enumerate(asked):
        truth = None if is_stranger else 3
        answer = {"question": k + 1, "truth": truth, "ics": ics, "picked": truth if is_right else 9, "seconds": 1.0}
        document["answers"].append(answer)
    score = score_answers([Answers.model_validate(document)])
    assert sum(row.share.trials for row in score.rows) == len(asked)
    assert sum(row.share.hits for row in score.rows) == sum(is_right for _, _, is_right in asked)
    assert {row.name for row in score.rows} <= {band.name for band in BANDS} | {"strangers"}


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("schema_version",), "huref.reading-answers/2.0", "schema_version"),
        (("schema_version",), ..., "schema_version"),
        (("answers",), [], "answers"),
        (("answers",), "many", "answers"),
        (("answers",), [GOOD["answers"][0]] * 2, "at most once"),
        (("answers", 0, "question"), 5, "questions 1 to 4"),
        (("answers", 0, "question"), 1.0, "question"),
        (("answers", 0, "picked"), 18, "bases 0 to 17"),
        (("answers", 0, "picked"), -1, "picked"),
        (("answers", 0, "picked"), True, "picked"),
        (("answers", 0, "picked"), "4", "picked"),
        (("answers", 0, "picked"), ..., "picked"),
        (("answers", 0, "truth"), 999, "bases 0 to 17"),
        (("answers", 0, "ics"), 1.5, "ics"),
        (("answers", 0, "ics"), float("nan"), "ics"),
        (("answers", 0, "seconds"), float("inf"), "seconds"),
        (("answers", 0, "seconds"), -1, "seconds"),
        (("answers", 0, "right"), True, "right"),
        (("study", "bases"), 10**9, "bases"),
        (("study", "id"), "../../etc", "id"),
        (("session",), "x" * 10**5, "session"),
        (("name",), "somebody", "name"),
    ],
)
def test_files_that_the_page_cannot_have_written(
    tmp_path: Path, place: tuple[str, ...], value: Any, said: str
) -> None:
    path = written(tmp_path, changed(place, value))
    with pytest.raises(CorruptFileError) as raised:
        read_answers(path)
    assert said in raised.value.expected and raised.value.where == str(path)
    assert len(str(raised.value)) < 2000


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 10**5, b"null", b"PK\x03\x04"])
def test_files_that_are_no_json_object(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "answers.json"
    path.write_bytes(data)
    with pytest.raises(CorruptFileError):
        read_answers(path)


def test_files_that_are_missing_or_absurdly_large(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        read_answers(tmp_path / "none.json")
    path = tmp_path / "large.json"
    path.write_bytes(b" " * (MAX_BYTES + 1))
    with pytest.raises(UnsafeFileError):
        read_answers(path)


def test_nobody_counts_twice_and_nobody_is_no_score() -> None:
    one = Answers.model_validate(GOOD)
    for files in ([one, one], []):
        with pytest.raises(UsageError, match="pooled"):
            score_answers(files)


def test_the_command_scores(cli: Callable[..., Any], tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    outcome = cli("lab", "study-score", path, "--json")
    assert outcome.code == 0
    first = outcome.document["rows"][0]
    assert (first["kinship"], first["right"], first["answers"], first["share"]) == ("0.95 to 1", 1, 2, 0.5)
    assert first["interval"] == pytest.approx(list(Share(1, 2).interval))
    text = cli("lab", "study-score", path).out
    assert "1 of 2" in text and "strangers" in text
    assert cli("lab", "study-score", path, path).code == 2
    assert cli("lab", "study-score", tmp_path / "none.json").code == 4
