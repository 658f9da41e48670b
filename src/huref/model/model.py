"""A reference becomes an opened model: its weights in canonical form, its vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from huref.model.arch import open_weights
from huref.model.arch.weights import CanonicalWeights
from huref.model.name import model_name
from huref.model.source import open_checkpoint
from huref.model.tokens import Vocabulary, load_vocabulary


@dataclass(frozen=True)
class Model:
    """An opened model: its weights in canonical form and its vocabulary."""

    name: str
    weights: CanonicalWeights
    vocabulary: Vocabulary

    @property
    def n_rows(self) -> int:
        """Rows of the embedding; padding may make it more than the vocabulary."""
        return self.weights.shape("embedding")[0]


def open_model(
    reference: str | Path, arch_file: Path | None = None, tokenizer: Path | None = None, name: str = ""
) -> Model:
    """Open a checkpoint without reading its matrices.

    Args:
        arch_file: an architecture file of the user's own.
        tokenizer: a folder or a GGUF file whose tokenizer to take where the checkpoint has none of its own.
        name: what to call it; else by its path.

    Raises:
        InputError: no readable checkpoint, an unknown architecture, or no tokenizer.
    """
    checkpoint = open_checkpoint(reference)
    checkpoint.tokenizer = tokenizer
    try:
        return Model(name or model_name(reference), open_weights(checkpoint, arch_file), load_vocabulary(checkpoint))
    except BaseException:
        checkpoint.close()
        raise
