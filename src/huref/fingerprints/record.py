"""A fingerprint: what huref says of one model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from huref.fingerprints.code_tensors import code_document, code_tensors
from huref.fingerprints.codes import Codes
from huref.fingerprints.recipe import Recipe
from huref.numerics.cosine import cosine

SCHEMA_VERSION, WITH_CODES = "huref.fingerprint/1.0", "huref.fingerprint/1.1"
"""Major: files that cannot be compared with others. Minor: additions a reader may ignore, such as neuron codes."""

VECTOR_LENGTH = 512
"""Numbers in a fingerprint vector: the latent size of the image generator."""


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """A model's public fingerprint.

    Attributes:
        model: what the user called the model; only its last part, never a path.
        architecture: the family's name.
        recipe: how it was made.
        vector: (512,) float32, root mean square 1; the generator's latent.
        sketches: per term, keyed `LAYER.KIND`, (m, m) float32, root mean square 1. Empty for `mean` and `cnn`.
        tokens: what `TokenSelection.describe` says: method, counts and digests.
        geometry: the decoder's sizes.
        weights: size and name of each weight file that was opened, format, and bytes read of how many.
        notes: what the reader should know: fewer tokens than asked for, tensors left out.
        version: the huref that made it.
        codes: of its neurons, where they were asked for.
    """

    model: str
    architecture: str
    recipe: Recipe
    vector: np.ndarray
    sketches: Mapping[str, np.ndarray]
    tokens: Mapping[str, Any]
    geometry: Mapping[str, int]
    weights: Mapping[str, Any]
    notes: tuple[str, ...]
    version: str
    codes: Codes | None = None

    def header(self) -> dict[str, Any]:
        """Everything but the arrays, for JSON and for the files' metadata."""
        return {
            "schema_version": WITH_CODES if self.codes else SCHEMA_VERSION,
            "model": self.model,
            "architecture": self.architecture,
            "recipe": self.recipe.to_dict(),
            "encoder": self.recipe.encoder,
            "tokens": dict(self.tokens),
            "geometry": dict(self.geometry),
            "weights": dict(self.weights),
            "notes": list(self.notes),
            "version": self.version,
            **({"codes": code_document(self.codes)} if self.codes else {}),
        }

    def __eq__(self, other: object) -> bool:
        """Whether both say the same of a model, to the last bit."""
        if not isinstance(other, Fingerprint):
            return NotImplemented
        return (
            self.header() == other.header()
            and np.array_equal(self.vector, other.vector)
            and self.sketches.keys() == other.sketches.keys()
            and all(np.array_equal(sketch, other.sketches[key]) for key, sketch in self.sketches.items())
            and _are_equal(self.codes, other.codes)
        )

    __hash__ = None  # type: ignore[assignment]

    def similarity(self, other: Fingerprint) -> float:
        """Cosine of the two vectors, in [-1, 1]; the expected value under `sketch` is the ICS."""
        return cosine(self.vector, other.vector)


def _are_equal(a: Codes | None, b: Codes | None) -> bool:
    left, right = ({} if codes is None else code_tensors(codes) for codes in (a, b))
    return left.keys() == right.keys() and all(np.array_equal(tensor, right[name]) for name, tensor in left.items())
