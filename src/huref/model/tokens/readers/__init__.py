"""Vocabulary formats: one module each, found by being in this folder.

A module defines `READER`. Readers are tried by `priority`, the smallest first; the first that finds its files
beside the checkpoint wins.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from huref.model.tokens.encoders import EncoderSpec
from huref.model.tokens.vocabulary import Vocabulary

if TYPE_CHECKING:
    from huref.model.source.checkpoint import Checkpoint


@dataclass(frozen=True)
class Reader:
    """One vocabulary format.

    Attributes:
        priority: the smaller, the earlier it is tried.
        looks_for: its files, for the message when nothing is found.
        read: the vocabulary, or None when the files are not there.
        encoder: how to tokenise text with it, or None when the files are not there.
    """

    priority: int
    looks_for: str
    read: Callable[[Checkpoint], Vocabulary | None]
    encoder: Callable[[Checkpoint], EncoderSpec | None]


@cache
def readers() -> tuple[Reader, ...]:
    """Every reader in this folder, by priority."""
    modules = (importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__))
    return tuple(sorted((module.READER for module in modules), key=lambda reader: reader.priority))
