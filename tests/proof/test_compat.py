"""Known answers of proof-v1, kept in tests/compat/proof-v1: files that must verify for ever, and their numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from py_arkworks_bls12381 import G1Point

from huref.fingerprints.sketch import token_signs
from huref.proof.arithmetic.curve import blinding_generator, encode_points, generators
from huref.proof.arithmetic.signs import centred_signs
from huref.proof.arithmetic.transcript import Transcript
from huref.proof.files.opening import Opening, read_opening
from huref.proof.sketch.exact import exact_sketches
from huref.proof.sketch.no_wrap import projections
from huref.proof.sketch.pair import score_pair
from kit import proofs
from kit.hash_to_curve_oracle import RFC_POINT, RFC_TAG, hash_to_curve, rfc_isogeny
from kit.two_verifiers import Files, main_verdict, minimal, minimal_verdict

FOLDER = Path(__file__).parents[1] / "compat" / "proof-v1"
TAG = b"HUREF-V01-CS01-with-BLS12381G1_XMD:SHA-256_SSWU_RO_"
MESSAGES = [b"huref/generator/1/" + bytes([j, 0, 0, 0]) for j in range(4)] + [b"huref/blinding-generator/1"]


@cache
def known() -> dict[str, Any]:
    """The recorded numbers."""
    answers: dict[str, Any] = json.loads((FOLDER / "known.json").read_bytes())
    return answers


def recorded(owner: str, proof: str = "") -> Files:
    """Recorded files."""
    found = (FOLDER / f"{owner}.commitment").read_bytes()
    return found, (FOLDER / f"{owner}.{proof}.proof").read_bytes() if proof else b""


@cache
def opening() -> Opening:
    """A's."""
    return read_opening(FOLDER / "a.opening")


def test_generators_are_the_recorded_ones() -> None:
    expected = [*known()["generators"], known()["blinding_generator"]]
    assert [encode_points([g]).hex() for g in [*list(generators(4)), blinding_generator()]] == expected
    assert [encode_points([g]).hex() for g in minimal().generators(4)] == expected


def test_generators_by_rfc_9380_from_scratch() -> None:
    """Without the curve's library; the oracle itself reproduces the RFC's test vector."""
    assert G1Point.hash_to_curve(b"", RFC_TAG).to_xy_bytes_be() == b"".join(n.to_bytes(48, "big") for n in RFC_POINT)
    for message, encoded in zip(MESSAGES, [*known()["generators"], known()["blinding_generator"]], strict=True):
        point = hash_to_curve(message, TAG, rfc_isogeny())
        assert point is not None
        assert G1Point.from_compressed_bytes(bytes.fromhex(encoded)).to_xy_bytes_be() == b"".join(
            n.to_bytes(48, "big") for n in point
        )


def test_challenges() -> None:
    ours, theirs = Transcript("huref/proof/1"), minimal().Transcript(b"huref/proof/1")
    assert script(ours, ours.bytes, str) == script(theirs, theirs.draw, str.encode) == known()["transcript"]


def script(transcript: Any, draw: Callable[[Any, int], bytes], label: Callable[[str], Any]) -> dict[str, str]:
    """What record.py asked for."""
    transcript.absorb(label("header"), b"{}")
    a, b = transcript.challenge(label("a")), transcript.challenge(label("b"))
    transcript.absorb(label("products"), bytes(range(256)))
    drawn = draw(label("projections"), 20)
    return {"a": f"{a:x}", "b": f"{b:x}", "projections": drawn.hex(), "e": f"{transcript.challenge(label('e')):x}"}


def test_a_transcript_is_shake_of_all_messages() -> None:
    """Section 3, written out by hand."""

    def message(label: bytes, data: bytes) -> bytes:
        return len(label).to_bytes(4, "little") + label + len(data).to_bytes(8, "little") + data

    stream = message(b"protocol", b"huref/proof/1") + message(b"header", b"{}") + message(b"a", b"")
    value = int.from_bytes(hashlib.shake_256(stream).digest(64), "little")
    assert f"{value % minimal().P:x}" == known()["transcript"]["a"]


def test_signs() -> None:
    for string, signs in known()["signs"].items():
        ours = np.concatenate(token_signs([string.encode()], 8, "huref/1")).ravel()
        (theirs,) = minimal().sign_bits([string.encode()], 8, "huref/1")
        assert "".join("+-"[int(sign < 0)] for sign in ours) == signs
        assert "".join("+-"[bit] for bit in theirs.tolist()) == signs
    chosen = np.arange(len(opening().strings)) % 3 > 0
    centred = np.stack(centred_signs(opening().strings, chosen, 8, "huref/1"))
    assert hashlib.sha256(centred.astype("<i8").tobytes()).hexdigest() == known()["centred_signs"]


@pytest.mark.parametrize(
    ("owner", "proof"), [("a", ""), ("b", ""), ("a", "fingerprint"), ("a", "compare"), ("b", "compare")]
)
def test_recorded_files_verify(owner: str, proof: str) -> None:
    commitment = minimal_verdict(recorded(owner, proof))[0]
    assert main_verdict(recorded(owner, proof))
    assert commitment.root.hex() == known()["roots"][owner]


def test_the_recorded_fingerprint() -> None:
    ours, theirs = (verdict(recorded("a", "fingerprint")) for verdict in (main_verdict, minimal_verdict))
    assert ours.commitment.root.hex() == known()["roots"]["a"]
    assert [str(value) for value in theirs[1].Y["1.qk"][:4]] == known()["Y"]
    for vector in (ours.vector, minimal().vector(*theirs)):
        np.testing.assert_allclose(vector, known()["vector"], rtol=0, atol=1e-6)


def test_the_recorded_comparison() -> None:
    ours, theirs = (
        [verdict(recorded(owner, "compare")) for owner in "ab"] for verdict in (main_verdict, minimal_verdict)
    )
    assert score_pair(*ours).ics == pytest.approx(known()["ics"], abs=1e-9)
    assert minimal().compare(*theirs[0], *theirs[1]) == pytest.approx(known()["ics"], abs=1e-9)


def test_the_recorded_opening_opens() -> None:
    """Blindings, points, projections and sketches follow from it; and it still proves."""
    commitment = main_verdict(recorded("a", "fingerprint")).commitment
    owner, blindings = opening(), opening().blindings()
    assert [f"{z:x}" for z in blindings[:3]] == known()["row_blindings"]
    assert proofs.committed(owner).points == commitment.points
    E = projections(owner.layout, commitment.root, commitment.no_wrap.masks)
    assert hashlib.sha256(E.astype(np.int8).tobytes()).hexdigest() == known()["projections"]
    everybody = np.ones(len(owner.strings), dtype=bool)
    exact = exact_sketches(owner.layout, owner.rows, centred_signs(owner.strings, everybody, 8, "huref/1"))
    assert [str(value) for value in exact["1.qk"].ravel()[:4]] == known()["Y"]
    assert main_verdict((recorded("a")[0], proofs.prove_fingerprint(owner, commitment).to_bytes()))
