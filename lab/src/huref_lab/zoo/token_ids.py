"""The zoo's texts as token numbers, kept on disk: vocabularies under `tokenizers/`, numbers under `tokens/`."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from huref.files.atomic import write_atomically
from huref_lab.training.language_models import encode, train_tokenizer
from huref_lab.training.texts import read_text
from huref_lab.zoo.plan import Scale


def tokenizer_of(zoo: Path, text: str, scale: Scale) -> str:
    """The `tokenizer.json` learned from the first half of a text; learned now if it was not before."""
    path = zoo / "tokenizers" / f"{_file(text)}-{scale.vocabulary}-{scale.characters}.json"
    if not path.is_file():
        learned = train_tokenizer(read_text(text, scale.characters // 2, zoo / "debs"), scale.vocabulary)
        write_atomically(path, learned.encode())
    return path.read_text(encoding="utf-8")


def token_ids(zoo: Path, text: str, tokenizer: str, scale: Scale) -> Tensor:
    """(n,) int64: a text under the vocabulary learned from another (or the same)."""
    path = zoo / "tokens" / f"{_file(text)}-by-{_file(tokenizer)}-{scale.vocabulary}-{scale.characters}.npy"
    if not path.is_file():
        found = encode(tokenizer_of(zoo, tokenizer, scale), read_text(text, scale.characters, zoo / "debs"))
        buffer = io.BytesIO()
        np.save(buffer, found.numpy().astype(np.int32), allow_pickle=False)
        write_atomically(path, buffer.getvalue())
    return torch.from_numpy(np.load(path, allow_pickle=False).astype(np.int64))


def _file(text: str) -> str:
    return text.replace(":", "-")
