"""All pairs of saved fingerprints: what a screening says is what comparing each pair says."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import huref
from huref.attacks import AttackOptions, attack
from huref.errors import CorruptFileError
from huref.fingerprints.codes import Codes, LayerCodes, Packed, packed
from huref.fingerprints.file import SUFFIX, load_fingerprint, save_fingerprint
from huref.kinship import screening
from huref.kinship.all_pairs import clusters
from huref.kinship.saved import compare_fingerprints
from huref.kinship.screening import _unheard_of, places
from kit.tiny_llama import TinyLlama

KIN = [{"seed0", "tuned", "deeper"}, {"seed1", "tuned1"}]


@pytest.fixture(autouse=True)
def _always_screened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huref.kinship.saved_pairs._FEW_PAIRS", 0)


@pytest.fixture(scope="module", params=[False, True], ids=["tokens", "plain-codes"])
def family(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> list[Path]:
    """Fingerprints with codes of seven tiny models, five of them kin: one with layers doubled in the middle."""
    folder = tmp_path_factory.mktemp("family")
    models = {f"seed{seed}": TinyLlama(seed, n_layers=5) for seed in range(4)}
    models |= {"tuned": TinyLlama(0, n_layers=5, noise=0.05), "tuned1": TinyLlama(1, n_layers=5, noise=0.3)}
    found = []
    for name, model in models.items():
        made = huref.fingerprint(model.save(folder / name), codes=True, plain_codes=request.param)
        found.append(folder / f"{name}{SUFFIX}")
        save_fingerprint(made, found[-1])
    made = load_fingerprint(found[0])
    assert made.codes is not None
    save_fingerprint(
        replace(with_layers(made, made.codes, (0, 1, 2, 2, 3, 4)), model="deeper"), folder / f"deeper{SUFFIX}"
    )
    return [*found, folder / f"deeper{SUFFIX}"]


def with_layers(made: huref.Fingerprint, codes: Codes, kept: tuple[int, ...]) -> huref.Fingerprint:
    layers = {new: codes.layers[old] for new, old in enumerate(kept)}
    plain = {new: codes.plain[old] for new, old in enumerate(kept) if old in codes.plain}
    geometry = {**made.geometry, "n_layers": len(kept)}
    return replace(made, geometry=geometry, codes=replace(codes, layers=layers, plain=plain))


def test_a_matrix_says_what_comparing_each_pair_says(family: list[Path]) -> None:
    table = huref.matrix(family)
    assert table.score == "agreement" and any("pairs show no more than" in note for note in table.notes)
    for i, j in combinations(range(len(family)), 2):
        found = compare_fingerprints(load_fingerprint(family[i]), load_fingerprint(family[j]))
        assert table.verdicts[i][j] == table.verdicts[j][i] == found.verdict
        assert found.agreement is not None
        close = 1e-12 if found.verdict == "derived" else 0.06
        assert table.values[i, j] == table.values[j, i] == pytest.approx(found.agreement, abs=close)
    assert [set(cluster) for cluster in table.clusters] == KIN
    assert all(table.verdicts[i][i] == "identical" for i in range(len(family)))


def test_the_order_of_the_files_changes_only_the_order_of_the_answer(family: list[Path]) -> None:
    table, order = huref.matrix(family), np.random.default_rng(3).permutation(len(family))
    other = huref.matrix([family[i] for i in order])
    assert other.names == tuple(table.names[i] for i in order)
    assert other.clusters == table.clusters
    for i, j in combinations(range(len(family)), 2):
        assert other.verdicts[i][j] == table.verdicts[order[i]][order[j]]
        assert other.values[i, j] == pytest.approx(table.values[order[i], order[j]], abs=1e-12)


@pytest.mark.parametrize("score", ["ics_canonical_2", "vectors"])
def test_a_score_that_is_asked_for_is_the_one_given(family: list[Path], score: str) -> None:
    table = huref.matrix(family, score)
    assert table.score == score and [set(cluster) for cluster in table.clusters] == KIN
    expected = getattr(huref.compare(family[0], family[1]), score)
    assert table.values[0, 1] == pytest.approx(expected)


def test_files_without_codes_have_scores_and_are_named(family: list[Path], tmp_path: Path) -> None:
    plain = tmp_path / f"plain{SUFFIX}"
    save_fingerprint(replace(load_fingerprint(family[0]), codes=None), plain)
    table = huref.matrix([*family, plain])
    assert table.score == "ics_canonical_2" and table.values[0, -1] == pytest.approx(1)
    assert table.verdicts[-1][:-1] == (None,) * len(family) and not np.isnan(table.values).any()
    assert any("without neuron codes" in note and "plain" in note for note in table.notes)
    assert [set(cluster) for cluster in table.clusters] == KIN


def test_codes_of_another_recipe_are_inconclusive(family: list[Path], tmp_path: Path) -> None:
    made = load_fingerprint(family[0])
    assert made.codes is not None
    other = tmp_path / f"other{SUFFIX}"
    save_fingerprint(replace(made, codes=replace(made.codes, recipe=replace(made.codes.recipe, seed="x"))), other)
    table = huref.matrix([*family, other])
    assert set(table.verdicts[-1][:-1]) == {"inconclusive"} and np.isnan(table.values[-1, :-1]).all()
    assert [set(cluster) for cluster in table.clusters] == KIN


def test_fingerprints_of_different_recipes_have_no_score(family: list[Path], tmp_path: Path) -> None:
    made = load_fingerprint(family[0])
    other = tmp_path / f"other{SUFFIX}"
    save_fingerprint(replace(made, recipe=replace(made.recipe, layers="-1")), other)
    found = huref.matrix([family[1], other, family[2]])
    assert np.isnan(found.values[0, 1]) and np.isnan(found.values[1, 2]) and np.isfinite(found.values[0, 2])
    assert any("different recipes do not compare" in note for note in found.notes)


@pytest.mark.parametrize("lie", [{"n_layers": 10**9}, {"d_ff": "many"}, {"n_layers": 2}])
def test_a_file_that_lies_about_its_sizes_is_refused(family: list[Path], tmp_path: Path, lie: dict[str, Any]) -> None:
    made = load_fingerprint(family[0])
    other = tmp_path / f"other{SUFFIX}"
    save_fingerprint(replace(made, geometry={**made.geometry, **lie}), other)
    with pytest.raises(CorruptFileError):
        huref.matrix([*family, other])


def test_one_of_many_that_cannot_be_read_leaves_its_cells(models: dict[str, Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(models["child"], broken)
    (broken / "model.safetensors").write_bytes(b"nothing")
    found = huref.matrix([models["base"], broken, models["stranger"]])
    assert np.isfinite(found.values[0, 2]) and np.isnan(found.values[1, [0, 2]]).all()
    assert any(note.startswith("broken: not read:") for note in found.notes)
    with pytest.raises(CorruptFileError):
        huref.matrix([models["base"], broken])
    with pytest.raises(CorruptFileError):
        huref.matrix([broken, models["base"], broken])


# Screening


def random_layer(n: int, random: np.random.Generator, *, gated: bool = True, n_copies: int = 1) -> LayerCodes:
    parts = [packed(random.standard_normal((256, n)).astype(np.float32)) for _ in range(3)]
    none = np.zeros((0, 32), np.uint8)
    return LayerCodes(parts[0], parts[1] if gated else None, parts[2], none, none, n_copies=n_copies)


def screened(*layers: LayerCodes) -> Iterator[bool]:
    """Whether strangers have as much in common, for the first layer against each of the others."""
    sides = [screening.Coded(4, (1, 2), {1: layer, 2: layer}.__getitem__) for layer in layers]
    found = screening.Screening(sides, ["one"] * len(sides), "tokens")
    for j in range(1, len(layers)):
        seen = found.of(0, j)
        assert seen is not None
        yield seen.is_chance


def parts(layer: LayerCodes) -> tuple[Packed, Packed | None, Packed]:
    return layer.gate, layer.up, layer.down


def joined(first: Packed | None, second: Packed | None) -> Packed | None:
    return None if first is None or second is None else np.concatenate([first, second])


def changed(layer: LayerCodes, change: Callable[[Packed], Packed]) -> LayerCodes:
    up = None if layer.up is None else change(layer.up)
    return replace(layer, gate=change(layer.gate), up=up, down=change(layer.down))


@pytest.mark.parametrize("gated", [True, False])
def test_parts_of_a_layer_and_mixtures_of_its_copies_are_noticed(gated: bool) -> None:
    random = np.random.default_rng(0)
    base = random_layer(512, random, gated=gated)
    order = random.permutation(512)
    half = changed(base, lambda part: part[order[:200]])
    mixture = replace(changed(base, lambda part: np.tile(part[order], (8, 1))), n_copies=8)
    others = random_layer(7 * 512, random, gated=gated)
    one_of_many = LayerCodes(*map(joined, parts(base), parts(others)), base.qk, base.vo, n_copies=8)
    stranger, ungated = random_layer(512, random, gated=gated), replace(base, up=None)
    assert list(screened(base, half, mixture, one_of_many, ungated, stranger)) == [False, False, False, False, True]


def test_silent_layers_are_nobodys_kin() -> None:
    zero = np.zeros((64, 32), np.uint8)
    silent = LayerCodes(zero, zero, zero, zero[:0], zero[:0])
    assert list(screened(silent, silent, random_layer(64, np.random.default_rng(0)))) == [True, True]


def test_strangers_are_seldom_looked_at_closely() -> None:
    random = np.random.default_rng(1)
    layers = [random_layer(128, random) for _ in range(40)]
    assert sum(not is_chance for is_chance in screened(*layers)) == 0


@pytest.mark.parametrize("expected", [0.01, 0.3, 1.0, 7.5])
def test_a_count_unheard_of_is_a_poisson_quantile(expected: float) -> None:
    from scipy.stats import poisson

    count = _unheard_of(expected)
    assert poisson.sf(count - 1, expected) <= screening._UNHEARD_OF < poisson.sf(count - 2, expected)


@pytest.mark.parametrize("n_layers", range(1, 40))
def test_places_are_layers_that_files_keep(n_layers: int) -> None:
    from huref.fingerprints.codes import kept_layers

    assert set(places(n_layers)) <= set(kept_layers(n_layers, 4)) or n_layers < 2
    assert all(0 <= layer < n_layers for layer in places(n_layers))


def test_clusters_are_what_verdicts_connect() -> None:
    words = {"ab": "derived", "bc": "identical", "de": "requantised", "ae": "independent", "cf": "inconclusive"}
    names = "fedcbag"
    verdicts = [[words.get("".join(sorted((x, y)))) for y in names] for x in names]
    assert clusters(names, verdicts) == (("a", "b", "c"), ("d", "e"))


def test_an_old_fingerprint_among_models_has_every_cell_of_its_recipe(tmp_path: Path) -> None:
    models = [TinyLlama(seed).save(tmp_path / str(seed)) for seed in range(3)]
    old = tmp_path / f"old{SUFFIX}"
    save_fingerprint(huref.fingerprint(models[0], huref.Recipe("canonical")), old)
    found = huref.matrix([old, *models[1:]])
    assert found.score == "ics_canonical" and np.isfinite(found.values).all()
    usual = huref.matrix(models)
    assert usual.score == "ics_canonical_2" and np.isfinite(usual.values).all()
    named = huref.matrix(models, "ics_canonical")
    assert named.values[1, 2] == pytest.approx(found.values[1, 2], abs=1e-6)


def test_a_saved_comparison_tells_what_was_passed_over(tmp_path: Path) -> None:
    model = TinyLlama(0).save(tmp_path / "a")
    attack(model, tmp_path / "deeper", AttackOptions(("insert_layers",), 1, "float32", None))
    a, b = (huref.fingerprint(path, huref.Recipe(layers="all")) for path in (model, tmp_path / "deeper"))
    found = compare_fingerprints(a, b)
    assert found.ics_canonical_2 == pytest.approx(1.0, abs=1e-4)
    assert any(note.startswith("deeper: ") and "passed over" in note for note in found.notes)
