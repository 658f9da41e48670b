"""The references of the command line and of Python, as the scripts beside the docs make them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from huref.cli.app import app

ROOT = Path(__file__).parents[2]


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference = _load(ROOT / "docs" / "generate_cli_reference.py")
python_reference = _load(ROOT / "docs" / "generate_python_reference.py")
architectures = _load(ROOT / "docs" / "generate_architectures.py")
COMMANDS = dict(reference.commands(app))
