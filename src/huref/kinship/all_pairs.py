"""All pairs of some models, as in the paper's tables 1 to 3 and 7."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from huref.errors import UsageError
from huref.fingerprints.file import SUFFIX, is_fingerprint
from huref.kinship.memory import Memory
from huref.kinship.record import CompareOptions, Comparison
from huref.kinship.references import compare
from huref.model.name import model_name
from huref.progress import Progress, Report

if TYPE_CHECKING:
    from huref.kinship.prepared import Prepared

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
    values, notes, kinds = np.eye(len(models)), dict[str, None](), {"float32"}
    pairs = [(i, j) for i in range(len(models)) for j in range(i)]
    names = [model_name(model).removesuffix(SUFFIX.removesuffix(".safetensors")) for model in models]
    with _Opened(options) as opened:
        for done, (i, j) in enumerate(pairs):
            if report:
                report(Progress("comparing pairs", done, len(pairs), "pair"))
            found = opened.compare(models[j], models[i])
            value = getattr(found, score)
            values[i, j] = values[j, i] = np.nan if value is None else value
            notes.update(dict.fromkeys(found.notes if value is None else ()))
            kinds.add(found.arithmetic)
    notes.update(dict.fromkeys(f"arithmetic: {kind}" for kind in sorted(kinds - {"float32"})))
    return Matrix(tuple(names), score, values, tuple(notes))


class _Opened(contextlib.ExitStack):
    """Models that stay open from pair to pair, with what was computed of each."""

    def __init__(self, options: CompareOptions) -> None:
        super().__init__()
        self.options, self.memory = options, Memory()
        self.models: dict[str | Path, Prepared] = {}

    def compare(self, a: str | Path, b: str | Path) -> Comparison:
        """`huref.kinship.references.compare`."""
        if is_fingerprint(a) or is_fingerprint(b) or self.options.encoder_weights:
            return compare(a, b, self.options)
        from huref.kinship.comparison import compare_prepared

        return compare_prepared(self._opened(a), self._opened(b), self.options)

    def _opened(self, model: str | Path) -> Prepared:
        from huref.kinship.prepared import prepared

        if model not in self.models:
            self.models[model] = self.enter_context(prepared(model, self.options.arch_file, self.memory))
        return self.models[model]
