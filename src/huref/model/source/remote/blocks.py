"""A file elsewhere as a byte source: blocks that are missing come in few, large, parallel requests."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

from huref.errors import CorruptFileError, HurefError
from huref.model.source.byte_source import ByteSource, Piece, beyond_the_end
from huref.model.source.remote.cost import COST
from huref.model.source.remote.http import PARALLEL
from huref.model.source.remote.segments import BLOCK, Segments

Fetch = Callable[[int, int], bytearray | bytes]
"""From one byte up to another."""

_GAP = 2
"""Blocks between two wanted ones that are fetched with them: a request costs more than 128 kB do."""
_LONGEST = 64
"""Blocks of one request: 4 MiB, so that several are under way and memory stays bounded."""
_AHEAD = 16
"""Blocks that a header, read piece by piece, grows by at most."""
_HELD = 512
"""Blocks in memory: headers, and the edges of tensors."""


class RemoteFile(ByteSource):
    """A file elsewhere of known size.

    Args:
        name: relative to its folder.
        size: bytes.
        fetch: gives any range of it, whole and unchanged, or raises.
        key: what tells it from every other file and version, hexadecimal.
        shown: what people call it.
        parallel: requests under way at once.
    """

    def __init__(
        self, name: str, size: int, fetch: Fetch, key: str, shown: str = "", parallel: int = PARALLEL
    ) -> None:
        self.name, self.size = name, size
        self._fetch, self._parallel = fetch, parallel
        self._segments = Segments(key, shown or name)
        COST.add(whole=size)
        self._held: OrderedDict[int, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._next, self._ahead = -1, 1
        self._coming: dict[int, Future[None]] = {}
        self._announced: ThreadPoolExecutor | None = None

    def read_into(self, pieces: Iterable[Piece]) -> None:
        """Fill every buffer; what is missing comes in parallel.

        Raises:
            CorruptFileError: a piece reaches beyond the end of the file, or the file changed.
            NetworkError, AccessError: it cannot be had.
        """
        wanted = list(pieces)
        for offset, buffer in wanted:
            if offset < 0 or offset + len(buffer) > self.size:
                raise beyond_the_end(self, offset, len(buffer))
        wanted = [(offset, buffer) for offset, buffer in wanted if len(buffer)]
        if not wanted:
            return
        fresh = self._fetch_missing(wanted)
        for offset, buffer in wanted:
            self._copy(offset, buffer, fresh)
            self._count_read(len(buffer))

    def announce(self, spans: Iterable[tuple[int, int]]) -> None:
        """Fetch what will be read soon, in the background and onto the disk, where blocks are kept."""
        if not self._segments.is_kept:
            return
        if self._announced is None:
            self._announced = ThreadPoolExecutor(self._parallel, "huref-ahead")
        for offset, length in spans:
            inside = range(offset // BLOCK, (min(offset + length, self.size) - 1) // BLOCK + 1)
            with self._lock:
                missing = [n for n in inside if n not in self._segments and n not in self._coming]
                for run in _runs(missing, missing[-1]) if missing else ():
                    coming = self._announced.submit(self._run_ahead, run)
                    self._coming |= dict.fromkeys(run, coming)

    def _run_ahead(self, run: range) -> None:
        """What fails here is asked for again by who needs it, and told then."""
        with contextlib.suppress(HurefError):
            self._run(run)
        with self._lock:
            for number in run:
                self._coming.pop(number, None)

    def _fill(self, offset: int, buffer: memoryview) -> None:
        self.read_into([(offset, buffer)])

    def close(self) -> None:
        if self._announced is not None:
            self._announced.shutdown(wait=True, cancel_futures=True)
        self._segments.close()
        self._held.clear()

    def _fetch_missing(self, pieces: Sequence[Piece]) -> dict[int, memoryview]:
        """Blocks that are neither in memory nor on disk, fetched now."""
        numbers: set[int] = set()
        for offset, buffer in pieces:
            numbers.update(range(offset // BLOCK, (offset + len(buffer) - 1) // BLOCK + 1))
        with self._lock:
            coming = {future for n in numbers if (future := self._coming.get(n)) is not None}
        wait(coming)
        with self._lock:
            missing = sorted(n for n in numbers if n not in self._held and n not in self._segments)
        if not missing:
            return {}
        runs = _runs(missing, self._grown(missing))
        fresh: dict[int, memoryview] = {}
        if len(runs) == 1:
            fresh |= self._run(runs[0])
            return fresh
        with ThreadPoolExecutor(min(self._parallel, len(runs))) as pool:
            under_way = [pool.submit(self._run, run) for run in runs]
            try:
                done, _ = wait(under_way, return_when=FIRST_EXCEPTION)
                for each in done:
                    fresh |= each.result()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        return fresh

    def _grown(self, missing: Sequence[int]) -> int:
        """How many blocks more to fetch behind the last: of what is read piece by piece, twice as many each time."""
        last = (self.size - 1) // BLOCK
        is_header = len(missing) <= 2 and missing[0] == self._next
        self._ahead = min(_AHEAD, 2 * self._ahead) if is_header else 1
        end = min(last, missing[-1] + (self._ahead - 1 if is_header else 0))
        self._next = end + 1
        return end

    def _run(self, run: range) -> dict[int, memoryview]:
        start, stop = run.start * BLOCK, min(run.stop * BLOCK, self.size)
        data = memoryview(self._fetch(start, stop))
        if len(data) != stop - start:
            raise CorruptFileError(
                "fewer bytes than were asked for", where=self.name, expected=str(stop - start), got=str(len(data))
            )
        self._segments.put(run.start, data)
        blocks = {n: data[(n - run.start) * BLOCK : (n - run.start + 1) * BLOCK] for n in run}
        with self._lock:
            for number in (run[0], run[-1]) if len(run) > _AHEAD else run:
                self._hold(number, bytes(blocks[number]))
        return blocks

    def _hold(self, number: int, data: bytes) -> None:
        self._held[number] = data
        self._held.move_to_end(number)
        while len(self._held) > _HELD:
            self._held.popitem(last=False)

    def _copy(self, offset: int, buffer: memoryview, fresh: dict[int, memoryview]) -> None:
        done = 0
        while done < len(buffer):
            number, inside = divmod(offset + done, BLOCK)
            block = fresh.get(number) or self._block(number)
            piece = block[inside : inside + len(buffer) - done]
            buffer[done : done + len(piece)] = piece
            done += len(piece)

    def _block(self, number: int) -> memoryview:
        """A block from memory, from disk, or, where that is damaged, fetched."""
        with self._lock:
            held = self._held.get(number)
        if held is not None:
            return memoryview(held)
        kept = self._segments.get(number)
        if kept is not None and len(kept) == min(BLOCK, self.size - number * BLOCK):
            COST.add(kept=len(kept))
            return memoryview(kept)
        return self._run(range(number, number + 1))[number]


def _runs(missing: Sequence[int], end: int) -> list[range]:
    """Ranges of blocks to ask for, each at most `_LONGEST`; small gaps are fetched too."""
    runs: list[range] = []
    start = stop = missing[0]
    for number in (*missing, *range(missing[-1] + 1, end + 1)):
        if number - stop > _GAP or number - start >= _LONGEST:
            runs.append(range(start, stop))
            start = number
        stop = number + 1
    return [*runs, range(start, stop)]
