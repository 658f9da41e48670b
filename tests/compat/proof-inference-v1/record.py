"""Records the known answers of this folder: `python record.py NEW_FOLDER`. See README.md."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from huref.model.arch.canonical import Geometry
from huref.proof.inference.closing import early_challenges, late_challenges, opened_transcript
from huref.proof.inference.commitment import InferenceCommitment, commit_model
from huref.proof.inference.precision import PRECISIONS, Shape
from huref.proof.inference.proof_file import InferenceProof
from huref.proof.inference.prover import prove_inference
from huref.proof.inference.tables import exp_table, rope_tables, silu_table
from huref.proof.inference.weights import integer_model
from kit.llamas import as_weights, tiny_llama

SIZES = Geometry(n_layers=2, d_model=8, n_heads=4, n_kv_heads=2, head_dim=4, d_ff=12, vocab_size=20)
TOKENS = (5, 7, 5)


def digest(table: np.ndarray) -> str:
    """SHA-256 of a table's entries, 64 bits each, little-endian."""
    return hashlib.sha256(table.astype("<i8").tobytes()).hexdigest()


def table_digests(shape: Shape) -> dict[str, str]:
    """Of every table that is no range."""
    tables = {}
    for name, precision in PRECISIONS.items():
        tables |= {f"exp {name}": exp_table(precision), f"silu {name}": silu_table(precision)}
    like_smollm2 = replace(shape, head_dim=64, theta="100000")
    both = rope_tables(PRECISIONS["standard"], like_smollm2, 32)
    return {name: digest(table) for name, table in (tables | dict(zip(("cos", "sin"), both, strict=True))).items()}


def answers(commitment: InferenceCommitment, proof: InferenceProof) -> dict[str, Any]:
    """What known.json holds."""
    transcript = opened_transcript(proof.statement, proof.logits)
    early = early_challenges(transcript, proof.activations)
    late = late_challenges(transcript, proof.auxiliaries)
    return {
        "root": commitment.root.hex(),
        "challenges": {name: f"{value:x}" for name, value in (vars(early) | vars(late)).items()},
        "logits": proof.logits.tolist(),
        "tables": table_digests(commitment.shape),
    }


def main(folder: Path) -> None:
    """Write everything; nothing is overwritten."""
    folder.mkdir(parents=True)
    model = integer_model(as_weights(tiny_llama(11, is_tied=False, sizes=SIZES)))
    commitment, opening = commit_model(model, "tiny")
    proof = prove_inference(model, commitment, opening, TOKENS, "small")
    (folder / "tiny.commitment").write_bytes(commitment.to_bytes())
    (folder / "tiny.proof").write_bytes(proof.to_bytes())
    (folder / "known.json").write_text(json.dumps(answers(commitment, proof), indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
