"""The torch.save reader: agreement with torch.load, only the bytes asked for, and nothing is ever executed."""

from __future__ import annotations

import io
import os
import pickle
import tempfile
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from huref.demo.tensors import as_tensor
from huref.errors import CorruptFileError, HurefError, InputError, UnsafeFileError
from huref.model.source import open_checkpoint
from kit.hostile_files import Touch, assert_complete, write_zip_pickle
from kit.typed_tensors import DTYPES, make_tensor

KINDS = [True, False]  # torch.save's zip container, and the stream before torch 1.6


def saved(path: Path, root: Any, is_zip: bool = True) -> Path:
    torch.save(root, path, _use_new_zipfile_serialization=is_zip)
    return path


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(DTYPES)), st.lists(st.integers(0, 7), max_size=3), st.booleans(), st.data())
def test_agrees_with_torch(name: str, shape: list[int], is_zip: bool, data: st.DataObject) -> None:
    is_zip = is_zip or name.startswith("F8")  # torch cannot load these from a stream itself
    stored = make_tensor(shape, DTYPES[name], 1)
    view = stored.permute(tuple(reversed(range(len(shape))))) if data.draw(st.booleans()) else stored
    n_rows = view.shape[0] if shape else 0
    rows = np.array(data.draw(st.lists(st.integers(0, n_rows - 1), max_size=9)) if n_rows else [], np.int64)
    with tempfile.TemporaryDirectory() as folder:
        path = saved(Path(folder, "model.bin"), {"t": view, "x": torch.ones(2)}, is_zip)
        expected = torch.load(path, weights_only=True)["t"]
        expected = expected.float() if name.startswith("F8") else expected
        with open_checkpoint(path) as checkpoint:
            assert checkpoint.tensors["t"].dtype == name
            assert torch.equal(as_tensor(checkpoint.read("t")), expected)
            if shape:
                assert torch.equal(as_tensor(checkpoint.read("t", rows)), expected[torch.from_numpy(rows)])


@pytest.mark.parametrize("is_zip", KINDS)
def test_reads_only_what_is_asked_for(is_zip: bool, tmp_path: Path) -> None:
    state = {"big": torch.randn(1000, 256), "small": torch.randn(8), "tied": None}
    state["tied"] = state["big"]
    path = saved(tmp_path / "pytorch_model.bin", state, is_zip)
    with open_checkpoint(tmp_path) as checkpoint:
        header = checkpoint.bytes_read
        assert 0 < header < 80_000
        assert checkpoint.bytes_total == path.stat().st_size
        assert torch.equal(as_tensor(checkpoint.read("big", np.array([9, 2, 9]))), state["big"][[9, 2, 9]])
        assert checkpoint.bytes_read == header + 2 * 1024
        assert torch.equal(as_tensor(checkpoint.read("tied", slice(5, 7))), state["big"][5:7])
        assert checkpoint.bytes_read == header + 4 * 1024


