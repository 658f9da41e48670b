"""Laws of the generator: its convolutions, filters, truncation, determinism, and its weights on disk."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from huref.errors import OutputError, UsageError, WeightsError
from huref.portraits.generator import file as weights_file
from huref.portraits.generator.config import StyleGAN2Config
from huref.portraits.generator.file import load_generator, save_generator
from huref.portraits.generator.stylegan2 import Generator, blurred, modulated, spread, upsampled
from huref_lab.generator.release import release
from kit.threads import threads
from kit.tiny_generator import random_generator

TINY = StyleGAN2Config(resolution=16, z_dim=24, w_dim=16, mapping_layers=3, channel_base=128, channel_max=12)


def tiny() -> Generator:
    return random_generator(TINY)


def maps(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def as_torch(x: np.ndarray) -> torch.Tensor:
    """(n, h, w, c) -> (n, c, h, w) in float64."""
    return torch.from_numpy(x).double().permute(0, 3, 1, 2)


def is_close(found: np.ndarray, expected: torch.Tensor) -> bool:
    return bool(np.allclose(found, expected.permute(0, 2, 3, 1).numpy(), rtol=0, atol=2e-5))


def low_pass(channels: int) -> torch.Tensor:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64) / 8
    return (torch.outer(taps, taps) * 4).expand(channels, 1, 4, 4)


def test_the_transposed_convolution_is_torchs() -> None:
    x, kernel = maps(2, 6, 5, 4), maps(3, 3, 4, 7, seed=1)
    weight = torch.from_numpy(kernel).double().permute(2, 3, 0, 1)
    assert is_close(spread(x, kernel), functional.conv_transpose2d(as_torch(x), weight, stride=2))


def test_filters_are_zero_insertion_and_the_low_pass() -> None:
    x = maps(2, 5, 7, 3)
    wide = torch.zeros(2, 3, 10, 14, dtype=torch.float64)
    wide[:, :, ::2, ::2] = as_torch(x)
    expected = functional.conv2d(functional.pad(wide, (2, 1, 2, 1)), low_pass(3), groups=3)
    assert is_close(upsampled(x), expected)
    assert is_close(blurred(x), functional.conv2d(as_torch(x), low_pass(3), padding=1, groups=3))
    constant = np.full((1, 8, 8, 3), 0.7, np.float32)
    np.testing.assert_allclose(upsampled(constant)[:, 2:-2, 2:-2], 0.7, rtol=1e-6)


@pytest.mark.parametrize("is_up", [False, True])
def test_modulation_equals_weights_of_each_samples_own(is_up: bool) -> None:
    """The published form: every sample has its own scaled and demodulated weights."""
    x, weight, style = maps(3, 6, 6, 5), maps(7, 5, 3, 3, seed=1), maps(3, 5, seed=2) + 1
    y, demodulation = modulated(x, weight, style, is_up=is_up)
    for k in range(3):
        own = torch.from_numpy(weight * style[k][:, None, None]).double()
        own = own / (own.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if is_up:
            wide = functional.conv_transpose2d(as_torch(x[k : k + 1]), own.transpose(0, 1), stride=2)
            expected = functional.conv2d(wide, low_pass(7), padding=1, groups=7)
        else:
            expected = functional.conv2d(as_torch(x[k : k + 1]), own, padding=1)
        assert is_close((y * demodulation[:, None, None])[k : k + 1], expected)


def test_demodulation_gives_unit_variance() -> None:
    style = np.random.default_rng(3).random((64, 16), dtype=np.float32) * 4 + 0.1
    y, demodulation = modulated(maps(64, 16, 16, 16), maps(8, 16, 3, 3, seed=1) * 3, style)
    assert (y * demodulation[:, None, None])[:, 1:-1, 1:-1].var() == pytest.approx(1.0, abs=0.03)


def test_shape_of_the_network_is_the_published_one() -> None:
    for side in (8, 64, 512, 1024):
        config = StyleGAN2Config(resolution=side)
        assert config.sides[-1] == side
        assert config.style_layers == 2 * int(math.log2(side)) - 2
    names = set(TINY.shapes)
    layer = {"affine.weight", "affine.bias", "weight", "noise_strength", "bias", "noise_const"}
    rgb = {"affine.weight", "affine.bias", "weight", "bias"}
    expected = {"mapping.w_avg", "synthesis.b4.const"}
    expected |= {f"mapping.fc{k}.{part}" for k in range(3) for part in ("weight", "bias")}
    for side in (4, 8, 16):
        expected |= {f"synthesis.b{side}.conv1.{part}" for part in layer}
        expected |= {f"synthesis.b{side}.torgb.{part}" for part in rgb}
        expected |= {f"synthesis.b{side}.conv0.{part}" for part in layer if side > 4}
    assert names == expected


@pytest.mark.parametrize("side", [0, 4, 48, 2048])
def test_impossible_resolutions_are_refused(side: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        StyleGAN2Config(resolution=side)


def test_truncation_zero_is_the_mean_and_one_changes_nothing() -> None:
    generator, z = tiny(), maps(4, TINY.z_dim)
    same = generator(z, psi=0.0, cutoff=TINY.style_layers)
    assert np.abs(same - same[:1]).max() < 1e-5
    w = generator.styles(z)
    full = generator.pictures(np.repeat(w[:, None], TINY.style_layers, axis=1))
    np.testing.assert_array_equal(generator(z, psi=1.0), full)
    ws = generator.truncated(w, 0.5, cutoff=2)
    np.testing.assert_allclose(ws[:, 0], (w + generator.tensors["mapping.w_avg"]) / 2, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(ws[:, 2], w)


def test_only_the_direction_of_a_vector_counts() -> None:
    generator, z = tiny(), maps(4, TINY.z_dim)
    np.testing.assert_allclose(generator.styles(z), generator.styles(z * 37), rtol=1e-4, atol=1e-4)


def test_pictures_do_not_depend_on_threads_or_batches() -> None:
    generator, z = tiny(), maps(6, TINY.z_dim)
    with threads(1):
        one = generator(z)
    with threads(2):
        two = generator(z)
    limit = 0.25 / 127.5
    assert np.abs(one - two).max() < limit
    split = np.concatenate([generator(z[:1]), generator(z[1:4]), generator(z[4:])])
    assert np.abs(one - split).max() < limit


def test_weights_come_back_in_half_precision(tmp_path: Path) -> None:
    generator, path = tiny(), tmp_path / "g.safetensors"
    digest = save_generator(generator, path, {"images": 3})
    back = load_generator(path, digest)
    assert back.config == TINY
    for name, value in generator.tensors.items():
        np.testing.assert_array_equal(back.tensors[name], value.astype(np.float16))
    notes = json.loads(weights_file.read_metadata(path.read_bytes())["notes"])
    assert notes == {"images": 3}
    assert digest == save_generator(generator, path, {"images": 3})
    assert [p.name for p in tmp_path.iterdir()] == ["g.safetensors"]


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "header", "missing"])
def test_damaged_weights_are_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "g.safetensors"
    digest = save_generator(tiny(), path, {})
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-5] ^= 1
    elif damage == "truncate":
        del data[len(data) // 2 :]
    elif damage == "empty":
        data.clear()
    elif damage == "header":
        data[:8] = (2**62).to_bytes(8, "little")
    path.write_bytes(data)
    if damage == "missing":
        path.unlink()
    with pytest.raises(WeightsError):
        load_generator(path, digest)
    if damage != "flip":
        with pytest.raises(WeightsError):
            load_generator(path)


def test_weights_of_another_shape_or_kind_are_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "other.safetensors"
    save_file({"x": np.zeros(2)}, path)
    with pytest.raises(WeightsError):
        load_generator(path)
    save_file(
        {"x": np.zeros(2)},
        path,
        {"format": weights_file.FORMAT, "config": '{"resolution": 16}', "notes": "{}"},
    )
    with pytest.raises(WeightsError):
        load_generator(path)
    save_file({"x": np.zeros(2)}, path, {"format": weights_file.FORMAT, "config": '{"rooms": 2}', "notes": "{}"})
    with pytest.raises(WeightsError):
        load_generator(path)


def test_weights_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        save_generator(tiny(), tmp_path, {})


def test_a_release_copies_and_pins(tmp_path: Path) -> None:
    weights, shipped, source = (tmp_path / name for name in ("g.safetensors", "shipped.safetensors", "pins.py"))
    digest = save_generator(tiny(), weights, {})
    source.write_text('A = 1\nSHIPPED_SHA256 = "old"\nB = 2\n')
    assert release(weights, shipped, source) == digest
    assert source.read_text() == f'A = 1\nSHIPPED_SHA256 = "{digest}"\nB = 2\n'
    load_generator(shipped, digest)
    source.write_text("A = 1\n")
    with pytest.raises(UsageError, match="pin"):
        release(weights, tmp_path / "other", source)
    assert not (tmp_path / "other").exists()


def test_the_shipped_weights_are_small_pinned_and_have_a_card() -> None:
    assert weights_file.SHIPPED.stat().st_size < 12_000_000
    card = weights_file.SHIPPED.with_suffix(".md").read_text()
    assert weights_file.SHIPPED_SHA256 in card
    config = weights_file.shipped_generator().config
    assert (config.resolution, config.z_dim, config.mapping_layers) == (128, 512, 1)
