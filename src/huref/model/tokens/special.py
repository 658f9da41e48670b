"""Which tokens stand for no text, judged by their own notation.

Files disagree about what they call special (the same token is "control" in GGUF and an ordinary added token
in tokenizer.json), so the spelling decides as well: then every copy of a model drops the same tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_SPECIAL = re.compile(
    r"""
      <[|\uff5c][^\s|\uff5c].*[|\uff5c]>                           # <|im_end|>; DeepSeek has wide bars
    | </?s> | <(?:unk|pad|bos|eos|sep|cls|mask|eod|eop|eot)>
    | <(?:unused|reserved|extra_id|special|mask|dummy)[_-]?\d+>    # places kept for later
    | \[(?:UNK|PAD|CLS|SEP|MASK|BOS|EOS|[gs]MASK)\]
    | \[(?:PAD|unused|UNUSED_TOKEN)[_-]?\d+\]                      # padding of the table to a round size
    """,
    re.VERBOSE | re.IGNORECASE,
)


def is_special(piece: str) -> bool:
    """Whether a token, in the tokenizer's own notation, is written like a control or reserved token."""
    # The brackets are looked at first: the expression would cost most of the time of reading a vocabulary.
    return piece[:1] in ("<", "[") and piece[-1:] in (">", "]") and _SPECIAL.fullmatch(piece) is not None


def special_ids(pieces: Iterable[tuple[str, int]]) -> set[int]:
    """Ids of the pieces that are written like control or reserved tokens."""
    return {i for piece, i in pieces if is_special(piece)}
