"""The true similarity of many models at once: ICS of all pairs, and of a model with a changed copy of itself.

`huref.kinship.comparison` answers for two checkpoints in their residual streams. Among hundreds, each matrix takes
part in hundreds of correlations: here it is formed once, standardised and flattened, and the ICS are inner products.
Terms, tokens and layers are chosen by the same code, so both ways agree (a test holds them together).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from huref.demo.tensors import as_array, as_tensor
from huref.errors import TokenizerError
from huref.fingerprints.dual import DualFrame
from huref.fingerprints.dual_terms import see
from huref.fingerprints.pipeline import choose_tokens
from huref.fingerprints.recipe import RIDGE, Recipe
from huref.fingerprints.terms import (
    ATTENTION_KINDS,
    DUAL_KINDS,
    Bilinear,
    Part,
    centred,
    layer_terms,
    scaled,
    token_embeddings,
)
from huref.model.arch import open_weights
from huref.model.model import Model, open_model
from huref.model.source.checkpoint import Checkpoint, Rows
from huref.model.tokens import TokenSelection, shared
from huref.numerics.arrays import Array, Floats
from huref.numerics.products import product
from huref.progress import Progress, Report

Slot = tuple[int, str]
"""Which term: layer counted from the end (-1 is the last), and kind."""


class Seen(Protocol):
    """One model's terms under a recipe, ready to be evaluated on any tokens."""

    @property
    def model(self) -> Model:
        """Whose terms they are."""

    @property
    def by_slot(self) -> Collection[Slot]:
        """Which terms there are."""

    def embeddings(self, tokens: TokenSelection) -> Floats:
        """What stands for these tokens in every term: (K, d)."""

    def standardised(self, slot: Slot, X: Floats) -> Tensor:
        """One term as a vector (K * K,) of mean 0 and length 1: inner products are Pearson correlations."""


@dataclass(frozen=True)
class Terms:
    """Bilinear terms, of the recipes `canonical` and `paper`."""

    model: Model
    recipe: Recipe

    @cached_property
    def by_slot(self) -> dict[Slot, Bilinear]:
        """Every term of the recipe's layers."""
        weights = self.model.weights
        n_layers = weights.geometry.n_layers
        found = [t for i in self.recipe.layer_indices(n_layers) for t in layer_terms(weights, i, self.recipe)]
        return {(term.layer - n_layers, term.kind): term for term in found}

    def embeddings(self, tokens: TokenSelection) -> Floats:
        """X of these tokens, centred where the recipe is canonical: (K, d)."""
        X = token_embeddings(self.model.weights, tokens.ids, self.recipe)
        return centred(X) if self.recipe.is_canonical else X

    def standardised(self, slot: Slot, X: Floats) -> Tensor:
        """See `Seen`."""
        return _standardised(*factors(self.by_slot[slot], X))


@dataclass(frozen=True)
class DualTerms:
    """Terms of canonical-2, of the last two blocks of each part; the study's models have none that do nothing."""

    model: Model
    recipe: Recipe

    @cached_property
    def by_slot(self) -> tuple[Slot, ...]:
        """Every term."""
        layers = self.recipe.layer_indices(self.model.weights.geometry.n_layers)
        return tuple((layer - layers[-1] - 1, kind) for layer in layers for kind in DUAL_KINDS)

    def embeddings(self, tokens: TokenSelection) -> Floats:
        """D of these tokens: (K, d)."""
        frame = DualFrame.of(token_embeddings(self.model.weights, tokens.ids, self.recipe), RIDGE)
        D: Floats = frame.X @ frame.inverse(RIDGE)
        return D

    def standardised(self, slot: Slot, X: Floats) -> Tensor:
        """See `Seen`."""
        place, kind = slot
        weights = self.model.weights
        part: Part = "attention" if kind in ATTENTION_KINDS else "feed_forward"
        return _standardised(*see(weights, weights.geometry.n_layers + place, part, X, X).terms[kind])


def terms_of(model: Model, recipe: Recipe) -> Seen:
    """A model's terms under a recipe."""
    return DualTerms(model, recipe) if recipe.is_dual else Terms(model, recipe)


def _standardised(U: Floats, V: Floats) -> Tensor:
    M = torch.from_numpy(U @ V.T)
    M -= M.mean(dtype=torch.float64).float()
    norm: Tensor = M.norm()
    return (M / norm.clamp_min(1e-30)).flatten()


def factors(term: Bilinear, X: Floats) -> tuple[Floats, Floats]:
    """U and V of `M = U V^T`, (K, r) each, of the embeddings of K tokens."""
    U = scaled(product(scaled(X, term.left_gain), term.left.T), term.inner)
    return U, product(scaled(X, term.right_gain), term.right.T)


class ChangedCheckpoint(Checkpoint):
    """A checkpoint seen through a change of its tensors, which is made when they are read."""

    def __init__(self, inner: Checkpoint, change: Callable[[str, Tensor, Rows], Tensor]) -> None:
        for name in ("reference", "folder", "format", "config", "metadata", "tensors", "files"):
            setattr(self, name, getattr(inner, name))
        self._inner, self._change = inner, change
        self.bytes_read = 0

    def read(self, name: str, rows: Rows = None) -> Array:
        """See `Checkpoint.read`; the change is told which rows they are."""
        return as_array(self._change(name, as_tensor(self._inner.read(name, rows)), rows))


