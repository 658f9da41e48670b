"""A model elsewhere as a folder here: its text files fetched, small files standing in for its weights.

Everything that reads a model goes by its folder. So a reference to a model elsewhere becomes one: under HUREF_HOME,
one for each version, with configuration and tokenizer as they are and, for every file of weights, a text that says
what it stands for. `open_source` gives the bytes of those, as they are asked for. A stand-in means nothing to another
process until that has found the model itself: the text in it is for people.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from huref.errors import CorruptFileError, HurefError, MissingFileError, UnsafeFileError, UsageError
from huref.files.atomic import write_atomically, write_whole
from huref.model.source.byte_source import STAND_INS, ByteSource, LocalFile, StandIn, missing_file
from huref.model.source.file_set import numbered_parts
from huref.model.source.remote.blocks import RemoteFile
from huref.model.source.remote.listing import Listing, RemoteEntry
from huref.model.source.remote.naming import RemoteName, home, remote_name

_ORIGIN = ".huref-origin.json"
_TEXT = re.compile(
    r"(config|params|adapter_config|added_tokens|special_tokens_map|tekken|\w*quant\w*_config|tokenizer[\w.-]*|vocab"
    r"|merges|[\w.-]+\.index)\.(json|txt)|[\w.-]+\.(model|tiktoken)|tokenizer\.model[\w.-]*"
)
"""Files that readers open as they are."""
_SPARED = ("vocab.json", "merges.txt", "vocab.txt")
"""Not read where there is a tokenizer.json."""
_TEXT_LIMIT = 256 << 20
_STANDS_IN = (".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt", ".distcp", ".msgpack", ".h5", ".npz", ".onnx")
_FINGERPRINT = ".huref.safetensors"
_NO_MODEL = re.compile(
    r"(optimizer|.*optim_states|optim|scheduler|scaler|training|trainer|rng|random_states|adapter_model|consolidated"
    r"|(.*[-_.])?(mmproj|imatrix|draft|mtp))",
    re.IGNORECASE,
)
"""Beginnings of the names of files that are not the model that a folder is of."""
_MARK = b"huref: this stands for"


@dataclass(frozen=True)
class Origin:
    """Where a folder's files come from.

    Attributes:
        reference: as the user wrote it.
        version: the commit, or what stands for it where a server has none.
        files: size and digest of every file that is listed, by name.
    """

    reference: str
    version: str
    files: Mapping[str, tuple[int, str]]

    def to_dict(self, names: list[str] | None = None) -> dict[str, object]:
        """For a fingerprint: with only some of the files."""
        chosen = self.files if names is None else {name: self.files[name] for name in names if name in self.files}
        listed = {name: {"size": size, "digest": digest} for name, (size, digest) in chosen.items()}
        return {"reference": self.reference, "revision": self.version, "files": listed}


_ORIGINS: dict[Path, Origin] = {}
_WHOLE = [False]


def found(reference: str | Path) -> Path:
    """The folder or file on this machine that a reference means; of a model elsewhere what stands for it.

    Asked once a process for each reference.

    Raises:
        HurefError: see `huref.model.source.remote`: it names nothing, is denied, or cannot be reached.
    """
    name = remote_name(reference)
    return _again(Path(reference)) if name is None else _mirrored(name, _WHOLE[0])


def download(reference: str | Path) -> Path:
    """Fetch a model elsewhere whole, into a folder under HUREF_HOME; where its folder or file is then.

    What is a path already stays one. Of several formats the one that huref prefers is fetched.

    Raises:
        UsageError: what names no model, or several.
        MissingFileError: nothing there.
        HurefError: as `found`.
    """
    if not isinstance(reference, str | Path) or "::" in str(reference).replace("[::", ""):
        raise UsageError(
            "this names no model",
            where="model",
            expected="one model, as text or as a Path",
            got=f"{type(reference).__name__}: {str(reference)[:60]}",
            next_step="fetch an adapter and its base one after the other",
        )
    with _fetching_whole():
        path = found(reference)
    if not path.exists():
        raise missing_file(path)
    return path


@contextlib.contextmanager
def _fetching_whole() -> Iterator[None]:
    before, _WHOLE[0] = _WHOLE[0], True
    try:
        yield
    finally:
        _WHOLE[0] = before


def fetch_whole() -> None:
    """From now on fetch models elsewhere whole, where they would be read in parts."""
    _WHOLE[0] = True


def forget_all() -> None:
    """Let go of every folder that stands for a model elsewhere, whole files in them too."""
    shutil.rmtree(home(), ignore_errors=True)
    STAND_INS.clear()
    _ORIGINS.clear()
    _mirrored.cache_clear()


def origin_of(folder: Path) -> Origin | None:
    """Where the files of a folder come from; None where they are at home."""
    return _ORIGINS.get(Path(os.path.abspath(folder)))  # noqa: PTH100 (links are not followed)


def sha256_of(path: Path) -> str | None:
    """The digest of a file elsewhere, where whoever published it says so; None for a file of this machine."""
    stand_in = STAND_INS.get(os.path.abspath(path))  # noqa: PTH100
    return None if stand_in is None else stand_in.sha256


def size_of(path: Path) -> int:
    """Bytes of a file, here or elsewhere.

    Raises:
        OSError: there is none.
    """
    stand_in = STAND_INS.get(os.path.abspath(path))  # noqa: PTH100
    return path.stat().st_size if stand_in is None else stand_in.size


def is_elsewhere(path: Path) -> bool:
    """Whether a path stands for a file that is not here."""
    return os.path.abspath(path) in STAND_INS  # noqa: PTH100


def _again(path: Path) -> Path:
    """A path; within `home` what stands there is found again, by what the folder says of itself."""
    if not path.is_relative_to(home()):
        return path
    for folder in (path, *path.parents):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            told = json.loads((folder / _ORIGIN).read_text())["reference"]
            name = remote_name(str(told))
            if folder in _ORIGINS or name is None:
                return path
            with contextlib.suppress(HurefError):  # what is whole there can be read without
                _mirrored(name, is_whole=False)
            return path
    return path


@functools.cache
def _mirrored(name: RemoteName, is_whole: bool) -> Path:
    listing = _listing(name)
    if isinstance(listing, Path):
        return _inside(listing, name)
    folder = home().joinpath(*listing.place)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    asked = name.file if name.kind == "hub" else listing.main
    wanted = _chosen([entry.name for entry in listing.files], name, asked) if asked else ""
    _write_origin(folder, listing)
    _lay_out(folder, listing, wanted)
    if is_whole:
        for entry in _weights(listing, wanted):
            _bring(folder, listing, entry)
    _ORIGINS[Path(os.path.abspath(folder))] = Origin(  # noqa: PTH100
        listing.shown, listing.version, {entry.name: (entry.size, entry.digest) for entry in listing.files}
    )
    return folder / wanted if wanted else folder


def _listing(name: RemoteName) -> Listing | Path:
    """What there is; or, while offline, the hub's snapshot on this disk."""
    if name.kind == "hub":
        from huref.model.source.remote import hub

        if hub.is_offline():
            snapshot = hub.offline_snapshot(name)
            if snapshot is None:
                raise hub.offline_error(name.shown)
            return snapshot
        return hub.listing(name)
    if name.kind == "web":
        from huref.model.source.remote import web

        return web.listing(name)
    from huref.model.source.remote import stores

    return stores.listing(name)


