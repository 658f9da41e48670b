"""CNN encoder weights on disk: safetensors, convolutions in half precision, the configuration in the metadata.

Tensors: `convs.K.weight`, folded as `huref.fingerprints.encoder.network` computes with it, float16; all others
float32, batch statistics included.
No weights come with huref: 341 million numbers do not earn their size. Train them or convert your own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from huref.errors import WeightsError
from huref.files.atomic import write_whole
from huref.fingerprints.encoder import HOW_TO_GET
from huref.fingerprints.encoder.network import Encoder, EncoderConfig
from huref.numerics.arrays import Array

FORMAT = "huref-encoder-cnn-1"

_MAX_BYTES = 2 << 30
_CHUNK = 1 << 24


@dataclass(frozen=True)
class EncoderWeights:
    """An encoder read from a file.

    Attributes:
        encoder: kernels as stored, in half precision.
        sha256: of the whole file, in hexadecimal: fingerprints compare only under equal weights.
        side: K of the samples that it was trained on, 0 where nobody knows.
        notes: where the weights come from.
    """

    encoder: Encoder
    sha256: str
    side: int
    notes: dict[str, Any]


def save_encoder(encoder: Encoder, path: Path, notes: dict[str, Any]) -> None:
    """Write an encoder, whole or not at all.

    Args:
        encoder: what to write, with its batch statistics.
        path: the file.
        notes: JSON; `side` is the K it was trained at.

    Raises:
        OutputError: the file cannot be written.
    """
    tensors = {
        name: np.array(value, np.float16 if value.ndim == 4 else value.dtype, order="C")
        for name, value in encoder.tensors.items()
    }
    document = {"format": FORMAT, "config": dataclasses.asdict(encoder.config), "notes": notes}
    # One key only: safetensors writes several in random order, and equal weights are to have equal digests.
    metadata = {"huref": json.dumps(document, sort_keys=True)}
    write_whole(path, lambda partial: save_file(tensors, partial, metadata), (OSError, SafetensorError))


def load_encoder(path: Path, sha256: str | None = None) -> EncoderWeights:
    """Read an encoder, ready to encode.

    Args:
        path: a file of `save_encoder`.
        sha256: the digest that the file must have; None for any.

    Raises:
        WeightsError: missing, truncated, tampered with, or of another kind.
    """
    digest = _digest(path)
    if sha256 is not None and digest != sha256:
        raise WeightsError(
            "the encoder's weights are not the ones asked for",
            where=str(path),
            expected=f"sha256 {sha256}",
            got=f"sha256 {digest}",
            next_step="name the weights file that the fingerprint was made with",
        )
    try:
        with safe_open(path, "np") as file:
            document = json.loads((file.metadata() or {})["huref"])
            if document["format"] != FORMAT:
                raise ValueError(f"format {document['format']}")
            notes = document["notes"]
            config = _config(document["config"])
            encoder = Encoder(config, {name: _tensor(file, name, config) for name in _names(file, config)})
        return EncoderWeights(encoder, digest, int(notes.get("side", 0)), notes)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise WeightsError(
            "not the weights of a CNN encoder",
            where=str(path),
            expected=f"safetensors of format {FORMAT}",
            got=str(error).splitlines()[0][:200] if str(error) else type(error).__name__,
            next_step=HOW_TO_GET,
        ) from error


def trained_side(path: Path) -> int:
    """The K that the batch statistics in a file are of; 0 where it does not say, or cannot be read."""
    try:
        with safe_open(path, "np") as file:
            return int(json.loads((file.metadata() or {})["huref"])["notes"]["side"])
    except (SafetensorError, OSError, KeyError, ValueError, TypeError):
        return 0


def _digest(path: Path) -> str:
    """SHA-256 of a file of plausible size, read in pieces."""
    try:
        if (size := path.stat().st_size) > _MAX_BYTES:
            raise WeightsError(
                "too large for an encoder", where=str(path), expected=f"at most {_MAX_BYTES} bytes", got=str(size)
            )
        hasher = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                hasher.update(chunk)
        return hasher.hexdigest()
    except OSError as error:
        raise WeightsError(
            "the encoder's weights cannot be read",
            where=str(path),
            expected="a safetensors file",
            got=error.strerror or str(error),
            next_step=HOW_TO_GET,
        ) from error


def _config(values: dict[str, Any]) -> EncoderConfig:
    config = EncoderConfig(**{**values, "channels": tuple(values["channels"])})
    if max(config.inputs, config.kernel, config.stride, *config.channels) > 4096 or len(config.channels) > 8:
        raise ValueError(f"sizes of no encoder: {str(values)[:100]}")
    return config


def _names(file: Any, config: EncoderConfig) -> list[str]:
    """The tensors of the configuration, where the file has these and no others."""
    if others := sorted(config.shapes.keys() ^ set(file.keys())):
        raise ValueError(f"tensor {others[0]} is {'missing' if others[0] in config.shapes else 'one too many'}")
    return list(config.shapes)


def _tensor(file: Any, name: str, config: EncoderConfig) -> Array:
    """One tensor of the shape that the configuration gives it, seen before it is read."""
    shape = tuple(file.get_slice(name).get_shape())
    if shape != config.shapes[name]:
        raise ValueError(f"tensor {name} of shape {list(shape)} instead of {list(config.shapes[name])}")
    tensor: Array = file.get_tensor(name)
    if not np.isfinite(tensor).all():
        raise ValueError(f"numbers that are not finite in {name}")
    return tensor
