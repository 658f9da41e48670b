"""GGUF: named tensors, many of them block-quantised, with the configuration and tokenizer in the header.

Rows of a quantised tensor are whole blocks, so single rows can be read and dequantised. The arithmetic is that
of the `gguf` package, the reference implementation in numpy.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from huref.errors import CorruptFileError, InputError, MissingFileError, MissingTensorError, UsageError
from huref.model.source.byte_source import FETCH_AGAIN, ByteSource
from huref.model.source.checkpoint import Checkpoint, TensorInfo
from huref.model.source.file_set import FileSet, file_set_of
from huref.model.source.gguf_blocks import OWN
from huref.model.source.gguf_header import GgufHeader, TensorEntry, parse_header
from huref.model.source.ranged_checkpoint import RangedCheckpoint, Shard, StoredTensor, element_count, open_all
from huref.numerics.arrays import Array, array_dtype

NAME = "gguf"
PREFERENCE = 2
EXTENSIONS = (".gguf",)

_NO_MODEL = r"(.*[-_.])?(mmproj|imatrix)([-_.]|$)"
"""Names of a picture encoder and of statistics for quantising, which lie beside models."""

_AT_ONCE = 1 << 18
"""Values that are dequantised together: few enough for their intermediate results to stay in a cache."""


class GgufCheckpoint(RangedCheckpoint):
    """Tensors of one GGUF file or of all its splits; `metadata` is the first file's key-values."""

    format = NAME

    def require_decodable(self, info: TensorInfo) -> None:
        is_known = array_dtype(info.dtype) is not None or info.dtype in OWN or _has_dequantiser(info.dtype)
        if not is_known:
            raise InputError(
                f"the gguf package cannot dequantise {info.dtype}",
                where=f"{info.file}, tensor {info.name}",
                expected="a type that it can dequantise",
                got=info.dtype,
                next_step="update the gguf package, or quantise the model to another type",
            )

    def decode(self, info: TensorInfo, raw: np.ndarray, shape: tuple[int, ...]) -> Array:
        if array_dtype(info.dtype) is not None:
            return super().decode(info, raw, shape)
        from gguf import quants
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

        kind = GGMLQuantizationType[info.dtype]
        block, block_bytes = GGML_QUANT_SIZES[kind]
        if math.prod(shape) == 0:
            return np.empty(shape, np.float32)
        blocks = raw.reshape(-1, block_bytes)
        values = np.empty((len(blocks), block), np.float32)
        step = max(1, _AT_ONCE // block)
        with np.errstate(all="ignore"):  # infinite scales are reported by whoever uses the values
            for start in range(0, len(blocks), step):  # one long row each: the package goes through rows 16 at a time
                some = blocks[start : start + step]
                if info.dtype in OWN:
                    values[start : start + step] = OWN[info.dtype](some)
                else:
                    values[start : start + step] = quants.dequantize(some.reshape(1, -1), kind).reshape(-1, block)
        return values.reshape(shape)


def find(folder: Path) -> FileSet | None:
    """The folder's GGUF model, or None.

    Raises:
        UsageError: several models, such as several quantisations of one.
    """
    paths = [path for path in sorted(folder.glob("*.gguf")) if not re.match(_NO_MODEL, path.name, re.IGNORECASE)]
    models = {(files := file_set_of(path)).names: files for path in paths if path.is_file()}
    if len(models) > 1:
        raise UsageError(
            "the folder holds several GGUF models",
            where=str(folder),
            expected="one model, or the file itself as the argument",
            got=", ".join(names[0] for names in models),
            next_step=f"name one of them, for example {folder / next(iter(models))[0]}",
        )
    return next(iter(models.values()), None)


def file_set(path: Path) -> FileSet:
    """The splits that the file belongs to."""
    return file_set_of(path)


def open_files(reference: str, files: FileSet) -> Checkpoint:
    """Open the splits and check their headers; no tensor is read. `config` stays empty."""

    def build(shards: list[Shard]) -> GgufCheckpoint:
        _require_whole_set(files, shards)
        return GgufCheckpoint(reference, files, shards, {})

    return open_all(files, parse_shard, build)


def parse_shard(source: ByteSource) -> Shard:
    """Parse a header and check where it puts the tensors.

    Raises:
        CorruptFileError: as `parse_header`, or tensors that overlap, are misaligned or lie outside the file.
        InputError: a tensor type that the installed gguf package does not know.
    """
    header = parse_header(source)
    tensors = [_locate(source, header, entry) for entry in header.entries]
    _require_apart(source, tensors)
    return Shard(source, tensors, header.metadata)


@functools.cache
def _has_dequantiser(name: str) -> bool:
    """Whether the gguf package can dequantise a type; it says so only when it is tried."""
    from gguf import quants  # 0.05 s, and only GGUF needs it
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    kind = GGMLQuantizationType[name]
    try:
        quants.dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except NotImplementedError:
        return False
    return True


def _locate(source: ByteSource, header: GgufHeader, entry: TensorEntry) -> StoredTensor:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    where = f"{source.name}, tensor {entry.name}"
    if entry.type_id not in GGMLQuantizationType._value2member_map_:
        raise InputError(
            "a tensor type that the installed gguf package does not know",
            where=where,
            expected="a type number that it lists",
            got=str(entry.type_id),
            next_step="update the gguf package, or quantise the model to another type",
        )
    kind = GGMLQuantizationType(entry.type_id)
    block, block_bytes = GGML_QUANT_SIZES[kind]
    shape = tuple(reversed(entry.axes))
    count = element_count(shape, where)
    if (shape[-1] if shape else 1) % block:
        raise _misplaced(where, f"rows of whole blocks of {block} values", f"shape {list(shape)}")
    info = TensorInfo(entry.name, shape, kind.name, count // block * block_bytes, source.name)
    start = header.data_start + entry.offset
    if entry.offset % header.alignment or start + info.nbytes > source.size:
        expected = f"{info.nbytes} bytes at a multiple of {header.alignment}, within {source.size}"
        raise _misplaced(where, expected, f"byte {start}")
    return StoredTensor(info, source, start)


def _require_apart(source: ByteSource, tensors: list[StoredTensor]) -> None:
    names = {stored.info.name for stored in tensors}
    if len(names) != len(tensors):
        raise _misplaced(source.name, "each tensor name once", f"{len(tensors) - len(names)} repeated")
    ordered = sorted(tensors, key=lambda stored: (stored.offset, stored.info.nbytes))
    for before, after in itertools.pairwise(ordered):
        if before.offset + before.info.nbytes > after.offset:
            where = f"{source.name}, tensor {after.info.name}"
            raise _misplaced(where, f"data after those of {before.info.name}", f"overlap at byte {after.offset}")


def _require_whole_set(files: FileSet, shards: list[Shard]) -> None:
    """Compare the split's own book-keeping with the files found by name."""
    headers = [shard.metadata for shard in shards]
    count = headers[0].get("split.count", 0)
    if type(count) is not int:
        raise _misplaced(files.names[0], "a number as split.count", repr(count)[:80])
    if count in (0, 1) and len(shards) == 1:
        return
    if count != len(shards):
        raise MissingFileError(
            "the splits of this GGUF model are not all here",
            where=str(files.folder / files.names[0]),
            expected=f"{count} files named like model-00001-of-{count:05d}.gguf" if count else "a split model",
            got=f"{len(shards)} files",
            next_step="fetch the missing splits into the same folder, under their original names",
        )
    numbers = [header.get("split.no") for header in headers]
    if numbers != list(range(count)):
        raise _misplaced(str(files.folder), f"splits numbered 0 to {count - 1}", f"split.no {numbers[:8]}")
    _require_tensor_count(files, headers[0], sum(len(shard.tensors) for shard in shards))


def _require_tensor_count(files: FileSet, header: Mapping[str, object], got: int) -> None:
    expected = header.get("split.tensors.count", got)
    if expected != got:
        raise MissingTensorError(
            "the splits do not add up to the whole model",
            where=str(files.folder),
            expected=f"{expected} tensors",
            got=f"{got} tensors",
            next_step="fetch all splits again, from one revision",
        )


def _misplaced(where: str, expected: str, got: str) -> CorruptFileError:
    return CorruptFileError(
        "the header contradicts itself or the file",
        where=where,
        expected=expected,
        got=got,
        next_step=FETCH_AGAIN,
    )
