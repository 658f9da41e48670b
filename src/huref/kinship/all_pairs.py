"""All pairs of some models, as in the paper's tables 1 to 3 and 7."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from huref.errors import UsageError
from huref.fingerprints.file import SUFFIX
from huref.kinship.record import CompareOptions
from huref.kinship.references import compare
from huref.model.name import model_name
from huref.progress import Progress, Report

SCORES = ("pcs", "ics", "ics_canonical", "aligned", "agreement", "vectors")


@dataclass(frozen=True)
class Matrix:
    """All pairs of some models.

    Attributes:
        names: the models, in the order given.
        score: which of `SCORES`.
        values: (n, n) float64, symmetric, ones on the diagonal; NaN where a pair has no such score.
        notes: reasons for missing values.
    """

    names: tuple[str, ...]
    score: str
    values: np.ndarray
    notes: tuple[str, ...]


def matrix(
    models: Sequence[str | Path],
    score: str = "ics_canonical",
    options: CompareOptions | None = None,
    report: Report | None = None,
) -> Matrix:
    """Compare every pair of models, as in the paper's tables 1 to 3 and 7.

    Raises:
        UsageError: fewer than two models, or no such score.
    """
    if len(models) < 2 or score not in SCORES:
        raise UsageError(
            "a matrix needs two models or more and one score",
            where="huref matrix",
            expected=f"2 or more models, --score {'|'.join(SCORES)}",
            got=f"{len(models)} models, --score {score}",
        )
    method = score if score in ("pcs", "aligned", "agreement") else "ics"
    options = replace(options or CompareOptions(), method=method)
    values, notes = np.eye(len(models)), dict[str, None]()
    pairs = [(i, j) for i in range(len(models)) for j in range(i)]
    names = [model_name(model).removesuffix(SUFFIX.removesuffix(".safetensors")) for model in models]
    for done, (i, j) in enumerate(pairs):
        if report:
            report(Progress("comparing pairs", done, len(pairs), "pair"))
        found = compare(models[j], models[i], options)
        value = getattr(found, score)
        values[i, j] = values[j, i] = np.nan if value is None else value
        notes.update(dict.fromkeys(found.notes if value is None else ()))
    return Matrix(tuple(names), score, values, tuple(notes))
