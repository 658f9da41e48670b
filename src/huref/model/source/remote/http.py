"""Byte ranges over HTTP: one pool of connections, every answer checked, every fault tried again or told.

A range that does not arrive whole, unchanged and from the place asked for is an error, never data. Redirects are
followed by hand: a token goes to the host it is for, over TLS, and nowhere else.
"""

from __future__ import annotations

import functools
import io
import random
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urljoin, urlsplit

from huref.errors import MissingFileError, NetworkError
from huref.model.source.remote.cost import COST
from huref.model.source.remote.faults import SHOWN, changed, denied, no_ranges, too_much, unreachable

if TYPE_CHECKING:
    import httpx2

ATTEMPTS = 6
"""Of one range: the first, and five more."""
LONGEST_WAIT = 300.0
"""Seconds that a server may ask to wait; one that asks for more is not waited for."""
PARALLEL = 16
"""Connections to one host."""

_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 6
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_DENIED = (401, 403)
_SMALL = 1 << 26
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")
_NUMBER = re.compile("[0-9]{1,18}")


@dataclass
class Address:
    """A file on a server, and where its bytes were found last.

    Attributes:
        url: what stays: the hub's own address of a file of one commit.
        shown: for messages.
        headers: sent to the host of `url` only; a token is among them.
        size: bytes, or -1 where it is not known yet.
        tag: the entity tag of the first answer with bytes; every other has the same one.
        has_ranges: whether the server gives parts of it.
    """

    url: str
    shown: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    size: int = -1
    tag: str = ""
    has_ranges: bool = True
    found_at: str = field(default="", repr=False)
    whole: bytes | None = field(default=None, repr=False)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)


