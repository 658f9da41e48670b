"""`--name`: what users call their models, wherever the result says a name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import huref
from kit.command_line import Outcome

Cli = Callable[..., Outcome]


def test_comparisons_have_the_names(cli: Cli, models: dict[str, Path], tmp_path: Path) -> None:
    a, b, c = (models[name] for name in ("base", "child", "stranger"))
    found = cli("compare", a, b, "--name", "Acme 7B", "--name", "the suspect", "--json").document
    assert (found["a"], found["b"]) == ("Acme 7B", "the suspect")
    plain = cli("compare", a, b, "--json").document
    assert {**found, "a": "base", "b": "child"} == plain
    named = ("--name", "x/one", "--name", "two", "--name", "three")
    ranked = cli("compare", a, b, c, *named, "--json").document
    assert ranked["suspect"] == "x/one" and [item["name"] for item in ranked["candidates"]] == ["two", "three"]
    table = cli("matrix", a, b, c, *named, "--json").document
    assert table["models"] == ["x/one", "two", "three"]
    page = tmp_path / "report.html"
    assert cli("compare", a, b, "--name", "Acme 7B", "--name", "the suspect", "--report", page).code == 0
    assert "Acme 7B" in page.read_text() and "the suspect" in page.read_text()


def test_fingerprints_and_their_files_have_the_names(cli: Cli, models: dict[str, Path], tmp_path: Path) -> None:
    alike = [shutil.copytree(models[name], tmp_path / name / "final") for name in ("base", "stranger")]
    refused = cli("fingerprint", *alike, "--out", tmp_path)
    assert refused.code == 2 and "--name" in refused.err
    assert cli("fingerprint", *alike, "--name", "one", "--name", "zwei \u00df", "--out", tmp_path).code == 0
    saved = [tmp_path / f"{name}.huref.safetensors" for name in ("one", "zwei \u00df")]
    assert [huref.load_fingerprint(path).model for path in saved] == ["one", "zwei \u00df"]
    assert (tmp_path / "one.png").exists()
    assert huref.fingerprint(saved[0], name="renamed").model == "renamed"
    found = huref.compare(*saved, names=("A", "B"))
    assert (found.a, found.b) == ("A", "B")
    mixed = cli("matrix", saved[0], alike[1], "--name", "A", "--name", "B", "--json").document
    assert mixed["models"] == ["A", "B"]


def test_notes_have_the_names_too(models: dict[str, Path], tmp_path: Path) -> None:
    bare = shutil.copytree(models["child"], tmp_path / "bare")
    (bare / "tokenizer.json").unlink()
    lent = {"tokenizer": models["base"]}
    said = "the suspect: no tokenizer of its own: that of base was taken"
    assert said in huref.compare(models["base"], bare, names=("B", "the suspect"), **lent).notes
    ranked = huref.rank(bare, [models["base"]], names=("the suspect", "B"), **lent)
    assert ranked.candidates[0].comparison is not None and said in ranked.candidates[0].comparison.notes


def test_a_run_goes_by_the_names(cli: Cli, models: dict[str, Path]) -> None:
    trio, drift = [models[name] for name in ("base", "child", "stranger")], ("--score", "pcs", "--json")
    named = [part for step in (3, 1, 2) for part in ("--name", f"step {step}")]
    assert cli("matrix", *trio, *drift).document["drift"] is None
    assert cli("matrix", *trio, *named, *drift).document["drift"]["names"] == ["step 1", "step 2", "step 3"]


def test_names_are_part_of_a_kept_result(models: dict[str, Path], cache_home: Path) -> None:
    pair, cache = (models["base"], models["child"]), huref.Cache()
    for names in (("A", "B"), ("A", "C"), None, ("A", "B")):
        kept, fresh = (huref.compare(*pair, names=names, cache=way) for way in (cache, False))
        assert kept.to_dict() == fresh.to_dict()
    assert (cache.n_kept, cache.n_made) == (1, 3)


@pytest.mark.parametrize(
    "names",
    [
        ["one"],
        ["one", "two", "three"],
        ["one", "one"],
        ["one", ""],
        ["one", "\x1b[2Jtwo"],
        ["one", "two\n"],
        ["a", "b" * 200],
    ],
)
def test_other_names_are_refused(cli: Cli, models: dict[str, Path], names: list[str], tmp_path: Path) -> None:
    pair, flags = (models["base"], models["child"]), [part for name in names for part in ("--name", name)]
    for command in (("compare", *pair), ("matrix", *pair), ("fingerprint", *pair, "--out", tmp_path)):
        done = cli(*command, *flags)
        assert done.code == 2 and "--name" in done.err and "\x1b" not in done.err and done.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../up", "a/b", "a\\b", ".hidden", ".."])
def test_a_name_of_files_is_no_path(cli: Cli, models: dict[str, Path], name: str, tmp_path: Path) -> None:
    done = cli("fingerprint", models["base"], "--name", name, "--out", tmp_path)
    assert done.code == 2 and "--name" in done.err and list(tmp_path.iterdir()) == []
