"""Known answers of proof-inference-v1, kept in tests/compat: a proof that must verify for ever, and its numbers."""

from __future__ import annotations

import copy
import importlib.util
import json
from pathlib import Path

import pytest

from huref.errors import CorruptFileError
from huref.proof.files.container import pack
from huref.proof.inference.commitment import parse_commitment
from huref.proof.inference.proof_file import FRAME, parse_rest, parse_statement
from huref.proof.inference.verifier import verify_inference

FOLDER = Path(__file__).parents[1] / "compat" / "proof-inference-v1"


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


STRANGE = [0, -1, 1 << 40, 1 << 70, "x", "1/0", "1e999999999", None, True, [], {}, 1.5]


@pytest.mark.parametrize("name", ["tiny.commitment", "tiny.proof"])
def test_strange_headers_are_refused_or_mean_something_else(name):
    """Each value of a header by each strange one: no crash, no long work, and never the same statement."""
    data = (FOLDER / name).read_bytes()
    end = 12 + int.from_bytes(data[8:12], "little")
    header = json.loads(data[12:end])
    for path in paths(header):
        for value in STRANGE:
            changed = copy.deepcopy(header)
            place = changed
            for key in path[:-1]:
                place = place[key]
            if place[path[-1]] == value:
                continue
            place[path[-1]] = value
            assert statement_of(pack(data[:8], changed, data[end:])) != statement_of(data)


def statement_of(data: bytes) -> object:
    """What a file says, or that it is refused."""
    try:
        if data[:8] == FRAME.magic:
            return parse_statement(data, "proof")[0]
        return parse_commitment(data, "commitment").root
    except CorruptFileError:
        return None


def paths(value, start=()):
    """The places in a header, with the first of each list's entries alone."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*start, key)
        yield from paths(inner, (*start, key))
