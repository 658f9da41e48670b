"""PCS against numpy, and when two weights agree within rounding."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import gguf
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import huref
from huref.errors import CorruptFileError, NotFiniteError, UsageError
from huref.kinship.parameters import ParameterComparison, compare_parameters, have_one_content
from huref.kinship.record import CompareOptions
from huref.model.source import open_checkpoint
from huref.numerics.rounding import within_rounding
from kit.tiny_llama import TinyLlama


class Named:
    """Named tensors with stored types: what `compare_parameters` reads of a model."""

    def __init__(self, tensors: dict[str, np.ndarray], dtype: str = "F32") -> None:
        self.tensors, self.dtype = tensors, dtype
        self.checkpoint = self
        self.reference = "memory"

    def names(self) -> tuple[str, ...]:
        return tuple(self.tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.tensors[name].shape)

    def stored_dtype(self, name: str) -> str:
        return self.dtype

    def stored_names(self, name: str) -> tuple[str, ...]:
        return (name,)

    def bounds(self, names: object) -> None:
        return None

    def read(self, name: str, rows: slice | None = None) -> np.ndarray:
        return self.tensors[name] if rows is None else self.tensors[name][rows]


def compared(a: Named, b: Named) -> ParameterComparison:
    return compare_parameters(a, b)  # type: ignore[arg-type]


def random_tensors(seed: int) -> dict[str, np.ndarray]:
    dice = np.random.default_rng(seed)
    return {
        "embedding": dice.standard_normal((70, 32), np.float32),
        "layers.0.q": dice.standard_normal((32, 32), np.float32),
        "final_norm": 1 + np.float32(0.1) * dice.standard_normal(32, np.float32),
    }


@given(seed=st.integers(0, 999), noise=st.floats(0.0, 3.0))
@settings(max_examples=20, deadline=None)
def test_pcs_equals_numpy(seed: int, noise: float) -> None:
    a = random_tensors(seed)
    b = {
        name: t + np.float32(noise) * u
        for (name, t), u in zip(a.items(), random_tensors(seed + 1).values(), strict=True)
    }
    flat_a, flat_b = (np.concatenate([t.ravel() for t in m.values()]).astype(float) for m in (a, b))
    expected = flat_a @ flat_b / np.linalg.norm(flat_a) / np.linalg.norm(flat_b)
    assert compared(Named(a), Named(b)).pcs == pytest.approx(expected, abs=1e-6)


def test_pcs_in_blocks_equals_pcs_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = Named(random_tensors(1)), Named(random_tensors(2))
    whole = compared(a, b).pcs
    monkeypatch.setattr("huref.kinship.parameters._BLOCK_ELEMENTS", 100)
    assert compared(a, b).pcs == pytest.approx(whole, abs=1e-7)


def test_tensors_without_a_partner_are_skipped_and_named() -> None:
    a = random_tensors(1)
    b = {**a, "embedding": np.zeros((75, 32), np.float32), "extra": np.ones(3, np.float32)}
    found = compared(Named(a), Named(b))
    assert found.pcs == pytest.approx(1.0)
    assert not found.is_identical and not found.is_requantised
    assert sorted(found.skipped) == ["embedding [70, 32] / [75, 32]", "extra (only in B)"]


def test_nothing_in_common_gives_no_number() -> None:
    found = compared(Named({"a": np.ones(3, np.float32)}), Named({"b": np.ones(3, np.float32)}))
    assert found.pcs is None and not found.is_identical


def test_nan_is_refused_by_name() -> None:
    a = random_tensors(1)
    b = {**a, "layers.0.q": np.full((32, 32), np.nan, np.float32)}
    with pytest.raises(NotFiniteError, match=r"layers\.0\.q"):
        compared(Named(a), Named(b))


@pytest.mark.parametrize("kind", ["Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "BF16", "F16"])
def test_a_rounded_copy_is_requantised(kind: str) -> None:
    a = random_tensors(3)
    b = {name: rounded(t, kind) for name, t in a.items()}
    found = compared(Named(a), Named(b, kind))
    assert found.is_requantised and not found.is_identical


@pytest.mark.parametrize("kind", ["Q8_0", "BF16", "Q4_0"])
def test_a_fine_tune_beyond_rounding_is_not(kind: str) -> None:
    """Noise of twice the format's own rounding error, on the rounded copy."""
    a = random_tensors(4)
    b = {}
    for name, t in a.items():
        copy, dice = rounded(t, kind), np.random.default_rng(1)
        b[name] = copy + 2 * (copy - t).std() * dice.standard_normal(t.shape, np.float32)
    assert not compared(Named(a), Named(b, kind)).is_requantised


@pytest.mark.parametrize("first", [kind.name for kind in gguf.GGMLQuantizationType])
@pytest.mark.parametrize("second", ["F32", "Q4_0", "Q2_K", "IQ1_S"])
def test_rounding_never_explains_a_stranger(first: str, second: str) -> None:
    """Independent Gaussian weights, whatever the two types claim to have rounded off."""
    a, b = (np.random.default_rng(seed).standard_normal(4096, np.float32) for seed in (1, 2))
    assert within_rounding(a, b, (first, second)).mean() < 0.95


def test_equal_weights_are_identical() -> None:
    found = compared(Named(random_tensors(5)), Named(random_tensors(5), "F32"))
    assert found.is_identical and found.pcs == pytest.approx(1.0)


@given(scale=st.floats(1e-6, 1e6))
def test_rounding_bounds_scale_with_the_weights(scale: float) -> None:
    x = np.random.default_rng(2).standard_normal(64, np.float32) * np.float32(scale)
    y = x.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert within_rounding(x, y, ("F32", "BF16")).all()
    assert not within_rounding(x, y * np.float32(1.01), ("F32", "BF16")).any()


