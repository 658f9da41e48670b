"""What attacks on a grouped-query Llama leave: its function, and of the invariant terms those that we say survive."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huref.attacks import KINDS, apply, logit_error
from huref.demo.options import DEMO_KINDS
from huref.fingerprints.recipe import Recipe
from huref.forward.decoder import Decoder
from huref.forward.passes import logits
from huref.numerics.arrays import float32
from kit.dense_terms import likeness
from kit.llamas import as_weights, tiny_llama

IDS = np.array([[3, 1, 4, 1, 5, 9, 2, 6], [5, 3, 5, 8, 9, 7, 9, 3]])
RECIPES = {name: Recipe(name=name) for name in ("canonical-2", "canonical", "paper")}
ATTACKS = tuple(
    name
    for name, kind in KINDS.items()
    if name not in ("identity", "insert_layers", "split_layers") and not kind.obstacle(tiny_llama())
)
"""What a Llama allows and keeps its layers where they are."""

DUAL = ("canonical-2/qk", "canonical-2/vo", "canonical-2/up_down")
TERMS = (*DUAL, *(f"canonical/{kind}" for kind in ("qk", "vo", "gate_down")), "paper/qk", "paper/vo", "paper/ffn")
BROKEN = {
    "absorb_gains": {"paper/qk", "paper/vo", "paper/ffn"},
    "rotate_residual": {"paper/qk", "paper/vo", "paper/ffn"},
    "flip_residual": {"paper/ffn"},
    "flip_neurons": {"canonical/gate_down"},
}
"""Terms that an attack destroys; all others survive it: those of canonical-2 every one."""


@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("kind", ATTACKS)
@settings(max_examples=5)
@given(seed=st.integers(0, 2**20))
def test_every_attack_keeps_the_function_and_changes_the_weights(kind: str, is_tied: bool, seed: int) -> None:
    model = tiny_llama(seed % 7, is_tied=is_tied)
    attacked = apply(model, (kind,), seed).model
    assert logit_error(logits(model, IDS), logits(attacked, IDS)) < 1e-9
    assert any(not np.array_equal(t, attacked.tensors[name]) for name, t in model.tensors.items())


def test_float32_keeps_the_logits_a_hundred_times_better_than_the_demo_demands() -> None:
    model = tiny_llama()
    attacked = apply(model.with_each(float32), DEMO_KINDS, 1).model
    assert attacked.dtype == np.float32
    assert {tensor.dtype for tensor in attacked.tensors.values()} == {attacked.dtype}
    assert logit_error(logits(model, IDS), logits(attacked, IDS, np.float64)) < 1e-5


@pytest.mark.parametrize("kind", ATTACKS)
def test_which_terms_see_through_which_attack(kind: str) -> None:
    seen = _similarities(kind)
    broken = {term for term, score in seen.items() if score < 0.99}
    assert broken == BROKEN.get(kind, set()), seen
    assert all(seen[term] > 0.9995 for term in TERMS if term not in broken)


def test_the_canonical_terms_see_through_everything_that_the_demo_does_at_once() -> None:
    base, attacked = tiny_llama(), apply(tiny_llama(), DEMO_KINDS, 3).model
    scores = [_score(base, attacked, term) for term in DUAL]
    assert min(scores) > 0.9995


@cache
def _similarities(kind: str) -> dict[str, float]:
    base = tiny_llama()
    attacked = apply(base, (kind,), 11).model
    return {term: _score(base, attacked, term) for term in TERMS}


def _score(a: Decoder, b: Decoder, term: str) -> float:
    name, kind = term.split("/")
    return likeness(as_weights(a), as_weights(b), 1, kind, np.arange(400), RECIPES[name])
