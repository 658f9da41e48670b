"""Models behind a plain address: a folder that a server shows with ranges, or one file and what lies beside it."""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import quote, unquote, urljoin, urlsplit

from huref.errors import MissingFileError
from huref.model.source.file_set import INDEX_SUFFIX, numbered_parts
from huref.model.source.json_file import parse_object
from huref.model.source.remote.http import Address, fetch_page, fetch_whole, find, read_range
from huref.model.source.remote.listing import Listing, RemoteEntry, is_inside
from huref.model.source.remote.naming import RemoteName

_LINK = re.compile(r"""<a\s[^>]*?href\s*=\s*["']([^"']+)["']""", re.IGNORECASE)
_INDEX_LIMIT = 64 << 20
_MOST_LINKS = 2_000
_TRIED = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tekken.json",
    "params.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "hf_quant_config.json",
    "quant_config.json",
    "quantize_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "consolidated.safetensors",
    "consolidated.00.pth",
    "adapter_config.json",
    "adapter_model.safetensors",
)
"""Files that are asked for where a server shows no list."""
_READ = re.compile(r".*\.(json|txt|model|tiktoken|safetensors|gguf|bin|pth|pt)")


def listing(name: RemoteName) -> Listing:
    """What lies at an address.

    Raises:
        MissingFileError: nothing that is a model's.
        HurefError: see `huref.model.source.remote.http`.
    """
    parts = urlsplit(name.repository)
    last = unquote(parts.path.rpartition("/")[2])
    is_file = _READ.fullmatch(last) is not None
    base = urljoin(name.repository, ".") if is_file else f"{name.repository.rstrip('/')}/"
    names = dict.fromkeys([last] if is_file else [])
    names |= dict.fromkeys([*numbered_parts(last)] if is_file else [])
    listed = [] if is_file else _listed(name, base)
    names |= dict.fromkeys(listed or _TRIED)
    query = f"?{parts.query}" if is_file and parts.query else ""
    entries = {entry.name: entry for entry in _found(name, base, list(names), last, query)}
    for index in [entry for entry in entries.values() if entry.name.endswith(INDEX_SUFFIX)]:
        shards = _shards(index, base)
        more = [shard for shard in shards if shard not in entries]
        entries |= {entry.name: entry for entry in _found(name, base, more, last, "")}
    if is_file and last not in entries:
        raise MissingFileError(
            "no such file on the server",
            where=name.shown,
            expected="a file at this address",
            got="HTTP 404",
            next_step="check the address",
        )
    if not entries:
        raise MissingFileError(
            "no model's files at this address",
            where=name.shown,
            expected="a folder that shows a list of its files, or has config.json and weights under the usual names",
            got="neither",
            next_step="name the weight file itself",
        )
    version = hashlib.sha256(
        "\n".join(f"{entry.name} {entry.size} {entry.digest}" for entry in entries.values()).encode()
    ).hexdigest()[:40]
    host = parts.netloc.rpartition("@")[2].replace(":", "-")
    folder = [part for part in unquote(urlsplit(base).path).split("/") if part]
    tail = re.sub(r"[^\w.@+-]", "-", folder[-1]) if folder else "model"
    place = (host, f"{hashlib.sha256(base.encode()).hexdigest()[:12]}-{version[:12]}", tail)
    return Listing(name.shown, place, version, tuple(entries.values()), last if is_file else "")


def _listed(name: RemoteName, base: str) -> list[str]:
    """Names of files that the folder's own page links to."""
    page = fetch_page(Address(base, name.shown))
    if page is None or "html" not in page[1]:
        return []
    links = (urljoin(base, link) for link in _LINK.findall(page[0])[:_MOST_LINKS])
    names = (
        unquote(urlsplit(link).path.removeprefix(urlsplit(base).path)) for link in links if link.startswith(base)
    )
    return [found for found in names if "/" not in found and _READ.fullmatch(found)]


def _found(name: RemoteName, base: str, names: list[str], last: str, query: str) -> list[RemoteEntry]:
    """Those of some files that are there."""

    def look(file: str) -> RemoteEntry | None:
        if not is_inside(file, name.shown):
            return None
        url = urljoin(base, quote(file))
        address = Address(f"{url}{query if file == last else ''}", url)
        try:
            find(address)
        except MissingFileError:
            return None
        tag = f"tag:{address.tag}"
        return RemoteEntry(file, address.size, tag, partial(read_range, address), partial(fetch_whole, address))

    with ThreadPoolExecutor(8) as pool:
        return [entry for entry in pool.map(look, names) if entry is not None]


def _shards(index: RemoteEntry, base: str) -> list[str]:
    data = bytes(index.fetch(0, min(index.size, _INDEX_LIMIT)))
    listed = parse_object(data, urljoin(base, index.name)).get("weight_map")
    names = listed.values() if isinstance(listed, dict) else ()
    return sorted({name for name in names if isinstance(name, str) and "/" not in name})
