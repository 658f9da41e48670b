"""Fingerprint files, `NAME.huref.safetensors`: `docs/formats/fingerprint-v1.md`.

One safetensors file: the arrays as tensors, everything else as canonical JSON under the metadata key `huref`, with a
digest of both, so that a damaged file is refused instead of compared. It is the only key: safetensors writes several
in random order.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from huref.errors import CorruptFileError, HurefError, InputError, MissingFileError
from huref.files.atomic import write_atomically
from huref.files.canonical_json import canonical_json
from huref.fingerprints.recipe import Recipe
from huref.fingerprints.record import SCHEMA_VERSION, VECTOR_LENGTH, Fingerprint

SUFFIX = ".huref.safetensors"
_MAX_BYTES = 1 << 28
_SKETCH_PREFIX = "sketch/"
_SKETCH_KEY = re.compile("[0-9]{1,6}[.][a-z_]+")
_DIGEST_DOMAIN = b"huref/fingerprint/1"


def is_fingerprint(path: str | Path) -> bool:
    """Whether a path names a saved fingerprint, by its suffix."""
    return str(path).endswith(SUFFIX)


def save_fingerprint(fingerprint: Fingerprint, path: Path) -> None:
    """Write a fingerprint; equal fingerprints give equal bytes.

    Raises:
        OutputError: the path cannot be written; nothing is left half-written.
    """
    from safetensors.numpy import save

    document, tensors = _contents(fingerprint)
    document["sha256"] = _digest(document, tensors)
    write_atomically(path, save(tensors, metadata={"huref": canonical_json(document)}))


def fingerprint_digest(fingerprint: Fingerprint) -> str:
    """Hexadecimal SHA-256 of a fingerprint: what its file gives as `sha256`."""
    return _digest(*_contents(fingerprint))


def _contents(fingerprint: Fingerprint) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What a file holds, without its digest: the document and the tensors."""
    tensors = {"vector": fingerprint.vector.astype("<f4")}
    for key, sketch in fingerprint.sketches.items():
        tensors[_SKETCH_PREFIX + key] = np.ascontiguousarray(sketch, "<f4")
    return fingerprint.header(), tensors


def load_fingerprint(path: str | Path) -> Fingerprint:
    """Read a fingerprint file.

    Raises:
        MissingFileError: no such file.
        CorruptFileError: not a fingerprint, or damaged.
        InputError: a fingerprint of another major format version, or a file that cannot be read.
    """
    where = Path(path)
    header, tensors = _read_tensors(where)
    try:
        document = json.loads(header["__metadata__"]["huref"], parse_constant=_refuse_constant)
        _require_version(document, where)
        if document.pop("sha256", "") != _digest(document, tensors):
            raise ValueError("contents that do not have the digest that the file gives for them")
        return _parse(document, tensors)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise _corrupt(where, f"{type(error).__name__}: {error}"[:200]) from None
    except InputError:
        raise
    except HurefError as error:
        raise _corrupt(where, error.what) from None


def _parse(document: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Fingerprint:
    """A fingerprint from its two parts; ValueError, KeyError or TypeError where they are not one."""
    fingerprint = Fingerprint(
        model=_plain_name(document["model"]),
        architecture=_typed(document["architecture"], str),
        recipe=_recipe(document["recipe"]),
        vector=tensors["vector"],
        sketches={k[len(_SKETCH_PREFIX) :]: v for k, v in tensors.items() if k.startswith(_SKETCH_PREFIX)},
        tokens=_typed(document["tokens"], dict),
        geometry=_typed(document["geometry"], dict),
        weights=_typed(document["weights"], dict),
        notes=tuple(_typed(note, str) for note in _typed(document["notes"], list)),
        version=_typed(document["version"], str),
    )
    for table, keys in (
        (fingerprint.tokens, ("requested", "used")),
        (fingerprint.geometry, ("n_layers", "d_model")),
        (fingerprint.weights, ("bytes_read", "bytes_total")),
    ):
        for key in keys:
            _typed(table[key], int)
    _require_arrays(fingerprint)
    return fingerprint


def _read_tensors(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if not path.is_file():
        raise MissingFileError(
            "no such fingerprint",
            where=str(path),
            expected=f"a *{SUFFIX} file",
            next_step="huref fingerprint MODEL",
        )
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= _MAX_BYTES else b""
    except OSError as error:
        raise InputError("a fingerprint cannot be read", where=str(path), got=error.strerror or str(error)) from None
    if size > _MAX_BYTES:
        raise _corrupt(path, f"{size} bytes")
    try:
        tensors = load(data)
        (length,) = struct.unpack("<Q", data[:8])
        header: dict[str, Any] = json.loads(data[8 : 8 + length])
        return header, tensors
    except (SafetensorError, ValueError, KeyError, TypeError, struct.error, RecursionError) as error:
        raise _corrupt(path, str(error)[:200]) from None


def _require_version(document: Mapping[str, Any], path: Path) -> None:
    """Refuse another major version, and say which huref reads it."""
    found = str(document.get("schema_version", "none"))
    if found.split(".")[:-1] == SCHEMA_VERSION.split(".")[:-1]:
        return
    writer = document.get("version")
    writer = f"huref {writer}" if isinstance(writer, str) and writer else "the huref"
    newer = re.fullmatch("huref[.]fingerprint/([0-9]{1,6})[.].*", found)
    is_newer = newer is not None and int(newer[1]) > int(SCHEMA_VERSION.split("/")[1].split(".")[0])
    raise InputError(
        f"a fingerprint of another format version{', newer than this huref reads' if is_newer else ''}",
        where=str(path),
        expected=f"{SCHEMA_VERSION.rsplit('.', 1)[0]}.x",
        got=found,
        next_step=f"install {writer} that wrote it, or a later one"
        if is_newer
        else f"read the file with {writer} that wrote it, or fingerprint the model again",
    )


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
    return Recipe.from_dict({key: _typed(value, kinds.get(key, object)) for key, value in values.items()})


def _plain_name(name: Any) -> str:
    """A model's name becomes a file name: one that names another folder is refused."""
    if _typed(name, str) in ("", ".", "..") or any(mark in name for mark in ("/", "\\", "\0")):
        raise ValueError(f"a model name that is no file name: {name[:60]!r}")
    name.encode()
    return str(name)


def _typed(value: Any, kind: type) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"a {type(value).__name__} in place of a {kind.__name__}")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _digest(document: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> str:
    """Hexadecimal SHA-256 over the domain, the canonical JSON, and each tensor's name and data, sorted by name.

    JSON and names are UTF-8 with their length in 8 bytes in front; numbers little-endian.
    """
    hasher = hashlib.sha256(_DIGEST_DOMAIN)
    for part in (canonical_json(document), *sorted(tensors)):
        encoded = part.encode()
        hasher.update(len(encoded).to_bytes(8, "little") + encoded)
    for name in sorted(tensors):
        hasher.update(tensors[name].tobytes())
    return hasher.hexdigest()


def _corrupt(path: Path, got: str) -> CorruptFileError:
    return CorruptFileError(
        "not a readable fingerprint",
        where=str(path),
        expected=f"a {SCHEMA_VERSION} file",
        got=got,
        next_step="fingerprint the model again",
    )