@pytest.mark.parametrize("is_zip", KINDS)
@pytest.mark.parametrize("nest", ["model", "state_dict", None])
def test_finds_the_state_dict(nest: str | None, is_zip: bool, tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    state: Any = model.state_dict()
    marked = torch.ones(3)
    marked.note = "an attribute"  # type: ignore[attr-defined]
    extra = {"p": torch.nn.Parameter(torch.ones(2)), "marked": marked, 7: torch.ones(1)}
    state = OrderedDict(state, **{str(k): v for k, v in extra.items()}, step=3, note="text", size=torch.Size([1]))
    root = {nest: state, "epoch": 1, "lr": 0.1, "raw": b"\x80\xff"} if nest else state
    path = saved(tmp_path / "ckpt.pt", root, is_zip)
    with open_checkpoint(path) as checkpoint:
        tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
        assert set(checkpoint.tensors) == set(tensors)
        for name, value in tensors.items():
            assert torch.equal(as_tensor(checkpoint.read(name)), value)
        assert checkpoint.format == "pickle"


def test_complex_tensors_are_refused_only_when_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", {"freqs_cis": torch.ones(2, dtype=torch.complex64), "w": torch.ones(2)})
    with open_checkpoint(path) as checkpoint:
        assert torch.equal(as_tensor(checkpoint.read("w")), torch.ones(2))
        with pytest.raises(InputError, match="C64") as caught:
            as_tensor(checkpoint.read("freqs_cis"))
        assert_complete(caught.value)


def test_expanded_tensor_cannot_claim_more_than_its_file(tmp_path: Path) -> None:
    state = {"few": torch.arange(3.0).expand(4, 3), "many": torch.ones(1).expand(1 << 20, 1 << 20)}
    with open_checkpoint(saved(tmp_path / "m.pt", state)) as checkpoint:
        assert torch.equal(as_tensor(checkpoint.read("few")), state["few"])
        with pytest.raises(UnsafeFileError) as caught:
            as_tensor(checkpoint.read("many"))
        assert_complete(caught.value)


def malicious(path: Path, victim: Path, kind: str) -> None:
    root = {"w": torch.ones(2), "payload": Touch(victim)}
    if kind == "plain pickle":
        path.write_bytes(pickle.dumps({"payload": Touch(victim)}))
    elif kind == "shell, protocol 0":
        path.write_bytes(f"cos\nsystem\n(S'touch {victim}'\ntR.".encode())
    elif kind == "module object":
        torch.save(torch.nn.Linear(2, 2), path)
    else:
        saved(path, root, kind == "zip")


@pytest.mark.parametrize("kind", ["zip", "stream", "plain pickle", "module object"])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth"])
def test_malicious_pickle_does_not_execute(name: str, kind: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    malicious(tmp_path / name, victim, kind)
    with pytest.raises(UnsafeFileError) as caught:
        open_checkpoint(tmp_path)
    assert_complete(caught.value)
    assert "io.open" in caught.value.got or "torch.nn" in caught.value.got
    assert not victim.exists()


def test_the_malicious_pickle_would_have_executed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    pickle.loads(pickle.dumps(Touch(victim))).close()
    assert victim.exists()


def test_old_protocol_shell_does_not_execute(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    malicious(tmp_path / "model.pt", victim, "shell, protocol 0")
    with pytest.raises(InputError):
        open_checkpoint(tmp_path)
    assert not victim.exists()


@pytest.mark.parametrize(
    "gadget",
    [
        b"\x80\x02cbuiltins\ngetattr\n.",
        b"\x80\x02c__builtin__\neval\n.",
        b"\x80\x02ctorch.hub\nload\n.",
        b"\x80\x04\x8c\x05torch\x94\x8c\x0cstorage.load\x94\x93.",
        b"\x80\x02\x82\x01.",  # extension registry
    ],
)
def test_names_outside_the_list_are_refused(gadget: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", gadget)
    with pytest.raises(InputError) as caught:
        open_checkpoint(path)
    assert_complete(caught.value)


def test_build_cannot_change_the_unpickler(tmp_path: Path) -> None:
    """BUILD on an allowed function would set its attributes; it must change nothing for the next file."""
    attack = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x0c\x00\x00\x00__defaults__)s\x86b."
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("a/data.pkl", attack)
    with pytest.raises(HurefError):
        open_checkpoint(tmp_path)
    with open_checkpoint(saved(tmp_path / "m.pt", {"w": torch.ones(2)})) as checkpoint:
        assert torch.equal(as_tensor(checkpoint.read("w")), torch.ones(2))


def test_absurd_memo_index_is_harmless(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}r\xff\xff\xff\xff.")
    with pytest.raises(CorruptFileError, match="no tensors"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("is_zip", KINDS)
@pytest.mark.parametrize("keep", [0, 1, 10, 100, 0.3, 0.6, 0.9, -1])
def test_truncated(keep: float, is_zip: bool, tmp_path: Path) -> None:
    path = saved(tmp_path / "m.bin", {"w": torch.randn(64, 64), "v": torch.randn(8)}, is_zip)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if 0 < keep < 1 else int(keep)])
    with pytest.raises(CorruptFileError) as caught:
        open_checkpoint(path)
    assert_complete(caught.value)


def tensor_pickle(shape: Any, strides: Any, offset: Any = 0, count: Any = 4) -> bytes:
    """The pickle of {"w": tensor} with any numbers, as torch.save would write it."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", count) if obj is marker else None

    marker = object()

    class Tensor:
        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor_v2, (marker, offset, shape, strides, False, OrderedDict())

    buffer = io.BytesIO()
    Pickler(buffer, 2).dump({"w": Tensor()})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("shape", "strides", "offset", "count"),
    [
        ((5,), (1,), 0, 4),
        ((4,), (1,), 1, 4),
        ((2, 2), (4, 1), 0, 4),
        ((4,), (1,), -1, 4),
        ((-4,), (1,), 0, 4),
        ((4,), (-1,), 3, 4),
        ((2**40, 2**40), (2**40, 1), 0, 4),
        ((4,), (1, 1), 0, 4),
        ((4.0,), (1,), 0, 4),
        (("4",), (1,), 0, 4),
        ((8,), (1,), 0, 8),
        ((4,), (1,), 0, -4),
        ((4,), (1,), 0, 2**70),
        (4, 1, 0, 4),
    ],
)
def test_tensor_outside_its_storage(shape: Any, strides: Any, offset: int, count: int, tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", tensor_pickle(shape, strides, offset, count))
        archive.writestr("a/data/0", bytes(16))
    if (shape, strides, offset, count) == ((4,), (1,), 0, 2**70):  # the tensor itself is inside
        with open_checkpoint(path) as checkpoint:
            assert torch.equal(as_tensor(checkpoint.read("w")), torch.zeros(4))
        return
    with pytest.raises(CorruptFileError) as caught:
        open_checkpoint(path)
    assert_complete(caught.value)


def test_damaged_archives(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"

    def refused(kind: type[HurefError]) -> None:
        with pytest.raises(kind) as caught:
            open_checkpoint(path)
        assert_complete(caught.value)

    write_zip_pickle(path, {"w": 1})
    refused(CorruptFileError)  # no tensors
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "not a checkpoint")
    refused(CorruptFileError)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(10 << 20))
    refused(CorruptFileError)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", tensor_pickle((4,), (1,)))
    refused(CorruptFileError)  # no storage
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", tensor_pickle((4,), (1,)))
        archive.writestr("a/data/0", bytes(16), zipfile.ZIP_DEFLATED)
    refused(CorruptFileError)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", tensor_pickle((4,), (1,)))
        archive.writestr("a/data/0", bytes(16))
        archive.writestr("a/byteorder", "big")
    refused(InputError)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "w") as archive:
        for data in (bytes(16), b"\1" * 16):
            archive.writestr("a/data/0", data)
        archive.writestr("a/data.pkl", tensor_pickle((4,), (1,)))
    refused(CorruptFileError)


@settings(max_examples=200, deadline=None)
@given(st.booleans(), st.data())
def test_mutated_file_gives_an_error_or_sound_tensors(is_zip: bool, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = saved(Path(folder, "m.bin"), {"a": torch.ones(2, 3), "b": torch.ones(4).bfloat16()}, is_zip)
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            # A pickle's length varies a little from one writing to the next: draw without looking at it.
            place = data.draw(st.integers(0, 1 << 20)) % len(content)
            content[place] = data.draw(st.integers(0, 255))
        path.write_bytes(bytes(content))
        try:
            with open_checkpoint(path) as checkpoint:
                for name, info in checkpoint.tensors.items():
                    assert tuple(as_tensor(checkpoint.read(name)).shape) == info.shape
        except HurefError as error:
            assert_complete(error)


@pytest.mark.parametrize("tail", [b"K\x01s.", b"K\x01u.", b"\x90.", b"\x91.", b"d.", b"\x85Q."])
def test_tuples_that_nest_each_other_cost_nothing(tail: bytes, tmp_path: Path) -> None:
    """Two in one, a hundred deep: 200 bytes whose hash or text would take longer than the universe has."""
    starts = {b"K\x01s.": b"}", b"K\x01u.": b"}(", b"\x90.": b"\x8f(", b"\x91.": b"(", b"d.": b"("}
    body = b"\x80\x04" + starts.get(tail, b"") + b")" + b"2\x86" * 100 + (b"N" if tail == b"d." else b"") + tail
    path = tmp_path / "model.bin"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", body)
    with pytest.raises(CorruptFileError):
        open_checkpoint(path)


HONEST = {
    "a path that is not UTF-8": {"data": os.fsdecode(b"/data/caf\xe9/x")},
    "a long number": {"seed": 2**300},
    "a long tuple as a key": {tuple(range(20)): 1},
    "as many numbers as a curve of losses has": {"losses": [float(i) for i in range(300_000)]},
}


@pytest.mark.parametrize("beside", HONEST)
def test_what_training_scripts_keep_beside_the_weights_is_passed_over(
    beside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huref.model.source.restricted_pickle.MAX_OBJECTS", 10_000)
    path = tmp_path / "pytorch_model.bin"
    torch.save({"model": {"a.weight": torch.arange(6.0).view(2, 3)}, "extra": HONEST[beside]}, path)
    with open_checkpoint(path) as checkpoint:
        assert list(checkpoint.tensors) == ["a.weight"]
        assert torch.equal(as_tensor(checkpoint.read("a.weight")), torch.arange(6.0).view(2, 3))


@pytest.mark.parametrize("is_nested", [False, True])
def test_a_tensor_is_not_left_out_for_its_long_name(is_nested: bool, tmp_path: Path) -> None:
    state = {"a.weight": torch.ones(2), "k" * 1500: torch.ones(3)}
    torch.save({"model": state} if is_nested else state, tmp_path / "x.bin")
    with pytest.raises(UnsafeFileError, match="absurdly long name"):
        open_checkpoint(tmp_path / "x.bin")
