"""Explain: the transform between two related models, recovered as evidence that people and programs can check.

    explain_models(a, b, ExplainOptions())    -> Explanation    what was done to A to make B, and what undoing shows
    save_evidence(found, path)                                  one safetensors file, docs/formats/evidence-v1.md
    check_evidence(path, a, b, CheckOptions()) -> Checked       every claim of a file, against the weights
    explain_text(found)                       -> lines          the story for people

What is stated was recovered from one part of the weights and holds on another: a map found on queries has to carry
the keys, a scale found on `up` has to undo `down`. Where nothing agrees there is no explanation.
"""

from huref.explanation.evidence_file import SUFFIX, load_evidence, save_evidence
from huref.explanation.options import CheckOptions, ExplainOptions
from huref.explanation.text import explain_csv, explain_text
from huref.explanation.transform import Checked, Claim, Explanation, LayerTransform, ResidualTransform, Share

__all__ = [
    "SUFFIX",
    "CheckOptions",
    "Checked",
    "Claim",
    "ExplainOptions",
    "Explanation",
    "LayerTransform",
    "ResidualTransform",
    "Share",
    "explain_csv",
    "explain_text",
    "load_evidence",
    "save_evidence",
]
