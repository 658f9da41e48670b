"""Repositories of a hub, by its own client: who may read, what there is, in which commit."""

from __future__ import annotations

import difflib
import os
import re
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlsplit

from huref.errors import AccessError, HurefError, MissingFileError, NetworkError, UnsafeFileError, UsageError
from huref.model.source.remote import http
from huref.model.source.remote.faults import unreachable
from huref.model.source.remote.http import (
    ATTEMPTS,
    Address,
    fetch_whole,
    may_have_token,
    read_range,
    wait_asked,
)
from huref.model.source.remote.listing import MOST_FILES, Listing, RemoteEntry, is_inside
from huref.model.source.remote.naming import RemoteName

if TYPE_CHECKING:
    from pathlib import Path

    from huggingface_hub import HfApi

T = TypeVar("T")

_COMMIT = re.compile("[0-9a-f]{40}")
_BUSY = (429, 500, 502, 503, 504)


def listing(name: RemoteName) -> Listing:
    """What a repository holds; a snapshot in the hub's cache where nothing else is allowed.

    Raises:
        MissingFileError: no such repository, revision or file, or nothing in the cache while offline.
        AccessError: gated, private, or a token that is refused.
        NetworkError: no answer, or offline without a snapshot in the cache.
        UnsafeFileError: a listing that names files outside its folder, or too many.
    """
    api, token = _api()
    commit = name.revision if _COMMIT.fullmatch(name.revision) else ""
    if not commit:
        info = _ask(name, partial(api.model_info, name.repository, revision=name.revision or None))
        commit = str(info.sha or "")
        if not _COMMIT.fullmatch(commit):
            raise unreachable(name.shown, f"a hub that names no commit: {commit[:80]!r}")
    tree = _ask(name, lambda: _files(api, name, commit))
    headers = {"authorization": f"Bearer {token}"} if token else {}
    entries = tuple(
        _entry(api, name, commit, item, headers) for item in tree if is_inside(str(item.path), name.shown)
    )
    host = urlsplit(api.endpoint).netloc.rpartition("@")[2].replace(":", "-")
    owner, _, repository = name.repository.rpartition("/")
    place = (host, "--".join(filter(None, ("models", owner, repository))), "snapshots", commit)
    return Listing(name.shown, place, commit, entries, name.file, partial(_in_cache, name.repository, commit))


def offline_snapshot(name: RemoteName) -> Path | None:
    """The snapshot of a revision in the hub's cache, or None."""
    from pathlib import Path

    from huggingface_hub import constants

    home = Path(constants.HF_HUB_CACHE) / f"models--{name.repository.replace('/', '--')}"
    ref = home / "refs" / (name.revision or "main")
    commit = name.revision
    if ref.is_file() and ref.stat().st_size < 256:
        commit = ref.read_text("utf-8", "replace").strip()
    if not re.fullmatch(r"[\w-]+", commit or ""):
        return None
    snapshot = home / "snapshots" / commit
    return snapshot if snapshot.is_dir() else None


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE, or TRANSFORMERS_OFFLINE as the hub's client has it, forbids to ask."""
    asked = (os.environ.get(name, "") for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(value.upper() in ("1", "TRUE", "YES", "ON") for value in asked)


def offline_error(shown: str) -> NetworkError:
    """The error for a model that would have to be asked for."""
    return NetworkError(
        "offline, and the hub's cache has no snapshot of this model",
        where=shown,
        expected="a snapshot in the cache, or a network",
        got="HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set",
        next_step="unset it, or: hf download REPOSITORY",
    )


def _api() -> tuple[HfApi, str | None]:
    """The hub's client and the token that may be sent to it."""
    from huggingface_hub import HfApi, get_token

    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    api = HfApi(endpoint=endpoint, library_name="huref")
    token = get_token()
    is_asked = os.environ.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").upper() not in ("1", "TRUE", "YES", "ON")
    is_safe = is_asked and may_have_token(api.endpoint, api.endpoint)
    return HfApi(endpoint=endpoint, library_name="huref", token=token if is_safe and token else False), (
        token if is_safe else None
    )


def _files(api: HfApi, name: RemoteName, commit: str) -> list[Any]:
    found = []
    for item in api.list_repo_tree(name.repository, recursive=True, revision=commit):
        if getattr(item, "size", None) is not None:
            found.append(item)
        if len(found) > MOST_FILES:
            raise UnsafeFileError(
                "a repository of too many files", where=name.shown, expected=f"at most {MOST_FILES:,}", got="more"
            )
    return found


def _entry(api: HfApi, name: RemoteName, commit: str, item: Any, headers: dict[str, str]) -> RemoteEntry:
    path = str(item.path)
    digest = f"sha256:{item.lfs.sha256}" if item.lfs else f"git:{item.blob_id}"
    url = f"{api.endpoint}/{name.repository}/resolve/{commit}/{quote(path)}"
    address = Address(url, f"{name.repository}@{commit[:12]}, {path}", headers, int(item.size))
    return RemoteEntry(path, int(item.size), digest, partial(read_range, address), partial(fetch_whole, address))


def _in_cache(repository: str, commit: str, name: str) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, name, revision=commit)
    return found if isinstance(found, str) else None


