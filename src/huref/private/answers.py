"""What `huref verify` concludes; and what it does with commitments to all weights and with inference proofs.

No torch is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from huref.proof.arithmetic.parallel import decode_many_points
from huref.proof.files.commitment import read_commitment
from huref.proof.files.container import read_file
from huref.proof.inference.commitment import NAME as INFERENCE
from huref.proof.inference.commitment import InferenceCommitment
from huref.proof.inference.commitment import parse_commitment as parse_inference_commitment
from huref.proof.inference.link import NAME as LINK
from huref.proof.inference.link import parse_link, verify_link
from huref.proof.inference.verifier import verify_inference
from huref.proof.sketch.verifier import verify_commitment

WEIGHTS_KIND = "inference-commitment"
NOT_CLAIMED = (
    "that the committed integers are the weights of the model named: its name is the owner's word",
    "that a service runs on these weights, beyond the answers that are proved",
    "anything about weights outside the committed matrices",
)


@dataclass(frozen=True)
class Verification:
    """A file that was verified. What does not hold is an error, not a result.

    Attributes:
        kind: `commitment`, `fingerprint`, `compare`, `rows`, `inference`, `inference-commitment` or `published`.
        root: of the commitment, hexadecimal; empty for a published folder without one.
        model, architecture: what the owner calls it.
        shown: what is established, in sentences.
        vector: (512,) of a fingerprint.
        details: sizes, by name.
        unproved: what this file in particular leaves open, in sentences.
    """

    kind: str
    root: str
    model: str
    architecture: str
    shown: tuple[str, ...]
    vector: np.ndarray | None
    details: Mapping[str, Any]
    unproved: tuple[str, ...] = ()

    @property
    def not_claimed(self) -> tuple[str, ...]:
        """What it does not establish, in sentences."""
        return (*self.unproved, *NOT_CLAIMED)

    def to_dict(self) -> dict[str, Any]:
        """The `--json` document."""
        return {
            "schema_version": "huref.verification/1.1",
            "valid": True,
            "kind": self.kind,
            "root": self.root,
            "model": self.model,
            "architecture": self.architecture,
            "shown": list(self.shown),
            "not_claimed": list(self.not_claimed),
            "vector": None if self.vector is None else [float(value) for value in self.vector],
            **self.details,
        }


def check_weights(inference: InferenceCommitment) -> Verification:
    """A commitment to all weights by itself: its points are good; what bounds them is the answers and the link."""
    decode_many_points(inference.points, "inference commitment")
    shape = inference.shape
    shown = (f"{shape.n_rows:,} rows of {shape.width} numbers are fixed, for a model of {shape.layers} layers",)
    return Verification(WEIGHTS_KIND, inference.root.hex(), inference.model, "plain Llama", shown, None, {})


def check_answer(place: Path, data: bytes, where: str) -> Verification:
    """An inference proof, and whose portrait the answering model has, if its folder says so."""
    path = place / INFERENCE if place.is_dir() else place
    inference = parse_inference_commitment(read_file(path), str(path))
    found = verify_inference(inference, data, where)
    best = np.argsort(-found.logits, kind="stable")[:5]
    scale = float(2**found.precision.logit_scale)
    shown = [
        f"the owner knows weights behind the root that answer {len(found.tokens)} tokens with these logits, "
        f"through all {found.layers} layers of the integer model ({found.precision.name})",
        "best tokens: " + ", ".join(f"{i} ({found.logits[i] / scale:.3f})" for i in best.tolist()),
    ]
    if found.precision.name != "standard":
        shown.append(f"precision {found.precision.name} is for demonstrations: its answers are coarse")
    details: dict[str, Any] = {
        "tokens": list(found.tokens),
        "answer": found.top,
        "logits": [float(value) / scale for value in found.logits],
        "fingerprint_root": None,
    }
    link = place / LINK
    if place.is_dir() and link.exists():
        commitment = read_commitment(place)
        verify_commitment(commitment, decode_many_points)
        verify_link(commitment, inference, parse_link(read_file(link), str(link)))
        details["fingerprint_root"] = commitment.root.hex()
        terms = ", ".join(term.key for term in commitment.layout.terms)
        shown.append(f"the model that answers is the one behind {commitment.root.hex()}: {terms} are its own rows")
    return Verification("inference", inference.root.hex(), found.model, "plain Llama", tuple(shown), None, details)
