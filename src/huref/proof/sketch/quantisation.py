"""From a model's weights to the integers that are committed: proof-v1, section 4."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from huref.errors import InputError, UsageError
from huref.fingerprints.pipeline import choose_tokens, ranking_digest
from huref.fingerprints.recipe import Recipe
from huref.fingerprints.sketching import dual_factors
from huref.fingerprints.terms import Bilinear, layer_terms, token_embeddings
from huref.model.finite import require_finite
from huref.model.model import Model, open_model
from huref.model.tokens import Ranking, TokenSelection
from huref.numerics.arrays import Floats, float32, quietly
from huref.progress import Progress, Report
from huref.proof.arithmetic.fixed_point import quantised
from huref.proof.files.layout import BITS, EMBEDDING, Layout, Matrix, Term
from huref.proof.sketch.no_wrap import column_norm


@dataclass(frozen=True)
class Quantised:
    """What will be committed.

    Attributes:
        layout: the commitment's header.
        strings: K token strings.
        rows: (N, d) int16, all matrices in order.
    """

    layout: Layout
    strings: tuple[bytes, ...]
    rows: np.ndarray = field(repr=False)


def quantise_model(
    reference: str | Path,
    recipe: Recipe,
    *,
    ranking: Ranking | None = None,
    arch_file: Path | None = None,
    tokenizer: Path | None = None,
    report: Report | None = None,
) -> Quantised:
    """The integers of a model under a recipe, in as many bits as can be proved free of wrap-around.

    Raises:
        UsageError: a recipe whose encoder is not linear.
        InputError: see `huref.model.model.open_model`; or a model too large for 12 bits.
    """
    if recipe.encoder != "sketch":
        raise UsageError(
            "only sketches can be proved",
            where="--encoder",
            expected="sketch",
            got=recipe.encoder,
            next_step="a CNN is not linear in the terms, and mean pooling has no proof of its own yet",
        )
    recipe = Recipe(**{**recipe.to_dict(), "ranking": ranking_digest(ranking) if ranking else ""})
    model = open_model(reference, arch_file, tokenizer)
    with model.weights.checkpoint:
        for bits in reversed(BITS):
            made = _quantise(model, recipe, ranking, bits, report)
            if made.layout.is_free_of_wraps():
                return made
    raise InputError(
        "the model is too large for this proof",
        where=str(reference),
        expected="inequality (4) of proof-v1 to hold with at least 12 bits",
        got=f"{made.layout.n_tokens} tokens, width {made.layout.width}",
        next_step="--n-tokens 1024 leaves more room",
    )


@quietly
def same_integers(
    reference: str | Path,
    layout: Layout,
    strings: tuple[bytes, ...],
    rows: np.ndarray,
    arch_file: Path | None = None,
    tokenizer: Path | None = None,
) -> bool:
    """Whether a model's integers are these, but for one unit where rounding on another machine may differ.

    Args:
        rows: (N, d) int16, or a masked array of which only some rows are to be compared.

    Raises:
        InputError: see `huref.model.model.open_model`.
    """
    model = open_model(reference, arch_file, tokenizer)
    if model.weights.geometry.n_layers != layout.n_layers:
        model.weights.checkpoint.close()
        return False
    with model.weights.checkpoint:
        ordinary = reversed(model.vocabulary.ordinary(model.n_rows))
        ids = {model.vocabulary.tokens[i]: i for i in ordinary}
        if any(string not in ids for string in strings):
            return False
        chosen = TokenSelection(np.array([ids[string] for string in strings]), strings, "committed", len(strings))
        start, matrices = 0, list(layout.matrices)
        for name, weights in _matrices(model, chosen, layout.recipe, None):
            found, exponent = quantised(weights, layout.bits)
            own = rows[start : start + len(found)]
            if matrices[:1] != [Matrix(name, len(found), exponent)] or own.shape != found.shape:
                return False
            matrices.pop(0)
            difference = np.ma.abs(found.astype(np.int32) - own)
            if np.ma.filled(difference, 0).max() > 1:
                return False
            start += len(found)
    return not matrices


@quietly
def _quantise(model: Model, recipe: Recipe, ranking: Ranking | None, bits: int, report: Report | None) -> Quantised:
    tokens = choose_tokens(model, recipe, ranking)
    matrices: list[Matrix] = []
    blocks: list[np.ndarray] = []
    for name, weights in _matrices(model, tokens, recipe, report):
        rows, exponent = quantised(weights, bits)
        matrices.append(Matrix(name, rows.shape[0], exponent))
        blocks.append(rows)
    _require_distinct(tokens.strings, model)
    rows = np.concatenate(blocks)
    keys = [name.removesuffix(".left") for name in (m.name for m in matrices) if name.endswith(".left")]
    layout = Layout(
        model=model.name,
        architecture=model.weights.architecture.name,
        recipe=recipe,
        n_layers=model.weights.geometry.n_layers,
        width=rows.shape[1],
        bits=bits,
        norm=column_norm(rows),
        matrices=tuple(matrices),
        terms=tuple(Term(key, f"{key}.left", f"{key}.right") for key in keys),
    )
    return Quantised(layout, tokens.strings, rows)


def _require_distinct(strings: tuple[bytes, ...], model: Model) -> None:
    if len(set(strings)) != len(strings):
        raise InputError(
            "two chosen tokens are spelled alike",
            where=model.name,
            expected="token strings that occur once, so that commitments can be compared by string",
            got=f"{len(strings) - len(set(strings))} repeats",
            next_step="leave --tokens out: the canonical choice takes every string once",
        )


def _matrices(
    model: Model, tokens: TokenSelection, recipe: Recipe, report: Report | None
) -> Iterator[tuple[str, Floats]]:
    """X and the factors of every term, by name, in the order of the points."""
    yield EMBEDDING, token_embeddings(model.weights, tokens.ids, recipe)
    if recipe.is_dual:
        for key, left, right in dual_factors(model, tokens, recipe, report):
            yield f"{key}.left", left
            yield f"{key}.right", right
        return
    layers = recipe.layer_indices(model.weights.geometry.n_layers)
    for done, layer in enumerate(layers):
        if report:
            report(Progress(f"reading {model.name}", done, len(layers), "layer"))
        for term in layer_terms(model.weights, layer, recipe):
            for side, factor in zip(("left", "right"), _factors(term), strict=True):
                require_finite(factor, f"layer {layer}, {term.kind}", model.weights)
                yield f"{term.key}.{side}", factor


def _factors(term: Bilinear) -> Iterator[Floats]:
    """L and R with gains folded in, float32."""
    left = float32(term.left)
    yield left if term.left_gain is None else left * term.left_gain
    right = float32(term.right)
    right = right if term.right_gain is None else right * term.right_gain
    yield right if term.inner is None else right * term.inner[:, None]
