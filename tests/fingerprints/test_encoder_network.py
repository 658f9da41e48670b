"""The CNN encoder: the published architecture, exactly; evaluation mode; folded convolutions; weights on disk."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from huref.errors import OutputError, UsageError, WeightsError
from huref.fingerprints.encoder.file import load_encoder, save_encoder, trained_side
from huref.fingerprints.encoder.network import (
    EncoderCNN,
    EncoderConfig,
    FoldedConv2d,
    encode,
    fold,
    standardised_terms,
    unfold,
)
from kit.hostile_files import assert_complete
from kit.tiny_encoders import official_like, plain_conv, save_small, trained

TINY = EncoderConfig(inputs=2, channels=(3, 5), kernel=12, stride=4)


def random_conv(config: EncoderConfig, inputs: int, outputs: int) -> FoldedConv2d:
    conv = FoldedConv2d(inputs, outputs, config)
    conv.initialise(torch.Generator().manual_seed(1))
    return conv


def test_the_published_architecture() -> None:
    with torch.device("meta"):
        encoder = EncoderCNN(seed=None)
        seen: list[tuple[int, ...]] = []
        for conv in encoder.convs:
            conv.register_forward_hook(lambda _m, _x, y: seen.append(tuple(y.shape)))
        vectors = encoder(torch.empty(2, 6, 4096, 4096))
    assert seen == [(2, 8, 1024, 1024), (2, 64, 256, 256), (2, 256, 64, 64), (2, 512, 16, 16)]
    assert vectors.shape == (2, 512)
    kernels = [(6, 8), (8, 64), (64, 256), (256, 512)]
    wanted = sum(i * o * 48 * 48 + o + 2 * o for i, o in kernels)
    assert sum(p.numel() for p in encoder.parameters()) == wanted == 341_031_384
    assert EncoderConfig().padding == 22 and EncoderConfig().multiple == 256


@given(
    blocks=st.integers(1, 6),
    stride=st.sampled_from([1, 2, 4]),
    side=st.integers(1, 5),
    seed=st.integers(0, 99),
)
@settings(max_examples=40)
def test_a_folded_convolution_is_the_strided_one(blocks: int, stride: int, side: int, seed: int) -> None:
    if (blocks * stride - stride) % 2:
        blocks += 1
    config = EncoderConfig(kernel=blocks * stride, stride=stride)
    conv = random_conv(config, 3, 4)
    kernel = unfold(conv.weight.detach(), stride)
    assert torch.equal(fold(kernel, stride), conv.weight)
    x = torch.randn(2, 3, side * stride, side * stride, generator=torch.Generator().manual_seed(seed))
    wanted = plain_conv(x, kernel, conv.bias, config)
    torch.testing.assert_close(conv(x), wanted, rtol=1e-4, atol=1e-5)
    before = conv.weight.detach().clone()
    conv.narrow(side)
    torch.testing.assert_close(conv(x), wanted, rtol=1e-4, atol=1e-5)
    conv.widen(before)
    assert torch.equal(conv.weight, before)


def test_taps_that_narrow_drops_get_no_gradient() -> None:
    config = EncoderConfig(kernel=24, stride=4)
    conv = random_conv(config, 2, 3)
    x = torch.randn(2, 2, 4, 4)
    conv(x).square().sum().backward()
    cut = conv.unreached(1)
    assert cut > 0
    inside = torch.zeros_like(conv.weight, dtype=torch.bool)
    inside[:, :, cut:-cut, cut:-cut] = True
    assert conv.weight.grad is not None
    assert conv.weight.grad[~inside].abs().max() == 0 < conv.weight.grad[inside].abs().max()
    conv.narrow(1)
    with pytest.raises(ValueError, match="narrowed"):
        conv(torch.randn(1, 2, 16, 16))


def numpy_encoder(x: np.ndarray, encoder: EncoderCNN) -> np.ndarray:
    """The definition, in float64, by explicit windows."""
    config, last = encoder.config, len(encoder.convs) - 1
    for k, (conv, norm) in enumerate(zip(encoder.convs, encoder.norms, strict=True)):
        kernel = unfold(conv.weight.detach(), config.stride).double().numpy()  # type: ignore[arg-type]
        padded = np.pad(x, [(0, 0), (config.padding, config.padding), (config.padding, config.padding)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, (config.kernel, config.kernel), (1, 2))
        windows = windows[:, :: config.stride, :: config.stride]
        x = np.einsum("ihwyx,oiyx->ohw", windows, kernel) + conv.bias.detach().double().numpy()[:, None, None]
        x = np.maximum(x, 0) if k < last else x
        mean, variance, gain, shift = (
            value.detach().double().numpy()[:, None, None]
            for value in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        )
        x = (x - mean) / np.sqrt(variance + 1e-5) * gain + shift
    vector = x.mean(axis=(1, 2))
    return (vector - vector.mean()) / vector.std(ddof=1)


def test_encode_is_the_definition() -> None:
    encoder = trained(TINY)
    terms = torch.randn(2, 32, 32, generator=torch.Generator().manual_seed(2)) * 5 + 3
    flat = terms.double().numpy()
    standard = (flat - flat.mean((1, 2), keepdims=True)) / flat.std((1, 2), keepdims=True, ddof=1)
    vector = encode(terms, encoder)
    np.testing.assert_allclose(vector.numpy(), numpy_encoder(standard, encoder), atol=2e-5)
    assert vector.mean().abs() < 1e-6 and vector.std().item() == pytest.approx(1)


def test_folded_layers_are_the_plain_torch_ones() -> None:
    module = official_like(TINY)
    encoder = EncoderCNN(TINY)
    for k in range(2):
        encoder.convs[k].weight.data = fold(getattr(module, f"cnn{k}").weight.data, 4)  # type: ignore[union-attr]
        encoder.convs[k].bias.data = getattr(module, f"cnn{k}").bias.data  # type: ignore[union-attr]
        encoder.norms[k].load_state_dict(getattr(module, f"bn{k}").state_dict())
    x = torch.randn(3, 2, 32, 32)
    for mode in (False, True):
        torch.testing.assert_close(encoder.train(mode)(x), module.train(mode)(x), rtol=1e-4, atol=1e-5)
    for k in range(2):
        theirs = getattr(module, f"bn{k}")
        torch.testing.assert_close(encoder.norms[k].running_mean, theirs.running_mean)
        torch.testing.assert_close(encoder.norms[k].running_var, theirs.running_var)


def test_evaluation_mode_looks_at_one_sample_at_a_time() -> None:
    encoder = trained(TINY)
    x = torch.randn(5, 2, 32, 32)
    together, alone = encoder(x), torch.cat([encoder(one[None]) for one in x])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    statistics = {name: value.clone() for name, value in encoder.state_dict().items()}
    learning = encoder.train()(x)
    assert (learning - together).abs().max() > 0.01
    first = torch.cat([x[:1], torch.randn(4, 2, 32, 32)])
    assert (encoder(first)[0] - learning[0]).abs().max() > 0.01
    after = encoder.state_dict()
    assert all(torch.equal(after[n], v) == ("running" not in n and "tracked" not in n) for n, v in statistics.items())
    encoder.eval()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder(x)
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())


@pytest.mark.parametrize("mode", [True, False])
def test_encode_leaves_the_encoder_as_it_was(mode: bool) -> None:
    encoder = trained(TINY).train(mode)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    terms = torch.randn(2, 16, 16)
    first = encode(terms, encoder)
    assert torch.equal(first, encode(terms, encoder)) and encoder.training is mode
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())


@given(scale=st.floats(0.01, 100), shift=st.floats(-100, 100), term=st.integers(0, 1))
@settings(max_examples=20)
def test_scale_and_mean_of_a_term_do_not_matter(scale: float, shift: float, term: int) -> None:
    encoder = trained(TINY)
    terms = torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(4))
    other = terms.clone()
    other[term] = other[term] * scale + shift * scale
    torch.testing.assert_close(encode(other, encoder), encode(terms, encoder), rtol=0, atol=5e-3)


def test_a_constant_term_gives_no_nan() -> None:
    terms = torch.randn(2, 16, 16)
    terms[0] = 3.0
    assert standardised_terms(terms)[0].abs().max() == 0
    assert torch.isfinite(encode(terms, trained(TINY))).all()


@pytest.mark.parametrize("shape", [(2, 24, 24), (3, 16, 16), (2, 16, 32), (2, 16), (2, 0, 0)])
def test_matrices_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="multiple of 16") as caught:
        encode(torch.zeros(shape), trained(TINY))
    assert_complete(caught.value)


@pytest.mark.parametrize("bad", [{"channels": ()}, {"kernel": 10}, {"stride": 0}, {"channels": (4, 1)}])
def test_impossible_shapes_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"encoder|blocks"):
        EncoderConfig(**bad)  # type: ignore[arg-type]


def test_the_seed_decides() -> None:
    a, b, c = (EncoderCNN(TINY, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["convs.1.weight"], c["convs.1.weight"])
    bound = 1 / np.sqrt(3 * 12 * 12)
    assert a["convs.1.weight"].abs().max() == pytest.approx(bound, rel=0.01)


def test_weights_survive_the_disk_in_half_precision(tmp_path: Path) -> None:
    encoder = trained(TINY)
    for name in ("a", "b"):
        save_encoder(encoder, tmp_path / f"{name}.safetensors", {"side": 32, "z": 1, "a": 2})
    path = tmp_path / "a.safetensors"
    assert path.read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    found = load_encoder(path)
    assert found.side == trained_side(path) == 32 and found.notes["a"] == 2 and not found.encoder.training
    stored, wanted = found.encoder.state_dict(), encoder.state_dict()
    assert stored.keys() == wanted.keys()
    for name, value in wanted.items():
        expected = value.half().float() if value.ndim == 4 else value
        assert torch.equal(stored[name], expected), name
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
