"""Weight files written by hand, so that tests can break each rule of a format on its own."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

from huref.errors import HurefError


def safetensors_bytes(header: dict[str, Any] | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with this header; `length` overrides the announced header length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    """A tensor's entry in a safetensors header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def gguf_string(text: str | bytes, length: int | None = None) -> bytes:
    """A GGUF string; `length` overrides the announced one."""
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data) if length is None else length) + data


def gguf_u32(key: str, value: int) -> bytes:
    """A key with an unsigned 32-bit value."""
    return gguf_string(key) + struct.pack("<II", 4, value)


def gguf_array(key: str, type_id: int, count: int, data: bytes = b"") -> bytes:
    """A key with an array."""
    return gguf_string(key) + struct.pack("<IIQ", 9, type_id, count) + data


def gguf_tensor(name: str, axes: list[int], type_id: int = 0, offset: int = 0) -> bytes:
    """A tensor's description; axes fastest first."""
    return gguf_string(name) + struct.pack(f"<I{len(axes)}QIQ", len(axes), *axes, type_id, offset)


def gguf_bytes(
    pairs: list[bytes] = [],  # noqa: B006 never changed
    tensors: list[bytes] = [],  # noqa: B006 never changed
    data: bytes = b"",
    *,
    counts: tuple[int, int] | None = None,
    version: int = 3,
    magic: bytes = b"GGUF",
) -> bytes:
    """A GGUF file; `counts` overrides the announced numbers of tensors and key-values."""
    n_tensors, n_pairs = (len(tensors), len(pairs)) if counts is None else counts
    head = magic + struct.pack("<IQQ", version, n_tensors, n_pairs) + b"".join(pairs) + b"".join(tensors)
    return head + b"\0" * (-len(head) % 32) + data


class Touch:
    """Unpickled carelessly, this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return (open, (self.path, "w"))


def write_zip_pickle(path: Path, root: Any, **records: bytes) -> None:
    """A torch.save zip container around any pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(root, protocol=2))
        archive.writestr("archive/byteorder", "little")
        for key, data in records.items():
            archive.writestr(f"archive/data/{key}", data)


def assert_complete(error: HurefError) -> None:
    """Every message says what, where, expected, got and what to do next."""
    for part in ("what", "where", "expected", "got", "next_step"):
        assert getattr(error, part), f"{type(error).__name__} lacks {part}: {error}"
