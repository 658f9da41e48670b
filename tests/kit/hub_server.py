"""A hub on this machine: what its true client and huref ask for, over folders on disk, with faults to order.

Two servers on two ports, as a hub and the store that it redirects to are two hosts. Weights are redirected there by
signed addresses that expire; text files come from the hub itself.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".safetensors", ".bin", ".gguf", ".pt", ".pth")
PAGE = 50
"""Files of one page of a listing."""


@dataclass
class Virtual:
    """A file without a disk: bytes by their place."""

    size: int
    read: Callable[[int, int], bytes]
    sha256: str


@dataclass
class Repository:
    """A model on the hub.

    Attributes:
        files: by their path in it.
        gated, private: who may read.
        commit: of `main`.
        listed: more names that the listing has, for hostile ones.
    """

    files: dict[str, Path | Virtual]
    gated: bool = False
    private: bool = False
    commit: str = COMMIT
    listed: tuple[str, ...] = ()


@dataclass
class Hub:
    """What the servers know, what they were asked, and how they fail.

    Attributes:
        faults: names of faults with how often each is to happen; a negative number is always.
        requests: what was asked, as (host, method, path, range).
        tokens: authorization headers by host.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    token: str = "hf_secret"
    latency: float = 0.0
    bandwidth: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    requests: list[tuple[str, str, str, str]] = field(default_factory=list)
    tokens: dict[str, set[str]] = field(default_factory=dict)
    expiry: float = 3600.0
    ports: dict[str, int] = field(default_factory=dict)
    sent: int = 0
    free: float = 0.0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports['hub']}"

    @property
    def store(self) -> str:
        return f"http://localhost:{self.ports['store']}"

    def add(self, name: str, folder: Path, **options: Any) -> Repository:
        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        self.repositories[name] = Repository(dict(files), **options)
        return self.repositories[name]

    def fails(self, fault: str) -> bool:
        if self.faults[fault] == 0:
            return False
        self.faults[fault] -= 1
        return True

    def seen(self, request: Request, host: str) -> None:
        self.requests.append((host, request.method, request.url.path, request.headers.get("range", "")))
        if token := request.headers.get("authorization"):
            self.tokens.setdefault(host, set()).add(token)

    def is_known(self, request: Request) -> bool:
        return request.headers.get("authorization") == f"Bearer {self.token}"


def digest(file: Path | Virtual) -> str:
    return file.sha256 if isinstance(file, Virtual) else hashlib.sha256(file.read_bytes()).hexdigest()


def size(file: Path | Virtual) -> int:
    return file.size if isinstance(file, Virtual) else file.stat().st_size


def blob(file: Path | Virtual) -> str:
    data = b"" if isinstance(file, Virtual) else file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _is_large(name: str) -> bool:
    return name.endswith((*LARGE, "tokenizer.json"))


def _error(status: int, code: str, message: str, **headers: str) -> Response:
    return JSONResponse(
        {"error": message}, status, headers={"x-error-code": code, "x-error-message": message, **headers}
    )


def _busy(hub: Hub) -> Response | None:
    if hub.fails("429"):
        return _error(429, "", "slow down", ratelimit='"api";r=0;t=1')
    if hub.fails("429 for hours"):
        return _error(429, "", "slow down", ratelimit='"api";r=0;t=9000')
    return PlainTextResponse("oops", 500) if hub.fails("500") else None


