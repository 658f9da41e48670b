"""Measuring a background: which pairs are taken, and that the file is what `huref compare` says of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import huref
from huref.cli.app import app
from huref.errors import InconclusiveError
from huref.kinship.record import CompareOptions
from huref.kinship.verdict import load_calibration
from huref_lab.bench.calibration import CalibrationOptions, calibrate, unrelated_pairs
from huref_lab.zoo.record import Zoo, ZooModel, save_zoo
from kit.checkpoints import llama_state, save_llama

pytestmark = pytest.mark.training


def base(name: str, text: str = "t", init: str = "") -> ZooModel:
    return ZooModel(name, name, "base", (), (name,), init or name, "llama", text, "one")


def child(name: str, *roots: ZooModel) -> ZooModel:
    parents = tuple(root.name for root in roots)
    return ZooModel(name, name, "fine-tune", parents, parents, roots[0].init, "llama", roots[0].text, "one")


def test_only_unrelated_pairs_are_taken_each_once() -> None:
    a, b, c = base("a"), base("b"), base("c", text="u")
    again = base("a-order", init="a")  # the same first weights: counts on neither side
    models = (a, b, c, again, child("a/tune", a), child("ab", a, b))
    zoo = Zoo(Path("zoo"), models)
    pairs = [(x.name, y.name) for x, y in unrelated_pairs(zoo, 100, 0)]
    assert len(pairs) == len({frozenset(pair) for pair in pairs})
    assert all(zoo.truth(x, y) == "independent" for x, y in pairs)
    assert {frozenset(p) for p in pairs[:5]} == {
        frozenset(p) for p in (("a", "b"), ("a", "c"), ("b", "c"), ("b", "a-order"), ("c", "a-order"))
    }
    assert set(pairs[5:]) == {("a/tune", "b"), ("a/tune", "c"), ("ab", "c")}


def test_a_seed_decides_the_sample() -> None:
    bases = [base(f"b{i}") for i in range(6)]
    zoo = Zoo(Path("zoo"), (*bases, *(child(f"{b.name}/tune", b) for b in bases)))
    first, again, other = (unrelated_pairs(zoo, 5, seed) for seed in (1, 1, 2))
    assert first == again != other and len(first) == 15 + 5


@pytest.fixture(scope="module")
def small_zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven strangers and an offspring: 21 pairs and 6."""
    folder = tmp_path_factory.mktemp("zoo")
    models = [base(f"b{seed}") for seed in range(7)]
    for seed, model in enumerate(models):
        save_llama(folder / model.path, seed=seed)
    dice = torch.Generator().manual_seed(1)
    state = {k: t + 0.05 * t.std() * torch.randn(t.shape, generator=dice) for k, t in llama_state(0).items()}
    save_llama(folder / "b0-tune", state=state)
    save_zoo(
        Zoo(
            folder,
            (*models, ZooModel("b0-tune", "b0-tune", "fine-tune", ("b0",), ("b0",), "b0", "llama", "t", "one")),
        )
    )
    return folder


def test_a_calibration_holds_what_compare_says(small_zoo: Path) -> None:
    made = calibrate(CalibrationOptions(small_zoo, "mine", n_sampled=3, jobs=1))
    assert len(made.pairs) == 24 and made.version == "mine" and len(made.made["bases"]) == 7
    one = made.pairs[-1]
    found = huref.compare(small_zoo / one.a, small_zoo / one.b)
    tried = {f"agreement/{name}": value for name, value in found.alignment["tried"].items()}
    older = huref.compare(small_zoo / one.a, small_zoo / one.b, CompareOptions(method="ics", recipe="canonical"))
    found = replace(found, ics_canonical=older.ics_canonical)
    expected = {name: tried.get(name, getattr(found, name, None)) for name in one.scores}
    assert one.scores == pytest.approx(expected, abs=1e-6) and set(tried) < set(one.scores)
    assert one.a == "b0-tune" and one.bases[0] == "b0" and one.twins and one.same_vocabulary
    assert max(float(pair.scores["agreement"] or 0) for pair in made.pairs) < 0.2


def test_an_interrupted_run_goes_on(small_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = tmp_path / "journal"
    options = CalibrationOptions(small_zoo, n_sampled=0, jobs=1, journal=journal)
    whole = calibrate(options)
    text = journal.read_text()
    journal.write_text(text[: len(text) // 2])  # interrupted while writing
    assert calibrate(options) == whole and len(journal.read_text().splitlines()) < 2 * len(text.splitlines())
    before = journal.read_text().count("stamp")
    assert calibrate(options) == whole and journal.read_text().count("stamp") == before
    save_llama(small_zoo / "b6", seed=6)  # made anew: its six pairs are measured anew
    assert calibrate(options) == whole and journal.read_text().count("stamp") == before + 6


def test_the_command_writes_a_calibration_and_refuses_too_small_a_zoo(small_zoo: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    out = tmp_path / "c.json"
    done = CliRunner().invoke(
        app, ["lab", "calibrate", "--zoo", str(small_zoo), "--out", str(out), "--sampled", "0", "--as", "x", "--json"]
    )
    assert done.exit_code == 0 and json.loads(done.stdout)["pairs"] == 21
    assert load_calibration(out).version == "x"
    with pytest.raises(InconclusiveError, match="too few unrelated pairs"):
        few = Zoo(tmp_path, (base("a"), base("b")))
        save_zoo(few)
        calibrate(CalibrationOptions(tmp_path))
