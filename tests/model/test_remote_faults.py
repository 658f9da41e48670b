"""Whatever fails on the way: no wrong fingerprint, nothing half-written, a clear error with its exit code."""

from __future__ import annotations

import _thread
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import huref
from huref.errors import AccessError, CorruptFileError, HurefError, NetworkError
from huref.model.source.remote import http, segments
from huref.model.source.remote.blocks import RemoteFile
from huref.model.source.remote.segments import BLOCK, Segments
from kit.hostile_files import assert_complete
from kit.hubs import again, forget, hub
from kit.tiny_llama import TinyLlama

__all__ = ["again", "hub"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return TinyLlama(n_tokens=600, width=64, n_layers=4).save(tmp_path_factory.mktemp("one") / "base")


@pytest.fixture
def published(hub, model):
    hub.add("acme/base", model)
    return hub


def refused(kind: type[HurefError], reference: str = "acme/base") -> HurefError:
    with pytest.raises(kind) as caught:
        huref.fingerprint(reference)
    assert_complete(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("fault", "times"), [("cut", 5), ("500", 3), ("429", 1), ("403", 1), ("wrong range", 2), ("slow", 1)]
)
def test_what_passes_changes_nothing(published, model, fault, times):
    published.faults[fault] = times
    assert huref.fingerprint("acme/base").vector.tobytes() == huref.fingerprint(model).vector.tobytes()
    assert published.faults[fault] == 0  # it did happen


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        ("500", NetworkError, "HTTP 500"),
        ("403", AccessError, "Request has expired"),
        ("wrong range", NetworkError, "content-range"),
        ("wrong size", CorruptFileError, "changed"),
        ("no ranges", NetworkError, "--download"),
        ("redirect loop", NetworkError, "redirect"),
        ("redirect to a file", NetworkError, "redirect"),
        ("429 for hours", NetworkError, "9000 s"),
    ],
)
def test_what_stays_is_told(published, again, fault, kind, says, tmp_path, model):
    published.faults[fault] = -1
    error = refused(kind)
    assert says in str(error)
    published.faults.clear()
    again()
    assert huref.fingerprint("acme/base").vector.tobytes() == huref.fingerprint(model).vector.tobytes()


def test_a_file_that_changes_between_header_and_body(published, model):
    class Once(dict):
        def __getitem__(self, key):
            return 1 if key == "changed" and len(published.requests) > 12 else 0

        def __setitem__(self, key, value):
            pass

    published.faults = Once()
    assert "changed" in str(refused(CorruptFileError))


def test_a_file_that_is_empty_meanwhile(published, model, tmp_path, again):
    copy = tmp_path / "shrunk"
    copy.mkdir()
    for path in model.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    address = http.Address(f"{published.endpoint}/acme/base/resolve/main/model.safetensors", "x", size=1000)
    published.repositories["acme/base"].files["model.safetensors"] = copy / "empty.safetensors"
    (copy / "empty.safetensors").write_bytes(b"")
    with pytest.raises(CorruptFileError, match="changed"):
        http.read_range(address, 0, 10)