def hub_app(hub: Hub) -> Starlette:
    async def of(request: Request) -> Repository | Response:
        hub.seen(request, "hub")
        await asyncio.sleep(hub.latency)
        repository = hub.repositories.get(f"{request.path_params['owner']}/{request.path_params['name']}")
        if repository is None or (repository.private and not hub.is_known(request)):
            return _error(404 if hub.is_known(request) else 401, "RepoNotFound", "Repository not found")
        return _busy(hub) or repository

    async def info(request: Request) -> Response:
        repository = await of(request)
        if isinstance(repository, Response):
            return repository
        revision = request.path_params.get("revision", "main")
        if revision not in ("main", "v1", repository.commit):
            return _error(404, "RevisionNotFound", "Invalid rev id")
        name = f"{request.path_params['owner']}/{request.path_params['name']}"
        return JSONResponse({
            "id": name, "modelId": name, "sha": repository.commit, "private": repository.private,
            "gated": "manual" if repository.gated else False, "downloads": 0, "likes": 0, "tags": [],
            "siblings": [{"rfilename": file} for file in repository.files],
        })  # fmt: skip

    async def tree(request: Request) -> Response:
        repository = await of(request)
        if isinstance(repository, Response):
            return repository
        start = int(request.query_params.get("cursor", 0))
        items = []
        for name, file in repository.files.items():
            item: dict[str, Any] = {"type": "file", "path": name, "size": size(file), "oid": blob(file)}
            if _is_large(name):
                item["lfs"] = {"oid": digest(file), "size": size(file), "pointerSize": 134}
                item["xetHash"] = hashlib.sha256(digest(file).encode()).hexdigest()
            items.append(item)
        items += [{"type": "file", "path": name, "size": 3, "oid": "0" * 40} for name in repository.listed]
        headers = {}
        if start + PAGE < len(items):
            headers["link"] = f'<{request.url.include_query_params(cursor=start + PAGE)}>; rel="next"'
        return JSONResponse(items[start : start + PAGE], headers=headers)

    async def resolve(request: Request) -> Response:
        repository = await of(request)
        if isinstance(repository, Response):
            return repository
        if repository.gated and not hub.is_known(request):
            return _error(401, "GatedRepo", "Access to model is restricted. You must be authenticated")
        path = request.path_params["path"]
        file = repository.files.get(path)
        if file is None:
            return _error(404, "EntryNotFound", "Entry not found")
        common = {"x-repo-commit": repository.commit, "accept-ranges": "bytes"}
        if hub.fails("redirect loop"):
            return Response(status_code=302, headers={"location": str(request.url)})
        if hub.fails("redirect to a file"):
            return Response(status_code=302, headers={"location": "file:///etc/passwd"})
        if _is_large(path):
            name = f"{request.path_params['owner']}/{request.path_params['name']}"
            until = time.time() + hub.expiry
            place = (
                f"{hub.store}/{name}/{path}?until={until}&sig={hashlib.sha256(f'{name}{until}'.encode()).hexdigest()}"
            )
            linked = {"x-linked-etag": f'"{digest(file)}"', "x-linked-size": str(size(file))}
            return Response(status_code=302, headers={**common, **linked, "location": place})
        return await _bytes(hub, request, file, {**common, "etag": f'"{blob(file)}"'})

    routes = [
        Route("/api/models/{owner}/{name}", info),
        Route("/api/models/{owner}/{name}/revision/{revision}", info),
        Route("/api/models/{owner}/{name}/tree/{revision}", tree),
        Route("/api/models/{owner}/{name}/tree/{revision}/{path:path}", tree),
        Route("/{owner}/{name}/resolve/{revision}/{path:path}", resolve, methods=["GET", "HEAD"]),
    ]
    return Starlette(routes=routes)


def store_app(hub: Hub) -> Starlette:
    async def get(request: Request) -> Response:
        hub.seen(request, "store")
        await asyncio.sleep(hub.latency)
        owner, name, *rest = request.path_params["path"].split("/")
        repository = hub.repositories.get(f"{owner}/{name}")
        file = repository.files.get("/".join(rest)) if repository is not None else None
        if float(request.query_params.get("until", 0)) < time.time() or hub.fails("403"):
            return Response("<Error><Message>Request has expired</Message></Error>", 403)
        if file is None:
            return Response("<Error><Code>NoSuchKey</Code></Error>", 404)
        if (answer := _busy(hub)) is not None:
            return answer
        tag = '"another"' if hub.fails("changed") else f'"{digest(file)[:32]}"'
        return await _bytes(hub, request, file, {"etag": tag, "accept-ranges": "bytes"})

    return Starlette(routes=[Route("/{path:path}", get, methods=["GET", "HEAD"])])


