"""GGUF files, whole or not at all: what is in one is its maker's matter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from huref.files.atomic import write_whole

if TYPE_CHECKING:
    from gguf import GGUFWriter


def write_gguf_file(target: Path, architecture: str, fill: Callable[[GGUFWriter], None]) -> Path:
    """Write a GGUF file.

    Args:
        architecture: llama.cpp's name, `general.architecture`.
        fill: adds key-values and tensors.

    Raises:
        OutputError: the target cannot be written; no partial file is left.
    """
    from gguf import GGUFWriter

    def write(partial: Path) -> None:
        writer = GGUFWriter(partial, architecture)
        fill(writer)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    write_whole(target, write)
    return target
