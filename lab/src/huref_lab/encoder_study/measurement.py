"""From families of checkpoints to a `Study`: vectors by every encoder, and ICS of every pair."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from huref.fingerprints.pipeline import choose_tokens, fingerprint
from huref.fingerprints.recipe import Recipe
from huref.model.model import open_model
from huref.progress import Progress, Report
from huref_lab.encoder_study.models import Family
from huref_lab.encoder_study.offspring import Offspring
from huref_lab.encoder_study.record import Study, StudyModel
from huref_lab.encoder_study.similarity import Terms, all_pairs

ACROSS = 512
"""Tokens over which strangers of different vocabularies are compared: enough to see that an ICS is near 0."""

Encode = Callable[[Path], np.ndarray]
"""From a checkpoint to its (512,) vector."""


def by_recipe(recipe: Recipe) -> Encode:
    """The public pipeline's vector under a recipe."""
    return lambda path: fingerprint(path, recipe).vector


def by_terms(recipe: Recipe, encode: Callable[[Tensor], np.ndarray]) -> Encode:
    """An encoder of the six K x K terms themselves, over the tokens that the recipe chooses.

    Args:
        encode: from (6, K, K), in the order of `huref.fingerprints.terms.layer_terms`, to (512,).
    """

    def vector(path: Path) -> np.ndarray:
        model = open_model(path)
        with model.weights.checkpoint:
            terms = Terms(model, recipe)
            X = terms.embeddings(choose_tokens(model, recipe))
            K = len(X)
            return encode(torch.stack([terms.standardised(slot, X).view(K, K) for slot in terms.by_slot]))

    return vector


def study_recipes(n_tokens: int) -> dict[str, Recipe]:
    """The encoders that the pipeline knows without trained weights. Mean pooling is of the paper's terms."""
    return {
        "sketch": Recipe("canonical", n_tokens=n_tokens),
        "mean": Recipe(name="paper", encoder="mean", n_tokens=n_tokens),
    }


def measure(
    families: Sequence[Family],
    encoders: Mapping[str, Encode],
    n_tokens: int,
    report: Report | None = None,
    recipe: str = "canonical",
) -> Study:
    """Fingerprint every model by every encoder, and compare all pairs.

    Args:
        families: bases with their offspring; the models' order is a base, then its offspring, family by family.
        encoders: name -> from checkpoint to vector.
        n_tokens: vocabulary rows over which ICS is taken where vocabularies are equal; `ACROSS` elsewhere, where
            the paper's ICS is left out.
        recipe: of the ICS that stands beside the paper's.

    Raises:
        InputError: a checkpoint cannot be read.
    """
    entries = [entry for family in families for entry in _members(family)]
    paths = [path for _, path in entries]
    ics = all_pairs(paths, Recipe(recipe, n_tokens=n_tokens), ACROSS, report)
    ics_paper = all_pairs(paths, Recipe(name="paper", n_tokens=n_tokens), 0, report)
    index = {model.name: i for i, (model, _) in enumerate(entries)}
    models = tuple(
        replace(
            model, ics_canonical=float(ics[i, index[model.base]]), ics_paper=float(ics_paper[i, index[model.base]])
        )
        for i, (model, _) in enumerate(entries)
    )
    vectors = {name: _vectors(name, encode, paths, report) for name, encode in encoders.items()}
    return Study(models, vectors, ics, ics_paper)


def _members(family: Family) -> list[tuple[StudyModel, Path]]:
    about = {"text": family.text, "tokenizer": family.tokenizer, "architecture": family.architecture}
    base = StudyModel(family.name, family.name, "base", 1.0, 1.0, family.made, **about)

    def child(item: Offspring) -> StudyModel:
        name = f"{family.name}/{item.path.name.removesuffix('.gguf')}"
        return replace(base, name=name, kind=item.kind, made=item.made)

    return [(base, family.path), *((child(item), item.path) for item in family.offspring)]


def _vectors(name: str, encode: Encode, paths: Sequence[Path], report: Report | None) -> np.ndarray:
    rows = []
    for done, path in enumerate(paths):
        if report:
            report(Progress(f"vectors by {name}", done, len(paths), "model"))
        rows.append(encode(path))
    return np.stack(rows).astype(np.float32)
