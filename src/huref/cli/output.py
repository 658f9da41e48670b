"""What the commands print: one JSON document or human text on stdout, progress and errors on stderr."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from huref.cli.waiting import waiting
from huref.errors import OutputError
from huref.text import printable

if TYPE_CHECKING:
    from pathlib import Path

    from huref.errors import HurefError
    from huref.fingerprints.record import Fingerprint
    from huref.kinship import Comparison
    from huref.private.comparison import PrivateComparison


_told: list[bool] = []
"""Not empty once the one document of `--json` was printed: what goes wrong later is told on stderr alone."""


def begin() -> None:
    """A new command: nothing was printed yet."""
    _told.clear()


progress = waiting
"""`with progress(...) as report:` around long work."""


def print_json(document: Mapping[str, Any]) -> None:
    """Exactly one document; ASCII, so that no terminal and no file name can spoil it."""
    text = json.dumps(document, indent=2, allow_nan=False)
    _told.append(True)
    _write(text)


def say(text: str) -> None:
    """Human text on stdout."""
    _write(printable(text))


def _write(text: str) -> None:
    """Flushed at once: a reader that has gone away is noticed here, where it ends the command without a fuss.

    Raises:
        OutputError: there is no room for it.
        BrokenPipeError: the reader has gone away.
    """
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        silence(sys.stdout)
        raise OutputError(
            "cannot write to stdout", where="stdout", got=error.strerror or str(error), next_step="write it elsewhere"
        ) from None


def say_written(paths: Sequence[Path], as_json: bool) -> None:
    """Which files were written, for people."""
    if not as_json:
        say("\n".join(f"  written: {path}" for path in paths))


def silence(stream: TextIO) -> None:
    """What a stream still holds goes nowhere, so that the end of the process does not fail once more."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def print_error(error: HurefError, as_json: bool) -> None:
    """The message on stderr; with `--json` its parts on stdout too, unless the one document is there already."""
    complain(f"huref: {error}")
    if as_json and not _told:
        parts = {key: getattr(error, key) for key in ("what", "where", "expected", "got", "next_step")}
        document = {"type": type(error).__name__, "exit_code": error.exit_code, **parts}
        with contextlib.suppress(OutputError):
            print_json({"schema_version": "huref.error/1.0", "error": document})


def complain(text: str) -> None:
    """A message on stderr, if there is room for it."""
    try:
        sys.stderr.write(printable(f"{text}\n"))
        sys.stderr.flush()
    except (OSError, ValueError):
        silence(sys.stderr)


def print_kinds(kinds: Mapping[str, str], as_json: bool) -> None:
    """Names with what they mean, a line each, name first."""
    if as_json:
        print_json({"schema_version": "huref.kinds/1.0", "kinds": dict(kinds)})
        return
    width = max(map(len, kinds))
    say("\n".join(f"{name:<{width}}  {meaning}" for name, meaning in kinds.items()))


def fingerprint_text(item: Fingerprint, files: tuple[str, str], seconds: float) -> str:
    """A few lines about one fingerprint, its files, and how long it took."""
    return f"{item}\n  fingerprint  {files[0]}\n  picture      {files[1]}\n  took         {seconds:.2f} s"


def comparison_text(found: Comparison) -> str:
    """The scores of a comparison, its terms, its background and its verdict."""
    return str(found)


def private_text(found: PrivateComparison) -> str:
    """A private comparison for people: the result, or who has to do what next."""
    lines = [f"{found.a} and {found.b}, by proofs about {found.roots[0][:16]} and {found.roots[1][:16]}"]
    lines += [f"  written: {path}: send it, and the commitment beside it, to the other owner" for path in found.made]
    if found.missing:
        lines += [f"  waiting for {path}" for path in found.missing]
        return "\n".join([*lines, "  then run the same command again"])
    if found.score is not None:
        score = found.score
        lines.append(f"  ICS {score.ics:.4f} +- {score.error:.4f} over {score.n_tokens} shared tokens")
        lines += [f"    {term.key_a:>14} {term.key_b:>14} {term.cosine:8.4f}" for term in score.terms]
    return "\n".join([*lines, f"  verdict: {found.verdict}", *(f"  {note}" for note in found.notes)])
