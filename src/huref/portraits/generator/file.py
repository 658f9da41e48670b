"""Generator weights on disk: safetensors, the configuration in their metadata, a pinned digest for those we ship."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from huref.errors import NotFiniteError, WeightsError
from huref.files.atomic import write_atomically
from huref.files.safetensors_writer import safetensors_bytes
from huref.model.source.byte_source import LocalFile
from huref.numerics.arrays import Array, float32
from huref.portraits.generator.config import StyleGAN2Config
from huref.portraits.generator.official import MAX_BYTES, read_official
from huref.portraits.generator.stylegan2 import PAPER_PSI, Generator

FORMAT = "huref-stylegan2-1"
WEIGHTS = Path(__file__).parent / "weights"
SHIPPED = WEIGHTS / "dogs128.safetensors"
SHIPPED_SHA256 = "dfdf507c6d9eb21302070d8aa002338ef4a3a907acd2f4b4e7f5c0748e1fc4b0"
"""Digest of `SHIPPED`. `python -m huref_lab.generator.release` writes both, so that they cannot part."""

PSI = 1.0
"""Truncation of the shipped generator: none. Its styles are nearly Gaussian, so that few are far out."""

MAX_HEADER = 2**20


def save_generator(generator: Generator, path: Path, notes: dict[str, Any], dtype: str = "float16") -> str:
    """Writes a generator, in half precision unless told otherwise, whole or not at all.

    Args:
        generator: what to write, with its mean style and noise.
        path: the file.
        notes: where the weights come from; JSON, kept in the metadata.
        dtype: of the numbers in the file, float16 or float32.

    Returns:
        The SHA-256 of the file, in hexadecimal.

    Raises:
        NotFiniteError: a weight that is not finite, or too large for `dtype`.
        OutputError: the file cannot be written.
    """
    with np.errstate(over="ignore"):
        tensors = {name: np.array(value, dtype) for name, value in generator.tensors.items()}
    if name := _not_finite(tensors):
        raise NotFiniteError(
            "a weight cannot be written",
            where=f"{path}, tensor {name}",
            expected=f"finite numbers within {np.finfo(dtype).max:g}",
            got=f"at most {np.abs(generator.tensors[name]).max():g}",
            next_step="use float32 if they are finite",
        )
    metadata = {
        "format": FORMAT,
        "config": json.dumps(dataclasses.asdict(generator.config), sort_keys=True),
        "notes": json.dumps(notes, sort_keys=True),
    }
    metadata["data_sha256"] = _data_digest(safetensors_bytes(tensors, metadata))
    data = safetensors_bytes(tensors, metadata)
    write_atomically(path, data)
    return hashlib.sha256(data).hexdigest()


def open_generator(path: Path) -> Generator:
    """A user's generator, told by its content: a safetensors file of ours, or a pickle of stylegan2-ada-pytorch.

    Raises:
        InputError: missing, damaged, unsafe, or of a kind that huref cannot run.
    """
    with closing(LocalFile(path, str(path))) as source:
        head = source.read(0, min(source.size, 9))
        if not head.startswith(b"\x80") or head.endswith(b"{"):  # the header of safetensors is JSON after 8 bytes
            return load_generator(path)
        config, tensors = read_official(source)
    try:
        return assemble(config, tensors)
    except ValueError as error:
        raise WeightsError(
            "not a generator that huref can run",
            where=str(path),
            expected="finite weights in the shapes of a StyleGAN2",
            got=str(error),
            next_step="docs/how-to/generators.md lists what is supported",
        ) from error


def load_generator(path: Path, sha256: str | None = None) -> Generator:
    """Reads a generator, in fp32, ready to render.

    Args:
        path: a file of `save_generator`.
        sha256: the digest that the file must have; None for a user's own file.

    Raises:
        WeightsError: missing, truncated, tampered with, or of another kind.
    """
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= MAX_BYTES else b""
    except OSError as error:
        raise WeightsError("the generator's weights cannot be read", where=str(path), got=str(error)) from error
    if size > MAX_BYTES:
        raise WeightsError(
            "too large for a generator", where=str(path), expected=f"at most {MAX_BYTES} bytes", got=str(size)
        )
    digest = hashlib.sha256(data).hexdigest()
    if sha256 is not None and digest != sha256:
        raise WeightsError(
            "the generator's weights are not the pinned ones",
            where=str(path),
            expected=f"sha256 {sha256}",
            got=f"sha256 {digest}",
            next_step="install huref again, or name your own weights file",
        )
    try:
        return dataclasses.replace(_build(data), usual_psi=usual_psi(digest))
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise WeightsError(
            "not the weights of a generator",
            where=str(path),
            expected=f"safetensors of format {FORMAT}, whole and unchanged",
            got=(str(error).splitlines() or [type(error).__name__])[0][:200],
            next_step="write the file with `huref train generator` or `huref generator convert`",
        ) from error


def usual_psi(sha256: str) -> float:
    """Truncation where none is asked for: the shipped weights' own, wherever they are read from; else the paper's."""
    return PSI if sha256 == SHIPPED_SHA256 else PAPER_PSI


def read_metadata(data: bytes) -> dict[str, str]:
    """The metadata in a safetensors header.

    Raises:
        ValueError: no such header.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(MAX_HEADER, len(data) - 8):
        raise ValueError(f"a header of {length} bytes in a file of {len(data)}")
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    return dict(metadata)


def assemble(config: StyleGAN2Config, tensors: Mapping[str, Array]) -> Generator:
    """A generator of these tensors, in fp32, ready to render; as large as they are, whatever the configuration says.

    Raises:
        ValueError: tensors that do not fit the configuration exactly, or are not finite.
    """
    if (given := sum(value.size for value in tensors.values())) != config.weight_count:
        raise ValueError(f"{given} weights instead of {config.weight_count}")
    wanted = config.shapes
    if others := sorted(wanted.keys() ^ tensors.keys()):
        raise ValueError(f"tensor {others[0]} is {'missing' if others[0] in wanted else 'one too many'}")
    for name, value in tensors.items():
        if value.shape != wanted[name]:
            raise ValueError(f"tensor {name} of shape {list(value.shape)} instead of {list(wanted[name])}")
    if (bad := _not_finite(tensors)) is not None:
        raise ValueError(f"NaN or infinity in tensor {bad}")
    return Generator(config, {name: float32(tensors[name]) for name in wanted})


def _build(data: bytes) -> Generator:
    """A generator from a safetensors file whose metadata hold its configuration."""
    metadata = read_metadata(data)
    if metadata["format"] != FORMAT:
        raise ValueError(f"format {metadata['format']}")
    if metadata.get("data_sha256", "") not in ("", _data_digest(data)):  # files of huref 0.1 have none
        raise ValueError("weights that differ from the digest written with them")
    return assemble(StyleGAN2Config(**json.loads(metadata["config"])), load(data))


def _data_digest(data: bytes) -> str:
    """SHA-256 of what follows the header of a safetensors file."""
    return hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()


def _not_finite(tensors: Mapping[str, Array]) -> str | None:
    """The first tensor with NaN or infinity."""
    return next((name for name, value in tensors.items() if not np.isfinite(value).all()), None)


@lru_cache(maxsize=1)
def shipped_generator() -> Generator:
    """The generator that comes with huref.

    Raises:
        WeightsError: the file is not the one that was pinned.
    """
    return load_generator(SHIPPED, SHIPPED_SHA256)
