"""The part of an integer model that a fingerprint is made of, so that one model is committed to once: section 14."""

from __future__ import annotations

import numpy as np

from huref.errors import UsageError
from huref.fingerprints.pipeline import choose_tokens
from huref.fingerprints.recipe import Recipe
from huref.model.model import Model
from huref.proof.files.layout import EMBEDDING, Layout, Matrix
from huref.proof.inference.link import layer_matrices, layer_terms
from huref.proof.inference.model import IntegerModel
from huref.proof.sketch.no_wrap import column_norm
from huref.proof.sketch.quantisation import Quantised


def fingerprint_part(model: Model, integer: IntegerModel, recipe: Recipe) -> tuple[Quantised, tuple[int, ...]]:
    """What `huref commit` commits to for the fingerprint, in the integers of the inference model; and the token ids.

    Raises:
        UsageError: another recipe than the canonical one.
        InputError: too few usable tokens.
    """
    if recipe.name != "canonical" or recipe.encoder != "sketch":
        raise UsageError(
            "the inference commitment holds folded weights",
            where="--recipe",
            expected="canonical",
            got=recipe.name,
            next_step="leave --recipe out; who wants both commits twice, into two folders",
        )
    tokens = choose_tokens(model, recipe)
    shape = integer.shape
    layers = recipe.layer_indices(shape.layers)
    names = [name for layer in layers for name in layer_matrices(layer)]
    blocks = [integer.matrices[EMBEDDING][tokens.ids], *(integer.matrices[name] for name in names)]
    rows = np.concatenate(blocks)
    matrices = tuple(
        Matrix(name, len(block), shape.exponents[name])
        for name, block in zip([EMBEDDING, *names], blocks, strict=True)
    )
    layout = Layout(
        model=model.name,
        architecture=model.weights.architecture.name,
        recipe=recipe,
        n_layers=shape.layers,
        width=shape.width,
        bits=16,
        norm=column_norm(rows),
        matrices=matrices,
        terms=tuple(term for layer in layers for term in layer_terms(shape, layer)),
    )
    return Quantised(layout, tokens.strings, rows), tuple(int(i) for i in tokens.ids)
