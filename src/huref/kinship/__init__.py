"""Two models: scores, alignment, verdict.

compare(a, b, CompareOptions())    -> Comparison    every score, its background, a verdict
matrix(models, score)              -> Matrix        all pairs
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from huref.face import face

if TYPE_CHECKING:
    from huref.kinship.all_pairs import SCORES, matrix
    from huref.kinship.ranking import Ranked, Ranking, rank
    from huref.kinship.record import METHODS, VERDICTS, CompareOptions, Comparison, LayerMatch, Matrix, TermScore
    from huref.kinship.references import compare
    from huref.kinship.saved import compare_fingerprints

__all__ = [
    "METHODS",
    "SCORES",
    "VERDICTS",
    "CompareOptions",
    "Comparison",
    "LayerMatch",
    "Matrix",
    "Ranked",
    "Ranking",
    "TermScore",
    "compare",
    "compare_fingerprints",
    "matrix",
    "rank",
]

_HOMES = {
    "METHODS": "huref.kinship.record",
    "SCORES": "huref.kinship.all_pairs",
    "VERDICTS": "huref.kinship.record",
    "CompareOptions": "huref.kinship.record",
    "Comparison": "huref.kinship.record",
    "LayerMatch": "huref.kinship.record",
    "Matrix": "huref.kinship.record",
    "Ranked": "huref.kinship.ranking",
    "Ranking": "huref.kinship.ranking",
    "TermScore": "huref.kinship.record",
    "compare": "huref.kinship.references",
    "compare_fingerprints": "huref.kinship.saved",
    "matrix": "huref.kinship.all_pairs",
    "rank": "huref.kinship.ranking",
}

if not TYPE_CHECKING:  # so that a type checker sees the names above, and a misspelt one
    __getattr__, __dir__ = face(__name__, _HOMES)
