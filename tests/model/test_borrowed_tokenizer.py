"""`--tokenizer`: a model without a tokenizer answers as it does with its own, and says whose it took."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import huref
from kit.command_line import Outcome

Cli = Callable[..., Outcome]
SAID = "no tokenizer of its own: that of base was taken"


@pytest.fixture
def bare(models: dict[str, Path], tmp_path: Path) -> Path:
    """The child without its tokenizer."""
    place = shutil.copytree(models["child"], tmp_path / "child")
    (place / "tokenizer.json").unlink()
    return place


def _without(document: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in keys}


def test_without_one_the_message_names_the_option(cli: Cli, bare: Path) -> None:
    done = cli("fingerprint", bare)
    assert done.code == 4 and "no tokenizer was found" in done.err and "--tokenizer DIR" in done.err


def test_a_fingerprint_is_the_same_and_says_so(cli: Cli, models: dict[str, Path], bare: Path, tmp_path: Path) -> None:
    own = cli("fingerprint", models["child"], "--codes", "--out", tmp_path / "own", "--json").document
    lent = ("--tokenizer", models["base"])
    borrowed = cli("fingerprint", bare, "--codes", "--out", tmp_path / "lent", *lent, "--json").document
    assert borrowed["notes"] == [*own["notes"], SAID]
    changing = ("notes", "seconds", "fingerprint_file", "image_file", "peak_rss_bytes")
    assert _without(own, *changing) == _without(borrowed, *changing)


def test_comparisons_are_the_same_and_say_so(cli: Cli, models: dict[str, Path], bare: Path) -> None:
    base, child = models["base"], models["child"]
    lent = ("--tokenizer", base, "--json")
    own, borrowed = cli("compare", base, child, "--json").document, cli("compare", base, bare, *lent).document
    assert f"child: {SAID}" in borrowed["notes"] and not any(
        "base: no tokenizer" in note for note in borrowed["notes"]
    )
    assert _without(own, "notes", "read") == _without(borrowed, "notes", "read")
    own_matrix = cli("matrix", base, child, models["stranger"], "--json").document
    assert own_matrix["values"] == cli("matrix", base, bare, models["stranger"], *lent).document["values"]
    ranked = cli("compare", bare, base, models["stranger"], *lent).document
    assert ranked["kin"] == cli("compare", child, base, models["stranger"], "--json").document["kin"] == ["base"]
    for command in ("compare", "explain", "matrix"):
        assert cli(command, base, bare).code == 4


def test_explanations_and_their_check_are_the_same(
    cli: Cli, models: dict[str, Path], bare: Path, tmp_path: Path
) -> None:
    base, lent = models["base"], ("--tokenizer", models["base"])
    evidence = tmp_path / "x.evidence.safetensors"
    own = cli("explain", base, models["child"], "--json").document
    assert cli("explain", base, bare, *lent, "--out", evidence, "--json").document == own
    assert cli("explain", base, bare, *lent, "--check", evidence).code == 0
    assert cli("explain", base, bare, "--check", evidence).code == 4


def test_parents_need_no_tokenizer(cli: Cli, models: dict[str, Path], bare: Path) -> None:
    own = cli("parents", models["child"], models["base"], "--json").document
    assert cli("parents", bare, models["base"], "--json").document == own


def test_an_attacked_copy_takes_it_along(cli: Cli, models: dict[str, Path], bare: Path, tmp_path: Path) -> None:
    assert cli("attack", "permute_vocabulary", bare, tmp_path / "x", "--tokenizer", models["base"]).code == 0
    assert cli("attack", "permute_vocabulary", models["child"], tmp_path / "y").code == 0
    for name in ("tokenizer.json", "model.safetensors"):
        assert (tmp_path / "x" / name).read_bytes() == (tmp_path / "y" / name).read_bytes()


def test_rankings_and_commitments_take_it(cli: Cli, models: dict[str, Path], bare: Path, tmp_path: Path) -> None:
    corpus, lent = tmp_path / "corpus.txt", ("--tokenizer", models["base"])
    corpus.write_text("bal ber bit\nsor tus tum bal\n")
    own = cli("tokens", "rank", models["child"], "--corpus", corpus).out
    assert own and cli("tokens", "rank", bare, "--corpus", corpus, *lent).out == own
    assert cli("tokens", "rank", bare, "--corpus", corpus).code == 4
    small = ("--layers", "2", "--n-tokens", 256, "--jobs", 1, "--out")
    assert cli("commit", bare, *lent, *small, tmp_path / "sealed").code == 0
    proved = ("prove", "fingerprint", "--commitment", tmp_path / "sealed", "--out", tmp_path / "x.proof")
    assert cli(*proved, bare, *lent).code == 0 and cli(*proved, models["child"]).code == 0
    assert cli(*proved, bare).code == 4


def test_python_takes_it_as_text(models: dict[str, Path], bare: Path) -> None:
    lent = str(models["base"])
    made = huref.fingerprint(bare, tokenizer=lent)
    assert np.array_equal(made.vector, huref.fingerprint(models["child"]).vector) and SAID in made.notes
    found = huref.compare(models["base"], bare, tokenizer=lent)
    assert found.verdict == huref.compare(models["base"], models["child"]).verdict
    assert huref.compare(huref.fingerprint(models["base"]), bare, tokenizer=lent).ics_canonical_2 is not None
    with pytest.raises(huref.HurefError, match="keeps the recipe"):
        huref.fingerprint(made, tokenizer=lent)


def test_an_own_tokenizer_is_kept(models: dict[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    document = json.loads((models["base"] / "tokenizer.json").read_text())
    document["model"]["vocab"] = dict(
        zip(document["model"]["vocab"], reversed(document["model"]["vocab"].values()), strict=True)
    )
    (other / "tokenizer.json").write_text(json.dumps(document))
    assert huref.fingerprint(models["base"], tokenizer=other) == huref.fingerprint(models["base"])


@pytest.mark.parametrize("kind", ["nothing", "a file", "an empty folder"])
def test_a_place_without_a_tokenizer_is_refused(
    cli: Cli, models: dict[str, Path], bare: Path, kind: str, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    if kind == "a file":
        place.write_text("{}")
    if kind == "an empty folder":
        place.mkdir()
    done = cli("compare", models["base"], bare, "--tokenizer", place)
    assert done.code == 4 and "tokenizer" in done.err


def test_the_cache_knows_the_tokenizer(models: dict[str, Path], bare: Path, cache_home: Path, tmp_path: Path) -> None:
    place = tmp_path / "lent"
    place.mkdir()
    shutil.copy(models["base"] / "tokenizer.json", place)
    cache = huref.Cache()
    first = huref.compare(models["base"], bare, tokenizer=place, cache=cache)
    assert huref.compare(models["base"], bare, tokenizer=place, cache=cache).to_dict() == first.to_dict()
    content = (place / "tokenizer.json").read_text()
    (place / "tokenizer.json").write_text(content.replace('"bal"', '"xal"'))
    other = huref.compare(models["base"], bare, tokenizer=place, cache=cache)
    assert (cache.n_kept, cache.n_made) == (1, 2) and other.to_dict() != first.to_dict()
