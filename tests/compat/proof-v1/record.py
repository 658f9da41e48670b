"""Records the known answers of this folder: `python tests/compat/proof-v1/record.py NEW_FOLDER`. See README.md."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from huref.fingerprints.sketch import token_signs
from huref.proof.arithmetic.curve import blinding_generator, encode_points, generators
from huref.proof.arithmetic.signs import centred_signs
from huref.proof.arithmetic.transcript import Transcript
from huref.proof.files.opening import write_opening
from huref.proof.sketch.no_wrap import projections
from huref.proof.sketch.pair import score_pair
from huref.proof.sketch.verifier import verify_sketches
from kit import proofs


def transcript_answers() -> dict[str, str]:
    """A script of absorbing and drawing."""
    transcript = Transcript("huref/proof/1")
    transcript.absorb("header", b"{}")
    first = transcript.challenge("a")
    second = transcript.challenge("b")
    transcript.absorb("products", bytes(range(256)))
    drawn = transcript.bytes("projections", 20)
    return {"a": f"{first:x}", "b": f"{second:x}", "projections": drawn.hex(), "e": f"{transcript.challenge('e'):x}"}


def answers() -> dict[str, Any]:
    """What known.json holds."""
    a, commitment, proof = proofs.a(), proofs.commitment_a(), proofs.fingerprint_proof()
    pair = [
        verify_sketches(c, p)
        for c, p in zip((commitment, proofs.commitment_b()), proofs.compare_proofs(), strict=True)
    ]
    vector = verify_sketches(commitment, proof).vector
    assert vector is not None
    chosen = np.arange(proofs.N_A) % 3 > 0
    signs = np.stack(centred_signs(a.strings, chosen, 8, "huref/1"))
    E = projections(a.layout, commitment.root, commitment.no_wrap.masks)
    return {
        "roots": {"a": commitment.root.hex(), "b": proofs.commitment_b().root.hex()},
        "generators": [bytes(g.to_compressed_bytes()).hex() for g in list(generators(4))],
        "blinding_generator": encode_points([blinding_generator()]).hex(),
        "transcript": transcript_answers(),
        "signs": {
            string.decode(): "".join(
                "+-"[int(s < 0)] for s in np.concatenate(token_signs([string], 8, "huref/1")).ravel()
            )
            for string in a.strings[:3]
        },
        "centred_signs": hashlib.sha256(signs.astype("<i8").tobytes()).hexdigest(),
        "projections": hashlib.sha256(E.astype(np.int8).tobytes()).hexdigest(),
        "row_blindings": [f"{z:x}" for z in a.blindings()[:3]],
        "Y": [str(value) for value in proof.sketches["1.qk"].ravel()[:4]],
        "vector": vector.astype(float).tolist(),
        "ics": score_pair(*pair).ics,
    }


def main(folder: Path) -> None:
    """Write everything; nothing is overwritten."""
    folder.mkdir(parents=True)
    of_a, of_b = proofs.compare_proofs()
    files = {
        "a.commitment": proofs.commitment_a().to_bytes(),
        "b.commitment": proofs.commitment_b().to_bytes(),
        "a.fingerprint.proof": proofs.fingerprint_proof().to_bytes(),
        "a.compare.proof": of_a.to_bytes(),
        "b.compare.proof": of_b.to_bytes(),
        "known.json": (json.dumps(answers(), indent=1, sort_keys=True) + "\n").encode(),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    write_opening(proofs.a(), folder / "a.opening")
    (folder / "a.opening").chmod(0o644)  # no secret: its seed is the text `tiny-a`


if __name__ == "__main__":
    main(Path(sys.argv[1]))
