"""Where the program begins: an interrupt is one line from the first moment on, and closed streams are no fault.

Nothing of the commands is imported before `main` has seen to that.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType


def main() -> None:
    """The console script: `huref.cli.app.main`, which says what exit codes mean."""
    is_heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_heard:
        signal.signal(signal.SIGINT, _end_at_once)
    _open_closed_streams()
    from huref.cli.app import main as run

    if is_heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run()
    except KeyboardInterrupt:  # between two statements of its own
        _end_at_once()
    finally:
        if is_heard:  # nothing is left that an interrupt should undo
            signal.signal(signal.SIGINT, _end_at_once)


def _end_at_once(_signal: int = signal.SIGINT, _frame: FrameType | None = None) -> None:
    """Nothing was begun yet, or all is done."""
    with contextlib.suppress(OSError):
        os.write(2, b"huref: interrupted\n")
    os._exit(130)


def _open_closed_streams() -> None:
    """Streams that the caller closed (`>&-`) lead nowhere; a file opened later is not to take their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
        if getattr(sys, name) is None:
            mode = "r" if number == 0 else "w"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 open to the end
