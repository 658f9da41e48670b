"""Real text that every machine with huref has."""

from __future__ import annotations

import random
import sysconfig
from pathlib import Path

from huref.errors import UsageError


def standard_library_text(n_characters: int, seed: int = 0) -> str:
    """Python source from the standard library.

    Args:
        n_characters: about how many; files are taken whole, in an order that the seed decides.

    Raises:
        UsageError: this Python was installed without its sources.
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(folder.glob("*.py"))
    random.Random(seed).shuffle(files)
    text = ""
    for path in files:
        if len(text) >= n_characters:
            return text
        text += path.read_text(encoding="utf-8", errors="replace")
    if not text:
        raise UsageError(
            "no text to train on",
            where=str(folder),
            expected="the standard library's .py files",
            got="none",
            next_step="use a Python installed with its sources",
        )
    return text
