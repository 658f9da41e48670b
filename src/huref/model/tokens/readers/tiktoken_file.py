"""tiktoken rank files (`qwen.tiktoken`, `tokenizer.model` of Llama-3 and GLM-4): base64 and a rank a line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from huref.errors import TokenizerError
from huref.model.tokens.added import apply_added, read_added
from huref.model.tokens.encoders import EncoderSpec
from huref.model.tokens.files import read_capped
from huref.model.tokens.order import IdOrder
from huref.model.tokens.readers import Reader
from huref.model.tokens.tiktoken_ranks import parse_ranks
from huref.model.tokens.vocabulary import Vocabulary, place_tokens

if TYPE_CHECKING:
    from huref.model.source.checkpoint import Checkpoint

_NAMES = ("tokenizer.model", "tiktoken.model")
_FIRST_LINE = re.compile(rb"[A-Za-z0-9+/]+={0,2} \d+\r?\n")


def read(checkpoint: Checkpoint) -> Vocabulary | None:
    """The vocabulary in a rank file, or None when there is none."""
    path = _find(Path(checkpoint.folder))
    if path is None:
        return None
    ranks = parse_ranks(read_capped(path), path.name)
    tokens = place_tokens(list(ranks.values()), ranks, path.name)
    special: set[int] = set()
    apply_added(tokens, special, read_added(path.parent), marker="")
    return Vocabulary(tuple(tokens), frozenset(special), "bpe", path.name, IdOrder())


def encoder(checkpoint: Checkpoint) -> EncoderSpec | None:
    """The file itself: tiktoken takes the ranks."""
    path = _find(Path(checkpoint.folder))
    return None if path is None else EncoderSpec("tiktoken", read_capped(path))


def _find(folder: Path) -> Path | None:
    named = [folder / name for name in _NAMES if is_rank_file(folder / name)]
    listed = sorted(folder.glob("*.tiktoken"))
    if not named and len(listed) > 1:
        raise TokenizerError(
            "several tiktoken files, and no way to tell which is the model's",
            where=str(folder),
            expected="one *.tiktoken file",
            got=", ".join(path.name for path in listed[:8]),
        )
    return next(iter([*named, *listed]), None)


def is_rank_file(path: Path) -> bool:
    """Whether a file exists and begins like a tiktoken rank file."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return _FIRST_LINE.match(file.read(4096)) is not None
    except OSError:
        return False


READER = Reader(
    priority=50, looks_for="*.tiktoken or a tokenizer.model of tiktoken ranks", read=read, encoder=encoder
)
