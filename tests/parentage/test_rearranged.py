"""Parents of a child that was rearranged: the same answer as before, with what was undone said."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import huref
from huref.attacks import KINDS
from huref.forward.decoder import Decoder
from huref.parentage import rearranged
from huref.parentage.record import Parentage
from huref.parentage.search import parents
from kit.command_line import Outcome
from kit.explanations import attacked, family, saved

CANDIDATES = ("base", "x", "y", "stranger")


def tuned(source: Decoder, seed: int, amount: float = 0.1) -> Decoder:
    """Every tensor moved, gains and biases too; one norm under two names stays one."""
    dice = np.random.default_rng(seed)
    moved = {n: t + amount * t.std() * dice.standard_normal(t.shape) for n, t in source.tensors.items()}
    for name, tensor in source.tensors.items():
        other = name.replace("feed_forward_norm", "attention_norm")
        if other in moved and np.array_equal(tensor, source.tensors[other]):
            moved[name] = moved[other]
    return source.changed(moved)


def mixed(parts: list[tuple[float, Decoder]], of: Decoder) -> Decoder:
    return of.changed({name: sum(w * part.tensors[name] for w, part in parts) for name in of.tensors})


@cache
def members(name: str) -> dict[str, Decoder]:
    """A base, two fine-tunes, a stranger, and children of the fine-tunes."""
    base = family(name)[1]
    x, y = tuned(base, 1), tuned(base, 2)
    layered = x.changed({n: t for n, t in y.tensors.items() if n.startswith("layers.1.")})
    return {
        "base": base,
        "x": x,
        "y": y,
        "stranger": family(name, 1)[1],
        "merge": mixed([(0.6, x), (0.4, y)], base),
        "child": tuned(x, 5),
        "layered": layered,
    }


def find(place: Path, name: str, child: str, kinds: str, *candidates: str) -> Parentage:
    place.mkdir(exist_ok=True)
    suspect = saved(place / f"suspect-{child}", name, attacked(name, kinds, source=members(name)[child]))
    models = [saved(place / each, name, members(name)[each]) for each in candidates or CANDIDATES]
    return parents(suspect, models)


def weights(found: Parentage) -> dict[str, float]:
    return {item.name: item.weight for item in found.candidates}


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2", "mixtral", "qwen3", "gemma3", "cohere"])
def test_a_merge_under_every_attack_at_once_names_its_parents_and_weights(name: str, tmp_path: Path) -> None:
    found = find(tmp_path, name, "merge", "all")
    assert (found.verdict, found.kind, set(found.parents)) == ("merged", "linear", {"x", "y"})
    assert weights(found) == pytest.approx({"base": 0, "x": 0.6, "y": 0.4, "stranger": 0}, abs=1e-3)
    assert found.undone is not None and found.undone.before < 0.1 and found.undone.after > 0.99
    assert found.undone.not_undone == () and found.undone.rounds > 0


@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral"])
def test_without_a_base_one_parents_order_serves_for_both(name: str, tmp_path: Path) -> None:
    found = find(tmp_path, name, "merge", "all", "y", "stranger", "x")
    assert (found.verdict, found.kind, found.base) == ("merged", "linear", None)
    assert weights(found) == pytest.approx({"x": 0.6, "y": 0.4, "stranger": 0}, abs=2e-3)


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2", "mixtral", "qwen3"])
def test_a_fine_tune_under_every_attack_at_once_names_its_parent(name: str, tmp_path: Path) -> None:
    found = find(tmp_path, name, "child", "all")
    assert (found.verdict, found.kind, found.parents) == ("derived", "single parent", ("x",))
    assert weights(found)["x"] == pytest.approx(1, abs=0.02) and weights(found)["stranger"] == 0


ALONE = [kind for kind, entry in KINDS.items() if kind != "identity" and not entry.obstacle(family("llama")[1])]


@pytest.mark.parametrize("kind", ALONE)
def test_every_attack_alone_is_seen_through(kind: str, tmp_path: Path) -> None:
    found = find(tmp_path, "llama", "merge", kind)
    assert (found.verdict, found.kind, set(found.parents)) == ("merged", "linear", {"x", "y"})
    assert weights(found) == pytest.approx({"base": 0, "x": 0.6, "y": 0.4, "stranger": 0}, abs=0.01)
    assert found.undone is not None
    one = find(tmp_path / "child", "llama", "child", kind)
    assert (one.verdict, one.parents) == ("derived", ("x",))


def test_an_order_leaves_the_answer_as_it_is_without_it(tmp_path: Path) -> None:
    straight = find(tmp_path / "0", "llama", "child", "identity")
    found = find(
        tmp_path / "1", "llama", "child", "permute_neurons+permute_residual+permute_heads+permute_vocabulary"
    )
    assert straight.undone is None and found.undone is not None and found.undone.rounds == 0
    assert weights(found) == pytest.approx(weights(straight), abs=1e-9)
    assert found.residual == pytest.approx(straight.residual, rel=1e-9)


def test_layers_of_two_parents_are_told_apart_under_a_rotation(tmp_path: Path) -> None:
    found = find(tmp_path, "llama", "layered", "all")
    assert (found.verdict, found.kind, set(found.parents)) == ("merged", "per-layer", {"x", "y"})
    fits = {fit.layer: fit.weights for fit in found.layers}
    assert fits["0"]["x"] == pytest.approx(1, abs=0.02) and fits["1"]["y"] == pytest.approx(1, abs=0.02)


def test_a_candidate_that_was_rearranged_itself_is_undone_as_well(tmp_path: Path) -> None:
    name, kinds = "llama", "permute_residual+permute_neurons+qk_map"
    suspect = saved(tmp_path / "suspect", name, attacked(name, "all", source=members(name)["merge"]))
    hidden = saved(tmp_path / "y", name, attacked(name, kinds, 9, members(name)["y"]))
    found = parents(suspect, [saved(tmp_path / "x", name, members(name)["x"]), hidden])
    assert found.undone is not None and (found.undone.reference, found.undone.candidates) in (
        ("x", ("y",)),
        ("y", ("x",)),
    )
    assert set(found.parents) <= {"x", "y"} and weights(found) == pytest.approx({"x": 0.6, "y": 0.4}, abs=0.05)


def test_a_copy_that_was_rearranged_is_derived_and_said_to_be_a_copy(tmp_path: Path) -> None:
    for kinds in ("all", "permute_neurons"):
        found = find(tmp_path / kinds, "gpt2", "x", kinds, "base", "x", "y")
        assert (found.verdict, found.parents) == ("derived", ("x",))
        assert "the child is a rearranged copy" in found.notes[0]


def test_strangers_are_looked_for_and_stay_strangers(tmp_path: Path) -> None:
    found = find(tmp_path, "llama", "stranger", "all", "base", "x", "y")
    assert (found.verdict, found.kind, found.undone) == ("inconclusive", "none", None)
    assert "no part of it was found in one of them" in found.notes[0]


@pytest.mark.parametrize("child", ["merge", "child", "x", "layered"])
def test_nothing_is_looked_for_where_nothing_was_rearranged(
    child: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("a model that was not rearranged was aligned")

    monkeypatch.setattr(rearranged, "recover", never)
    monkeypatch.setattr(rearranged, "recognise_models", never)
    copies = ("base", "x", "y", "stranger") if child != "x" else ("base", "y", "stranger")
    assert find(tmp_path, "llama", child, "identity", *copies).undone is None


def test_what_was_undone_is_said(cli: Callable[..., Outcome], tmp_path: Path) -> None:
    base, x, y = (saved(tmp_path / name, "llama", members("llama")[name]) for name in ("base", "x", "y"))
    merge = saved(tmp_path / "merge", "llama", members("llama")["merge"])
    huref.attack(merge, tmp_path / "suspect", kinds="all")
    told = cli("parents", tmp_path / "suspect", base, x, y)
    assert told.code == 0 and "merged, linear, from x, y" in told.out
    line = next(line for line in told.out.splitlines() if "was rearranged" in line)
    assert line.startswith("  suspect was rearranged: undone by the map recovered against ") and "after" in line
    undone = cli("parents", tmp_path / "suspect", base, x, y, "--json").document["undone"]
    assert set(undone) == {"reference", "candidates", "residual", "before", "after", "rounds", "not_undone"}
    assert undone["residual"] == "rotation" and undone["candidates"] == [] and undone["before"] < undone["after"]
    assert cli("parents", merge, base, x, y, "--json").document["undone"] is None