def _inside(folder: Path, name: RemoteName) -> Path:
    """A file of a snapshot on this disk."""
    if not name.file:
        return folder
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return folder / _chosen(files, name, name.file)


def _chosen(files: list[str], name: RemoteName, asked: str) -> str:
    """The file or folder that a user named, or the GGUF file of a quantisation.

    Raises:
        MissingFileError: there is none.
    """
    if asked in files or any(file.startswith(f"{asked}/") for file in files):
        return asked
    models = {
        numbered_parts(PurePosixPath(file).name)[0]: file
        for file in sorted(files, reverse=True)
        if _is_quantisation(file, asked) and not _NO_MODEL.match(PurePosixPath(file).name)
    }
    if len(models) > 1:
        raise UsageError(
            "several files of this quantisation",
            where=name.shown,
            expected="one of them, by its own name",
            got=", ".join(sorted(models.values())[:8]),
            next_step=f"name it: {name.repository}:{min(models.values())}",
        )
    if models:
        return next(iter(models.values()))
    ggufs = [file for file in files if file.endswith(".gguf")]
    shown = ggufs or [file for file in files if file.endswith(_STANDS_IN)] or files
    raise MissingFileError(
        "no such file in the repository",
        where=name.shown,
        expected=f"{asked}, as a file, a folder or a quantisation",
        got=", ".join(shown[:8]) + (" ..." if len(shown) > 8 else "") if shown else "nothing",
        next_step="name one of those behind the colon",
    )


