"""modelDNA, the program itself, run as its users run it: `modeldna compare SUSPECT CANDIDATE --json`.

Not re-implemented: `pip install modeldna` into an environment of its own, then name the program by the variable
MODELDNA, or have it on the PATH. The score is the probability that it prints. Where it rules a candidate out without
one (another number of layers: "layer count mismatch", verdict NO_MATCH) that is its answer, and counts as 0; where it
ends with an error, it fails. It takes folders; a single GGUF file is handed over in a folder of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

NAME = "modelDNA"
SOURCE = "PyPI modeldna, arXiv 2607.10617; the program itself"
IS_STATELESS = True
"""Nothing is kept of a model: pairs may be spread over processes."""


def program() -> str | None:
    """Where the program is."""
    return os.environ.get("MODELDNA") or shutil.which("modeldna")


def unavailable() -> str | None:
    """Why it cannot run here, or None."""
    found = program()
    if found is None or shutil.which(found) is None:
        return "no program: pip install modeldna in an environment of its own, and set MODELDNA to its path"
    return None


def prepare(path: Path) -> Path:
    """Only the path: it reads both models again for each pair."""
    return path.absolute()


def compare(a: Path, b: Path) -> float:
    """The probability that A descends from B."""
    with tempfile.TemporaryDirectory(prefix="huref-modeldna-") as folder:
        suspect, candidate = (_as_folder(path, Path(folder)) for path in (a, b))
        command = (str(program()), "compare", str(suspect), str(candidate), "--json")
        # With a home of its own: it keeps there what `modeldna explain` shows.
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            env={**os.environ, "HOME": folder, "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"},
        )
    if done.returncode not in (0, 3, 4):
        message = (done.stderr or done.stdout).strip().splitlines()
        raise RuntimeError(message[-1] if message else f"exit code {done.returncode}")
    return probability(json.loads(done.stdout))


def probability(document: dict[str, Any]) -> float:
    """What its JSON says; 0 where it rules the candidate out."""
    verdict = document["verdict"]
    if verdict["probability"] is not None:
        return float(verdict["probability"])
    if verdict["verdict"] == "NO_MATCH":
        return 0.0
    raise RuntimeError(f"verdict {verdict['verdict']} without a probability")


def _as_folder(path: Path, inside: Path) -> Path:
    if path.is_dir():
        return path
    folder = inside / path.stem
    folder.mkdir(exist_ok=True)
    link = folder / path.name
    if not link.exists():
        link.symlink_to(path)
    return folder
