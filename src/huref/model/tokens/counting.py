"""How often each token occurs in a corpus, on all cores."""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from huref.errors import TokenizerError
from huref.extras import require
from huref.model.tokens.corpus import corpus_size, is_latin_or_cyrillic, read_chunks, split_lines
from huref.model.tokens.encoders import Encode, EncoderSpec, open_encoder
from huref.model.tokens.loading import load_encoder
from huref.model.tokens.vocabulary import MAX_IDS

if TYPE_CHECKING:
    from huref.model.source.checkpoint import Checkpoint

_ALONE_BELOW = 8 << 20  # bytes: starting processes would cost more than it saves


Progress = Callable[[int, int], None]
"""Called with the bytes done so far and the bytes of the whole corpus."""


@dataclass(frozen=True)
class CountOptions:
    """How to count.

    Attributes:
        only_latin_and_cyrillic: skip every line with another character, as the official code skips texts.
        workers: processes; None for one per core that this process may use.
    """

    only_latin_and_cyrillic: bool = True
    workers: int | None = None


@dataclass(frozen=True)
class TokenCounts:
    """Occurrences in a corpus.

    Attributes:
        counts: int64 by id, special tokens included; ids past the end never occurred.
        lines: lines counted.
        skipped: lines left out: other scripts, or no UTF-8.
    """

    counts: np.ndarray
    lines: int
    skipped: int


def count_tokens(
    checkpoint: Checkpoint,
    files: Sequence[str | Path],
    options: CountOptions | None = None,
    progress: Progress | None = None,
) -> TokenCounts:
    """Tokenise text files line by line and count each token; `rank_by_count` makes the ranking of it.

    A line is the unit: it is tokenised with its newline, by itself, and kept or skipped by itself. The result
    therefore depends neither on where chunks end nor on the number of processes. To count as the official
    code does, put one article on a line.

    Args:
        checkpoint: whose tokenizer to use.
        files: UTF-8 text, of any size; read as a stream.
        options: filter and number of processes.
        progress: told after every chunk.

    Raises:
        TokenizerError: no tokenizer, or one that cannot tokenise.
        MissingFileError: a corpus file cannot be read.
        UsageError: the library that tokenises is not installed.
    """
    options = options or CountOptions()
    paths = [Path(file) for file in files]
    total = corpus_size(paths)
    spec = load_encoder(checkpoint)
    require(spec.library, "huref tokens rank")
    counter = _Counter(spec, options.only_latin_and_cyrillic)
    n_workers = options.workers or len(os.sched_getaffinity(0))
    is_alone = n_workers == 1 or (options.workers is None and total < _ALONE_BELOW)
    chunks = read_chunks(paths)
    results = _count_here(counter, chunks) if is_alone else _count_apart(counter, chunks, n_workers)
    counts, lines, skipped, done = np.zeros(0, dtype=np.int64), 0, 0, 0
    for result in results:
        counts = _add(counts, result)
        lines, skipped, done = lines + result.lines, skipped + result.skipped, done + result.size
        if progress is not None:
            progress(done, total)
    return TokenCounts(counts, lines, skipped)


@dataclass(frozen=True)
class _ChunkCounts:
    ids: np.ndarray  # int64, ascending, those that occur
    counts: np.ndarray  # int64, as many
    lines: int
    skipped: int
    size: int


@dataclass(frozen=True)
class _Counter:
    spec: EncoderSpec
    only_latin_and_cyrillic: bool

    def count(self, encode: Encode, chunk: bytes) -> _ChunkCounts:
        lines, skipped = split_lines(chunk)
        kept = [line for line in lines if not self.only_latin_and_cyrillic or is_latin_or_cyrillic(line)]
        found = np.fromiter(itertools.chain.from_iterable(encode(kept)), dtype=np.int64)
        if found.size and (found.min() < 0 or found.max() >= MAX_IDS):
            raise TokenizerError("a token id is out of range", where="the tokenizer", got=str(found.max()))
        ids, counts = np.unique_counts(found)
        return _ChunkCounts(ids, counts, len(kept), skipped + len(lines) - len(kept), len(chunk))


def _add(counts: np.ndarray, chunk: _ChunkCounts) -> np.ndarray:
    if chunk.ids.size and chunk.ids[-1] >= counts.size:
        counts = np.concatenate([counts, np.zeros(chunk.ids[-1] + 1 - counts.size, dtype=np.int64)])
    counts[chunk.ids] += chunk.counts
    return counts


def _count_here(counter: _Counter, chunks: Iterator[bytes]) -> Iterator[_ChunkCounts]:
    encode = open_encoder(counter.spec)
    for chunk in chunks:
        yield counter.count(encode, chunk)


def _count_apart(counter: _Counter, chunks: Iterator[bytes], n_workers: int) -> Iterator[_ChunkCounts]:
    open_encoder(counter.spec)  # a tokenizer that cannot be opened fails here, not in every worker
    # Not forked: the parent may hold threads (torch, tokenizers) whose locks a fork would copy.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(n_workers, context, initializer=_start_worker, initargs=(counter,))
    waiting: deque[Future[_ChunkCounts]] = deque()
    try:
        for chunk in chunks:
            waiting.append(pool.submit(_count_in_worker, chunk))
            if len(waiting) > 2 * n_workers:  # bounds the chunks held in memory
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise TokenizerError(
            "a counting process died", got="no result", next_step="try fewer workers: memory may be short"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


class _Worker:
    """What a worker process keeps between chunks; set once, by the pool's initializer."""

    counter: _Counter
    encode: Encode


def _start_worker(counter: _Counter) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes already fill the cores
    _Worker.counter = counter
    _Worker.encode = staticmethod(open_encoder(counter.spec))


def _count_in_worker(chunk: bytes) -> _ChunkCounts:
    return _Worker.counter.count(_Worker.encode, chunk)
