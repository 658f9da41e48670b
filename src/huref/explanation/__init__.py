"""Explain: the transform between two related models, recovered as evidence that people and programs can check.

    explain(a, b, ExplainOptions())            -> Explanation   what was done to A to make B, and what undoing shows
    save_undone(found, a, b, folder)           -> UndoneModel   B with the transform undone, as a checkpoint
    save_evidence(found, path)                                  one safetensors file, docs/formats/evidence-v1.md
    check_evidence(path, a, b, CheckOptions()) -> Checked       every claim of a file, against the weights
    explain_text(found)                        -> lines         the story for people

What is stated was recovered from one part of the weights and holds on another: a map found on queries has to carry
the keys, a scale found on `up` has to undo `down`. Where nothing agrees there is no explanation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from huref.face import face

if TYPE_CHECKING:
    from huref.explanation.checking import check_evidence
    from huref.explanation.evidence_file import load_evidence, save_evidence
    from huref.explanation.options import CheckOptions, ExplainOptions
    from huref.explanation.recovering import explain
    from huref.explanation.text import checked_text, explain_csv, explain_text
    from huref.explanation.transform import Checked, Claim, Explanation, Share, UndoneModel
    from huref.explanation.writing import save_undone
    from huref.kinship.recovery.transform import LayerTransform, ResidualTransform

__all__ = [
    "CheckOptions",
    "Checked",
    "Claim",
    "ExplainOptions",
    "Explanation",
    "LayerTransform",
    "ResidualTransform",
    "Share",
    "UndoneModel",
    "check_evidence",
    "checked_text",
    "explain",
    "explain_csv",
    "explain_text",
    "load_evidence",
    "save_evidence",
    "save_undone",
]

_HOMES = {
    "CheckOptions": "huref.explanation.options",
    "Checked": "huref.explanation.transform",
    "Claim": "huref.explanation.transform",
    "ExplainOptions": "huref.explanation.options",
    "Explanation": "huref.explanation.transform",
    "LayerTransform": "huref.kinship.recovery.transform",
    "ResidualTransform": "huref.kinship.recovery.transform",
    "Share": "huref.explanation.transform",
    "UndoneModel": "huref.explanation.transform",
    "check_evidence": "huref.explanation.checking",
    "checked_text": "huref.explanation.text",
    "explain": "huref.explanation.recovering",
    "explain_csv": "huref.explanation.text",
    "explain_text": "huref.explanation.text",
    "load_evidence": "huref.explanation.evidence_file",
    "save_evidence": "huref.explanation.evidence_file",
    "save_undone": "huref.explanation.writing",
}

if not TYPE_CHECKING:  # so that a type checker sees the names above, and a misspelt one
    __getattr__, __dir__ = face(__name__, _HOMES)