def _ask(name: RemoteName, question: Callable[[], T]) -> T:
    """An answer of the hub's client; its faults in our words, and again where that may help."""
    from huggingface_hub import errors

    for attempt in range(ATTEMPTS):
        try:
            return question()
        except errors.HFValidationError as error:
            raise UsageError(
                "this is no name of a model on a hub", where=name.shown, got=str(error).splitlines()[0][:200]
            ) from None
        except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError):
            raise offline_error(name.shown) from None
        except HurefError:
            raise
        except errors.HfHubHTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status not in _BUSY or attempt == ATTEMPTS - 1:
                raise _refused(name, error, status) from None
            wait = wait_asked(error.response.headers, name.shown)
            time.sleep(http.backoff(attempt + 1) if wait is None else wait)
        except Exception as error:  # of the HTTP library that the hub's client happens to use
            if _has_no_address(error):  # another attempt finds no other
                raise _no_hub(name, error) from None
            if attempt == ATTEMPTS - 1 or not _is_transport(error):
                if _is_transport(error):
                    raise unreachable(name.shown, f"{type(error).__name__}: {error}") from None
                raise unreachable(name.shown, f"an answer that is none: {type(error).__name__}: {error}") from None
            time.sleep(http.backoff(attempt + 1))
    raise AssertionError


def _has_no_address(error: BaseException) -> bool:
    """Whether the name of the host is unknown: no network, or a wrong HF_ENDPOINT."""
    said = str(error).lower()
    return any(part in said for part in ("name or service not known", "getaddrinfo", "name resolution", "nodename"))


def _no_hub(name: RemoteName, error: Exception) -> NetworkError:
    return NetworkError(
        "the network failed",
        where=name.shown,
        expected="a path of this machine, or a hub that can be reached",
        got=f"no such path, and {type(error).__name__}: {error}"[:300],
        next_step=f"check the connection; if a path is meant, check its spelling: ./{name.shown}",
    )


def _is_transport(error: Exception) -> bool:
    return isinstance(error, OSError) or any(
        base.__name__ in ("TransportError", "RequestException", "ConnectError") for base in type(error).__mro__
    )


def _refused(name: RemoteName, error: Any, status: int) -> HurefError:  # noqa: PLR0911 a line a fault
    from huggingface_hub import errors, get_token

    said = str(getattr(error, "server_message", "") or "").strip()[:200] or f"HTTP {status}"
    log_in = "log in: hf auth login, or HF_TOKEN" if not get_token() else "check your token: hf auth whoami"
    if isinstance(error, errors.GatedRepoError):
        return AccessError(
            "a gated model",
            where=name.shown,
            expected="an account that has accepted its conditions",
            got=said,
            next_step=f"accept them on the model's page, then {log_in}",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return MissingFileError(
            "no such revision",
            where=name.shown,
            expected="a branch, a tag or a commit of the repository",
            got=name.revision or "main",
            next_step="check the part behind @",
        )
    if isinstance(error, errors.DisabledRepoError):
        return AccessError(
            "a model that the hub has disabled",
            where=name.shown,
            expected="one that is served",
            got=said,
            next_step="look for another copy",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        near = _near(name.repository)
        return MissingFileError(
            "no such model on the hub, or a private one",
            where=name.shown,
            expected="a public model, or a token that may see it",
            got=said + (f"; the nearest name in the hub's cache is {near}" if near else ""),
            next_step=f"check the spelling, of a path too; for a private one {log_in}",
        )
    if status in (401, 403):
        return AccessError(
            "the hub denies access",
            where=name.shown,
            expected="an account that may read it",
            got=said,
            next_step=log_in,
        )
    if status == 404:
        return MissingFileError(
            "no such model on the hub", where=name.shown, got=said, next_step="check the spelling"
        )
    return unreachable(name.shown, said if said.startswith("HTTP") else f"HTTP {status}: {said}")


def _near(repository: str) -> str | None:
    """The name in the local cache that is most like one that the hub does not know."""
    from pathlib import Path

    from huggingface_hub import constants

    try:
        cached = [path.name for path in Path(constants.HF_HUB_CACHE).iterdir() if path.name.startswith("models--")]
    except OSError:
        return None
    names = [name.removeprefix("models--").replace("--", "/") for name in cached]
    return next(iter(difflib.get_close_matches(repository, names, 1, 0.8)), None)
