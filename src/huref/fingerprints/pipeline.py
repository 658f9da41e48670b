"""A model reference in, a fingerprint out: the stages in order, driven by a recipe."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from huref.choices import option
from huref.errors import UsageError
from huref.fingerprints.coding import make_codes
from huref.fingerprints.encoder import HOW_TO_GET
from huref.fingerprints.pooling import TOKEN_MULTIPLE, mean_pooling
from huref.fingerprints.recipe import Recipe
from huref.fingerprints.record import Fingerprint
from huref.fingerprints.sketch import project, slots_of
from huref.fingerprints.sketching import Sketched, sketch_model
from huref.fingerprints.terms import Bilinear, centred, layer_terms, sketch_term, token_embeddings
from huref.model.finite import require_finite
from huref.model.model import Model, open_model
from huref.model.source.checkpoint import Checkpoint
from huref.model.source.remote.mirror import origin_of
from huref.model.tokens import Ranking, TokenSelection, common, rarest, sampled
from huref.numerics.arrays import quietly
from huref.progress import Report
from huref.version import __version__

_LEAST_SHARE = 0.9
"""Of the embedding rows, how many have a token at the least: published models pad by a few percent."""

if TYPE_CHECKING:
    from huref.fingerprints.encoder.file import EncoderWeights
    from huref.fingerprints.encoder.network import Encoder


def choose_tokens(model: Model, recipe: Recipe, ranking: Ranking | None = None) -> TokenSelection:
    """The recipe's tokens: strings that most vocabularies have (canonical-2), a sample by string hash (canonical), or
    the rarest of a ranking (paper).

    Mean pooling and the CNN encoder take a multiple of 256 of them.
    """

    def choose(k: int) -> TokenSelection:
        if ranking is None and recipe.is_dual:
            return common(model.vocabulary, k, model.n_rows)
        if ranking is None and recipe.is_canonical:
            return sampled(model.vocabulary, k, model.n_rows)
        return rarest(model.vocabulary, ranking, k, model.n_rows)

    chosen = choose(recipe.n_tokens)
    usable = len(chosen) // TOKEN_MULTIPLE * TOKEN_MULTIPLE
    if recipe.encoder != "sketch" and usable != len(chosen):
        return replace(choose(usable), requested=chosen.requested)
    return chosen


def fingerprint(
    reference: str | Path,
    recipe: Recipe,
    *,
    ranking: Ranking | None = None,
    arch_file: Path | None = None,
    tokenizer: Path | None = None,
    name: str = "",
    encoder_weights: Path | None = None,
    codes: bool = False,
    plain_codes: bool = False,
    report: Report | None = None,
) -> Fingerprint:
    """Fingerprint one model, reading only the rows and matrices that the recipe uses.

    Args:
        tokenizer, name: see `open_model`.
        codes: add the codes of its neurons; a comparison of files then gives a verdict.
        plain_codes: also in the stream's own dimensions.
        encoder_weights: a weights file for `--encoder cnn`; where the recipe names a digest, the file must have it.

    Raises:
        UsageError: no weights for the CNN encoder, or weights for another encoder.
        InputError: see `open_model`; also NaN in a used tensor, too few usable tokens, or unreadable weights.
    """
    weights, recipe = _load_weights(recipe, encoder_weights)
    model = open_model(reference, arch_file, tokenizer, name)
    with model.weights.checkpoint as checkpoint:
        recipe = replace(recipe, ranking=ranking_digest(ranking) if ranking else "")
        tokens = choose_tokens(model, recipe, ranking)
        sketched = Sketched({})
        if weights is not None:
            vector = _cnn_vector(model, tokens, recipe, weights.encoder)
        elif recipe.encoder == "mean":
            vector = _mean_vector(model, tokens, recipe)
        else:
            sketched = sketch_model(model, tokens, recipe, report)
            slots = slots_of(sketched.terms, model.weights.geometry.n_layers, is_dual=recipe.is_dual)
            vector = project(sketched.terms, slots, recipe.seed)
        coded = None
        if codes or plain_codes:  # before the bytes that were read are told
            coded = make_codes(model, report=report, has_plain=plain_codes)
        return Fingerprint(
            model=model.name,
            architecture=model.weights.architecture.name,
            recipe=recipe,
            vector=vector,
            sketches=sketched.terms,
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
                **_origin(checkpoint),
            },
            notes=(
                *token_notes(tokens),
                *vocabulary_notes(model),
                *model.weights.notes(),
                *_encoder_notes(weights, len(tokens)),
                *sketched.notes,
            ),
            version=__version__,
            codes=coded,
        )


def _origin(checkpoint: Checkpoint) -> dict[str, object]:
    """Of a model elsewhere: what it was called, its commit, and size and digest of each file that was opened."""
    origin = origin_of(checkpoint.folder)
    return {} if origin is None else {"origin": origin.to_dict([*checkpoint.files, "config.json"])}


def token_notes(tokens: TokenSelection) -> tuple[str, ...]:
    """What to tell the reader about a choice of tokens: nothing, or that it is smaller than asked for."""
    if len(tokens) == tokens.requested:
        return ()
    why = "no more are in both vocabularies" if tokens.method == "shared" else "the vocabulary has no more"
    return (f"{len(tokens)} tokens used of {tokens.requested} asked for: {why}",)


def vocabulary_notes(model: Model) -> tuple[str, ...]:
    """That a tokenizer has other tokens than the embedding has rows; a few rows without a token are padding.

    And that it is not the model's own.
    """
    n_tokens, n_rows = len(model.vocabulary), model.n_rows
    lender = model.vocabulary.lender
    borrowed = (f"no tokenizer of its own: that of {lender} was taken",) if lender else ()
    if _LEAST_SHARE * n_rows <= n_tokens <= n_rows:
        return borrowed
    return (
        *borrowed,
        f"the tokenizer has {n_tokens} tokens for {n_rows} embedding rows: it may be another model's",
    )


def ranking_digest(ranking: Ranking) -> str:
    """What a recipe says of a token ranking."""
    return hashlib.sha256(ranking.ids.astype("<i8").tobytes()).hexdigest()


def _load_weights(recipe: Recipe, path: Path | None) -> tuple[EncoderWeights | None, Recipe]:
    """The CNN encoder's weights, where the recipe wants one, and the recipe with the digest of its weights."""
    if (recipe.encoder == "cnn") != (path is not None):
        is_missing = path is None
        raise UsageError(
            "the CNN encoder needs weights, and huref brings none" if is_missing else "weights for another encoder",
            where=option("encoder_weights"),
            expected="a weights file" if is_missing else "--encoder cnn",
            got="none" if is_missing else f"--encoder {recipe.encoder}",
            next_step=f"--encoder-weights FILE; {HOW_TO_GET}" if is_missing else "leave the option out",
        )
    if path is None:
        return None, recipe
    from huref.fingerprints.encoder.file import load_encoder

    weights = load_encoder(path, recipe.encoder_weights or None)
    return weights, replace(recipe, encoder_weights=weights.sha256)