class _AgainError(Exception):
    """Worth another attempt."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class _EmptyError(Exception):
    """A file without a byte has no range."""


class _ExpiredError(Exception):
    """The place where bytes were found last gives them no more."""


def read_range(address: Address, start: int, stop: int) -> bytearray:
    """The bytes `start` to `stop` of a file; cut answers go on from where they ended.

    Raises:
        NetworkError: no answer, or none that can be used, after several attempts.
        AccessError: denied.
        MissingFileError: not there any more.
        CorruptFileError: it has changed since it was found.
    """
    if not address.has_ranges:
        return bytearray(_all_of(address)[start:stop])
    data = bytearray(stop - start)
    done, failures, is_renewed = 0, 0, False
    while done < len(data):
        before = done
        try:
            done += _receive(address, start + done, stop, memoryview(data)[done:])
            reason: Exception = _AgainError(f"the answer ended after {done} of {len(data)} bytes")
        except _ExpiredError as error:
            if is_renewed:
                raise denied(address, str(error)) from None
            is_renewed, address.found_at = True, ""
            continue
        except _PartialError as error:
            done += error.received
            reason = error
        except _AgainError as error:
            reason = error
        if done == len(data):
            break
        failures = 0 if done > before else failures + 1
        if failures >= ATTEMPTS:
            raise unreachable(address.shown, str(reason)) from None
        wait = reason.wait if isinstance(reason, _AgainError) else None
        time.sleep(backoff(failures) if wait is None else wait)
    return data


class _PartialError(Exception):
    def __init__(self, received: int, reason: str) -> None:
        super().__init__(reason)
        self.received = received


def fetch_whole(address: Address, file: BinaryIO) -> None:
    """All of a file, into an empty one; a cut answer goes on where it ended if the server can, else from the start.

    Raises:
        HurefError: see `read_range`.
    """
    failures = 0
    while True:
        done = file.tell()
        wanted = {"accept-encoding": "identity", **({"range": f"bytes={done}-"} if done else {})}
        try:
            _append(address, wanted, file)
            reason: Exception = _AgainError(f"the answer ended after {file.tell():,} bytes")
        except (_AgainError, _PartialError) as error:
            reason = error
        if file.tell() == address.size:
            return
        failures = 0 if file.tell() > done else failures + 1
        if failures >= ATTEMPTS:
            raise unreachable(address.shown, str(reason))
        wait = reason.wait if isinstance(reason, _AgainError) else None
        time.sleep(backoff(failures) if wait is None else wait)


def _append(address: Address, wanted: Mapping[str, str], file: BinaryIO) -> None:
    """What one answer adds to a file."""
    with _open(address, address.url, wanted) as answer:
        _refuse(address, answer)
        if answer.status_code == 200:
            file.seek(0)
            file.truncate()
            told = answer.headers.get("content-length", "")
            _keep(address, answer, int(told) if _NUMBER.fullmatch(told) else address.size)
        else:
            where = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
            if where is None or int(where[1]) != file.tell():
                raise _AgainError(f"content-range {answer.headers.get('content-range')!r} from byte {file.tell()} on")
            _keep(address, answer, int(where[3]))
        try:
            for piece in answer.iter_raw():
                if file.tell() + len(piece) > address.size >= 0:
                    raise too_much(address, address.size)
                file.write(piece)
                COST.add(received=len(piece))
        except _faults() as error:
            raise _PartialError(0, f"{type(error).__name__}: {error}"[:SHOWN]) from None


def _all_of(address: Address) -> bytes:
    """A small file of a server that gives no parts.

    Raises:
        NetworkError: a large one.
    """
    if address.size > _SMALL:
        raise no_ranges(address, 200)
    with address.lock:
        whole = address.whole
    if whole is None:
        file = io.BytesIO()
        fetch_whole(address, file)
        whole = address.whole = file.getvalue()
    return whole


def find(address: Address) -> None:
    """Learn the size and the tag of a file, by its first byte.

    Raises:
        MissingFileError: it is not there.
        HurefError: see `read_range`.
    """
    for attempt in range(ATTEMPTS):
        try:
            _receive(address, 0, 1, memoryview(bytearray(1)), is_first_look=True)
            return
        except _EmptyError:
            address.size = 0
            return
        except _ExpiredError as error:
            raise denied(address, str(error)) from None
        except (_AgainError, _PartialError) as error:
            reason = error
            wait = error.wait if isinstance(error, _AgainError) else None
            time.sleep(backoff(attempt + 1) if wait is None else wait)
    raise unreachable(address.shown, str(reason)) from None


def fetch_page(address: Address, limit: int = 1 << 20) -> tuple[str, str] | None:
    """The text of a page and its kind; None where there is none. More than `limit` bytes are not read.

    Raises:
        HurefError: see `read_range`.
    """
    retried: tuple[type[Exception], ...] = (_AgainError, *_faults())
    for attempt in range(ATTEMPTS):
        try:
            with _open(address, address.url, {}) as answer:
                if answer.status_code in (403, 404, 410):
                    return None
                _refuse(address, answer)
                text = b""
                for piece in answer.iter_bytes():
                    text += piece
                    if len(text) > limit:
                        break
                return text[:limit].decode("utf-8", "replace"), answer.headers.get("content-type", "")
        except retried as error:
            reason = error
            wait = error.wait if isinstance(error, _AgainError) else None
            time.sleep(backoff(attempt + 1) if wait is None else wait)
    raise unreachable(address.shown, str(reason))


def _receive(address: Address, start: int, stop: int, into: memoryview, *, is_first_look: bool = False) -> int:
    """Bytes of one answer, into the caller's memory; how many there were.

    Args:
        is_first_look: learn whether the server gives parts, instead of refusing one that does not.
    """
    with address.lock:
        place = address.found_at
    wanted = {"range": f"bytes={start}-{stop - 1}", "accept-encoding": "identity"}
    with _open(address, place or address.url, wanted) as answer:
        if answer.status_code in _DENIED and urlsplit(str(answer.url)).query and str(answer.url) != address.url:
            raise _ExpiredError(_excerpt(answer))
        is_empty = answer.status_code == 416 and answer.headers.get("content-range", "").endswith("/0")
        if is_first_look and is_empty:
            raise _EmptyError
        _refuse(address, answer)
        if answer.status_code != 206:
            told = answer.headers.get("content-length", "")
            if not _NUMBER.fullmatch(told) or not is_first_look:
                raise no_ranges(address, answer.status_code)
            _keep(address, answer, int(told))  # small files are read whole
            address.has_ranges = False
            return 0
        where = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
        if where is None or int(where[1]) != start or int(where[2]) >= max(stop, 1):
            raise _AgainError(f"content-range {answer.headers.get('content-range')!r} for bytes {start}-{stop - 1}")
        _keep(address, answer, int(where[3]))
        return _fill(answer, into[: int(where[2]) + 1 - start], address)


def _fill(answer: httpx2.Response, into: memoryview, address: Address) -> int:
    done = 0
    try:
        for piece in answer.iter_raw():
            if done + len(piece) > len(into):
                raise too_much(address, len(into))
            into[done : done + len(piece)] = piece
            done += len(piece)
            COST.add(received=len(piece))
    except _faults() as error:
        raise _PartialError(done, f"{type(error).__name__}: {error}"[:SHOWN]) from None
    return done


class _Opened:
    """An answer whose body is not read yet, after redirects."""

    def __init__(self, address: Address, url: str, headers: Mapping[str, str]) -> None:
        self.address, self.url, self.headers = address, url, headers
        self.answer: httpx2.Response | None = None

    def __enter__(self) -> httpx2.Response:
        url = self.url
        for _ in range(_MOST_REDIRECTS):
            answer = self._ask(url)
            if answer.status_code not in _REDIRECTS:
                self.answer = answer
                if answer.status_code in (200, 206) and url != self.address.url:
                    with self.address.lock:
                        self.address.found_at = url
                return answer
            answer.close()
            url = _target(self.address, url, answer.headers.get("location", ""))
        raise NetworkError(
            "a redirect that does not end",
            where=self.address.shown,
            expected=f"at most {_MOST_REDIRECTS} redirects",
            got="more",
            next_step="check the address, and HF_ENDPOINT",
        )

    def _ask(self, url: str) -> httpx2.Response:
        headers = dict(self.headers)
        if may_have_token(self.address.url, url):
            headers |= self.address.headers
        try:
            COST.add(requests=1)
            request = client().build_request("GET", url, headers=headers)
            return client().send(request, stream=True, follow_redirects=False)
        except _faults() as error:
            raise _AgainError(f"{type(error).__name__}: {error}"[:SHOWN]) from None

    def __exit__(self, *_: object) -> None:
        if self.answer is not None:
            self.answer.close()


def _open(address: Address, url: str, headers: Mapping[str, str]) -> _Opened:
    return _Opened(address, url, headers)


def may_have_token(meant: str, url: str) -> bool:
    """Whether what is for the host of `meant` may go to `url`: that host and port, over TLS or on this machine."""
    a, b = urlsplit(meant), urlsplit(url)
    is_private = b.scheme == "https" or b.hostname in _LOOPBACK
    return is_private and (a.scheme, a.netloc) == (b.scheme, b.netloc)


def _target(address: Address, url: str, location: str) -> str:
    """Where a redirect leads.

    Raises:
        NetworkError: nowhere, or from TLS to plain text.
    """
    try:
        target = urljoin(url, location)
        parts, _ = urlsplit(target), urlsplit(target).port
    except ValueError:
        target, location, parts = url, "", urlsplit(url)
    is_downgraded = urlsplit(url).scheme == "https" and parts.scheme != "https"
    if not location or parts.scheme not in ("http", "https") or not parts.netloc or is_downgraded:
        raise NetworkError(
            "a redirect that is not followed",
            where=address.shown,
            expected="an address as safe as the one that was asked",
            got=f"{parts.scheme}://{parts.hostname}" if location else "none",
            next_step="check the address",
        )
    return target


def _refuse(address: Address, answer: httpx2.Response) -> None:
    """Raise for an answer without bytes."""
    status = answer.status_code
    if status in (200, 206):
        encoding = answer.headers.get("content-encoding", "identity").lower()
        if encoding not in ("", "identity"):
            raise unreachable(address.shown, f"bytes in {encoding}, though they were asked for as they are")
        return
    if status == 416:
        raise changed(address, "the range lies beyond its end now")
    if status in (404, 410):
        raise MissingFileError(
            "no such file on the server",
            where=address.shown,
            expected="a file at this address",
            got=f"HTTP {status}",
            next_step="check the address",
        )
    if status in _DENIED:
        raise denied(address, _excerpt(answer))
    if status in _BUSY:
        raise _AgainError(f"HTTP {status}: {_excerpt(answer)}", wait_asked(answer.headers, address.shown))
    raise unreachable(address.shown, f"HTTP {status}: {_excerpt(answer)}")


def wait_asked(headers: Mapping[str, str], shown: str) -> float | None:
    """Seconds that a server asks to wait, by `RateLimit` (`t=`) or `Retry-After`; None where it does not.

    Raises:
        NetworkError: longer than anyone would.
    """
    limit = re.search(r"\bt=(\d+)", headers.get("ratelimit", ""))
    told = limit[1] if limit else headers.get("retry-after", "")
    if not _NUMBER.fullmatch(told):
        return None
    seconds = float(told)
    if seconds > LONGEST_WAIT:
        raise NetworkError(
            "the server asks to wait too long",
            where=shown,
            expected=f"at most {LONGEST_WAIT:.0f} s",
            got=f"{seconds:.0f} s",
            next_step="try again then; who is logged in (hf auth login, HF_TOKEN) may ask more often",
        )
    COST.tell(f"waiting {seconds:.0f} s, as the server asks")
    return seconds + random.uniform(0, 0.25)  # not all at once; nothing that is computed depends on it


def _keep(address: Address, answer: httpx2.Response, size: int) -> None:
    """Hold every answer against the first, and against the size that the listing says."""
    tag = answer.headers.get("etag", "").removeprefix("W/") or answer.headers.get("last-modified", "")
    with address.lock:
        if address.size not in (-1, size):
            raise changed(address, f"{address.size:,} bytes before, {size:,} now")
        if address.tag and tag and tag != address.tag:
            raise changed(address, "another entity tag")
        address.size, address.tag = size, address.tag or tag


def backoff(failures: int) -> float:
    """Seconds before another attempt, by how many failed in a row."""
    return float(min(20.0, 0.25 * 2**failures) * random.uniform(0.5, 1.0))


_making = threading.Lock()


def client() -> httpx2.Client:
    """The pool of connections of this process. Proxies and certificates are the environment's."""
    with _making:  # a cache alone lets two threads make two
        return _client()


@functools.cache
def _client() -> httpx2.Client:
    import httpx2

    from huref.version import __version__

    limits = httpx2.Limits(max_connections=4 * PARALLEL, max_keepalive_connections=2 * PARALLEL)
    return httpx2.Client(
        limits=limits, timeout=httpx2.Timeout(30.0), headers={"user-agent": f"huref/{__version__}"}, trust_env=True
    )


@functools.cache
def _faults() -> tuple[type[Exception], ...]:
    import httpx2

    return (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError)


def _excerpt(answer: httpx2.Response) -> str:
    """The beginning of what a server says of a fault, on one line."""
    text = b""
    try:
        for piece in answer.iter_bytes():
            text += piece
            if len(text) > 4 * SHOWN:
                break
    except _faults():
        pass
    words = re.sub(r"<[^>]*>", " ", text[: 4 * SHOWN].decode("utf-8", "replace")).split()
    return " ".join(words)[:SHOWN] or f"HTTP {answer.status_code} without a word"
