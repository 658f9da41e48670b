"""Buckets of object stores (s3, gs, az), by `obstore`: listing, credentials and ranges are the library's."""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta
from functools import partial
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from huref.errors import AccessError, HurefError, MissingFileError, NetworkError, UnsafeFileError
from huref.extras import require
from huref.model.source.remote.blocks import Fetch
from huref.model.source.remote.cost import COST
from huref.model.source.remote.faults import unreachable
from huref.model.source.remote.listing import MOST_FILES, Listing, RemoteEntry, is_inside
from huref.model.source.remote.naming import RemoteName

RETRIES: Any = {"max_retries": 5, "retry_timeout": timedelta(seconds=120)}
_AT_ONCE = 1 << 24
_ENDING = re.compile(r".*\.(safetensors|gguf|bin|pth|pt|ckpt)")


def listing(name: RemoteName) -> Listing:
    """What a bucket has under a prefix, or beside a file.

    Raises:
        MissingFileError: nothing.
        AccessError, NetworkError: as the store says.
    """
    require("obstore", name.shown)
    import obstore
    from obstore.store import from_url

    parts = urlsplit(name.repository)
    path = unquote(parts.path).strip("/")
    folder, _, last = path.rpartition("/") if _ENDING.fullmatch(path) else (path, "", "")
    try:
        store = from_url(f"{parts.scheme}://{parts.netloc}", retry_config=RETRIES)
        entries = []
        for batch in obstore.list(store, prefix=folder or None):
            entries += [entry for item in batch if (entry := _entry(store, item, folder, name)) is not None]
            if len(entries) > MOST_FILES:
                raise UnsafeFileError(
                    "too many files", where=name.shown, expected=f"at most {MOST_FILES:,}", got="more"
                )
    except HurefError:
        raise
    except Exception as error:  # the library's own, by name, and what its settings raise
        raise fault(name.shown, error) from None
    if not entries:
        raise MissingFileError(
            "nothing under this address",
            where=name.shown,
            expected="the files of a model",
            got="none",
            next_step="check bucket and prefix",
        )
    version = hashlib.sha256("\n".join(f"{e.name} {e.size} {e.digest}" for e in entries).encode()).hexdigest()[:40]
    tail = re.sub(r"[^\w.@+-]", "-", folder.rpartition("/")[2] or parts.netloc)
    key = hashlib.sha256(f"{parts.scheme}://{parts.netloc}/{folder}".encode()).hexdigest()[:12]
    place = (f"{parts.scheme}-{parts.netloc}", f"{key}-{version[:12]}", tail)
    return Listing(name.shown, place, version, tuple(entries), last)


def _entry(store: Any, item: Any, folder: str, name: RemoteName) -> RemoteEntry | None:
    path = str(item["path"])
    inner = path.removeprefix(f"{folder}/") if folder else path
    if not inner or inner.endswith("/") or (folder and inner == path):  # the folder itself, or one beside it
        return None
    if not is_inside(inner, name.shown):
        return None
    size = int(item["size"])
    tag = str(item.get("e_tag") or item.get("version") or item.get("last_modified") or "").strip('"')
    read = partial(_read, store, path, f"{name.shown}, {inner}", tag)
    return RemoteEntry(inner, size, f"tag:{tag}", read, partial(_write, read, size))


def _write(read: Fetch, size: int, file: BinaryIO) -> None:
    for start in range(0, size, _AT_ONCE):
        file.write(read(start, min(size, start + _AT_ONCE)))


def _read(store: Any, path: str, shown: str, tag: str, start: int, stop: int) -> bytes:
    import obstore

    try:
        COST.add(requests=1)
        options: Any = {"range": (start, stop), **({"if_match": f'"{tag}"'} if tag else {})}
        answer = obstore.get(store, path, options=options)
        data = bytes(answer.bytes())
    except Exception as error:
        raise fault(shown, error) from None
    if len(data) != stop - start:
        raise NetworkError("the network failed", where=shown, expected=f"{stop - start} bytes", got=f"{len(data)}")
    COST.add(received=len(data))
    return data


def fault(shown: str, error: Exception) -> HurefError:
    """What a store says, in our words."""
    kind, said = type(error).__name__, " ".join(str(error).split())[:300]
    if kind in ("NotFoundError", "FileNotFoundError") or "404 Not Found" in said:
        return MissingFileError(
            "nothing there",
            where=shown,
            expected="a model under this address",
            got=said,
            next_step="check bucket and prefix",
        )
    if kind in ("PermissionDeniedError", "UnauthenticatedError") or "AccessDenied" in said or "403" in said:
        return AccessError(
            "the store denies access",
            where=shown,
            expected="credentials that may read it",
            got=said,
            next_step="check the credentials in your environment",
        )
    if kind == "PreconditionError":
        return NetworkError("the file changed while it was read", where=shown, got=said, next_step="run it again")
    return unreachable(shown, f"{kind}: {said}")
