"""Rearranged models compute the same function; which invariant terms see through which rearrangement."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from huref.demo.rearrangement import DEFAULT_KINDS, KINDS, logit_error, rearrange
from huref.errors import UsageError
from huref.fingerprints.recipe import Recipe
from huref.fingerprints.terms import Factors, bilinear, centred, exact_ffn, factors, token_embeddings
from huref.forward.llama import logits
from huref.kinship.correlation import pearson
from huref.model.arch.weights import CanonicalWeights
from kit.llamas import as_weights, tiny_llama

IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6], [5, 3, 5, 8, 9, 7, 9, 3]])
CANONICAL, PAPER = Recipe(), Recipe(name="paper")

TERMS = ("qk", "vo", "gate_down", "up_down", "ffn", "ffn_exact", "paper/qk", "paper/vo", "paper/ffn")
BROKEN = {
    "absorb_gains": {"paper/qk", "paper/vo", "paper/ffn"},
    "rotate_residual": {"ffn", "paper/qk", "paper/vo", "paper/ffn"},
    "flip_neurons": {"gate_down"},
}
"""Terms that a rearrangement destroys; all others survive it. `ffn_exact` and canonical attention survive all."""


@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_every_rearrangement_keeps_the_function_and_changes_the_weights(kind: str, is_tied: bool, seed: int) -> None:
    model = tiny_llama(seed % 7, is_tied=is_tied)
    attacked = rearrange(model, seed, [kind])
    assert logit_error(logits(model, IDS), logits(attacked, IDS)) < 1e-9
    assert any(not torch.equal(t, attacked.tensors[name]) for name, t in model.tensors.items())


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**20), kinds=st.lists(st.sampled_from(list(KINDS)), max_size=6))
def test_rearrangements_compose_in_any_order(seed: int, kinds: list[str]) -> None:
    model = tiny_llama()
    assert logit_error(logits(model, IDS), logits(rearrange(model, seed, kinds), IDS)) < 1e-9


def test_one_seed_is_one_rearrangement() -> None:
    model = tiny_llama()
    first, again, other = (rearrange(model, seed) for seed in (5, 5, 6))
    assert all(torch.equal(t, again.tensors[name]) for name, t in first.tensors.items())
    assert not torch.equal(first.tensors["embedding"], other.tensors["embedding"])


def test_float32_keeps_the_logits_a_hundred_times_better_than_the_demo_demands() -> None:
    model = tiny_llama()
    attacked = rearrange(model.to(torch.float32), 1).to(torch.float64)
    assert logit_error(logits(model, IDS), logits(attacked, IDS)) < 1e-5


def test_an_unknown_kind_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="shuffle"):
        rearrange(tiny_llama(), 1, ["shuffle"])


@pytest.mark.parametrize("kind", KINDS)
def test_which_terms_see_through_which_rearrangement(kind: str) -> None:
    seen = _similarities(kind)
    broken = {term for term, score in seen.items() if score < 0.99}
    assert broken == BROKEN.get(kind, set()), seen
    assert all(seen[term] > 0.9995 for term in TERMS if term not in broken)


def test_the_canonical_terms_see_through_everything_but_sign_flips_at_once() -> None:
    base, attacked = tiny_llama(), rearrange(tiny_llama(), 3, [k for k in DEFAULT_KINDS if k != "flip_neurons"])
    scores = [_score(base, attacked, term) for term in ("qk", "vo", "gate_down", "ffn_exact")]
    assert min(scores) > 0.9995


@cache
def _similarities(kind: str) -> dict[str, float]:
    base = tiny_llama()
    attacked = rearrange(base, 11, [kind])
    return {term: _score(base, attacked, term) for term in TERMS}


def _score(a: object, b: object, term: str) -> float:
    return pearson(_term(as_weights(a), term), _term(as_weights(b), term))  # type: ignore[arg-type]


def _term(weights: CanonicalWeights, term: str) -> Factors:
    recipe = PAPER if term.startswith("paper/") else CANONICAL
    X = token_embeddings(weights, torch.arange(400).numpy(), recipe)
    if term == "ffn_exact":
        return exact_ffn(weights, 1, X, recipe)
    return factors(bilinear(weights, 1, term.removeprefix("paper/"), recipe), X if recipe is PAPER else centred(X))
