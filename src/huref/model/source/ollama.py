"""Models in Ollama's store, by the names that its users type: a manifest names the blob that is the GGUF file."""

from __future__ import annotations

import os
import re
from pathlib import Path

from huref.errors import CorruptFileError, MissingFileError, UsageError
from huref.model.source.json_file import read_object

STORE = "OLLAMA_MODELS"
"""Environment variable: where the store is, if not in `~/.ollama/models`."""

_SCHEME = "ollama://"
_REGISTRY, _LIBRARY = "registry.ollama.ai", "library"
_NAME = re.compile(
    r"((?P<host>[\w-]+(\.[\w-]+)+(:\d+)?)/)?((?P<owner>[\w.-]+)/)?(?P<model>[\w.-]+)(:(?P<tag>[\w.-]+))?"
)
_DIGEST = re.compile("sha256[:-][0-9a-f]{64}")
_KIND = "application/vnd.ollama.image."
_LIMIT = 1 << 20


def stored(reference: str) -> Path | None:
    """The GGUF file of a model in the store; None where the reference is none of Ollama's.

    `NAME`, `NAME:TAG` and `hf.co/ORG/NAME:TAG` are, if the store has them; `ollama://` in front always is.

    Raises:
        MissingFileError: `ollama://`, and the store has no such model; or its blob is not there.
        CorruptFileError: a manifest that is none.
        UsageError: a model with an adapter on it.
    """
    is_asked = reference.startswith(_SCHEME)
    found = _NAME.fullmatch(reference.removeprefix(_SCHEME))
    if found is None or (not is_asked and found["owner"] and not found["host"]):  # org/name is the hub's
        if is_asked:
            raise _missing(reference)
        return None
    place = (found["host"] or _REGISTRY, found["owner"] or _LIBRARY, found["model"], found["tag"] or "latest")
    manifest = store() / "manifests" / Path(*place)
    if any(part in (".", "..") for part in place) or not manifest.is_file():
        if is_asked:
            raise _missing(reference)
        return None
    return _blob(reference, manifest)


def name_of(reference: str) -> str | None:
    """What a model of the store is called, fit for a file's name; None where the reference is none of Ollama's."""
    if not reference.startswith(_SCHEME) and (Path(reference).exists() or _is_there(reference) is False):
        return None
    return re.sub(r"[^\w.@+-]", "-", reference.removeprefix(_SCHEME).rpartition("/")[2])


def names_in(folder: Path) -> list[str] | None:
    """The models of a store, as people type them; None where a folder is no store."""
    if not (folder / "manifests").is_dir() or not (folder / "blobs").is_dir():
        return None
    found = [path.relative_to(folder / "manifests").parts for path in sorted((folder / "manifests").rglob("*"))]
    return [_typed(*parts) for parts in found if len(parts) == 4]


def store() -> Path:
    """Where Ollama keeps its models."""
    return Path(os.environ.get(STORE) or "~/.ollama/models").expanduser()


def _is_there(reference: str) -> bool:
    try:
        return stored(reference) is not None
    except (MissingFileError, CorruptFileError, UsageError):
        return True


def _typed(host: str, owner: str, model: str, tag: str) -> str:
    place = "" if host == _REGISTRY else f"{host}/"
    return f"{place}{'' if owner == _LIBRARY and not place else f'{owner}/'}{model}:{tag}"


def _blob(reference: str, manifest: Path) -> Path:
    layers = read_object(manifest, _LIMIT).get("layers")
    kinds: dict[str, list[str]] = {}
    for layer in layers if isinstance(layers, list) else []:
        if isinstance(layer, dict):
            kinds.setdefault(str(layer.get("mediaType")), []).append(str(layer.get("digest")))
    digests = kinds.get(f"{_KIND}model", [])
    if not digests or not _DIGEST.fullmatch(digests[0]):
        raise CorruptFileError(
            "a manifest of Ollama's that names no model",
            where=str(manifest),
            expected=f"a layer of the kind {_KIND}model",
            got=", ".join(kinds)[:200] or "no layers",
            next_step=f"ollama pull {reference.removeprefix(_SCHEME)}",
        )
    blob = store() / "blobs" / digests[0].replace(":", "-")
    if not blob.is_file():
        raise MissingFileError(
            "the blob of this model is not in Ollama's store",
            where=reference,
            expected=str(blob),
            got="nothing at that path",
            next_step=f"ollama pull {reference.removeprefix(_SCHEME)}",
        )
    adapters = [digest.replace(":", "-") for digest in kinds.get(f"{_KIND}adapter", [])]
    if adapters:
        raise UsageError(
            "an Ollama model with an adapter on it",
            where=reference,
            expected="the adapter and its base, in one reference",
            got=f"{len(adapters)} adapter",
            next_step=f"name both: {store() / 'blobs' / adapters[0]}::{blob}",
        )
    return blob


def _missing(reference: str) -> MissingFileError:
    names = names_in(store()) or []
    return MissingFileError(
        "no such model in Ollama's store",
        where=reference,
        expected=f"a model of {store()}",
        got=", ".join(names[:8]) + (" ..." if len(names) > 8 else "") if names else "no store, or an empty one",
        next_step="name one of those (NAME:TAG), or set OLLAMA_MODELS",
    )
