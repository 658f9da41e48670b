"""Generator weights on disk: safetensors, the configuration in their metadata, a pinned digest for those we ship."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from huref.atomic import write_atomically
from huref.errors import WeightsError
from huref.nets.stylegan2 import Generator, StyleGAN2Config

FORMAT = "huref-stylegan2-1"
WEIGHTS = Path(__file__).parent / "weights"
SHIPPED = WEIGHTS / "dogs64.safetensors"
SHIPPED_SHA256 = "921e97b03c22e8c37063fb0928730a14d0284d3a5b5c713112fb380017900ede"
"""Digest of `SHIPPED`. `python -m huref.lab.generator_export` writes both, so that they cannot part."""

MAX_BYTES = 512 * 2**20
MAX_HEADER = 2**20


def save_generator(generator: Generator, path: Path, notes: dict[str, Any]) -> str:
    """Writes a generator in half precision, whole or not at all.

    Args:
        generator: what to write, with its mean style and noise.
        path: the file.
        notes: where the weights come from; JSON, kept in the metadata.

    Returns:
        The SHA-256 of the file, in hexadecimal.

    Raises:
        OutputError: the file cannot be written.
    """
    tensors = {name: value.to(torch.float16).contiguous() for name, value in generator.state_dict().items()}
    metadata = {
        "format": FORMAT,
        "config": json.dumps(dataclasses.asdict(generator.config), sort_keys=True),
        "notes": json.dumps(notes, sort_keys=True),
    }
    data = save(tensors, metadata)
    write_atomically(path, data)
    return hashlib.sha256(data).hexdigest()


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
        return _build(read_metadata(data), load(data))
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise WeightsError(
            "not the weights of a generator",
            where=str(path),
            expected=f"safetensors of format {FORMAT}",
            got=str(error).splitlines()[0][:200],
            next_step="write the file with `huref train generator`",
        ) from error


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


def _build(metadata: dict[str, str], tensors: dict[str, Tensor]) -> Generator:
    """A generator from its configuration and tensors; both must fit exactly."""
    if metadata["format"] != FORMAT:
        raise ValueError(f"format {metadata['format']}")
    config = StyleGAN2Config(**json.loads(metadata["config"]))
    generator = Generator(config)
    generator.load_state_dict({name: value.float() for name, value in tensors.items()})
    return generator.eval().requires_grad_(False)


@lru_cache(maxsize=1)
def shipped_generator() -> Generator:
    """The generator that comes with huref.

    Raises:
        WeightsError: the file is not the one that was pinned.
    """
    return load_generator(SHIPPED, SHIPPED_SHA256)
