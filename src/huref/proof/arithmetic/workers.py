"""Work on points in several processes: each a fresh interpreter that reads tasks and writes results.

Not `multiprocessing`: its children run the caller's main module again, so a plain script that verifies a proof would
start itself once more. `-P` keeps the current folder, which somebody else may have filled, out of the modules' path.
A task and a result are each a u32 length and bytes; an empty task ends a worker.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO

import numpy as np

from huref.errors import CorruptFileError, HurefError
from huref.proof.arithmetic.curve import POINT_BYTES, SCALAR_BYTES, ShortCommitter, decode_points, encode_points
from huref.proof.arithmetic.field import from_bytes

CHECK, COMMIT = "check", "commit"
_FAULT = b"!"


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_tasks(kind: str, sizes: tuple[int, ...], tasks: Iterable[bytes], count: int) -> Iterator[bytes]:
    """The results of tasks, in their order, from `count` processes; at most twice as many tasks wait.

    Args:
        kind: `CHECK` or `COMMIT`.
        sizes: what the kind needs to know: nothing, or width and largest entry.

    Raises:
        HurefError: a process ended before its task was done.
    """
    command = [sys.executable, "-P", "-m", "huref.proof.arithmetic.workers", kind, *map(str, sizes)]
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    children = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere) for _ in range(count)]
    free = deque(children)
    try:
        with ThreadPoolExecutor(count) as threads:
            waiting: deque[Future[bytes]] = deque()
            for task in tasks:
                waiting.append(threads.submit(_ask, free, task))
                if len(waiting) > 2 * count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    finally:
        for child in children:
            child.kill()
            child.communicate()


def commit_task(rows: np.ndarray, blindings: list[int]) -> bytes:
    """(n, d) int16 rows and n blindings as a task; its result is n encoded points."""
    scalars = b"".join(z.to_bytes(SCALAR_BYTES, "little") for z in blindings)
    return len(blindings).to_bytes(4, "little") + scalars + rows.astype("<i2").tobytes()


def commit_chunk(task: bytes, committer: ShortCommitter) -> bytes:
    """What a worker makes of a `commit_task`."""
    count = int.from_bytes(task[:4], "little")
    end = 4 + count * SCALAR_BYTES
    blindings = from_bytes(task[4:end], SCALAR_BYTES).tolist()
    rows = np.frombuffer(task[end:], "<i2").reshape(count, -1)
    return encode_points([committer.commit(row, z) for row, z in zip(rows, blindings, strict=True)])


def check_chunk(task: bytes) -> bytes:
    """Encoded points, every one checked, as 96 bytes of coordinates; or what is wrong with one, after `!`."""
    try:
        return b"".join(bytes(point.to_xy_bytes_be()) for point in decode_points(task, "chunk"))
    except CorruptFileError as error:
        return _FAULT + error.got.encode()


def fault_of(result: bytes) -> str | None:
    """What a worker found wrong, or None. Coordinates of points come in multiples of 96 bytes."""
    return result[1:].decode() if len(result) % (2 * POINT_BYTES) and result[:1] == _FAULT else None


def _ask(free: deque[subprocess.Popen[bytes]], task: bytes) -> bytes:
    """One task to a process that is free; there are as many threads as processes."""
    child = free.popleft()
    try:
        if child.stdin is None or child.stdout is None:
            raise EOFError
        _send(child.stdin, task)
        return _receive(child.stdout)
    except (OSError, EOFError):
        raise HurefError(
            "a process that works on points ended",
            where="huref.proof.arithmetic.workers",
            expected="a result",
            got=f"exit status {child.poll()}",
            next_step="run the command again; with less memory in use, or --jobs 1",
        ) from None
    finally:
        free.append(child)


def _send(stream: IO[bytes], data: bytes) -> None:
    stream.write(len(data).to_bytes(4, "little") + data)
    stream.flush()


def _receive(stream: IO[bytes]) -> bytes:
    head = stream.read(4)
    size = int.from_bytes(head, "little")
    data = stream.read(size)
    if len(head) < 4 or len(data) < size:
        raise EOFError
    return data


def main() -> None:
    """A worker: an interrupt is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    kind, *sizes = sys.argv[1:]
    committer = ShortCommitter(*map(int, sizes)) if kind == COMMIT else None
    while True:
        try:
            task = _receive(sys.stdin.buffer)
        except EOFError:
            return
        _send(sys.stdout.buffer, check_chunk(task) if committer is None else commit_chunk(task, committer))


if __name__ == "__main__":
    main()
