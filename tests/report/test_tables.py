"""All-pairs tables: the numbers survive every format, and names cannot break any of them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from huref.errors import OutputError
from huref.kinship import Matrix
from huref.report.tables import CELL, as_document, as_text, save_heat_map

NAMES = ["llama_7b", "50% & more", "a{b}#$"]
VALUES = np.array([[1.0, 0.98765432, np.nan], [0.98765432, 1.0, -0.25], [np.nan, -0.25, 1.0]])

names = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1), min_size=2, max_size=5)


def table_of(labels: list[str]) -> np.ndarray:
    values = np.random.default_rng(0).uniform(-1, 1, (len(labels), len(labels)))
    values[0, 1] = np.nan
    return values


def test_text_aligns_and_shows_percent() -> None:
    lines = as_text(NAMES, "ics", VALUES, "text").splitlines()
    assert lines[0] == "ics, percent"
    assert len({len(line) for line in lines[1:]}) == 1
    assert lines[1].split() == ["(1)", "(2)", "(3)"], "names that would be cut are told in front of their rows"
    assert lines[2].split() == ["(1)", "llama_7b", "100.00", "98.77", "-"]


@given(names)
def test_csv_reads_back(labels: list[str]) -> None:
    values = table_of(labels)
    head, *rows = csv.reader(io.StringIO(as_text(labels, "ics", values, "csv"), newline=""))
    assert head == ["", *labels] and [row[0] for row in rows] == labels
    read = np.array([[float(cell) if cell else np.nan for cell in row[1:]] for row in rows])
    np.testing.assert_allclose(read, values, atol=5e-7)


@given(names)
def test_latex_has_balanced_braces_and_no_bare_special_character(labels: list[str]) -> None:
    text = as_text(labels, "ics_canonical_2", table_of(labels), "latex")
    lines = text.split("\n")
    rows = [line for line in lines if line.endswith(r"\\")]
    assert lines[0] == r"\begin{tabular}{l" + "r" * len(labels) + "}" and lines[-1] == r"\end{tabular}"
    assert len(rows) == len(labels) + 1
    for row in rows:
        assert _count(row, "&") == len(labels)
        assert not any(_count(row, mark) for mark in "%$#_~^")
        assert _count(row, "{") == _count(row, "}")


def _count(row: str, mark: str) -> int:
    """How often a character stands there unescaped: an escape is a backslash that is not escaped itself."""
    found, is_escaped = 0, False
    for letter in row:
        found += letter == mark and not is_escaped
        is_escaped = letter == "\\" and not is_escaped
    return found


def test_the_document_is_json_with_null_for_what_is_missing() -> None:
    document = as_document(Matrix(tuple(NAMES), "ics", VALUES, ("why",)))
    assert document.keys() == {
        "schema_version",
        "models",
        "score",
        "values",
        "notes",
        "verdicts",
        "clusters",
        "tree",
        "drift",
    }
    again = json.loads(json.dumps(document, allow_nan=False))
    assert again["values"][0] == [1.0, 0.98765432, None] and again["notes"] == ["why"]


def test_the_heat_map_is_darker_where_models_are_alike(tmp_path: Path) -> None:
    save_heat_map(NAMES, VALUES, tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as picture:
        picture.load()
        assert picture.format == "PNG"
        left, top = picture.width - 10 - 3 * CELL, picture.height - 10 - 3 * CELL
        cells = [(i, j) for i in range(3) for j in range(3)]
        cell = {(i, j): picture.getpixel((left + CELL * j + 3, top + CELL * i + 3)) for i, j in cells}
    assert cell[0, 0] == cell[1, 1] == (16, 84, 60)
    assert cell[0, 2] == (224, 224, 224), "missing is grey"
    assert cell[1, 2][0] > cell[1, 2][1], "negative is red"
    assert sum(cell[0, 1]) < sum(cell[1, 2])


def test_a_heat_map_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError):
        save_heat_map(NAMES, VALUES, tmp_path / "file" / "map.png")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
