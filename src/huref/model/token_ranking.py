"""The tokens of a model in the order of their frequency in a corpus."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from huref.model.source import open_checkpoint
from huref.model.tokens import count_tokens, load_vocabulary, rank_by_count, write_ranking
from huref.progress import Progress, Report, shows_progress


@shows_progress
def rank_tokens(
    model: str | Path,
    corpus: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    report: Report | None = None,
    *,
    tokenizer: str | Path | None = None,
) -> np.ndarray:
    """Token ids that occur in a corpus, most frequent first; written to `out`, one a line, as the official files are.

    Args:
        tokenizer: a folder or a GGUF file whose tokenizer to take where the model has none of its own.

    Raises:
        InputError: no tokenizer, or an unreadable corpus file.
    """

    def step(done: int, total: int) -> None:
        if report:
            report(Progress("counting tokens", done, total, "byte"))

    files = [Path(file) for file in ([corpus] if isinstance(corpus, str | Path) else corpus)]
    with open_checkpoint(model) as checkpoint:
        checkpoint.tokenizer = Path(tokenizer) if tokenizer else None
        counted = count_tokens(checkpoint, files, progress=step)
        ids = rank_by_count(counted.counts, load_vocabulary(checkpoint), keep_unseen=False).ids
    if out is not None:
        write_ranking(Path(out), ids.tolist())
    return ids
