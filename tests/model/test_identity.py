"""By what a model is known: any change of a file that a reader opens makes it another."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from huref.model import identity
from huref.model.identity import identify
from kit.tiny_llama import TinyLlama

READ = (
    *("config.json", "generation_config.json", "model.safetensors.index.json", "pytorch_model.bin", "model.gguf"),
    *("tokenizer.json", "tokenizer_config.json", "added_tokens.json", "vocab.json", "merges.txt", "tokenizer.model"),
    *("spiece.model", "qwen.tiktoken", "tekken.json", "model-00002-of-00003.safetensors", "consolidated.00.pth"),
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return TinyLlama(n_layers=1).save(tmp_path / "model")


def change(path: Path, at: int) -> None:
    """Another byte there; size and time of modification as before."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.mark.parametrize("at", [9, 100_000, -1])
def test_a_byte_of_the_weights_with_size_and_time_restored(model: Path, at: int) -> None:
    before = identify(model)
    assert before is not None and before == identify(model) and before.is_still()
    time.sleep(0.02)  # a tick of the file system's clock
    change(model / "model.safetensors", at)
    assert not before.is_still() and identify(model) != before


@pytest.mark.parametrize("at", [9, -1])
def test_ends_are_looked_at_where_no_time_tells(model: Path, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_stamp", lambda found: (found.st_size, 0, 0, 0))
    before = identify(model)
    change(model / "model.safetensors", at)
    assert before is not None and identify(model) != before


@pytest.mark.parametrize("name", READ)
def test_whatever_a_reader_opens_counts(model: Path, name: str) -> None:
    before = identify(model)
    assert before is not None
    with (model / name).open("ab") as file:
        file.write(b" ")
    assert not before.is_still() and identify(model) != before


@pytest.mark.parametrize(
    "name", ["model.huref.safetensors", "model.png", "report.html", "README.md", ".gitattributes"]
)
def test_what_no_reader_opens_does_not(model: Path, name: str) -> None:
    before = identify(model)
    (model / name).write_text("a portrait")
    assert before is not None and before.is_still() and identify(model) == before


def test_readers_open_no_other_files(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What opening a model opens is what its identity names."""
    from huref.model.model import open_model

    opened, real = set[str](), Path.open
    monkeypatch.setattr(Path, "open", lambda self, *a, **k: (opened.add(self.name), real(self, *a, **k))[1])
    for name in ("added_tokens.json", "tokenizer_config.json"):
        (model / name).write_text("{}")
    open_model(model).weights.checkpoint.close()
    monkeypatch.undo()
    known = identify(model)
    assert known is not None and {path for path in opened if (model / path).exists()} <= {f.name for f in known.files}
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= opened


def test_a_file_goes_with_its_parts_and_what_stands_beside_it(tmp_path: Path) -> None:
    names = ("m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "other.gguf", "config.json", "letter.odt")
    for name in names:
        (tmp_path / name).write_text(name)
    known = identify(tmp_path / names[0])
    assert known is not None and [file.name for file in known.files] == ["config.json", *names[:2]]


def test_one_path_is_another_model_than_its_copy(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "copy")
    one, other = identify(model), identify(tmp_path / "copy")
    assert one is not None and other is not None and one != other
    assert one.contents() == other.contents()
    change(tmp_path / "copy" / "model.safetensors", 100_000)
    assert one.contents() != other.contents()


def test_what_changed_just_now_may_change_again_unseen(model: Path) -> None:
    known = identify(model)
    assert known is not None and not known.is_settled
    later = identity.Identity(known.place, known.files, known.taken + 10**10)
    assert later.is_settled and later == known


def test_nothing_there_is_not_known(tmp_path: Path) -> None:
    assert identify(tmp_path / "none") is None and identify(tmp_path) is None
