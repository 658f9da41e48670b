"""One unpickler behind three doors: what is tried at one is tried at all, with nothing run and nothing huge made."""

from __future__ import annotations

import os
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from huref.errors import CorruptFileError, HurefError, UnsafeFileError
from huref.model.source import open_checkpoint
from huref.model.source.pickle_modules import open_network
from huref.model.source.restricted_pickle import MAX_OBJECTS
from huref.portraits.generator.file import open_generator
from kit.hostile_files import assert_complete

HEAD = b"\x80\x04"


def zipped(path: Path, payload: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", payload)
    return path


def plain(path: Path, payload: bytes) -> Path:
    path.write_bytes(payload)
    return path


DOORS: dict[str, Callable[[Path, bytes], Any]] = {
    "a checkpoint": lambda folder, payload: open_checkpoint(zipped(folder / "model.bin", payload)),
    "an encoder": lambda folder, payload: open_network(zipped(folder / "encoder.pth", payload)),
    "a generator": lambda folder, payload: open_generator(plain(folder / "generator.pkl", payload)),
}
every_door = pytest.mark.parametrize("door", DOORS)


def refused(door: str, folder: Path, payload: bytes, kind: type[HurefError]) -> HurefError:
    """Opening this payload fails with this error, and takes little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(kind) as caught:
            DOORS[door](folder, payload)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert_complete(caught.value)
    assert caught.value.exit_code == 4
    return caught.value


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def name(module: str, attribute: str) -> bytes:
    return text(module) + text(attribute) + b"\x93"


DICT = name("collections", "OrderedDict")
PARAMETER = name("torch._utils", "_rebuild_parameter")
SYSTEM = name("os", "system")
TOUCH = text("touch victim") + b"\x85"

UNSAFE = {
    "a shell": SYSTEM + TOUCH + b"R.",
    "a shell made by NEWOBJ": SYSTEM + TOUCH + b"\x81.",
    "a shell made by NEWOBJ_EX": SYSTEM + TOUCH + b"}\x92.",
    "a shell in an instance": b"(" + text("touch victim") + b"ios\nsystem\n.",
    "a shell in an object": b"(" + SYSTEM + text("touch victim") + b"o.",
    "a shell handed to an allowed call": PARAMETER + SYSTEM + b"\x85R" + TOUCH + b"R.",
    "an attribute of a name": name("builtins", "getattr") + SYSTEM + text("__globals__") + b"\x86R.",
    "a method of an allowed name": name("collections", "OrderedDict.fromkeys") + b")R.",
    "an extension": b"\x82\x01.",
    "a wide extension": b"\x84\x01\0\0\0.",
    "a reference by text": b"Pstorage\n.",
    "a buffer from outside": b"\x97.",
    "a read-only buffer": b"N\x98.",
    "an opcode that does not exist": b"\xff.",
}


@every_door
@pytest.mark.parametrize("payload", UNSAFE)
def test_nothing_is_called(door: str, payload: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    called: list[str] = []
    monkeypatch.setattr(os, "system", called.append)
    refused(door, tmp_path, HEAD + UNSAFE[payload], UnsafeFileError)
    assert called == [] and not Path("victim").exists()


@pytest.mark.parametrize("payload", ["a shell", "a shell in an instance", "a shell in an object"])
def test_the_shells_are_working_ones(payload: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    monkeypatch.setattr(os, "system", called.append)
    pickle.loads(HEAD + UNSAFE[payload])
    assert called == ["touch victim"]


BROKEN = {
    "a call of what a call made": DICT + b")R)R.",
    "a call of a value": text("x") + b")R.",
    "a call without a tuple": DICT + b"]R.",
    "an item of a name": DICT + text("x") + b"Ns.",
    "an item of a list by its place": b"](" + b"K\0Nu.",
    "an appended dictionary": b"}Na.",
    "a key that is a list": b"}]Ns.",
    "a key of many parts": b"}(" + b"N" * 100 + b"tNs.",
    "a dictionary of a text": DICT + text("ab") + b"\x85R.",
    "a number of sixteen hundred bits": b"\x8a\xc8" + b"\x7f" * 200 + b".",
    "bytes without end": b"\x8e" + struct.pack("<Q", 1 << 60) + b".",
    "a byte array without end": b"\x96" + struct.pack("<Q", 1 << 40) + b".",
    "text without end": b"\x8d" + struct.pack("<Q", 1 << 60) + b".",
    "a frame without contents": b"\x95" + struct.pack("<Q", 1 << 60),
    "no end": b"N",
    "nothing to stop at": b".",
    "a mark that is not there": b"t.",
    "tuples that nest each other, as a key": b"})\x94"
    + b"h\0\x86\x94"
    + b"".join(b"h" + bytes([k]) + b"h" + bytes([k]) + b"\x86\x94" for k in range(1, 100))
    + b"Ns.",
}


@every_door
@pytest.mark.parametrize("payload", BROKEN)
def test_what_contradicts_itself_is_damaged(door: str, payload: str, tmp_path: Path) -> None:
    refused(door, tmp_path, HEAD + BROKEN[payload], CorruptFileError)


@every_door
def test_setting_attributes_changes_no_function(door: str, tmp_path: Path) -> None:
    """BUILD on what stands for a name would change it for every later file."""
    attack = PARAMETER + b"}" + text("call") + SYSTEM + b"sb."
    with pytest.raises(HurefError):
        DOORS[door](tmp_path, HEAD + attack)
    with pytest.raises(HurefError) as caught:
        DOORS[door](tmp_path, HEAD + PARAMETER + TOUCH + b"R.")
    assert not isinstance(caught.value, UnsafeFileError)


FILLERS = {
    "sets": b"\x8f",
    "dictionaries": b"}",
    "memo entries": b"\x94",
    "tuples": b"\x85",
}


@every_door
@pytest.mark.parametrize("filler", FILLERS)
def test_a_byte_cannot_ask_for_a_hundred(
    door: str, filler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MAX_OBJECTS <= 1 << 21
    monkeypatch.setattr("huref.model.source.restricted_pickle.MAX_OBJECTS", 1 << 14)
    refused(door, tmp_path, HEAD + b"N" + FILLERS[filler] * (1 << 15) + b".", UnsafeFileError)


@every_door
def test_a_call_pays_for_what_it_copies(door: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dictionary made of one long list again and again: six bytes each in the pickle, far more in memory."""
    monkeypatch.setattr("huref.model.source.restricted_pickle.MAX_OBJECTS", 1 << 16)
    pairs = b"](" + (text("x") + b"N\x86") * 1000 + b"e\x94"
    attack = DICT + b"\x94" + pairs + b"(" + b"h\0h\1\x85R" * 10_000 + b"t."
    refused(door, tmp_path, HEAD + attack, UnsafeFileError)
