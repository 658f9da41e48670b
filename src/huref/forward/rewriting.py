"""A checkpoint with other weights and the same function: written, read back, and compared before anyone sees it.

The check runs on what was written: the new folder is opened as any checkpoint is, and its logits are compared with
the original's.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path

import numpy as np

from huref.errors import OutputError
from huref.files.safetensors_writer import write_safetensors
from huref.forward.checkpoint_writer import TOKENIZER_FILES, tokenizer_files
from huref.forward.decoder import Decoder
from huref.forward.judges import Judge, judge_of
from huref.forward.renumbering import new_ids, renumber_files, renumberable_ids
from huref.forward.stored import layout_of, stored_config, stored_tensors
from huref.model.arch.weights import CanonicalWeights
from huref.model.source.checkpoint import Checkpoint
from huref.model.tokens import lent_tokenizer
from huref.numerics.arrays import Array

TOLERANCES = {"float64": 1e-9, "float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}
"""Largest difference of the logits, over their range, by the type that is written."""

SEQUENCES, LENGTH = 2, 24

_CARRIED = (
    *TOKENIZER_FILES,
    "generation_config.json",
    "chat_template.jinja",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.txt",
    "preprocessor_config.json",
    "processor_config.json",
)


class Rewriting:
    """A model in memory that is to be written with other weights.

    Attributes:
        weights: the checkpoint it was read from.
        original: all of it, float64.
        files: what goes with the weights: file name -> content.
        judge: who says what the logits are.
    """

    def __init__(self, weights: CanonicalWeights, arch_file: Path | None = None, judge: Judge | None = None) -> None:
        """Read it.

        Args:
            judge: who computes logits; None for huref itself, or transformers where huref cannot.

        Raises:
            ArchitectureError: nobody can compute it, so that nothing could be checked.
        """
        self.weights = weights
        self.files = carried_files(weights.checkpoint)
        self.judge = judge or judge_of(weights, arch_file)
        self.original = self.judge.model
        if self.judge.follows_tokens:
            self.original = self.original.with_tokens(renumberable_ids(self.files, weights.geometry.vocab_size))

    @cached_property
    def expected(self) -> Array:
        """The original's logits."""
        return self.judge.of_model(prompt(self.original))

    def write(self, folder: Path, changed: Decoder, dtype: str) -> float:
        """Fill a folder that is there with a changed model, read it back, and return the error of its logits."""
        self.fill(folder, changed, dtype)
        ids = prompt(self.original)
        if changed.token_order is None:
            return logit_error(self.expected, self.judge.of_folder(folder, ids))
        new = new_ids(changed)
        return logit_error(self.expected, self.judge.of_folder(folder, new[ids])[..., new])

    def fill(self, folder: Path, changed: Decoder, dtype: str) -> None:
        """Fill a folder that is there with a changed model."""
        layout, kind = layout_of(self.weights), np.dtype(dtype)
        write_safetensors(folder / "model.safetensors", stored_tensors(layout, changed, kind))
        (folder / "config.json").write_text(json.dumps(stored_config(layout, changed, kind), indent=2))
        files = self.files if changed.token_order is None else renumber_files(self.files, new_ids(changed))
        for name, content in files.items():
            (folder / name).write_bytes(content)


def logit_error(before: Array, after: Array) -> float:
    """Largest difference of two arrays of logits over the range of the first: 0 for equal functions."""
    spread = float(before.max() - before.min())
    return float(np.abs(before - after).max()) / spread


def prompt(model: Decoder) -> Array:
    """Fixed token ids, spread over the vocabulary: (sequences, tokens)."""
    length = min(LENGTH, model.settings.longest)
    places = np.arange(SEQUENCES * length).reshape(SEQUENCES, length)
    return (places * 2654435761 + 12345) % (2**31 - 1) % model.geometry.vocab_size


def carried_files(checkpoint: Checkpoint) -> dict[str, bytes]:
    """Tokenizer and generation files that go with the weights: file name -> content."""
    if checkpoint.format == "gguf":
        return tokenizer_files(checkpoint)
    paths = [checkpoint.folder / name for name in _CARRIED]
    found = {path.name: path.read_bytes() for path in paths if path.is_file()}
    lent = lent_tokenizer(checkpoint)
    if lent is None:
        return found
    with lent:
        return {**found, **tokenizer_files(lent)}


def require_free(out: Path, record: str, what: str, *models: str | Path) -> None:
    """Refuse a place where something stands that this tool did not write, or one of the models that are read.

    Args:
        record: the file by which a folder of this kind is known.
        what: what such a folder is, in a few words.

    Raises:
        OutputError: it is so.
    """
    if out.exists() and not (out / record).is_file():
        raise OutputError(
            f"something that is no {what} is in the way",
            where=str(out),
            expected=f"a free name, or a folder that holds an earlier {what}",
            got="something else, which is not replaced",
            next_step="choose another name",
        )
    places = [place for model in models if Path(model).exists() for place in _places(Path(model))]
    if out.exists() and out.resolve() in places:
        raise OutputError(
            "a model cannot be replaced by its own copy", where=str(out), next_step="choose another name"
        )


def _places(model: Path) -> tuple[Path, Path]:
    return model.resolve(), model.resolve().parent