def _encoder_notes(weights: EncoderWeights | None, side: int) -> tuple[str, ...]:
    """What to tell the reader about an encoder used on another number of tokens than it was trained on."""
    if weights is None or weights.side in (0, side):
        return ()
    used = f"the encoder's batch statistics are of {weights.side} tokens, and {side} are used"
    return (f"{used}: its vectors look alike for no reason; `huref encoder calibrate --side {side}` mends that",)


@quietly
def _cnn_vector(model: Model, tokens: TokenSelection, recipe: Recipe, encoder: Encoder) -> np.ndarray:
    """The encoder's vector of the K x K terms, all in float32, so that machines agree."""
    X = token_embeddings(model.weights, tokens.ids, recipe)
    X = centred(X) if recipe.is_canonical else X
    from huref.fingerprints.encoder.network import encode

    matrices = np.stack([sketch_term(term, X, X) for term in _terms(model, recipe)])
    require_finite(matrices, "last two layers", model.weights)
    return encode(matrices, encoder)


def _terms(model: Model, recipe: Recipe) -> Iterator[Bilinear]:
    """Every term of the recipe's layers, in order."""
    for layer in recipe.layer_indices(model.weights.geometry.n_layers):
        yield from layer_terms(model.weights, layer, recipe)


@quietly
def _mean_vector(model: Model, tokens: TokenSelection, recipe: Recipe) -> np.ndarray:
    X = token_embeddings(model.weights, tokens.ids, recipe)
    vector = mean_pooling(list(_terms(model, recipe)), X)
    require_finite(vector, "last two layers", model.weights)
    return vector
