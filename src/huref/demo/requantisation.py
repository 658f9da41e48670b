"""A GGUF file again with its matrices in Q8_0: the commonest way in which a published model changes its bytes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from huref.errors import InputError
from huref.forward.gguf_writer import write_gguf_file

if TYPE_CHECKING:
    from gguf import GGUFReader, GGUFWriter

_MOSTLY_Q8_0 = 7
"""llama.cpp's number for `general.file_type`."""


def requantise(source: Path, target: Path) -> Path:
    """Dequantise every block-quantised matrix and quantise it to Q8_0; key-values and float tensors stay.

    The order of rows in query and key matrices is llama.cpp's in both files, so nothing is permuted here.

    Raises:
        InputError: not a GGUF file.
        OutputError: the target cannot be written; no partial file is left.
    """
    from gguf import GGUFReader

    try:
        reader = GGUFReader(source)
    except (ValueError, OSError) as error:
        raise InputError(
            "requantising needs a GGUF file", where=str(source), expected="a GGUF file", got=str(error)
        ) from None
    architecture = str(reader.fields["general.architecture"].contents())

    def fill(writer: GGUFWriter) -> None:
        _copy_key_values(reader, writer)
        _add_tensors(reader, writer)

    return write_gguf_file(target, architecture, fill)


def _copy_key_values(reader: GGUFReader, writer: GGUFWriter) -> None:
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue  # the writer makes these itself
        value = _MOSTLY_Q8_0 if name == "general.file_type" else field.contents()
        kinds = field.types
        writer.add_key_value(name, value, kinds[0], sub_type=kinds[1] if len(kinds) > 1 else None)


def _add_tensors(reader: GGUFReader, writer: GGUFWriter) -> None:
    from gguf import GGMLQuantizationType, quants

    as_they_are = (GGMLQuantizationType.F32, GGMLQuantizationType.Q8_0)
    for tensor in reader.tensors:
        data, kind = tensor.data, tensor.tensor_type
        if kind not in as_they_are and len(tensor.shape) > 1:
            data, kind = quants.quantize(quants.dequantize(data, kind), as_they_are[1]), as_they_are[1]
        writer.add_tensor(tensor.name, data, raw_dtype=kind)
