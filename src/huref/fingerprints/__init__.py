"""The paper: recipe, invariant terms, sketch, and the 512 numbers made of them.

fingerprint(model, Recipe())       -> Fingerprint   of a model made, of a saved fingerprint loaded
save_fingerprint, load_fingerprint                  one safetensors file, docs/formats/fingerprint-v1.md
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from huref.face import face

if TYPE_CHECKING:
    from huref.fingerprints.file import fingerprint_digest, is_fingerprint, load_fingerprint, save_fingerprint
    from huref.fingerprints.recipe import Recipe
    from huref.fingerprints.record import Fingerprint
    from huref.fingerprints.references import fingerprint

__all__ = [
    "Fingerprint",
    "Recipe",
    "fingerprint",
    "fingerprint_digest",
    "is_fingerprint",
    "load_fingerprint",
    "save_fingerprint",
]

_HOMES = {
    "Fingerprint": "huref.fingerprints.record",
    "Recipe": "huref.fingerprints.recipe",
    "fingerprint": "huref.fingerprints.references",
    "fingerprint_digest": "huref.fingerprints.file",
    "is_fingerprint": "huref.fingerprints.file",
    "load_fingerprint": "huref.fingerprints.file",
    "save_fingerprint": "huref.fingerprints.file",
}

if not TYPE_CHECKING:  # so that a type checker sees the names above, and a misspelt one
    __getattr__, __dir__ = face(__name__, _HOMES)
