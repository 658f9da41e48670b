"""Answers of a bench in its JSON document, and taking them over into a later bench.

An answer is taken over where the method's code and both models' files are the same by SHA-256. Of huref that is every
file of the package that can change a score.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huref.errors import CorruptFileError, MissingFileError
from huref_lab.bench.trials import Answer, Known, MethodRun

_MOST_BYTES = 1 << 27


def save_run(run: MethodRun) -> dict[str, Any]:
    """Every answer of one method, for JSON."""
    return {
        "method": run.name,
        "digest": run.digest,
        "values": {title: [_rounded(a.scores[title], 6) for a in run.answers] for title in run.columns},
        "verdicts": [a.verdict for a in run.answers] if any(a.verdict for a in run.answers) else None,
        "faults": {str(i): a.fault for i, a in enumerate(run.answers) if a.fault},
        "seconds": [_rounded(a.seconds, 4) for a in run.answers],
        "prepared": [_rounded(seconds, 4) for seconds in run.prepared],
    }


def load_known(path: Path, version: str, pairs: Sequence[tuple[str, str]], digests: Mapping[str, str]) -> Known:
    """What an earlier bench's document knows of these pairs.

    Args:
        path: of the document.
        version: the schema_version it must have.
        pairs: names of the pairs of the new bench.
        digests: name -> SHA-256 of each of its models, as `model_digest` gives it.

    Raises:
        MissingFileError: it cannot be read.
        CorruptFileError: it is not such a document.
    """
    document = _read(path, version)
    try:
        kept = {name for name, digest in document["models"].items() if digests.get(name) == digest}
        place = {(a, b): i for i, (a, b, *_) in enumerate(document["pairs"]) if a in kept and b in kept}
        old = {n: place[pair] for n, pair in enumerate(pairs) if pair in place}
        return {
            saved["digest"]: ({n: _answer(saved, i) for n, i in old.items()}, tuple(map(float, saved["prepared"])))
            for saved in document["answers"]
            if saved["digest"] and saved["seconds"]
        }
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise _corrupt(path, version, f"{type(error).__name__}: {error}"[:80]) from None


def model_digest(path: Path) -> str:
    """SHA-256 over a checkpoint: of every file of a folder, by name, or of one file."""
    whole = hashlib.sha256()
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as stream:
                whole.update(f"{file.name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()


def _answer(saved: Mapping[str, Any], i: int) -> Answer:
    scores = {title: values[i] for title, values in saved["values"].items()}
    verdict = saved["verdicts"][i] if saved["verdicts"] else ""
    return Answer(scores, verdict, saved["faults"].get(str(i), ""), float(saved["seconds"][i]))


def _read(path: Path, version: str) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise _corrupt(path, version, f"{path.stat().st_size} bytes")
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise MissingFileError(
            "an earlier bench cannot be read",
            where=str(path),
            expected="the JSON document that --out wrote",
            got=error.strerror or str(error),
            next_step="leave --reuse out",
        ) from None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or document.get("schema_version") != version:
        raise _corrupt(path, version, "another document")
    return document


def _corrupt(path: Path, version: str, got: str) -> CorruptFileError:
    return CorruptFileError(
        "not the document of an earlier bench",
        where=str(path),
        expected=f"schema_version {version}",
        got=got,
        next_step="leave --reuse out",
    )


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
