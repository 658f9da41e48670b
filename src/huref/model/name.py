"""What a model is called."""

from __future__ import annotations

import os
from pathlib import Path


def model_name(reference: str | Path) -> str:
    """What a model is called in every artefact: the folder's or the file's own name, as written, never a path.

    Links are not followed: who links `my-model` to a cache means `my-model`. Bytes that are no UTF-8 (surrogates,
    to Python) fit in no file's metadata and become question marks.
    """
    path = Path(os.path.abspath(reference))  # noqa: PTH100 (resolve() would follow links)
    name = path.stem if path.is_file() else path.name
    return name.encode("utf-8", "replace").decode() or "model"
