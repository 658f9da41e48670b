"""A model reference in, a fingerprint out: the stages in order, driven by a recipe."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from huref import __version__
from huref.arch import open_weights
from huref.arch.weights import CanonicalWeights
from huref.artefact import Fingerprint, Progress, Recipe, model_name
from huref.invariants import (
    Bilinear,
    layer_terms,
    require_finite,
    sketch_term,
    token_embeddings,
)
from huref.pooling import TOKEN_MULTIPLE, mean_pooling
from huref.sketch import project, token_signs, unit_rms
from huref.source import open_checkpoint
from huref.tokens import Ranking, TokenSelection, Vocabulary, load_vocabulary, rarest, sampled

Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Model:
    """An opened model: its weights in canonical form and its vocabulary."""

    name: str
    weights: CanonicalWeights
    vocabulary: Vocabulary

    @property
    def n_rows(self) -> int:
        """Rows of the embedding; padding may make it more than the vocabulary."""
        return self.weights.shape("embedding")[0]


def open_model(reference: str | Path, arch_file: Path | None = None) -> Model:
    """Open a checkpoint without reading its matrices.

    Raises:
        InputError: no readable checkpoint, an unknown architecture, or no tokenizer.
    """
    checkpoint = open_checkpoint(reference)
    try:
        return Model(model_name(reference), open_weights(checkpoint, arch_file), load_vocabulary(checkpoint))
    except BaseException:
        checkpoint.close()
        raise


def choose_tokens(model: Model, recipe: Recipe, ranking: Ranking | None = None) -> TokenSelection:
    """The recipe's tokens: a sample by string hash (canonical), or the rarest of a ranking (paper)."""
    n_rows = model.n_rows
    if ranking is None and recipe.is_canonical:
        return sampled(model.vocabulary, recipe.n_tokens, n_rows)
    chosen = rarest(model.vocabulary, ranking, recipe.n_tokens, n_rows)
    usable = len(chosen.ids) // TOKEN_MULTIPLE * TOKEN_MULTIPLE
    if recipe.encoder == "mean" and usable != len(chosen.ids):
        return replace(rarest(model.vocabulary, ranking, usable, n_rows), requested=chosen.requested)
    return chosen


def fingerprint(
    reference: str | Path,
    recipe: Recipe,
    *,
    ranking: Ranking | None = None,
    arch_file: Path | None = None,
    report: Report | None = None,
) -> Fingerprint:
    """Fingerprint one model, reading only the rows and matrices that the recipe uses.

    Raises:
        InputError: see `open_model`; also NaN in a used tensor or too few usable tokens.
    """
    model = open_model(reference, arch_file)
    with model.weights.checkpoint as checkpoint:
        recipe = replace(recipe, ranking=_digest(ranking) if ranking else "")
        tokens = choose_tokens(model, recipe, ranking)
        if recipe.encoder == "mean":
            vector, sketches = _mean_vector(model, tokens, recipe), {}
        else:
            sketches = sketch_model(model, tokens, recipe, report)
            vector = project(sketches, model.weights.geometry.n_layers, recipe.seed)
        return Fingerprint(
            model=model.name,
            architecture=model.weights.architecture.name,
            recipe=recipe,
            vector=vector,
            sketches=sketches,
            tokens={
                "method": tokens.method,
                "requested": tokens.requested,
                "used": len(tokens),
                "digest": tokens.digest,
                "vocabulary": model.vocabulary.digest,
            },
            geometry=vars(model.weights.geometry),
            weights={
                "format": checkpoint.format,
                "files": dict(checkpoint.files),
                "bytes_read": checkpoint.bytes_read,
                "bytes_total": checkpoint.bytes_total,
            },
            notes=token_notes(tokens),
            version=__version__,
        )


def sketch_model(
    model: Model, tokens: TokenSelection, recipe: Recipe, report: Report | None = None
) -> dict[str, np.ndarray]:
    """Sketches of every term of the recipe's layers, keyed `LAYER.KIND`: (m, m), root mean square 1."""
    weights = model.weights
    layers = recipe.layer_indices(weights.geometry.n_layers)
    X = token_embeddings(weights, tokens.ids, recipe)
    S = torch.from_numpy(np.concatenate(token_signs(tokens.strings, recipe.sketch_rows, recipe.seed)))
    # Centring the signs centres the terms, (S - S 1 1^T / K) X = S (X - 1 1^T X / K), and S is the smaller.
    S1X, S2X = ((S - S.mean(dim=1, keepdim=True)) @ X).chunk(2)
    sketches: dict[str, np.ndarray] = {}
    for done, layer in enumerate(layers):
        if report:
            report(Progress(f"sketching {model.name}", done, len(layers), "layer"))
        for term in layer_terms(weights, layer, recipe):
            Y = sketch_term(term, S1X, S2X)
            require_finite(Y, f"layer {layer}, {term.kind}", weights)
            sketches[term.key] = unit_rms(Y.numpy())
    return sketches


def token_notes(tokens: TokenSelection) -> tuple[str, ...]:
    """What to tell the reader about a choice of tokens: nothing, or that it is smaller than asked for."""
    if len(tokens) == tokens.requested:
        return ()
    return (f"{len(tokens)} tokens used of {tokens.requested} asked for: the vocabulary has no more",)


def _digest(ranking: Ranking) -> str:
    return hashlib.sha256(ranking.ids.astype("<i8").tobytes()).hexdigest()


def _mean_vector(model: Model, tokens: TokenSelection, recipe: Recipe) -> np.ndarray:
    X = token_embeddings(model.weights, tokens.ids, recipe)
    terms: list[Bilinear] = []
    for layer in recipe.layer_indices(model.weights.geometry.n_layers):
        terms += layer_terms(model.weights, layer, recipe)
    vector = mean_pooling(terms, X)
    require_finite(torch.from_numpy(vector), "last two layers", model.weights)
    return vector
