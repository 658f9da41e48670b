"""Fingerprint files: what is written is what is read, in one byte order for ever, and damage never passes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from huref.errors import CorruptFileError, HurefError, InputError, MissingFileError, OutputError, UnsafeFileError
from huref.files.canonical_json import canonical_json
from huref.fingerprints.file import SUFFIX, _digest, is_fingerprint, load_fingerprint, save_fingerprint
from huref.fingerprints.recipe import Recipe
from huref.fingerprints.record import SCHEMA_VERSION, Fingerprint
from huref.fingerprints.sketch import unit_rms


def make(side: int = 8, **changes: Any) -> Fingerprint:
    random = np.random.default_rng(0)
    fields = {
        "model": "modèle 7b",
        "architecture": "llama",
        "recipe": Recipe(sketch_rows=side),
        "vector": unit_rms(random.standard_normal(512)),
        "sketches": {
            f"{layer}.{kind}": unit_rms(random.standard_normal((side, side)))
            for layer, kind in ((2, "qk"), (2, "vo"), (3, "gate_down"))
        },
        "tokens": {"method": "sampled", "requested": 4096, "used": 400, "digest": "00", "vocabulary": "11"},
        "geometry": {"n_layers": 4, "d_model": 32},
        "weights": {"format": "gguf", "files": {"a.gguf": 10}, "bytes_read": 5, "bytes_total": 10},
        "notes": ("400 tokens used",),
        "version": "0.1.0",
    }
    return Fingerprint(**{**fields, **changes})


def parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def rewritten(path: Path, change: Callable[[dict[str, Any]], None], *, is_signed: bool = True) -> Path:
    """The file with another header document; with its digest made right, as a forger would."""
    from safetensors.numpy import load, save

    tensors = load(path.read_bytes())
    document = document_of(path)
    change(document)
    if is_signed:
        document.pop("sha256", None)
        with contextlib.suppress(ValueError):  # infinity, which canonical JSON has no word for
            document["sha256"] = _digest(document, tensors)
    other = path.with_name(f"other{SUFFIX}")
    other.write_bytes(save(tensors, {"huref": json.dumps(document)}))
    return other


def document_of(path: Path) -> dict[str, Any]:
    return json.loads(parts(path.read_bytes())[0]["__metadata__"]["huref"])


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / f"m{SUFFIX}"
    save_fingerprint(make(), path)
    return path


def test_round_trip(saved: Path) -> None:
    before, after = make(), load_fingerprint(saved)
    assert after.header() == before.header()
    assert after.recipe == before.recipe
    assert np.array_equal(after.vector, before.vector)
    assert after.sketches.keys() == before.sketches.keys()
    assert all(np.array_equal(after.sketches[key], before.sketches[key]) for key in before.sketches)


def test_equal_fingerprints_give_equal_bytes_whatever_the_order_of_their_keys(saved: Path, tmp_path: Path) -> None:
    one = make()
    turned = replace(one, sketches=dict(reversed(one.sketches.items())), tokens=dict(reversed(one.tokens.items())))
    save_fingerprint(turned, tmp_path / f"turned{SUFFIX}")
    assert (tmp_path / f"turned{SUFFIX}").read_bytes() == saved.read_bytes()
    save_fingerprint(load_fingerprint(saved), tmp_path / f"again{SUFFIX}")
    assert (tmp_path / f"again{SUFFIX}").read_bytes() == saved.read_bytes()


def test_the_layout_is_the_documented_one(saved: Path) -> None:
    header, body = parts(saved.read_bytes())
    metadata = header.pop("__metadata__")
    assert metadata.keys() == {"huref"}
    document = json.loads(metadata["huref"])
    assert metadata["huref"] == canonical_json(document)
    assert len(document.pop("sha256")) == 64
    assert document == make().header()
    assert document["schema_version"] == "huref.fingerprint/1.0" == SCHEMA_VERSION
    assert {name: (entry["dtype"], entry["shape"]) for name, entry in header.items()} == {
        "vector": ("F32", [512]),
        **{f"sketch/{key}": ("F32", [8, 8]) for key in make().sketches},
    }
    begin, end = header["vector"]["data_offsets"]
    assert np.array_equal(np.frombuffer(body[begin:end], "<f4"), make().vector)


def test_only_the_suffix_makes_a_fingerprint() -> None:
    assert is_fingerprint(f"a{SUFFIX}") and is_fingerprint(Path(f"b/a{SUFFIX}"))
    assert not is_fingerprint("a.safetensors")


@pytest.mark.parametrize("version", ["huref.fingerprint/1.0", "huref.fingerprint/1.7"])
def test_a_higher_minor_version_is_read_and_its_additions_ignored(saved: Path, version: str) -> None:
    path = rewritten(saved, lambda document: document.update(schema_version=version, colour="brown"))
    assert load_fingerprint(path).header() == make().header()


@pytest.mark.parametrize("version", ["huref.fingerprint/2.0", "huref.fingerprint/0.9", "other/1.0", "", None, 3])
@pytest.mark.parametrize("is_signed", [True, False])
def test_another_major_version_is_refused_as_such(saved: Path, version: object, is_signed: bool) -> None:
    path = rewritten(saved, lambda document: document.update(schema_version=version), is_signed=is_signed)
    with pytest.raises(InputError, match="another format version") as raised:
        load_fingerprint(path)
    assert raised.value.expected == "huref.fingerprint/1.x" and raised.value.got == str(version)
    assert not isinstance(raised.value, CorruptFileError)


def _set(*keys: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        *[lambda d, key=key: d.pop(key) for key in make().header() if key not in ("schema_version", "encoder")],
        *[_set("model", value=name) for name in ("../evil", "/etc/passwd", "a\\b", "..", ".", "", "a\0b", 7, None)],
        _set("recipe", "name", value="secret"),
        _set("recipe", "flavour", value=1),
        _set("recipe", "n_tokens", value="4096"),
        _set("recipe", "n_tokens", value=True),
        _set("recipe", "layers", value=2),
        _set("recipe", "seed", value=None),
        _set("recipe", "sketch_rows", value=16),
        _set("recipe", "sketch_rows", value=8.0),
        _set("recipe", value=[]),
        _set("geometry", "n_layers", value="4"),
        _set("geometry", "n_layers", value=float("inf")),
        _set("geometry", value=[4]),
        _set("weights", "bytes_read", value=None),
        _set("tokens", value="sampled"),
        _set("notes", value="note"),
        _set("notes", value=[1]),
        _set("version", value=1),
        _set("architecture", value={}),
    ],
)
def test_a_forged_header_is_refused(saved: Path, change: Callable[[dict[str, Any]], None]) -> None:
    with pytest.raises(CorruptFileError, match="not a readable fingerprint"):
        load_fingerprint(rewritten(saved, change))


@pytest.mark.parametrize(
    "changes",
    [
        {"vector": np.zeros(511, np.float32)},
        {"vector": np.full(512, np.nan, np.float32)},
        {"sketches": {"2.qk": np.full((8, 8), np.inf, np.float32)}},
        {"sketches": {"2.qk": np.zeros((8, 7), np.float32)}},
        {"sketches": {"qk": np.zeros((8, 8), np.float32)}},
        {"sketches": {"2": np.zeros((8, 8), np.float32)}},
        {"sketches": {"-1.qk": np.zeros((8, 8), np.float32)}},
    ],
)
def test_arrays_that_are_no_fingerprint_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / f"m{SUFFIX}"
    save_fingerprint(make(**changes), path)
    with pytest.raises(CorruptFileError):
        load_fingerprint(path)


def test_a_changed_number_or_a_missing_digest_is_noticed(saved: Path) -> None:
    data = saved.read_bytes()
    unsigned = rewritten(saved, lambda document: document.pop("sha256"), is_signed=False)
    saved.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    for path in (saved, unsigned):
        with pytest.raises(CorruptFileError, match="digest"):
            load_fingerprint(path)


def test_the_digest_is_the_documented_one(saved: Path) -> None:
    """Written again from `docs/formats/fingerprint-v1.md`, so that the page and the code cannot part."""
    header, body = parts(saved.read_bytes())
    document = json.loads(header.pop("__metadata__")["huref"])
    expected = document.pop("sha256")
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    hashed = b"huref/fingerprint/1"
    for part in [text, *sorted(header)]:
        hashed += struct.pack("<Q", len(part.encode())) + part.encode()
    for name in sorted(header):
        begin, end = header[name]["data_offsets"]
        hashed += body[begin:end]
    assert hashlib.sha256(hashed).hexdigest() == expected


def test_other_files_are_refused_as_what_they_are(tmp_path: Path) -> None:
    from safetensors.numpy import save

    with pytest.raises(MissingFileError, match="no such fingerprint"):
        load_fingerprint(tmp_path / f"none{SUFFIX}")
    (tmp_path / f"folder{SUFFIX}").mkdir()
    with pytest.raises(MissingFileError):
        load_fingerprint(tmp_path / f"folder{SUFFIX}")
    contents = [b"", b"\0" * 7, b"{}", save({"vector": np.zeros(512, np.float32)}), b"\xff" * 64]
    contents += [
        save({"vector": np.zeros(512, np.float32)}, {"huref": text}) for text in ("[]", "{", "[" * 9999, "7")
    ]
    path = tmp_path / f"m{SUFFIX}"
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(InputError):
            load_fingerprint(path)


def test_a_file_larger_than_any_fingerprint_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / f"m{SUFFIX}"
    with path.open("wb") as file:
        file.truncate((1 << 28) + 1)
    with pytest.raises(UnsafeFileError, match="larger than any fingerprint"):
        load_fingerprint(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_passes(saved: Path, data: st.DataObject) -> None:
    """Bytes overwritten, cut, or put in: an error of ours, or the same fingerprint."""
    good = saved.read_bytes()
    place = data.draw(st.integers(0, len(good) - 1) | st.integers(0, 1200))
    removed, put_in = data.draw(st.integers(0, 4)), data.draw(st.binary(max_size=4))
    bad = good[:place] + put_in + good[place + removed :]
    if data.draw(st.booleans()):
        bad = bad[: data.draw(st.integers(0, len(bad)))]
    path = saved.with_name(f"bad{SUFFIX}")
    path.write_bytes(bad)
    try:
        loaded = load_fingerprint(path)
    except HurefError as error:
        assert error.exit_code == 4
        return
    save_fingerprint(loaded, path)
    assert path.read_bytes() == good


def test_a_place_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="cannot write a file"):
        save_fingerprint(make(), tmp_path / "file" / f"m{SUFFIX}")
    target = tmp_path / f"m{SUFFIX}"
    target.mkdir()
    with pytest.raises(OutputError):
        save_fingerprint(make(), target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", target.name]
    assert (tmp_path / "file").read_text() == "mine"


def test_a_loaded_fingerprint_equals_the_saved_one_and_no_other(tmp_path: Path) -> None:
    first = make()
    save_fingerprint(first, tmp_path / "a.huref.safetensors")
    again = load_fingerprint(tmp_path / "a.huref.safetensors")
    assert again == first and first != "text"
    assert first != replace(first, vector=first.vector[::-1].copy()) and first != replace(first, notes=("other",))
    changed = {key: -sketch for key, sketch in first.sketches.items()}
    assert first != replace(first, sketches=changed) and first != replace(first, sketches={})
