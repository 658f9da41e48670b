"""Known answers of proof-inference-v1, kept in tests/compat: a proof that must verify for ever, and its numbers."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from huref.proof.inference.commitment import parse_commitment
from huref.proof.inference.proof_file import parse_rest, parse_statement
from huref.proof.inference.verifying import verify_inference

FOLDER = Path(__file__).parent / "compat" / "proof-inference-v1"


def test_the_recorded_proof_verifies_and_says_what_it_said():
    commitment = parse_commitment((FOLDER / "tiny.commitment").read_bytes(), "tiny.commitment")
    data, known = (FOLDER / "tiny.proof").read_bytes(), json.loads((FOLDER / "known.json").read_bytes())
    answer = verify_inference(commitment, data)
    assert (answer.tokens, answer.precision.name, answer.layers) == ((5, 7, 5), "small", 2)
    statement, reader = parse_statement(data, "tiny.proof")
    proof = parse_rest(statement, reader, statement.inventory(commitment.shape))
    assert proof.to_bytes() == data
    assert recorder().answers(commitment, proof) == known


def recorder():
    """record.py as a module."""
    spec = importlib.util.spec_from_file_location("inference_record", FOLDER / "record.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