def folder_app(hub: Hub, folder: Path, *, has_list: bool = True) -> Starlette:
    """A plain server of one folder, as `nginx` with `autoindex` is one."""

    async def get(request: Request) -> Response:
        hub.seen(request, "web")
        await asyncio.sleep(hub.latency)
        path = request.path_params["path"]
        place = folder / path
        if not path or path.endswith("/"):
            if not has_list:
                return PlainTextResponse("no list", 403 if hub.fails("forbidden list") else 404)
            if not place.is_dir():
                return PlainTextResponse("none", 404)
            links = "".join(f'<a href="{p.name}">{p.name}</a>\n' for p in sorted(place.iterdir()))
            return Response(f'<html><a href="../">../</a>{links}</html>', media_type="text/html")
        if not place.is_file():
            return PlainTextResponse("none", 404)
        if hub.fails("no ranges"):
            return Response(place.read_bytes())
        if hub.fails("gzip"):
            return Response(gzip.compress(place.read_bytes()), 206, {"content-encoding": "gzip"})
        if (answer := _busy(hub)) is not None:
            return answer
        tag = f'"{place.stat().st_mtime_ns:x}-{place.stat().st_size:x}"'
        return await _bytes(hub, request, place, {} if hub.fails("no tags") else {"etag": tag})

    return Starlette(routes=[Route("/{path:path}", get, methods=["GET", "HEAD"])])


async def _bytes(hub: Hub, request: Request, file: Path | Virtual, headers: Mapping[str, str]) -> Response:
    total = size(file)
    asked = request.headers.get("range", "")
    start, stop = 0, total
    status, more = 200, dict(headers)
    if asked and not hub.fails("no ranges"):
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, stop = int(first), min(total, int(last) + 1 if last else total)
        if start >= total:
            return Response(status_code=416, headers={"content-range": f"bytes */{total}"})
        if hub.fails("wrong range"):
            start += 1
        status, more["content-range"] = 206, f"bytes {start}-{stop - 1}/{total + hub.fails('wrong size')}"
    more["content-length"] = str(stop - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=more)
    end = start + (stop - start) // 2 if hub.fails("cut") else stop

    async def body() -> Any:
        step = 1 << 18
        for at in range(start, end, step):
            if hub.fails("slow"):
                await asyncio.sleep(1.0)
            to = min(end, at + step)
            data = file.read(at, to) if isinstance(file, Virtual) else _read(file, at, to)
            if hub.bandwidth:  # of all answers together
                hub.free = max(hub.free, time.monotonic()) + (to - at) / hub.bandwidth
                await asyncio.sleep(hub.free - time.monotonic())
            hub.sent += len(data)
            yield data
        if end < stop:
            raise ConnectionResetError

    return StreamingResponse(body(), status, headers=more)


def _read(path: Path, start: int, stop: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(stop - start)


@contextmanager
def serving(**apps: Starlette) -> Iterator[dict[str, int]]:
    """Servers on ports of their own, by name."""
    servers = {
        name: uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", lifespan="off"))
        for name, app in apps.items()
    }
    threads = [threading.Thread(target=server.run, daemon=True) for server in servers.values()]
    for thread in threads:
        thread.start()
    try:
        until = time.time() + 20
        while not all(server.started for server in servers.values()):
            assert time.time() < until, "a server did not start"
            time.sleep(0.01)
        yield {name: server.servers[0].sockets[0].getsockname()[1] for name, server in servers.items()}
    finally:
        for server in servers.values():
            server.should_exit = server.force_exit = True
        for thread in threads:
            thread.join(10)


@contextmanager
def hub_running(hub: Hub) -> Iterator[Hub]:
    """The hub and its store."""
    with serving(hub=hub_app(hub), store=store_app(hub)) as hub.ports:
        yield hub


def document(value: object) -> bytes:
    return json.dumps(value).encode()
