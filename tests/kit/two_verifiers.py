"""What `huref verify` and the verifier in one file, verifier/huref_verify.py, make of the same bytes."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from huref.errors import HurefError
from huref.proof.files.commitment import parse_commitment
from huref.proof.files.proof import parse_proof
from huref.proof.sketch.verifier import verify_commitment, verify_sketches

PATH = Path(__file__).parents[2] / "verifier" / "huref_verify.py"

Files = tuple[bytes, bytes]  # a commitment and a proof, or no bytes for none


@cache
def minimal() -> ModuleType:
    """The verifier, loaded from its file: it is in no package."""
    spec = importlib.util.spec_from_file_location("huref_verify", PATH)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def main_verdict(files: Files) -> Any:
    """What `huref verify` finds: a `Verified`, or True for a commitment alone; False for refused."""
    try:
        commitment = parse_commitment(files[0], "c")
        if files[1]:
            return verify_sketches(commitment, parse_proof(files[1], commitment.layout, "p"))
        verify_commitment(commitment)
    except HurefError:
        return False
    return True


@cache
def minimal_verdict(files: Files) -> Any:
    """What the verifier in one file finds: (commitment, proof), or why it refuses; any other error fails the test."""
    try:
        return minimal().verify(files[0], files[1] or None)
    except minimal().Refused as reason:
        return str(reason)
