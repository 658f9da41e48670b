"""What names a model that is not on this machine: a hub's repository, an address, a bucket. Nothing is asked here."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from huref.errors import UsageError
from huref.files.cache import usual_place

_PART = r"[A-Za-z0-9][\w.-]*"
_HUB_NAME = re.compile(rf"(?P<repository>{_PART}/{_PART})(@(?P<revision>[^:@\s]+))?(:(?P<file>[^:@\s]+))?")
_HUB_ADDRESS = re.compile(
    rf"(models/)?(?P<repository>{_PART}(/{_PART})?)(@(?P<revision>refs/[^/]+/[^/:@\s]+|[^/:@\s]+))?([:/](?P<file>[^:@\s]+?))?/?"
)
_PAGE = re.compile(
    rf"/(?P<repository>{_PART}/{_PART})(/(tree|blob|resolve|raw)/(?P<revision>refs/[^/]+/[^/]+|[^/]+)(/(?P<file>.+?))?)?/?"
)
_SCHEME = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://\S*")
_BUCKETS = ("s3", "gs", "az", "abfs", "abfss", "r2", "gcs", "azure")
_PUBLIC_HUBS = ("huggingface.co", "www.huggingface.co", "hf.co")


@dataclass(frozen=True)
class RemoteName:
    """A model elsewhere.

    Attributes:
        kind: `hub`, `web` (an address, with ranges) or `bucket`.
        shown: what the user wrote, without a password.
        repository: `org/name` on a hub, else the address.
        revision: a branch, a tag or a commit; empty for the usual one.
        file: a file or a folder in the repository, or a quantisation such as `Q4_K_M`; empty for the whole.
    """

    kind: str
    shown: str = field(compare=False)
    repository: str
    revision: str = ""
    file: str = ""

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """Folders and name, the last what the model is called: it is fit for a file's name."""
        if self.kind == "hub":
            parts = self.repository.split("/")
        else:
            address = urlsplit(self.repository)
            parts = [address.hostname or "", *unquote(address.path).split("/")]
        parts = [part for part in parts if part]
        if self.file:
            inner = PurePosixPath(self.file)
            is_file = inner.suffix.lower() in _ENDINGS
            parts += [*inner.parts[:-1], inner.stem] if is_file else [f"{parts.pop()}-{inner.name}"]
        elif self.kind != "hub" and PurePosixPath(parts[-1]).suffix.lower() in _ENDINGS:
            parts[-1] = PurePosixPath(parts[-1]).stem
        if self.revision:
            parts[-1] += f"@{self.revision[:12] if _is_commit(self.revision) else self.revision}"
        return tuple(re.sub(r"[^\w.@+-]", "-", part) for part in parts)


_ENDINGS = (".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt")


def remote_name(reference: str | Path) -> RemoteName | None:
    """The model elsewhere that a reference names, or None: it is a path.

    What is here goes before what is elsewhere; `hf://org/name` is always the hub's.

    Raises:
        UsageError: an address of a kind that is not read, or a malformed one.
    """
    text = str(reference)
    scheme = _SCHEME.fullmatch(text)
    if scheme is not None and scheme["scheme"] == "ollama":
        return None
    if scheme is not None:
        return _address(text, scheme["scheme"])
    if isinstance(reference, Path) or _exists(text) or not is_hub_name(text):
        return None
    found = _HUB_NAME.fullmatch(_bare(text))
    assert found is not None
    return _hub(text, found["repository"], found["revision"], found["file"])


def is_hub_name(text: str) -> bool:
    """Whether `org/name` is likelier meant than a path of this machine, which would have a parent or an ending."""
    if _HUB_NAME.fullmatch(_bare(text)) is None:
        return False
    path = Path(text)
    if text != _bare(text):
        return True
    return ":" in text or (not path.parent.exists() and not path.name.endswith((*_ENDINGS, ".json")))


def _bare(text: str) -> str:
    """Without the host, as Ollama's users write it: `hf.co/org/name:Q4_K_M`."""
    host, mark, rest = text.partition("/")
    return rest if mark and host in _PUBLIC_HUBS else text


def is_stand_in(reference: str | Path) -> bool:
    """Whether a path is one of the folders that stand for models elsewhere, see `mirror`."""
    return Path(reference).is_relative_to(home())


def home() -> Path:
    """Where the folders are that stand for models elsewhere."""
    return usual_place() / "remote"


def shadowed(reference: str | Path) -> str | None:
    """What to tell where something here has the name of a model that the hub's cache holds too; else None."""
    text = str(reference)
    if _HUB_NAME.fullmatch(text) is None or not Path(text).exists():
        return None
    cached = _hub_cache() / f"models--{text.replace('/', '--')}"
    return f"{text} is a folder here, and was read; hf://{text} is the hub's" if cached.is_dir() else None


def _address(text: str, scheme: str) -> RemoteName:
    if scheme == "hf":
        found = _HUB_ADDRESS.fullmatch(text.removeprefix("hf://"))
        if found is None or text.startswith(("hf://datasets/", "hf://spaces/")):
            raise _malformed(text, "hf://ORG/NAME, hf://ORG/NAME@REVISION or hf://ORG/NAME/FILE")
        return _hub(text, found["repository"], found["revision"], found["file"])
    if scheme in ("http", "https"):
        return _web(text)
    if "@" in urlsplit(text).netloc:
        raise _secret(text)
    if scheme in _BUCKETS:
        if not urlsplit(text).netloc:
            raise _malformed(text, "s3://BUCKET/FOLDER")
        return RemoteName("bucket", text, text.rstrip("/"))
    raise _malformed(text, "a path, ORG/NAME, hf://, https://, http://, s3://, gs:// or az://")


def _web(text: str) -> RemoteName:
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    if not host:
        raise _malformed(text, "https://HOST/FOLDER/ or https://HOST/FILE")
    if parts.username or parts.password:
        raise _secret(text)
    endpoint = urlsplit(os.environ.get("HF_ENDPOINT", ""))
    if host in _PUBLIC_HUBS or (endpoint.netloc and endpoint.netloc == parts.netloc):
        page = _PAGE.fullmatch(parts.path)
        if page is not None and not page["repository"].startswith(("datasets/", "spaces/", "api/")):
            return _hub(text, page["repository"], unquote(page["revision"] or ""), unquote(page["file"] or ""))
    return RemoteName("web", text.partition("?")[0], text.partition("#")[0])


def _hub(text: str, repository: str, revision: str | None, file: str | None) -> RemoteName:
    revision, file = revision or "", (file or "").strip("/")
    if ".." in PurePosixPath(file).parts or ".." in revision or "\\" in file:
        raise _malformed(text, "a file of the repository")
    return RemoteName("hub", text, repository, "" if revision == "main" else revision, file)


def _is_commit(revision: str) -> bool:
    return re.fullmatch("[0-9a-f]{40}", revision) is not None


def _hub_cache() -> Path:
    """Where the hub's own client keeps files, without importing it."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home, "hub")).expanduser()


def _secret(text: str) -> UsageError:
    return UsageError(
        "a password in an address",
        where=re.sub(r"//[^/]*@", "//***@", text)[:200],
        expected="an address without one: it would stand in results and logs",
        next_step="for the hub: hf auth login, or HF_TOKEN; for a bucket its store's environment variables",
    )


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except OSError:  # a name longer than any file's
        return False


def _malformed(text: str, expected: str) -> UsageError:
    return UsageError(
        "this names no model",
        where=re.sub(r"//[^/@]*@", "//***@", text)[:200],
        expected=expected,
        next_step="see docs/how-to/models-elsewhere.md",
    )
