"""Real text to train small language models on, from what a machine has or its package manager can bring.

A text is named by where it comes from:

    python:stdlib, python:sympy      the .py files of the standard library, or of an installed package
    headers:torch                    the C++ headers inside an installed package
    debian:manpages-de               the documents of a Debian package, fetched with `apt-get download`

The same versions of the packages give the same text. Files are shuffled by a seed, so that a text is not one topic.
"""

from __future__ import annotations

import gzip
import importlib.util
import io
import random
import re
import subprocess
import sysconfig
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from huref.errors import MissingFileError, UsageError

_DOCUMENTS = (".gz", ".dz", ".html", ".txt", ".pod")
_NO_TEXT = ("changelog", "copyright", "NEWS", "README")
_TAG = re.compile(r"<[^>]{0,2000}>")
_MOST_BYTES = 1 << 28


def read_text(source: str, n_characters: int, cache: Path, seed: int = 0) -> str:
    """About so many characters of a text; files are taken whole, the last one is cut.

    Args:
        source: see the module's docstring.
        cache: folder in which Debian packages are kept.
        seed: decides the order of the files.

    Raises:
        UsageError: no such kind of text.
        MissingFileError: the package is not there and cannot be fetched, or has too little text.
    """
    kind, _, name = source.partition(":")
    if kind in ("python", "headers"):
        documents = list(_installed_files(kind, name))
    elif kind == "debian":
        documents = list(_debian_documents(_debian_package(name, cache)))
    else:
        raise UsageError(
            "no such kind of text", where=source, expected="python:NAME, headers:NAME or debian:NAME", got=kind
        )
    random.Random(seed).shuffle(documents)
    text = ""
    for document in documents:
        if len(text) >= n_characters:
            break
        text += document if isinstance(document, str) else document.read_text(encoding="utf-8", errors="replace")
    if len(text) < n_characters // 4:
        raise MissingFileError(
            "too little text to train on",
            where=source,
            expected=f"about {n_characters} characters",
            got=str(len(text)),
            next_step="name another source",
        )
    return text[:n_characters]


def _installed_files(kind: str, name: str) -> Iterable[Path | str]:
    if name == "stdlib":
        folder, pattern = Path(sysconfig.get_paths()["stdlib"]), "*.py"
        return sorted(folder.glob(pattern)) + sorted((folder / "asyncio").glob(pattern))
    found = importlib.util.find_spec(name)
    places = list(found.submodule_search_locations or ()) if found else []
    if not places:
        raise MissingFileError(
            "a package whose files are a text is not installed",
            where=f"{kind}:{name}",
            expected="an installed Python package",
            got="none of that name",
        )
    pattern = "*.py" if kind == "python" else "*.h"
    return sorted(Path(places[0]).rglob(pattern))


def _debian_package(name: str, cache: Path) -> Path:
    """The .deb file, from the cache or from the machine's own package sources."""
    found = sorted(cache.glob(f"{name}_*.deb"))
    if found:
        return found[-1]
    cache.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            ["apt-get", "download", "-q", name], cwd=cache, capture_output=True, text=True, check=False
        )
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else ""
    except OSError as error:
        reason = str(error)
    found = sorted(cache.glob(f"{name}_*.deb"))
    if not found:
        raise MissingFileError(
            "a Debian package that holds a text is not there",
            where=str(cache),
            expected=f"{name}_*.deb",
            got=reason or "nothing",
            next_step=f"apt-get download {name}, on a Debian or Ubuntu machine, into that folder",
        )
    return found[-1]


def _debian_documents(package: Path) -> Iterable[str]:
    """The readable documents of a package, in the order of their names; nothing is unpacked to disk."""
    done = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(package)], capture_output=True, check=False)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip()
        raise MissingFileError("a Debian package cannot be read", where=str(package), got=reason)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        members = [m for m in archive.getmembers() if m.isfile() and 0 < m.size < _MOST_BYTES]
        for member in sorted(members, key=lambda m: m.name):
            path = Path(member.name)
            is_document = path.suffix in _DOCUMENTS or ("/games/fortunes/" in member.name and not path.suffix)
            handle = archive.extractfile(member)
            if not is_document or path.name.startswith(_NO_TEXT) or handle is None:
                continue
            text = _decoded(path, handle.read())
            if text and "\x00" not in text[:4096]:
                yield text


def _decoded(path: Path, content: bytes) -> str:
    if path.suffix in (".gz", ".dz"):
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
                content = stream.read(_MOST_BYTES)
        except (OSError, EOFError, zlib.error):
            return ""
    text = content.decode("utf-8", errors="replace")
    return _TAG.sub("", text) if path.suffix == ".html" else text