def test_nobody_answers(published, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    error = refused(NetworkError)
    assert error.exit_code == 6


def test_an_answer_that_is_no_hubs(published, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", published.store)
    assert refused(HurefError).exit_code in (4, 5, 6)


def test_a_signature_that_expires_is_asked_for_again(published, model):
    published.expiry = 0.05
    published.latency = 0.03
    assert huref.fingerprint("acme/base").vector.tobytes() == huref.fingerprint(model).vector.tobytes()


def test_a_wait_is_as_long_as_the_server_asks():
    assert http.wait_asked({}, "x") is None
    assert 7 <= http.wait_asked({"ratelimit": '"api";r=0;t=7'}, "x") < 8
    assert 3 <= http.wait_asked({"retry-after": "3"}, "x") < 4
    assert http.wait_asked({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, "x") is None
    with pytest.raises(NetworkError):
        http.wait_asked({"retry-after": "86400"}, "x")


@pytest.mark.parametrize("length", [99_993, 99_994, 99_999, 100_000, 100_001, BLOCK - 8, BLOCK - 7, 2 * BLOCK])
def test_headers_of_awkward_lengths(hub, model, tmp_path, length):
    """huggingface_hub#4602: headers of 99,994 to 100,000 bytes were cut."""
    data = (model / "model.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    folder = tmp_path / "padded"
    folder.mkdir()
    for path in model.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    header = data[8 : 8 + size].ljust(length)
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data[8 + size :])
    hub.add("acme/padded", folder)
    assert huref.fingerprint("acme/padded").vector.tobytes() == huref.fingerprint(model).vector.tobytes()


def test_few_large_requests(published, model):
    huref.fingerprint("acme/base")
    asked = [span for host, _, path, span in published.requests if host == "store" and "safetensors" in path]
    sizes = [int(b) - int(a) + 1 for a, b in (span.removeprefix("bytes=").split("-") for span in asked)]
    assert len(asked) < 20
    assert sum(sizes) < (model / "model.safetensors").stat().st_size


DATA = np.random.default_rng(0).integers(0, 256, 40 * BLOCK + 777, np.uint8).tobytes()


@given(
    spans=st.lists(st.tuples(st.integers(0, len(DATA)), st.integers(0, 6 * BLOCK)), max_size=8),
    fails=st.sets(st.integers(0, 12), max_size=3),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_pieces_are_those_of_the_file(spans, fails, tmp_path, monkeypatch):
    """Whatever is asked for in whatever order, before and after a fault, from afar and from blocks."""
    monkeypatch.delenv("HUREF_NO_CACHE", raising=False)
    monkeypatch.setenv("HUREF_HOME", str(tmp_path / f"{time.time_ns()}"))
    calls = [0]

    def fetch(start: int, stop: int) -> bytes:
        calls[0] += 1
        if calls[0] in fails:
            raise NetworkError("no")
        return DATA[start:stop]

    for _ in range(3):
        file = RemoteFile("x", len(DATA), fetch, "ab" * 32)
        pieces = [(start, bytearray(min(length, len(DATA) - start))) for start, length in spans]
        try:
            file.read_into((start, memoryview(buffer)) for start, buffer in pieces)
        except NetworkError:
            continue
        finally:
            file.close()
        assert all(bytes(buffer) == DATA[start : start + len(buffer)] for start, buffer in pieces)


def test_beyond_the_end(tmp_path):
    file = RemoteFile("x", 100, lambda start, stop: bytes(stop - start), "cd" * 32)
    with pytest.raises(CorruptFileError):
        file.read(90, 11)
    with pytest.raises(CorruptFileError):
        file.read(-1, 5)
    assert file.read(100, 0) == b""


def test_fewer_bytes_than_asked_for(tmp_path):
    file = RemoteFile("x", 100, lambda start, stop: b"abc", "ef" * 32)
    with pytest.raises(CorruptFileError):
        file.read(0, 10)


@given(cut=st.integers(0, 3 * BLOCK), flip=st.integers(0, 3 * BLOCK))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_segment_gives_right_blocks_or_none(cut, flip, tmp_path, monkeypatch):
    monkeypatch.delenv("HUREF_NO_CACHE", raising=False)
    monkeypatch.setenv("HUREF_HOME", str(tmp_path / f"{time.time_ns()}"))
    kept = Segments("ab" * 32)
    kept.put(3, memoryview(DATA[: 2 * BLOCK + 5]))
    kept.close()
    (path,) = segments.blocks_folder().rglob("*.seg")
    data = bytearray(path.read_bytes())
    data[flip % len(data)] ^= 0x40
    path.write_bytes(data[: len(data) - cut % len(data)])
    again = Segments("ab" * 32)
    for number in range(8):
        block = again.get(number)
        at = (number - 3) * BLOCK
        assert block is None or block == DATA[at : min(at + BLOCK, 2 * BLOCK + 5)]
    again.close()


def test_a_full_disk_stops_nothing(published, model, monkeypatch):
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.writev", full)
    assert huref.fingerprint("acme/base").vector.tobytes() == huref.fingerprint(model).vector.tobytes()


def test_an_interrupt_leaves_what_can_go_on(published, model, monkeypatch, again):
    calls = [0]
    true = http.read_range

    def stops(*span: object) -> object:
        calls[0] += 1
        if calls[0] == 6:
            _thread.interrupt_main()
        return true(*span)

    monkeypatch.setattr("huref.model.source.remote.hub.read_range", stops)
    with pytest.raises(KeyboardInterrupt):
        huref.fingerprint("acme/base")
    again()
    assert huref.fingerprint("acme/base").vector.tobytes() == huref.fingerprint(model).vector.tobytes()


@pytest.mark.parametrize(("fault", "code"), [("500", 6), ("403", 5), ("wrong size", 4)])
def test_exit_codes(published, cli, fault, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    published.faults[fault] = -1
    ended = cli("fingerprint", "acme/base")
    assert ended.code == code
    assert not list(tmp_path.glob("*.huref.*"))
    forget()