def _is_quantisation(file: str, asked: str) -> bool:
    """Whether a GGUF file, or the folder it is in, is named after a quantisation, whole: Q4_K is not Q4_K_M."""
    part = r"(-[0-9]{5}-of-[0-9]{5})?"
    ends = re.fullmatch(rf"(.*[-._/])?{re.escape(asked)}{part}\.gguf", file, re.IGNORECASE) is not None
    folder = PurePosixPath(file).parent.name.lower() == asked.lower()
    return ends or (folder and file.endswith(".gguf"))


def _lay_out(folder: Path, listing: Listing, wanted: str) -> None:
    """The text files of the folder that is meant, and stand-ins for everything that might be weights."""
    inner = PurePosixPath(wanted).parent.as_posix() if PurePosixPath(wanted).suffix else wanted
    places = {".", inner or "."}
    here = [entry for entry in listing.files if PurePosixPath(entry.name).parent.as_posix() in places]
    names = {entry.name for entry in here}
    text = [
        entry
        for entry in here
        if (_TEXT.fullmatch(PurePosixPath(entry.name).name) or entry.name.endswith(_FINGERPRINT))
        and not (PurePosixPath(entry.name).name in _SPARED and _beside(entry.name, "tokenizer.json") in names)
    ]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(functools.partial(_fetch, folder, listing), text))
    for entry in listing.files:
        if entry.name.endswith(_STANDS_IN) and not entry.name.endswith(_FINGERPRINT):
            _stand_in(folder, listing, entry)


def _fetch(folder: Path, listing: Listing, entry: RemoteEntry) -> None:
    """A text file as it is; one that is here already, and what it says it is, is not fetched again."""
    path = folder / entry.name
    with contextlib.suppress(OSError):
        if path.stat().st_size == entry.size and entry.is_what_it_says(path.read_bytes()):
            return
    if entry.size > _TEXT_LIMIT:
        raise UnsafeFileError(
            "a text file that is too large",
            where=f"{listing.shown}, {entry.name}",
            expected=f"at most {_TEXT_LIMIT >> 20} MiB",
            got=f"{entry.size:,} bytes",
            next_step="huref does not read it",
        )
    cached = listing.cached(entry.name)
    data = Path(cached).read_bytes() if cached else b""
    if not entry.is_what_it_says(data):
        data = bytes(entry.fetch(0, entry.size)) if entry.size else b""
    if not entry.is_what_it_says(data) and (entry.digest != "tag:" or len(data) != entry.size):
        raise CorruptFileError(
            "a file that is not what the listing says",
            where=f"{listing.shown}, {entry.name}",
            expected=entry.digest,
            got=f"{len(data):,} bytes with another digest",
            next_step="run the command again; if it goes on, the server is at fault",
        )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(path, data)


def _stand_in(folder: Path, listing: Listing, entry: RemoteEntry) -> None:
    path = folder / entry.name
    if _is_whole(path, entry):
        return
    text = (
        f"{_MARK.decode()} a file that is not on this disk; other programs cannot read it\n"
        f"of {_line(listing.shown)}\nversion {listing.version}\nfile {entry.name}\nsize {entry.size}\n"
        f"digest {_line(entry.digest)}\n"
    ).encode()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(OSError):
        if path.read_bytes() == text:
            text = b""
    if text:
        write_atomically(path, text)
    STAND_INS[os.path.abspath(path)] = StandIn(_opener(listing, entry), entry.size, entry.sha256)  # noqa: PTH100


def _is_whole(path: Path, entry: RemoteEntry) -> bool:
    """Whether the file itself was fetched, and has not been touched since its digest was seen to be right."""
    try:
        return _seal(path).read_text() == _stamp(path, entry)
    except OSError:
        return False


def _seal(path: Path) -> Path:
    return path.with_name(f".{path.name}.whole")


def _stamp(path: Path, entry: RemoteEntry) -> str:
    found = path.stat()
    return f"{entry.digest} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"


