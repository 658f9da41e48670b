"""A fingerprint: what huref says of one model."""

from __future__ import annotations

import importlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from huref.fingerprints.code_tensors import code_document, code_tensors
from huref.fingerprints.codes import Codes
from huref.fingerprints.recipe import Recipe
from huref.numerics.cosine import cosine
from huref.text import printable, short

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

    def __str__(self) -> str:
        """What `huref fingerprint` prints, but for the files and the seconds."""
        read, total = self.weights["bytes_read"], self.weights["bytes_total"]
        recipe, sizes = self.recipe, self.geometry
        lines = [
            f"{self.model}: {self.architecture}, {sizes['n_layers']} layers, width {sizes['d_model']}",
            f"  recipe       {recipe.name}, {recipe.encoder}, layers {recipe.layers}, {self.tokens['used']} tokens",
            f"  read         {read / 1e6:.1f} of {total / 1e6:.1f} MB ({100 * read / max(1, total):.1f} %)",
            *(f"  note         {note}" for note in self.notes),
        ]
        return printable("\n".join(lines))

    def __repr__(self) -> str:
        codes = ", with codes" if self.codes else ""
        return f"Fingerprint({short(self.model)}, {self.recipe.name}, {self.recipe.encoder}{codes})"

    def _repr_png_(self) -> bytes | None:
        """The portrait, for notebooks; None where it cannot be drawn."""
        file = io.BytesIO()
        try:  # a room of a higher layer: this one does without it, and asks for it by name
            importlib.import_module("huref.portraits").render(self).save(file, "PNG")
        except Exception:  # a notebook shows the line of text instead, and no traceback for want of a picture
            return None
        return file.getvalue()

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


Reference: TypeAlias = str | Path | Fingerprint
"""What names a model: its folder, its weight file, a fingerprint's file, or a fingerprint in memory."""


def _are_equal(a: Codes | None, b: Codes | None) -> bool:
    left, right = ({} if codes is None else code_tensors(codes) for codes in (a, b))
    return left.keys() == right.keys() and all(np.array_equal(tensor, right[name]) for name, tensor in left.items())
