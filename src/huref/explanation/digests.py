"""Which weights an evidence file is about: a digest of rows of every tensor, whatever the files they lie in.

It tells models apart, within seconds and across formats and shards. It is no proof that nothing else was changed:
rows between the sampled ones are not read. What the evidence claims is checked on the weights at hand.
"""

from __future__ import annotations

import hashlib

import numpy as np

from huref.model.model import Model
from huref.numerics.arrays import float32

_DOMAIN = b"huref/evidence/model/1"
_ROWS = 16


def model_digest(model: Model) -> str:
    """Hexadecimal SHA-256 over every canonical tensor's name, shape and 16 evenly spaced rows, and the vocabulary.

    In canonical order: the name and the shape as UTF-8 with their length in 8 bytes little-endian in front, then the
    rows as little-endian float32. The vocabulary by its own digest, at the end.
    """
    state = hashlib.sha256(_DOMAIN)
    weights = model.weights
    for name in weights.names():
        shape = weights.shape(name)
        rows = np.unique(np.linspace(0, shape[0] - 1, min(shape[0], _ROWS)).astype(np.int64))
        for text in (name, ",".join(str(size) for size in shape)):
            encoded = text.encode()
            state.update(len(encoded).to_bytes(8, "little") + encoded)
        state.update(float32(weights.read(name, rows)).astype("<f4").tobytes())
    state.update(model.vocabulary.digest.encode())
    return state.hexdigest()


def count_weights(model: Model) -> int:
    """Weights of a model, each piece of data once."""
    return sum(int(np.prod(model.weights.shape(name))) for name in model.weights.names())
