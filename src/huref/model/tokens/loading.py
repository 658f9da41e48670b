"""Finding and reading a checkpoint's vocabulary. Nothing in the repository is ever executed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from huref.errors import TokenizerError
from huref.model.tokens.encoders import EncoderSpec
from huref.model.tokens.readers import readers
from huref.model.tokens.vocabulary import Vocabulary

if TYPE_CHECKING:
    from huref.model.source.checkpoint import Checkpoint


def load_vocabulary(checkpoint: Checkpoint) -> Vocabulary:
    """The vocabulary of a checkpoint, from its GGUF metadata or from the tokenizer files in its folder.

    Raises:
        TokenizerError: no tokenizer file, or one that cannot be read or contradicts itself.
    """
    for reader in readers():
        vocabulary = reader.read(checkpoint)
        if vocabulary is not None:
            return vocabulary
    raise _not_found(checkpoint)


def load_encoder(checkpoint: Checkpoint) -> EncoderSpec:
    """How to turn text into the token ids of `load_vocabulary`; needed only to count a corpus.

    Raises:
        TokenizerError: no tokenizer file, or one that gives no way to tokenise text.
    """
    for reader in readers():
        spec = reader.encoder(checkpoint)
        if spec is not None:
            return spec
    raise _not_found(checkpoint)


def _not_found(checkpoint: Checkpoint) -> TokenizerError:
    return TokenizerError(
        "no tokenizer was found",
        where=str(checkpoint.folder),
        expected="one of: " + "; ".join(reader.looks_for for reader in readers()),
        got="none of them",
        next_step="put the model's tokenizer files beside its weights",
    )
