"""`huref render` on bad input: exit code, what and where, no traceback, nothing half-written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from huref.files.canonical_json import canonical_json
from huref.fingerprints.file import SUFFIX, _digest, save_fingerprint
from huref.fingerprints.recipe import Recipe
from huref.portraits.generator import file as weights_file
from kit.command_line import Outcome
from kit.fingerprints import kin, made
from kit.tiny_generator import generator_file

Cli = Callable[..., Outcome]

pytestmark = pytest.mark.usefixtures("dogs")


def saved(place: Path, item: Any = None) -> Path:
    item = item or made()
    path = place / f"{item.model}{SUFFIX}"
    save_fingerprint(item, path)
    return path


def rewritten(place: Path, **changes: Any) -> Path:
    """A fingerprint with another document, and the digest that belongs to it."""
    path = saved(place)
    data = path.read_bytes()
    document = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["huref"])
    document.pop("sha256")
    document.update(changes)
    tensors = load(data)
    document["sha256"] = _digest(document, tensors)
    path.write_bytes(save(tensors, {"huref": canonical_json(document)}))
    return path


def damaged(path: Path, change: Callable[[bytes], bytes]) -> Path:
    path.write_bytes(change(path.read_bytes()))
    return path


def with_config(path: Path, **changes: Any) -> Path:
    """Generator weights whose header promises another network."""
    data = path.read_bytes()
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    metadata["config"] = json.dumps({**json.loads(metadata["config"]), **changes})
    path.write_bytes(save(load(data), metadata))
    return path


def nan_vector(place: Path) -> Path:
    """A fingerprint with NaN and the digest that belongs to it: `save_fingerprint` checks nothing."""
    vector = made().vector.copy()
    vector[3] = np.nan
    return saved(place, made(vector=vector))


def _file(place: Path, name: str, data: bytes) -> Path:
    (place / name).write_bytes(data)
    return place / name


def generator(place: Path, **changes: Any) -> Path:
    return generator_file(place / "g.safetensors", **changes)


CASES: dict[str, tuple[Callable[[Path], list[Any]], int, str, tuple[str, ...]]] = {
    "a latent of another size": (
        lambda p: [saved(p), "--generator", generator(p, z_dim=64)],
        2,
        "UsageError",
        ("does not fit the generator", "(n, 64)", "(1, 512)", "next step"),
    ),
    "a resolution that the weights do not have": (
        lambda p: [saved(p), "--generator", with_config(generator(p), resolution=32)],
        4,
        "WeightsError",
        ("not the weights of a generator", "g.safetensors"),
    ),
    "a resolution that no generator has": (
        lambda p: [saved(p), "--generator", with_config(generator(p), resolution=17)],
        4,
        "WeightsError",
        ("resolution", "17"),
    ),
    "truncated weights": (
        lambda p: [saved(p), "--generator", damaged(generator(p), lambda data: data[:-100])],
        4,
        "WeightsError",
        ("g.safetensors",),
    ),
    "weights of two bytes": (
        lambda p: [saved(p), "--generator", _file(p, "g.bin", b"ab")],
        4,
        "WeightsError",
        ("g.bin",),
    ),
    "no such weights": (
        lambda p: [saved(p), "--generator", p / "none.pkl"],
        4,
        "MissingFileError",
        ("no such file", "none.pkl"),
    ),
    "a fingerprint in place of a generator": (
        lambda p: [saved(p), "--generator", saved(p)],
        4,
        "WeightsError",
        ("not the weights of a generator",),
    ),
    "a class of a generator that has none": (
        lambda p: [saved(p), "--generator", generator(p), "--class", 0],
        2,
        "UsageError",
        ("no such class", "not conditional"),
    ),
    "a class beyond the last": (
        lambda p: [saved(p), "--generator", generator(p, label_dim=3), "--class", 3],
        2,
        "UsageError",
        ("no such class", "0 to 2"),
    ),
    "a newer format": (
        lambda p: [rewritten(p, schema_version="huref.fingerprint/2.0", version="3.1.4")],
        4,
        "InputError",
        ("another format version, newer", "huref.fingerprint/1.x", "2.0", "install huref 3.1.4 that wrote it"),
    ),
    "an older format": (
        lambda p: [rewritten(p, schema_version="huref.fingerprint/0.9", version="0.0.1")],
        4,
        "InputError",
        ("another format version", "0.9", "with huref 0.0.1 that wrote it", "fingerprint the model again"),
    ),
    "a newer format of an unnamed writer": (
        lambda p: [rewritten(p, schema_version="huref.fingerprint/12.3", version=7)],
        4,
        "InputError",
        ("newer", "install the huref that wrote it"),
    ),
    "a picture in place of a fingerprint": (
        lambda p: [_file(p, "dog.png", b"\x89PNG\r\n\x1a\n" + bytes(64))],
        4,
        "CorruptFileError",
        ("not a readable fingerprint", "dog.png"),
    ),
    "a folder in place of a fingerprint": (lambda p: [p], 4, "MissingFileError", ("no such fingerprint",)),
    "an empty file": (lambda p: [_file(p, "e", b"")], 4, "CorruptFileError", ("not a readable fingerprint",)),
    "a vector with NaN": (lambda p: [nan_vector(p)], 4, "CorruptFileError", ("not finite",)),
    "a vector of zeros": (
        lambda p: [saved(p, made(vector=np.zeros(512, np.float32)))],
        4,
        "NotFiniteError",
        ("cannot be rendered", "norm 0"),
    ),
    "a tampered vector": (
        lambda p: [damaged(saved(p), lambda data: data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])],
        4,
        "CorruptFileError",
        ("digest",),
    ),
    "size 0": (lambda p: [saved(p), "--size", 0], 2, "UsageError", ("no such picture size", "1 to 4096", "got: 0")),
    "size 100000": (lambda p: [saved(p), "--size", 100000], 2, "UsageError", ("1 to 4096", "100000")),
    "a negative size": (lambda p: [saved(p), "--size", -5], 2, "UsageError", ("no such picture size", "-5")),
    "a size in words": (lambda p: [saved(p), "--size", "huge"], 2, "UsageError", ("native", "huge")),
    "a size of many digits": (lambda p: [saved(p), "--size", "9" * 5000], 2, "UsageError", ("no such picture size",)),
    "a page too large": (
        lambda p: [*[saved(p, kin(0.5, f"m{k}")) for k in range(6)], "--size", 4096],
        2,
        "UsageError",
        ("a page too large",),
    ),
    "an unknown layout": (
        lambda p: [saved(p), "--layout", "heap"],
        2,
        "UsageError",
        ("--layout", "'portrait', 'sheet', 'row', 'difference'", "got: heap"),
    ),
    "a row of one": (lambda p: [saved(p), "--layout", "row"], 2, "UsageError", ("another number", "got: 1")),
    "a portrait of two": (
        lambda p: [saved(p), saved(p), "--layout", "portrait"],
        2,
        "UsageError",
        ("another number of fingerprints", "expected: 1"),
    ),
    "a difference of three": (
        lambda p: [saved(p)] * 3 + ["--layout", "difference"],
        2,
        "UsageError",
        ("expected: 2", "got: 3"),
    ),
    "a difference of different recipes": (
        lambda p: [saved(p), saved(p, made("other", recipe=Recipe(n_tokens=300))), "--layout", "difference"],
        3,
        "InconclusiveError",
        ("different recipes",),
    ),
    "an unknown format": (
        lambda p: [saved(p), "--format", "bmp"],
        2,
        "UsageError",
        ("--format", "'png', 'svg'", "got: bmp"),
    ),
    "an ending that is no format": (
        lambda p: [saved(p), "--out", p / "dog.jpg"],
        2,
        "UsageError",
        ("unknown picture format", "jpg", "--out NAME.png"),
    ),
    "a format against the ending": (
        lambda p: [saved(p), "--format", "svg", "--out", p / "dog.png"],
        2,
        "UsageError",
        ("ending is of another format",),
    ),
    "a badge of two": (lambda p: [saved(p), saved(p), "--format", "svg"], 2, "UsageError", ("a badge is of one",)),
    "a badge with a layout": (
        lambda p: [saved(p), "--layout", "sheet", "--format", "svg"],
        2,
        "UsageError",
        ("a badge has one layout",),
    ),
    "a base without a badge": (lambda p: [saved(p), "--base", saved(p)], 2, "UsageError", ("--format svg",)),
    "psi above 1": (lambda p: [saved(p), "--psi", 1.5], 2, "UsageError", ("--psi", "equal to 1", "got: 1.5")),
    "psi below 0": (lambda p: [saved(p), "--psi", -0.1], 2, "UsageError", ("--psi", "got: -0.1")),
    "psi that is no number": (lambda p: [saved(p), "--psi", "nan"], 2, "UsageError", ("--psi", "got: nan")),
    "a badge below a file": (
        lambda p: [saved(p), "--out", _file(p, "file", b"mine") / "b.svg"],
        2,
        "OutputError",
        ("b.svg",),
    ),
    "a picture onto a folder": (
        lambda p: [saved(p), "--out", _folder(p)],
        2,
        "OutputError",
        ("cannot write", "d.png"),
    ),
}


def _folder(place: Path) -> Path:
    (place / "d.png").mkdir(exist_ok=True)
    return place / "d.png"


@pytest.mark.parametrize("name", CASES)
def test_bad_input(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    build, code, kind, parts = CASES[name]
    here = tmp_path / "here"
    here.mkdir()
    arguments = build(tmp_path)
    before = _contents(tmp_path)
    monkeypatch.chdir(here)
    for_people, for_programs = cli("render", *arguments), cli("render", *arguments, "--json")
    error = for_programs.document["error"]
    assert (for_people.code, for_programs.code, error["type"]) == (code, code, kind), for_people.err
    assert for_people.out == "" and all(part in for_people.err for part in parts), for_people.err
    assert _contents(tmp_path) == before, "something was left behind"


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_shipped_weights_that_were_tampered_with(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = saved(tmp_path), tmp_path / "p.png"
    weights = damaged(generator(tmp_path), lambda data: data[:-1] + bytes([data[-1] ^ 1]))
    monkeypatch.undo()  # the tiny generator that these tests otherwise take
    monkeypatch.setattr(weights_file, "SHIPPED", weights)
    weights_file.shipped_generator.cache_clear()
    done = cli("render", path, "--out", out)
    assert done.code == 4 and "not the pinned ones" in done.err and weights_file.SHIPPED_SHA256 in done.err
    assert not out.exists()
