"""`huref parents`: what it prints, its exit codes, its faults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kit import merge_formulas as formulas
from kit.command_line import Outcome
from kit.merge_formulas import base_state, save, tuned

Cli = Callable[..., Outcome]

BASE = base_state()
ONE, TWO = tuned(BASE, 1), tuned(BASE, 2)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("family")
    states = {
        "base": BASE,
        "one": ONE,
        "two": TWO,
        "stranger": base_state(7),
        "merge": formulas.linear([ONE, TWO], [0.7, 0.3]),
        "franken": formulas.frankenmerge([ONE, TWO], [(0, 0), (1, 1), (0, 2)]),
        "ties": formulas.ties(BASE, [ONE, TWO], 0.4),
        "tuned": tuned(ONE, 9),
        "nobody": base_state(9),
    }
    for name, state in states.items():
        save(folder / name, state)
    return folder


def family(home: Path) -> list[Path]:
    return [home / name for name in ("base", "one", "two", "stranger")]


def test_text_for_people(cli: Cli, home: Path) -> None:
    done = cli("parents", home / "merge", *family(home))
    assert done.code == 0 and done.err == ""
    lines = done.out.splitlines()
    first = "which of merge and one, two came first is not tested; if merge is the younger: "
    assert lines[0] == f"{first}merged, linear, from one, two"
    one = next(line for line in lines if line.split()[0] == "one")
    assert "0.7000" in one and one.endswith("(parent)")
    assert next(line for line in lines if line.split()[0] == "base").endswith("(base)")
    assert next(line for line in lines if line.split()[0] == "stranger").split()[1] == "0.0000"
    assert any(line.startswith("  note: direction is taken") for line in lines)


def test_layers_and_copies_are_shown_where_they_matter(cli: Cli, home: Path) -> None:
    franken = cli("parents", home / "franken", *family(home)).out
    assert "per-layer" in franken and "    layer 1: two 1.000; residual" in franken
    ties = cli("parents", home / "ties", *family(home)).out
    assert "sparse" in ties and "copied, times 1.0000" in ties


@pytest.mark.parametrize(
    ("child", "verdict", "code"),
    [("merge", "merged", 0), ("tuned", "derived", 0), ("one", "identical", 0), ("nobody", "inconclusive", 3)],
)
def test_one_document_and_the_exit_code_of_the_verdict(
    cli: Cli, home: Path, child: str, verdict: str, code: int
) -> None:
    others = [path for path in family(home) if path.name != child]
    if child == "one":
        others.append(save(home / "copy" / "uno", ONE))
    done = cli("parents", home / child, *others, "--json")
    document = done.document
    assert (done.code, document["verdict"]) == (code, verdict)
    assert document["schema_version"] == "huref.parents/1.1" and document["child"] == child
    keys = "base base_source candidates gain kind layers notes parents r2 residual rounding skipped sparse spread"
    assert set(document) == {*keys.split(), "schema_version", "child", "verdict", "undone"}
    assert cli("parents", home / child, *others, "--expect", verdict).code == 0
    assert cli("parents", home / child, *others, "--expect", "requantised").code == 1


def test_a_base_can_be_given(cli: Cli, home: Path) -> None:
    document = cli("parents", home / "merge", home / "one", home / "two", "--base", home / "base", "--json").document
    assert (document["base"], document["base_source"]) == ("base", "given")
    assert [item["name"] for item in document["candidates"]] == ["one", "two", "base"]


@pytest.mark.parametrize(
    ("arguments", "code", "kind", "said"),
    [
        (("merge", "one", "--expect", "stolen"), 2, "UsageError", "'stolen' is not one of 'identical'"),
        (("merge",), 2, "UsageError", "Missing argument"),
        (("merge", "saved.huref.safetensors"), 2, "UsageError", "a saved fingerprint has no weights"),
        (("nowhere", "one"), 4, "MissingFileError", "nowhere"),
        (("merge", "one", "--base", "nowhere"), 4, "MissingFileError", "nowhere"),
        (("merge", "broken"), 4, "CorruptFileError", "broken"),
        (("merge", "ftp://example.org/model"), 2, "UsageError", "names no model"),
    ],
)
def test_faults(cli: Cli, home: Path, arguments: tuple[str, ...], code: int, kind: str, said: str) -> None:
    (home / "broken").mkdir(exist_ok=True)
    (home / "broken" / "model.safetensors").write_bytes(b"\xff" * 64)
    paths = [a if a.startswith("-") or a == "stolen" or "/" in a else home / a for a in arguments]
    done = cli("parents", *paths, "--json")
    assert done.code == code and done.document["error"]["type"] == kind
    assert said in done.err
