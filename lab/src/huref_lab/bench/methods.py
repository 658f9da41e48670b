"""What a bench compares with: huref itself, and methods of others from a folder of Python files.

A peer is one file with

    NAME, SOURCE              what it is called, and where it was published
    prepare(path) -> state    everything that is needed of one model; called once for each
    compare(a, b) -> float    of two states; the higher, the more alike
    unavailable() -> str      optional: why it cannot run here
    IS_STATELESS = True       optional: `prepare` does nothing, so that pairs may be spread over processes

Files whose names begin with an underscore are no peers. A peer is the user's code, with the user's rights.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import huref
from huref.errors import UsageError
from huref.kinship.record import METHODS

HUREF = "huref"
COLUMNS = {
    "pcs": "PCS",
    "ics": "ICS huref",
    "ics_canonical_2": "ICS canonical-2",
    "aligned": "aligned",
    "agreement": "agreement",
}
"""Scores of `huref compare` -> what the bench calls them."""


@dataclass(frozen=True)
class Found:
    """What a method says of a pair: its scores by column, None where it has none, and a verdict if it gives one."""

    scores: Mapping[str, float | None]
    verdict: str = ""


SINGLES = tuple(f"{HUREF}:{method}" for method in METHODS if method != "all")
"""One method of `huref compare` alone, which is quicker."""


_USED = ("errors.py", "face.py", "files", "fingerprints", "kinship", "model", "numerics", "progress.py")
"""Kinship and the layers below it, which are all that it may import; not the version."""


class Method(Protocol):
    """One way to compare models, giving one score or several; `digest` is its code's, empty where that may change."""

    name: str
    source: str
    columns: tuple[str, ...]
    digest: str
    is_stateless: bool

    def unavailable(self) -> str | None:
        """Why it cannot run here, or None."""
        ...

    def prepare(self, path: Path) -> Any:
        """What is needed of one model."""
        ...

    def compare(self, a: Any, b: Any) -> Found:
        """Compare two prepared models."""
        ...


class HurefMethod:
    """`huref compare` with its defaults, or only one of its methods."""

    source = "this program"
    is_stateless = True

    def __init__(self, only: str = "all") -> None:
        self.only = only
        self.name = HUREF if only == "all" else f"{HUREF} --method {only}"
        self.columns: tuple[str, ...] = tuple(COLUMNS.values())
        self.digest = f"{own_digest()} {only}"

    def unavailable(self) -> None:
        """It is always there."""

    def prepare(self, path: Path) -> Path:
        """Nothing is kept: the command opens both models again for every pair."""
        return path

    def compare(self, a: Path, b: Path) -> Found:
        """Every score and the verdict."""
        from huref import api
        from huref.kinship.record import CompareOptions

        found = api.compare(a, b, CompareOptions(method=self.only))
        scores = {title: getattr(found, name) for name, title in COLUMNS.items()}
        return Found(scores, found.verdict)


@cache
def own_digest() -> str:
    """SHA-256 over what `huref compare` is made of: every file of the rooms that it uses."""
    root = Path(huref.__file__).resolve().parent
    whole = hashlib.sha256()
    for file in sorted(root.rglob("*")):
        place = file.relative_to(root)
        if file.is_file() and place.parts[0] in _USED and "__pycache__" not in place.parts:
            whole.update(f"{place.as_posix()} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()


class Peer:
    """A method of others, from its file."""

    def __init__(self, path: Path) -> None:
        module = _load(path)
        missing = [name for name in ("NAME", "SOURCE", "prepare", "compare") if not hasattr(module, name)]
        if missing:
            raise UsageError(
                "a file that is no peer",
                where=str(path),
                expected="NAME, SOURCE, prepare(path), compare(a, b)",
                got=f"no {', '.join(missing)}",
                next_step="begin the names of other files with an underscore",
            )
        self.path = path
        self.name, self.source = str(module.NAME), str(module.SOURCE)
        self.columns: tuple[str, ...] = (self.name,)
        self.digest = hashlib.sha256(path.read_bytes()).hexdigest()
        self.is_stateless = bool(getattr(module, "IS_STATELESS", False))
        self._module = module

    def unavailable(self) -> str | None:
        """Why it cannot run here, or None."""
        ask = getattr(self._module, "unavailable", None)
        return ask() if ask else None

    def prepare(self, path: Path) -> Any:
        """The peer's own state of one model."""
        return self._module.prepare(path)

    def compare(self, a: Any, b: Any) -> Found:
        """The peer's score."""
        return Found({self.name: float(self._module.compare(a, b))})


def open_method(key: str) -> Method:
    """`huref`, `huref:METHOD`, or the path of a peer's file.

    Raises:
        UsageError: the file is no peer.
    """
    if key == HUREF:
        return HurefMethod()
    if key.startswith(f"{HUREF}:"):
        return HurefMethod(key.partition(":")[2])
    return Peer(Path(key))


def find_methods(peers: Path | None, wanted: tuple[str, ...] = ()) -> dict[str, str]:
    """File stem (or `huref`) -> key for `open_method`, in order; only those wanted, where any are named.

    A single method of huref, one of `SINGLES`, runs only where it is named.

    Raises:
        UsageError: no such folder, or a name that nothing has.
    """
    found = {HUREF: HUREF}
    if peers is not None:
        if not peers.is_dir():
            raise UsageError("no such folder of peers", where="--peers", expected="a folder", got=str(peers))
        found |= {path.stem: str(path) for path in sorted(peers.glob("*.py")) if not path.name.startswith("_")}
    found |= {name: name for name in wanted if name in SINGLES}
    unknown = [name for name in wanted if name not in found]
    if unknown:
        raise UsageError(
            "no such method",
            where="--methods",
            expected=", ".join(found),
            got=", ".join(unknown),
            next_step="--peers DIR, a folder of methods",
        )
    return {name: key for name, key in found.items() if not wanted or name in wanted}


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"huref_bench_peer_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UsageError("no such peer", where=str(path), expected="a Python file", got="none")
    module = importlib.util.module_from_spec(spec)
    try:
        import sys

        sys.modules[spec.name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(
            "a peer that cannot be loaded", where=str(path), got=f"{type(error).__name__}: {error}"
        ) from error
    return module
