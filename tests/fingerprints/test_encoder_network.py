"""The CNN encoder: the published definition, its weights on disk, and what it refuses."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from huref.errors import OutputError, UsageError, WeightsError
from huref.fingerprints.encoder.file import load_encoder, save_encoder, trained_side
from huref.fingerprints.encoder.network import (
    Encoder,
    EncoderConfig,
    encode,
    fold,
    standardised_terms,
    unfold,
)
from kit.hostile_files import assert_complete
from kit.tiny_encoders import official_like, save_small, trained

TINY = EncoderConfig(inputs=2, channels=(3, 5), kernel=12, stride=4)


def samples(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def test_the_published_sizes() -> None:
    config = EncoderConfig()
    kernels = [(6, 8), (8, 64), (64, 256), (256, 512)]
    trained_numbers = [np.prod(shape) for name, shape in config.shapes.items() if name.endswith(("weight", "bias"))]
    assert sum(trained_numbers) == sum(i * o * 48 * 48 + o + 2 * o for i, o in kernels) == 341_031_384
    assert config.padding == 22 and config.multiple == 256
    kernel = samples(4, 3, 12, 12)
    assert np.array_equal(unfold(fold(kernel, 4), 4), kernel)


def test_vectors_are_those_of_the_plain_torch_layers() -> None:
    module = official_like(TINY)
    tensors: dict[str, np.ndarray] = {}
    for name, value in module.state_dict().items():
        layer, leaf = name.split(".")
        kind, k = ("convs", layer[3:]) if layer.startswith("cnn") else ("norms", layer[2:])
        array = value.numpy()
        tensors[f"{kind}.{k}.{leaf}"] = fold(array, TINY.stride) if array.ndim == 4 else array
    terms = standardised_terms(samples(2, 32, 32))
    with torch.no_grad():
        expected = module(torch.from_numpy(terms)[None])[0].numpy()
    np.testing.assert_allclose(Encoder(TINY, tensors)(terms), expected, atol=1e-5)


def numpy_encoder(x: np.ndarray, encoder: Encoder) -> np.ndarray:
    """The definition, in float64, by explicit windows."""
    config, last = encoder.config, len(encoder.config.channels) - 1
    for k in range(last + 1):
        kernel = unfold(encoder.tensors[f"convs.{k}.weight"], config.stride).astype(np.float64)
        padded = np.pad(x, [(0, 0), (config.padding, config.padding), (config.padding, config.padding)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, (config.kernel, config.kernel), (1, 2))
        windows = windows[:, :: config.stride, :: config.stride]
        x = np.einsum("ihwyx,oiyx->ohw", windows, kernel) + encoder.tensors[f"convs.{k}.bias"][:, None, None]
        x = np.maximum(x, 0) if k < last else x
        mean, variance, gain, shift = (
            encoder.tensors[f"norms.{k}.{leaf}"].astype(np.float64)[:, None, None]
            for leaf in ("running_mean", "running_var", "weight", "bias")
        )
        x = (x - mean) / np.sqrt(variance + 1e-5) * gain + shift
    vector = x.mean(axis=(1, 2))
    return (vector - vector.mean()) / vector.std(ddof=1)


@pytest.mark.parametrize("side", [16, 32, 48])
def test_encode_is_the_definition(side: int) -> None:
    encoder, terms = trained(TINY), samples(2, side, side, seed=2) * 5 + 3
    wide = terms.astype(np.float64)
    standard = (wide - wide.mean((1, 2), keepdims=True)) / wide.std((1, 2), keepdims=True, ddof=1)
    vector = encode(terms, encoder)
    np.testing.assert_allclose(vector, numpy_encoder(standard, encoder), atol=2e-5)
    assert abs(vector.mean()) < 1e-6 and vector.std(ddof=1) == pytest.approx(1)


@given(scale=st.floats(0.01, 100), shift=st.floats(-100, 100), term=st.integers(0, 1))
@settings(max_examples=20)
def test_scale_and_mean_of_a_term_do_not_matter(scale: float, shift: float, term: int) -> None:
    encoder = trained(TINY)
    terms = samples(2, 16, 16, seed=4)
    other = terms.copy()
    other[term] = other[term] * scale + shift * scale
    np.testing.assert_allclose(encode(other, encoder), encode(terms, encoder), rtol=0, atol=5e-3)


def test_a_constant_term_gives_no_nan() -> None:
    terms = samples(2, 16, 16)
    terms[0] = 3.0
    assert np.abs(standardised_terms(terms)[0]).max() == 0
    assert np.isfinite(encode(terms, trained(TINY))).all()


@pytest.mark.parametrize("shape", [(2, 24, 24), (3, 16, 16), (2, 16, 32), (2, 16), (2, 0, 0)])
def test_matrices_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="multiple of 16") as caught:
        encode(np.zeros(shape, np.float32), trained(TINY))
    assert_complete(caught.value)


@pytest.mark.parametrize("bad", [{"channels": ()}, {"kernel": 10}, {"stride": 0}, {"channels": (4, 1)}])
def test_impossible_shapes_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"encoder|blocks"):
        EncoderConfig(**bad)  # type: ignore[arg-type]


def test_weights_survive_the_disk_in_half_precision(tmp_path: Path) -> None:
    encoder = trained(TINY)
    for name in ("a", "b"):
        save_encoder(encoder, tmp_path / f"{name}.safetensors", {"side": 32, "z": 1, "a": 2})
    path = tmp_path / "a.safetensors"
    assert path.read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    found = load_encoder(path)
    assert found.side == trained_side(path) == 32 and found.notes["a"] == 2
    stored, wanted = found.encoder.tensors, encoder.tensors
    assert stored.keys() == wanted.keys()
    for name, value in wanted.items():
        expected = value.astype(np.float16) if value.ndim == 4 else value
        assert np.array_equal(stored[name], expected), name
    assert load_encoder(path, found.sha256).sha256 == found.sha256


def test_other_weights_than_asked_for_are_refused(tmp_path: Path) -> None:
    path = save_small(tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="not the ones asked for") as caught:
        load_encoder(path, "0" * 64)
    assert_complete(caught.value)


def damaged(path: Path, kind: str) -> None:
    data = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_bytes(b"no weights" * 50)
    elif kind == "missing":
        path.unlink()
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    else:
        length = struct.unpack("<Q", data[:8])[0]
        metadata = json.loads(data[8 : 8 + length])["__metadata__"]
        document, tensors = json.loads(metadata["huref"]), load_file(path)
        if kind == "format":
            document["format"] = "huref-encoder-cnn-9"
        elif kind == "config":
            document["config"]["channels"] = [2, 256]
        elif kind == "huge":
            document["config"]["channels"] = [2, 10**9]
        elif kind == "unknown key":
            document["config"]["more"] = 1
        elif kind == "nan":
            tensors["norms.0.running_mean"][0] = float("nan")
        elif kind == "renamed":
            tensors["convs.9.weight"] = tensors.pop("convs.0.weight")
        elif kind == "list":
            document = [1]  # type: ignore[assignment]
        save_file(tensors, path, {"huref": json.dumps(document)})


@pytest.mark.parametrize(
    "kind",
    [
        "truncated",
        "empty",
        "text",
        "missing",
        "folder",
        "format",
        "config",
        "huge",
        "unknown key",
        "nan",
        "renamed",
        "list",
    ],
)
def test_damaged_weights_are_refused(tmp_path: Path, kind: str) -> None:
    path = save_small(tmp_path / "w.safetensors")
    damaged(path, kind)
    with pytest.raises(WeightsError) as caught:
        load_encoder(path)
    assert_complete(caught.value)
    if kind in ("truncated", "empty", "text", "missing", "folder", "list"):
        assert trained_side(path) == 0


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError):
        save_encoder(trained(TINY), tmp_path / "file" / "w.safetensors", {})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
