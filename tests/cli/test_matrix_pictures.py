"""`huref matrix`: trees, drift, and the tables of the paper."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import huref
from kit.command_line import Outcome
from kit.tiny_llama import TinyLlama

Cli = Callable[..., Outcome]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("run")
    for step, noise in ((9, 0.0), (20, 0.2), (100, 0.8)):
        TinyLlama(noise=noise).save(home / f"checkpoint-{step}")
    return home


def _texts(path: Path) -> list[str]:
    return [str(item.text) for item in ElementTree.fromstring(path.read_bytes()).iter(f"{SVG}text")]


def test_trees_and_drift_are_drawn(cli: Cli, run: Path, models: dict[str, Path], tmp_path: Path) -> None:
    tree, drift, rows = tmp_path / "tree.svg", tmp_path / "drift.svg", tmp_path / "drift.csv"
    command = ("matrix", run, models["stranger"], "--score", "pcs")
    done = cli(*command, "--tree", tree, "--drift", drift)
    assert done.code == 0 and done.out.endswith(f"written: {tree}\nwritten: {drift}\n")
    assert {"checkpoint-9", "checkpoint-100", "stranger"} <= set(_texts(tree))
    assert {"from the first", "from the previous", "stranger", "9", "100"} <= set(_texts(drift))
    found = cli(*command, "--drift", rows, "--json").document
    assert found["schema_version"] == "huref.matrix/1.2" and found["drift"]["steps"] == [9, 20, 100]
    assert found["tree"][0]["left"] == 0 and len(found["tree"]) == 3
    table = list(csv.DictReader(io.StringIO(rows.read_text())))
    assert [row["step"] for row in table] == ["9", "20", "100"]
    assert float(table[2]["from the first"]) == pytest.approx(found["drift"]["first"][2], abs=1e-6)


def test_what_is_no_run_is_refused_before_work(
    cli: Cli, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huref.kinship.all_pairs._compare_weights", lambda *_: pytest.fail("it was compared"))
    pair = (models["base"], models["child"])
    done = cli("matrix", *pair, "--drift", tmp_path / "x.svg")
    assert done.code == 2 and "no run among these models" in done.err
    for flag, name in (("--drift", "x.png"), ("--tree", "x.png")):
        done = cli("matrix", *pair, flag, tmp_path / name)
        assert done.code == 2 and flag in done.err and list(tmp_path.iterdir()) == []


def test_names_in_pictures_are_no_markup(cli: Cli, tmp_path: Path) -> None:
    hostile = [TinyLlama(seed=k).save(tmp_path / f"<script>{k}&") for k in range(3)]
    assert cli("matrix", *hostile, "--score", "pcs", "--tree", tmp_path / "t.svg").code == 0
    assert b"<script" not in (tmp_path / "t.svg").read_bytes() and "<script>1&" in _texts(tmp_path / "t.svg")


@pytest.mark.parametrize(("number", "score", "head"), [("1", "pcs", "PCS"), ("2", "ics", "ICS")])
def test_tables_against_a_base(cli: Cli, models: dict[str, Path], number: str, score: str, head: str) -> None:
    trio = [models[name] for name in ("base", "child", "stranger")]
    found = huref.matrix(trio, score=score).values
    done = cli("matrix", *trio, "--paper", number)
    assert done.code == 0
    assert done.out.splitlines()[:6] == [
        r"\begin{tabular}{lrr}",
        r"\hline",
        r"base & child & stranger \\",
        r"\hline",
        rf"{head} & {100 * found[0, 1]:.2f} & {100 * found[0, 2]:.2f} \\",
        r"\hline",
    ]
    rows = list(csv.reader(io.StringIO(cli("matrix", *trio, "--paper", number, "--format", "csv").out)))
    assert rows[:2] == [["model", f"{score}, base"], ["child", f"{found[0, 1]:.6f}"]]
    assert f"{score} against base, percent" in cli("matrix", *trio, "--paper", number, "--format", "text").out
    document = cli("matrix", *trio, "--paper", number, "--json").document
    assert document["values"][0][2] == found[0, 2] and document["values"][1][2] is None


def test_a_long_table_against_a_base_breaks_its_lines(cli: Cli, tmp_path: Path) -> None:
    many = [TinyLlama(seed=k, n_layers=1).save(tmp_path / f"m{k}") for k in range(11)]
    lines = cli("matrix", *many, "--paper", "1").out.splitlines()
    assert lines[0] == r"\begin{tabular}{lrrrrrrrr}" and sum(line.startswith("PCS & ") for line in lines) == 2
    assert lines[2].count("&") == 8 and lines[6] == r"m0 & m9 & m10 \\"


@pytest.mark.parametrize("number", ["3", "7"])
def test_tables_of_all_pairs(cli: Cli, models: dict[str, Path], number: str) -> None:
    trio = [models[name] for name in ("base", "child", "stranger")]
    assert (
        cli("matrix", *trio, "--paper", number).out == cli("matrix", *trio, "--score", "ics", "--format", "latex").out
    )


def test_a_table_of_the_paper_has_its_score(cli: Cli, models: dict[str, Path]) -> None:
    done = cli("matrix", models["base"], models["child"], "--paper", "1", "--score", "ics")
    assert done.code == 2 and "--paper" in done.err
    assert cli("matrix", models["base"], models["child"], "--paper", "4").code == 2


def test_against_the_first_compares_no_other_pair(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from huref.kinship import comparison

    pairs, real = [], comparison.compare_prepared

    def compare(a: Any, b: Any, *rest: Any) -> Any:
        pairs.append([a.model.name, b.model.name])
        return real(a, b, *rest)

    monkeypatch.setattr(comparison, "compare_prepared", compare)
    huref.matrix([models[name] for name in ("base", "child", "stranger")], score="pcs", against_first=True)
    assert sorted(pairs) == [["base", "child"], ["base", "stranger"]]
