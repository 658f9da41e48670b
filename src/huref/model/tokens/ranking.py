"""A frequency ranking of token ids, and the official file format for it.

The format: one decimal token id a line, the most frequent first. The official code takes the last 4096 lines.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from huref.errors import TokenizerError
from huref.files.atomic import write_atomically
from huref.model.tokens.files import read_capped
from huref.model.tokens.vocabulary import MAX_IDS, Vocabulary

_MAX_FILE = 64 << 20


@dataclass(frozen=True)
class Ranking:
    """Token ids from most to least frequent.

    Attributes:
        ids: int64, unique.
        source: the file or corpus it came from.
    """

    ids: np.ndarray
    source: str


def read_ranking(path: str | Path, n_ids: int = MAX_IDS) -> Ranking:
    """Read a ranking in the official format.

    Args:
        path: the file.
        n_ids: every id must be below this; the size of the vocabulary or of the embedding.

    Raises:
        TokenizerError: unreadable, empty, or a line that is no id, out of range, or a repetition.
    """
    path = Path(path)
    lines = read_capped(path, _MAX_FILE, "a token ranking").rstrip().split(b"\n")
    ids: list[int] = []
    seen: set[int] = set()
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text.isdigit() or len(text) > 10 or int(text) >= n_ids:
            raise _bad_line(path, number, f"an id below {n_ids}", repr(line[:60].decode("utf-8", "replace")))
        token = int(text)
        if token in seen:
            raise _bad_line(path, number, "every id once", f"{token} again")
        seen.add(token)
        ids.append(token)
    return Ranking(np.array(ids, dtype=np.int64), path.name)


def write_ranking(path: str | Path, ids: Iterable[int]) -> None:
    """Write a ranking in the official format; the file appears whole or not at all.

    Raises:
        OutputError: the place cannot be written.
    """
    write_atomically(Path(path), "".join(f"{int(i)}\n" for i in ids).encode())


def rank_by_count(counts: np.ndarray, vocabulary: Vocabulary, *, keep_unseen: bool = True) -> Ranking:
    """Rank a vocabulary's ordinary tokens by how often each occurs.

    Equal counts: the higher id first, as the official code sorts. Tokens that never occur come last, in the
    tokenizer's own order; the official code leaves them out, and so does `keep_unseen=False`.

    Args:
        counts: int64 by id; ids past its end count as 0.
        vocabulary: whose tokens to rank; its special tokens are left out.
        keep_unseen: whether tokens that never occur are listed.
    """
    known = np.zeros(len(vocabulary), dtype=np.int64)
    size = min(known.size, counts.size)
    known[:size] = counts[:size]
    ids = vocabulary.frequency_order()
    seen = np.sort(ids[known[ids] > 0])[::-1]
    seen = seen[np.argsort(-known[seen], kind="stable")]
    unseen = ids[known[ids] == 0]
    return Ranking(np.concatenate([seen, unseen]) if keep_unseen else seen, "counted")


def _bad_line(path: Path, number: int, expected: str, got: str) -> TokenizerError:
    return TokenizerError(
        "a line of a token ranking is wrong",
        where=f"{path}, line {number}",
        expected=expected,
        got=got,
        next_step="a ranking has one token id a line; was it made for another tokenizer?",
    )