def rounded(array: np.ndarray, kind: str) -> np.ndarray:
    """Quantise and dequantise with the reference implementation of the gguf package."""
    quantisation = gguf.GGMLQuantizationType[kind]
    rows = array.reshape(-1, 32).astype(np.float32)
    back = gguf.quants.dequantize(gguf.quants.quantize(rows, quantisation), quantisation)
    return back.reshape(array.shape).astype(np.float32)


# Samples of large models


def _of(shapes: dict[str, tuple[int, ...]], seed: int, base: Named | None = None, noise: float = 1.0) -> Named:
    dice = np.random.default_rng(seed)
    drawn = {name: np.float32(noise) * dice.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    return Named(drawn if base is None else {name: base.tensors[name] + t for name, t in drawn.items()})


SHAPES = {"a": (4096, 16), "b": (512, 64), "c": (100,)}


@pytest.fixture
def small_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huref.kinship.parameters._MOST_VALUES", 12_000)
    monkeypatch.setattr("huref.kinship.parameters._SAMPLE_ELEMENTS", 256)


@pytest.mark.usefixtures("small_samples")
@pytest.mark.parametrize("noise", [0.1, 0.7, 2.0])
def test_a_sample_comes_as_near_as_its_error_says(noise: float) -> None:
    a = _of(SHAPES, 1)
    b = _of(SHAPES, 2, a, noise)
    exact = compare_parameters(a, b)
    sampled = compare_parameters(a, b, is_exact=False)
    assert 0 < sampled.total.n_values < 0.2 * exact.total.n_values
    assert exact.error == 0.0 < sampled.error < 0.02
    assert abs(sampled.pcs - exact.pcs) < 4 * sampled.error


@pytest.mark.usefixtures("small_samples")
def test_what_agrees_in_a_sample_is_read_whole() -> None:
    """The words for equal and for rounded weights are said of all of them."""
    a = _of(SHAPES, 1)
    found = compare_parameters(a, a, is_exact=False)
    assert found.is_identical and not found.blocks and found.error == 0.0
    changed = {name: tensor.copy() for name, tensor in a.tensors.items()}
    changed["a"][17] += 1.0  # a row that no sample meets
    other = compare_parameters(a, Named(changed), is_exact=False)
    assert not other.is_identical and not other.blocks
    assert not compare_parameters(a, _of(SHAPES, 2, a, 0.5), is_exact=False).is_requantised


def test_rounding_is_not_counted_once_it_is_ruled_out() -> None:
    a = _of(SHAPES, 1)
    found = compare_parameters(a, _of(SHAPES, 2, a, 0.5))
    assert found.total.n_equal <= 4096 * 16 and found.worst_rounding < 0.99 and not found.is_requantised


# Two copies of one file


def test_files_are_one_content_only_byte_by_byte(tmp_path: Path) -> None:
    base, copy, other = (TinyLlama(seed=seed).save(tmp_path / n) for n, seed in (("a", 1), ("b", 1), ("c", 2)))
    opened = [open_checkpoint(folder) for folder in (base, copy, other)]
    assert have_one_content(opened[0], opened[0]) and have_one_content(opened[0], opened[1])
    assert not have_one_content(opened[0], opened[2])  # of equal size
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "model.safetensors").write_bytes(data)
    assert not have_one_content(opened[0], opened[1])
    for checkpoint in opened:
        checkpoint.close()


def test_two_copies_are_identical_without_a_score(tmp_path: Path) -> None:
    a, b = (TinyLlama(seed=1).save(tmp_path / name) for name in "ab")
    found = huref.compare(a, b)
    assert (found.verdict, found.pcs, found.ics, found.agreement, found.layers) == ("identical", 1.0, None, None, ())
    assert found.derivation["kind"] == "identical" and "no score was computed" in found.notes[0]
    assert found.read[0]["bytes_read"] < found.read[0]["bytes_total"] / 2  # a look for damage
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    (tmp_path / "b" / "config.json").write_text(json.dumps({**config, "rope_theta": 5.0}))
    assert any("the configurations differ" in note for note in huref.compare(a, tmp_path / "b").notes)
    with pytest.raises(UsageError, match="no such layer"):
        huref.compare(a, b, CompareOptions(layers="99"))


def test_copies_of_a_damaged_model_are_refused(tmp_path: Path) -> None:
    tensors = {name: 0 * tensor for name, tensor in TinyLlama(seed=1).tensors().items()}
    for name in "ab":
        folder = TinyLlama(seed=1).save(tmp_path / name)
        save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CorruptFileError, match="a matrix of zeros"):
        huref.compare(tmp_path / "a", tmp_path / "b")


# Sketches of wide models


def test_sketched_ics_is_the_exact_one_within_its_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = (TinyLlama(seed=1, noise=noise, n_tokens=400).save(tmp_path / n) for n, noise in (("a", 0.0), ("b", 0.6)))
    options = CompareOptions(method="ics", n_tokens=400)
    exact = huref.compare(a, b, options)
    monkeypatch.setattr("huref.kinship.invariants._MOST_MULTIPLICATIONS", 0)
    sketched, whole = huref.compare(a, b, options), huref.compare(a, b, replace(options, is_exact=True))
    assert whole.ics == exact.ics and not whole.errors
    for name in ("ics", "ics_canonical_2"):
        error = sketched.errors[name]
        assert 0 < error < 0.05 and abs(getattr(sketched, name) - getattr(exact, name)) < 4 * error, name
    names = [[(t.layer_a, t.layer_b, t.term) for t in each.terms] for each in (exact, sketched)]
    assert names[0] == names[1]
    assert any("--exact takes whole terms" in note for note in sketched.notes)
