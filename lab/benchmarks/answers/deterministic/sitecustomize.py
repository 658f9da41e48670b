"""Put on PYTHONPATH by capture.py only: the operating system's randomness, drawn by huref's code, from a seed.

`secrets` and `random.SystemRandom` draw through `random._urandom`; `os.urandom` is replaced too. Only what the code
of a module named `huref...` draws comes from the stream, so that imports in another order (of ssl, uuid, ...) move
nothing. The stream is the step's, from its start, in every process of the step.

At exit it writes how many bytes were drawn, and which modules of huref were not taken from the tree.
"""

import atexit
import hashlib
import json
import os
import random
import sys
import threading
from pathlib import Path
from types import FrameType

_BETWEEN = {"random", "secrets", __name__}
"""Modules whose drawing is their caller's."""


def _is_of_huref(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_globals.get("__name__") in _BETWEEN:
        frame = frame.f_back
    if frame is None:
        return False
    spec = frame.f_globals.get("__spec__")
    name = spec.name if spec is not None else frame.f_globals.get("__name__", "")
    return name.startswith("huref")


def _outside(tree: Path) -> dict[str, str]:
    """The modules of huref and huref_lab that were not taken from the tree, and their files."""
    files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    return {
        name: file
        for name, file in files.items()
        if name.split(".")[0].startswith("huref") and file and not Path(file).resolve().is_relative_to(tree)
    }


def _install(seed: str, tree: Path, log: Path) -> None:
    real, lock, state = os.urandom, threading.Lock(), {"block": 0, "drawn": 0}

    def urandom(size: int, /) -> bytes:
        if not _is_of_huref(sys._getframe(1)):
            return real(size)
        with lock:
            head = f"{seed}/{state['block']}".encode()
            state["block"] += 1
            state["drawn"] += size
        return hashlib.shake_256(head).digest(size)

    def tell() -> None:
        told = {"argv": sys.argv, "drawn": state["drawn"], "outside_the_tree": _outside(tree)}
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(told) + "\n")

    os.urandom = urandom
    random._urandom = urandom  # type: ignore[attr-defined]
    atexit.register(tell)


if "HUREF_CAPTURE_SEED" in os.environ:
    _install(
        os.environ["HUREF_CAPTURE_SEED"],
        Path(os.environ["HUREF_CAPTURE_TREE"]),
        Path(os.environ["HUREF_CAPTURE_LOG"]),
    )
