"""Fingerprint files, `NAME.huref.safetensors`: `docs/formats/fingerprint-v1.md`.

`huref.files.tensor_file` reads and writes the frame, and its digest has a damaged file refused instead of compared;
here stands what a fingerprint's document and tensors have to be.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from huref.errors import UsageError
from huref.files.atomic import write_atomically
from huref.files.canonical_json import canonical_json
from huref.files.tensor_file import TensorFileKind, digest_of, read_tensor_file, tensor_file_bytes, typed
from huref.fingerprints.code_tensors import code_tensors, parse_codes
from huref.fingerprints.codes import Codes
from huref.fingerprints.recipe import Recipe
from huref.fingerprints.record import SCHEMA_VERSION, VECTOR_LENGTH, Fingerprint, Reference
from huref.model.source.place import path_of

SUFFIX = ".huref.safetensors"
_SKETCH_PREFIX = "sketch/"
_SKETCH_KEY = re.compile("[0-9]{1,6}[.][a-z_]+")
_SIZES_OF_CODES = ("d_ff", "n_heads", "vocab_size")
_WIDEST, _MOST_HEADS = 1 << 20, 1 << 12
_DIGEST_DOMAIN = b"huref/fingerprint/1"
_KIND = TensorFileKind(
    name="a fingerprint",
    unreadable="not a readable fingerprint",
    suffix=SUFFIX,
    schema=SCHEMA_VERSION,
    max_bytes=1 << 28,
    made_by="huref fingerprint MODEL",
    redo="fingerprint the model again",
)


def is_fingerprint(reference: Reference) -> bool:
    """Whether a reference is a fingerprint, or names the file of one, by its suffix.

    Raises:
        UsageError: it is nothing that names a model.
    """
    if not isinstance(reference, Fingerprint | str | Path):
        raise UsageError(
            "this names no model",
            where="models",
            expected="a path, as text or as a Path, or a Fingerprint",
            got=f"{type(reference).__name__}: {str(reference)[:60]}",
            next_step="see help(huref)",
        )
    return isinstance(reference, Fingerprint) or str(reference).endswith(SUFFIX)


def as_references(models: Reference | Iterable[Reference]) -> list[Reference]:
    """One reference, or several of them.

    Raises:
        UsageError: something among them names no model.
    """
    several = models if isinstance(models, Iterable) and not isinstance(models, str | bytes) else [models]
    found = list(several)
    for each in found:
        is_fingerprint(each)
    return found


def saved_fingerprint(reference: Reference) -> Fingerprint | None:
    """The fingerprint that a reference is or names; None where it names a model.

    Raises:
        HurefError: see `load_fingerprint`.
    """
    if isinstance(reference, Fingerprint):
        return reference
    return load_fingerprint(reference) if is_fingerprint(reference) else None


def require_weights(reference: Reference, purpose: str) -> str | Path:
    """A reference to a model.

    Args:
        purpose: what its weights are for, after `no weights to`.

    Raises:
        UsageError: it is a fingerprint, or names one.
    """
    if isinstance(reference, Fingerprint) or is_fingerprint(reference):
        raise UsageError(
            f"a saved fingerprint has no weights to {purpose}",
            where=reference.model if isinstance(reference, Fingerprint) else str(reference),
            expected="a model",
            got="a saved fingerprint",
            next_step="give the model itself",
        )
    return reference


def save_fingerprint(fingerprint: Fingerprint, path: str | Path) -> None:
    """Write a fingerprint; equal fingerprints give equal bytes.

    Raises:
        OutputError: the path cannot be written; nothing is left half-written.
    """
    document, tensors = _contents(fingerprint)
    write_atomically(Path(path), tensor_file_bytes(document, tensors, _digest(document, tensors)))


def fingerprint_digest(fingerprint: Fingerprint) -> str:
    """Hexadecimal SHA-256 of a fingerprint: what its file gives as `sha256`."""
    return _digest(*_contents(fingerprint))


def _contents(fingerprint: Fingerprint) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What a file holds, without its digest: the document and the tensors."""
    tensors = {"vector": fingerprint.vector.astype("<f4")}
    for key, sketch in fingerprint.sketches.items():
        tensors[_SKETCH_PREFIX + key] = np.ascontiguousarray(sketch, "<f4")
    if fingerprint.codes is not None:
        tensors |= code_tensors(fingerprint.codes)
    return fingerprint.header(), tensors