def changed(model: Model, change: Callable[[str, Tensor, Rows], Tensor]) -> Model:
    """A model with its stored tensors changed, without a copy on disk.

    Args:
        change: from a stored name, its tensor or rows of it, and which rows, to what to read instead.
    """
    checkpoint = ChangedCheckpoint(model.weights.checkpoint, change)
    return Model(model.name, open_weights(checkpoint), model.vocabulary)


def self_ics(base: Model, others: Iterator[Model] | Sequence[Model], recipe: Recipe) -> list[float]:
    """ICS of a model with copies of itself, over the recipe's own tokens."""
    tokens = _tokens_of(base, base, recipe)[0]
    left = terms_of(base, recipe)
    X = left.embeddings(tokens)
    parts = {slot: left.standardised(slot, X) for slot in left.by_slot}
    found = []
    for other in others:
        right = terms_of(other, recipe)
        Y = right.embeddings(tokens)
        found.append(float(np.mean([float(parts[slot] @ right.standardised(slot, Y)) for slot in parts])))
    return found


def all_pairs(paths: Sequence[Path], recipe: Recipe, across: int, report: Report | None = None) -> np.ndarray:
    """ICS of every pair of checkpoints.

    Args:
        recipe: its terms, layers and number of tokens; which tokens depends on the two vocabularies.
        across: number of tokens where two vocabularies differ, of those strings that both have; 0 leaves such
            pairs out.

    Returns:
        (n, n) float64, symmetric; NaN where a pair was left out, two vocabularies share fewer than 256 strings, or
        no term is common.
    """
    table = np.full((len(paths), len(paths)), np.nan)
    with _opened(paths, recipe) as terms:
        groups = _by_vocabulary(terms)
        pairs = [(i, j) for i in range(len(groups)) for j in range(i + 1)]
        for done, (i, j) in enumerate(pairs):
            if report:
                report(Progress(f"{recipe.name} ICS of all pairs", done, len(pairs), "pair of vocabularies"))
            asked = recipe.n_tokens if i == j else across
            if not asked:
                continue
            rows, columns = groups[i], groups[j]
            found = _block([terms[r] for r in rows], [terms[c] for c in columns], replace(recipe, n_tokens=asked))
            table[np.ix_(rows, columns)] = found
            table[np.ix_(columns, rows)] = found.T
    both: np.ndarray = (table + table.T) / 2
    return both


def _block(left: list[Seen], right: list[Seen], recipe: Recipe) -> np.ndarray:
    """ICS of each model of one vocabulary with each of another: (n, m)."""
    try:
        tokens = _tokens_of(left[0].model, right[0].model, recipe)
    except TokenizerError:
        return np.full((len(left), len(right)), np.nan)
    is_square = all(a is b for a, b in zip(left, right, strict=False)) and len(left) == len(right)
    Xs = [model.embeddings(tokens[0]) for model in left]
    Ys = Xs if is_square else [model.embeddings(tokens[1]) for model in right]
    total, count = np.zeros((len(left), len(right))), np.zeros((len(left), len(right)))
    for slot in sorted({slot for model in left for slot in model.by_slot}):
        rows = [i for i, model in enumerate(left) if slot in model.by_slot]
        columns = [j for j, model in enumerate(right) if slot in model.by_slot]
        if not columns:
            continue
        A = torch.stack([left[i].standardised(slot, Xs[i]) for i in rows])
        B = A if is_square else torch.stack([right[j].standardised(slot, Ys[j]) for j in columns])
        total[np.ix_(rows, columns)] += (A @ B.T).double().numpy()
        count[np.ix_(rows, columns)] += 1
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count > 0, total / count, np.nan)


def _tokens_of(a: Model, b: Model, recipe: Recipe) -> tuple[TokenSelection, TokenSelection]:
    """The paper's own rarest tokens where two vocabularies are one; the strings that both have otherwise."""
    if a.vocabulary.digest == b.vocabulary.digest and not recipe.is_canonical:
        chosen = choose_tokens(a, recipe)
        return chosen, chosen
    return shared(a.vocabulary, b.vocabulary, recipe.n_tokens, (a.n_rows, b.n_rows), is_common=recipe.is_dual)


@contextmanager
def _opened(paths: Sequence[Path], recipe: Recipe) -> Iterator[list[Seen]]:
    """Every model's terms in memory, and the files still open for their embeddings."""
    with ExitStack() as stack:
        terms = []
        for path in paths:
            model = open_model(path)
            stack.enter_context(model.weights.checkpoint)
            terms.append(terms_of(model, recipe))
        yield terms


def _by_vocabulary(terms: Sequence[Seen]) -> list[list[int]]:
    groups: dict[tuple[str, int], list[int]] = {}
    for index, item in enumerate(terms):
        groups.setdefault((item.model.vocabulary.digest, item.model.n_rows), []).append(index)
    return list(groups.values())