def _weights(listing: Listing, wanted: str) -> list[RemoteEntry]:
    """The files of one format that are the model: those in its own folder, or the one that is meant and its parts."""
    path = PurePosixPath(wanted)
    if path.suffix in _STANDS_IN:
        names = {path.with_name(part).as_posix() for part in numbered_parts(path.name)}
        return [entry for entry in listing.files if entry.name in names]
    here = [entry for entry in listing.files if PurePosixPath(entry.name).parent.as_posix() == (wanted or ".")]
    here = [entry for entry in here if not entry.name.endswith(_FINGERPRINT)]
    own = [entry for entry in here if not _NO_MODEL.match(PurePosixPath(entry.name).name)] or here
    for ending in _STANDS_IN:
        found = [entry for entry in own if entry.name.endswith(ending)]
        sets = {numbered_parts(PurePosixPath(entry.name).name) for entry in found}
        if ending == ".gguf" and len(sets) > 1:
            raise UsageError(
                "the repository holds several GGUF models",
                where=listing.shown,
                expected="one of them",
                got=", ".join(sorted(names[0] for names in sets)[:8]),
                next_step="name one behind a colon: ORG/NAME:FILE or ORG/NAME:QUANTISATION",
            )
        if found:
            return found
    return []


def _bring(folder: Path, listing: Listing, entry: RemoteEntry) -> None:
    """A file of weights, whole, in the place of what stood for it; it is checked against the digest that was told."""
    path = folder / entry.name
    key = os.path.abspath(path)  # noqa: PTH100
    if key not in STAND_INS:  # it was fetched before
        return
    cached = _cached(listing, entry)

    def write(partial: Path) -> None:
        if cached is not None:
            partial.unlink()
            partial.symlink_to(cached)
            return
        with partial.open("r+b") as file:
            entry.whole(file)
        _require_digest(partial, listing, entry)

    write_whole(path, write)
    write_atomically(_seal(path), _stamp(path, entry).encode())
    del STAND_INS[key]


def _require_digest(path: Path, listing: Listing, entry: RemoteEntry) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if entry.sha256 not in (None, found) or path.stat().st_size != entry.size:
        raise CorruptFileError(
            "a file that is not what the listing says",
            where=f"{listing.shown}, {entry.name}",
            expected=f"{entry.size:,} bytes, {entry.digest}",
            got=f"{path.stat().st_size:,} bytes, sha256:{found}",
            next_step="run the command again; if it goes on, the server is at fault",
        )


def _opener(listing: Listing, entry: RemoteEntry) -> Callable[[str], ByteSource]:
    """Bytes from the hub's own cache where they are there, else from blocks kept earlier, else from afar."""
    told = f"{'/'.join(listing.place)} {listing.version} {entry.name} {entry.size} {entry.digest}"
    if entry.digest == "tag:":  # nothing tells this version from the next: blocks are of this process alone
        told += f" {os.getpid()} {time.time_ns()}"
    key = hashlib.sha256(told.encode()).hexdigest()

    def open_file(name: str) -> ByteSource:
        cached = _cached(listing, entry)
        shown = f"{listing.shown}, {entry.name}"
        return RemoteFile(name, entry.size, entry.fetch, key, shown) if cached is None else LocalFile(cached, name)

    return open_file


def _cached(listing: Listing, entry: RemoteEntry) -> Path | None:
    """A file in the hub's own cache."""
    cached = listing.cached(entry.name)
    with contextlib.suppress(OSError):
        if cached is not None and Path(cached).stat().st_size == entry.size:
            return Path(cached)
    return None


def _write_origin(folder: Path, listing: Listing) -> None:
    """What a person finds who looks into the folder, and what `found` reads back."""
    path = folder / _ORIGIN
    text = json.dumps({"reference": _pinned(listing), "revision": listing.version}, indent=2)
    with contextlib.suppress(OSError):
        if path.read_text() == text:
            return
    write_atomically(path, text.encode())


def _pinned(listing: Listing) -> str:
    """A reference to this version, whole."""
    name = remote_name(listing.shown)
    if name is None or name.kind != "hub":
        return listing.shown
    return f"hf://{name.repository}@{listing.version}"


def _beside(name: str, other: str) -> str:
    parent = PurePosixPath(name).parent
    return other if parent.as_posix() == "." else f"{parent}/{other}"


def _line(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:500]
