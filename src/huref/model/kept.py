"""What was found about models, asked again: taken from a cache where models, options and program are the same."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any, Generic, TypeVar

from huref import version
from huref.files.cache import Cache
from huref.files.records import parse_record, record_text
from huref.model.identity import Identity, digest_of, identify

T = TypeVar("T")

_LIBRARIES = ("numpy", "scipy", "ml_dtypes", "gguf", "torch")
"""Whose versions may move a last digit."""


class Asker(Generic[T]):
    """Asks one kind of question about models; what is known of a model is found out once.

    Args:
        cache: None for none: everything is made.
        kind: the dataclass that answers are, with `to_dict` and `str`.
        about: which question it is.
        options: everything but the models that shapes an answer; what a path names counts by its contents.
    """

    def __init__(self, cache: Cache | None, kind: type[T], about: str, options: Mapping[str, Any]) -> None:
        self.cache, self.kind = cache, kind
        self._known: dict[str, Identity | None] = {}
        self._contents: dict[str, str] = {}
        self._fixed = None if cache is None else _plain({"about": about, "options": options, **_program()})

    def ask(self, *models: object, called: Sequence[str] = ()) -> Asked[T]:
        """A question about models; of one in memory nothing is kept.

        Args:
            called: names that the user gave them, which answers repeat.
        """
        paths = [str(model) for model in models if isinstance(model, str | Path)]
        if self.cache is None or self._fixed is None or len(paths) < len(models):
            return Asked(self, None, ())
        identities = tuple(known for path in paths if (known := self._identity(path)) is not None)
        if len(identities) < len(paths):
            return Asked(self, None, ())
        question = {**self._fixed, "models": [known.to_dict() for known in identities]}
        if called:
            question["called"] = list(called)
        if self.cache.is_confirmed:
            try:
                question["contents"] = [self._contents_of(known) for known in identities]
            except OSError:
                return Asked(self, None, ())
        return Asked(self, json.dumps(question, sort_keys=True), identities)

    def _identity(self, path: str) -> Identity | None:
        if path not in self._known:
            self._known[path] = identify(path)
        return self._known[path]

    def _contents_of(self, known: Identity) -> str:
        if known.place not in self._contents:
            self._contents[known.place] = known.contents()
        return self._contents[known.place]


@dataclass(frozen=True)
class Asked(Generic[T]):
    """A question; without a key its answer is not kept."""

    asker: Asker[T]
    key: str | None
    identities: tuple[Identity, ...]

    def answer(self, make: Callable[[], T]) -> T:
        """From the cache, or made and kept."""
        found = self.recall()
        return self.keep(make()) if found is None else found

    def recall(self) -> T | None:
        """The answer that is kept, or None."""
        cache = self.asker.cache
        payload = cache.get(self.key) if cache is not None and self.key is not None else None
        if cache is None or self.key is None or payload is None:
            return None
        try:
            found = parse_record(self.asker.kind, payload.decode())
        except (ValueError, TypeError, KeyError, RecursionError):  # of a program that said it otherwise
            cache.drop(self.key)
            return None
        cache.n_kept += 1
        return found

    def keep(self, made: T) -> T:
        """Keep an answer, unless a model changed meanwhile or just before, or it cannot be said again exactly."""
        cache = self.asker.cache
        if cache is None:
            return made
        cache.n_made += 1
        if self.key is not None and all(known.is_settled and known.is_still() for known in self.identities):
            text = _exact(self.asker.kind, made)
            if text is not None:
                cache.put(self.key, text.encode())
        return made


def options_of(options: Any, *but: str) -> dict[str, Any]:
    """A dataclass of options by name, but for some that shape no answer."""
    return {item.name: getattr(options, item.name) for item in fields(options) if item.name not in but}


def _exact(kind: type[T], made: T) -> str | None:
    """An answer as text, where reading it gives the same document and the same words."""
    try:
        text = record_text(made)
        again = parse_record(kind, text)
        is_same = record_text(again) == text and str(again) == str(made)
        return text if is_same and _document(again) == _document(made) else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _document(answer: Any) -> str:
    return json.dumps(answer.to_dict())


def _plain(question: Mapping[str, Any]) -> dict[str, Any] | None:
    """A question as JSON has it; None where a file that it names cannot be read."""
    options = dict(question["options"])
    for name, value in options.items():
        if isinstance(value, Path):
            digest = digest_of(value)
            if digest is None:
                return None
            options[name] = digest
    return {**question, "options": options}


@functools.cache
def _program() -> Mapping[str, Any]:
    """What computes: huref, by its version and by the sizes and times of its files; its libraries; the machine."""
    home = Path(version.__file__).parent
    seen = sha256()
    for folder, folders, names in os.walk(home):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(names):
            found = os.stat(os.path.join(folder, name))  # noqa: PTH116, PTH118 hundreds of them
            seen.update(f"{folder}/{name} {found.st_size} {found.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return {
        "huref": version.__version__,
        "program": seen.hexdigest(),
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "machine": [sys.version, platform.machine(), _processor(), Path("/dev/nvidiactl").exists()],
    }


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """What the processor can do, which decides in what large products are computed."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:  # another system than Linux
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
