"""Renumbering the vocabulary: embedding rows, and later the tokenizer's files with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.random import Generator

from huref.forward.decoder import Decoder

_ROWS = ("embedding", "unembedding", "unembedding_bias")


def permute_vocabulary(model: Decoder, dice: Generator) -> Decoder:
    """Renumber the tokens: rows of the embeddings (and of the output bias), and later the tokenizer's files."""
    ids = model.renumberable
    order = np.arange(model.geometry.vocab_size)
    order[ids] = dice.permutation(ids)
    before = model.token_order
    moved = model.changed({name: model.tensors[name][order] for name in _ROWS if name in model})
    return replace(moved, token_order=order if before is None else before[order])


def no_renumbering(model: Decoder) -> str:
    """Why tokens cannot be renumbered."""
    if model.is_wrapped:
        return "the checkpoint holds more than is read, which may know tokens by number"
    return "" if len(model.renumberable) else "there is no tokenizer.json whose numbers could follow"
