"""The main job on a real model, and relatives of it made on the spot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from huref.face import face

if TYPE_CHECKING:
    from huref.demo.bundled import bundled_model
    from huref.demo.demonstration import run_demo
    from huref.demo.options import DemoOptions
    from huref.demo.result import DemoResult

__all__ = [
    "DemoOptions",
    "DemoResult",
    "bundled_model",
    "run_demo",
]

_HOMES = {
    "DemoOptions": "huref.demo.options",
    "DemoResult": "huref.demo.result",
    "bundled_model": "huref.demo.bundled",
    "run_demo": "huref.demo.demonstration",
}

if not TYPE_CHECKING:  # so that a type checker sees the names above, and a misspelt one
    __getattr__, __dir__ = face(__name__, _HOMES)
