"""Finding and reading a checkpoint's vocabulary. Nothing in the repository is ever executed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from huref.choices import option
from huref.errors import MissingTensorError, TokenizerError
from huref.model.source.checkpoint import Checkpoint, Rows
from huref.model.source.opening import open_checkpoint
from huref.model.tokens.encoders import EncoderSpec
from huref.model.tokens.readers import readers
from huref.model.tokens.vocabulary import Vocabulary
from huref.numerics.arrays import Array


def load_vocabulary(checkpoint: Checkpoint) -> Vocabulary:
    """The vocabulary of a checkpoint, from its GGUF metadata or from the tokenizer files in its folder.

    Where it has none, that of `checkpoint.tokenizer`.

    Raises:
        TokenizerError: no tokenizer file, or one that cannot be read or contradicts itself.
    """
    for reader in readers():
        vocabulary = reader.read(checkpoint)
        if vocabulary is not None:
            return vocabulary
    with _lender(checkpoint) as lender:
        return replace(load_vocabulary(lender), lender=Path(lender.reference).resolve().name)


def load_encoder(checkpoint: Checkpoint) -> EncoderSpec:
    """How to turn text into the token ids of `load_vocabulary`; needed only to count a corpus.

    Raises:
        TokenizerError: no tokenizer file, or one that gives no way to tokenise text.
    """
    for reader in readers():
        spec = reader.encoder(checkpoint)
        if spec is not None:
            return spec
    with _lender(checkpoint) as lender:
        return load_encoder(lender)


class TokenizerFolder(Checkpoint):
    """A folder that has a tokenizer and no weights that matter."""

    format = "tokenizer"

    def __init__(self, folder: Path) -> None:
        self.reference, self.folder = str(folder), folder
        self.config, self.metadata, self.tensors, self.files = {}, {}, {}, {}
        self.bytes_read = 0

    def read(self, name: str, rows: Rows = None) -> Array:  # noqa: ARG002
        """There is nothing to read."""
        raise MissingTensorError("a folder with a tokenizer has no weights", where=self.reference, expected=name)


def lent_tokenizer(checkpoint: Checkpoint) -> Checkpoint | None:
    """Where `checkpoint.tokenizer` is needed, that as a checkpoint; None where there is an own one, or nothing lent.

    Raises:
        TokenizerError: it is no place for a tokenizer.
    """
    has_own = any(reader.encoder(checkpoint) is not None for reader in readers())
    return None if has_own or checkpoint.tokenizer is None else _lender(checkpoint)


def _lender(checkpoint: Checkpoint) -> Checkpoint:
    """Where the tokenizer of a checkpoint without one comes from.

    Raises:
        TokenizerError: nowhere.
    """
    place = checkpoint.tokenizer
    if place is None:
        raise _not_found(checkpoint)
    if place.is_dir():
        return TokenizerFolder(place)
    if place.is_file() and place.name.endswith(".gguf"):
        return open_checkpoint(place)
    raise TokenizerError(
        "no place for a tokenizer",
        where=option("tokenizer"),
        expected="a folder with tokenizer files, or a GGUF file",
        got=str(place) if place.exists() else f"nothing at {place}",
        next_step="name the folder that holds the tokenizer's files",
    )


def _not_found(checkpoint: Checkpoint) -> TokenizerError:
    is_half = (Path(checkpoint.folder) / "vocab.json").is_file()
    return TokenizerError(
        "no tokenizer was found",
        where=str(checkpoint.folder),
        expected="one of: " + "; ".join(reader.looks_for for reader in readers()),
        got="vocab.json without merges.txt" if is_half else "none of them",
        next_step="put merges.txt beside vocab.json, or the tokenizer.json of the same model"
        if is_half
        else "put the model's tokenizer files beside its weights, or --tokenizer DIR (tokenizer=DIR)",
    )