def load_fingerprint(path: str | Path) -> Fingerprint:
    """Read a fingerprint file.

    Raises:
        MissingFileError: no such file.
        UnsafeFileError: larger than any fingerprint.
        CorruptFileError: not a fingerprint, or damaged.
        InputError: a fingerprint of another major format version, or a file that cannot be read.
    """
    return read_tensor_file(path_of(path), _KIND, _digest, _parse)


def _parse(document: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Fingerprint:
    """A fingerprint from its two parts; ValueError, KeyError or TypeError where they are not one."""
    fingerprint = Fingerprint(
        model=_plain_name(document["model"]),
        architecture=typed(document["architecture"], str),
        recipe=_recipe(document["recipe"]),
        vector=tensors["vector"],
        sketches={k[len(_SKETCH_PREFIX) :]: v for k, v in tensors.items() if k.startswith(_SKETCH_PREFIX)},
        tokens=typed(document["tokens"], dict),
        geometry=typed(document["geometry"], dict),
        weights=typed(document["weights"], dict),
        notes=tuple(typed(note, str) for note in typed(document["notes"], list)),
        version=typed(document["version"], str),
        codes=parse_codes(document, tensors, typed(document["geometry"]["n_layers"], int)),
    )
    sizes = ("n_layers", "d_model") if fingerprint.codes is None else ("n_layers", "d_model", *_SIZES_OF_CODES)
    for table, keys in (
        (fingerprint.tokens, ("requested", "used")),
        (fingerprint.geometry, sizes),
        (fingerprint.weights, ("bytes_read", "bytes_total")),
    ):
        for key in keys:
            typed(table[key], int)
    typed(fingerprint.tokens["vocabulary"], str)
    _require_arrays(fingerprint)
    if fingerprint.codes is not None:
        _require_sizes(fingerprint.geometry, fingerprint.codes)
    return fingerprint


def _require_sizes(geometry: Mapping[str, int], codes: Codes) -> None:
    """Codes of as many neurons, heads, experts and tokens as the model is said to have."""
    layers = [*codes.layers.values(), *codes.plain.values()]
    is_right = (
        0 < geometry["d_model"] <= _WIDEST
        and 0 < geometry["n_heads"] <= _MOST_HEADS
        and geometry["vocab_size"] > 0
        and 0 <= codes.n_experts <= geometry["d_ff"]
        and 0 < codes.n_tokens <= max(codes.recipe.n_tokens, 2 * geometry["d_model"])
        and all(len(layer) <= geometry["d_ff"] for layer in layers)
        and all(layer.n_copies in (1, codes.n_experts) for layer in layers)
        and all(len(layer.qk) in (0, geometry["n_heads"]) for layer in codes.layers.values())
        and len({layer.up is None for layer in layers}) <= 1
    )
    if not is_right:
        raise ValueError("codes of another size than the model's")


def _require_arrays(fingerprint: Fingerprint) -> None:
    side = fingerprint.recipe.sketch_rows
    if not all(_SKETCH_KEY.fullmatch(key) for key in fingerprint.sketches):
        raise ValueError("a sketch whose name is not LAYER.KIND")
    shapes = {sketch.shape for sketch in fingerprint.sketches.values()}
    if fingerprint.vector.shape != (VECTOR_LENGTH,) or not shapes <= {(side, side)}:
        raise ValueError("arrays of another shape")
    arrays = [fingerprint.vector, *fingerprint.sketches.values()]
    if not all(array.dtype == np.float32 and np.isfinite(array).all() for array in arrays):
        raise ValueError("arrays of another type, or not finite")


def _recipe(values: Mapping[str, Any]) -> Recipe:
    kinds = {key: type(value) for key, value in Recipe().to_dict().items()}
    return Recipe.from_dict({key: typed(value, kinds.get(key, object)) for key, value in values.items()})


def _plain_name(name: Any) -> str:
    """A model's name becomes a file name: one that names another folder is refused."""
    if typed(name, str) in ("", ".", "..") or any(mark in "/\\" or ord(mark) < ord(" ") for mark in name):
        raise ValueError(f"a model name that is no file name: {name[:60]!r}")
    name.encode()
    return str(name)


def _digest(document: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> str:
    """Hexadecimal SHA-256 over the domain, the canonical JSON, and each tensor's name and data, sorted by name."""
    return digest_of(_DIGEST_DOMAIN, (canonical_json(document), *sorted(tensors)), tensors)
