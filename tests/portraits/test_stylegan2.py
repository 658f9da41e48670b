"""Laws of the generator: its convolutions, filters, truncation, determinism, and its weights on disk."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from huref.errors import OutputError, UsageError, WeightsError
from huref.portraits.generator import file as weights_file
from huref.portraits.generator.file import load_generator, save_generator
from huref.portraits.generator.stylegan2 import (
    GAIN,
    Dense,
    Generator,
    StyleGAN2Config,
    blur_kernel,
    leaky,
    modulated_conv,
    truncate,
    upsample,
)
from huref_lab.generator.release import release

TINY = StyleGAN2Config(resolution=16, z_dim=24, w_dim=16, mapping_layers=3, channel_base=128, channel_max=12)


def tiny(seed: int = 0) -> Generator:
    """A small generator with every parameter away from its initial value."""
    torch.manual_seed(seed)
    generator = Generator(TINY).eval().requires_grad_(False)
    for parameter in generator.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    generator.mapping.w_avg.normal_()
    return generator


def grouped_conv(x: Tensor, weight: Tensor, style: Tensor, *, is_up: bool) -> Tensor:
    """The published formulation: every sample has its own scaled and demodulated weights, in one grouped
    convolution.
    """
    n, channels, height, width = x.shape
    own = weight[None] * style[:, None, :, None, None]
    own = own / (own.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).sqrt()
    x = x.reshape(1, n * channels, height, width)
    if not is_up:
        out = functional.conv2d(x, own.flatten(0, 1), padding=1, groups=n)
        return out.reshape(n, -1, height, width)
    out = functional.conv_transpose2d(x, own.transpose(1, 2).flatten(0, 1), stride=2, groups=n)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype) / 8
    kernel = (torch.outer(taps, taps) * 4).expand(out.shape[1], 1, 4, 4)
    return functional.conv2d(functional.pad(out, (1, 1, 1, 1)), kernel, groups=out.shape[1]).reshape(
        n, -1, 2 * height, 2 * width
    )


@pytest.mark.parametrize("is_up", [False, True])
def test_modulated_conv_equals_per_sample_weights(is_up: bool) -> None:
    torch.manual_seed(1)
    x, weight = torch.randn(3, 5, 6, 6, dtype=torch.float64), torch.randn(7, 5, 3, 3, dtype=torch.float64)
    style = torch.randn(3, 5, dtype=torch.float64) + 1
    y, demodulation = modulated_conv(x, weight, style, is_up=is_up)
    expected = grouped_conv(x, weight, style, is_up=is_up)
    torch.testing.assert_close(y * demodulation[:, :, None, None], expected)


def test_demodulation_gives_unit_variance() -> None:
    torch.manual_seed(2)
    x = torch.randn(64, 16, 16, 16)
    y, demodulation = modulated_conv(x, torch.randn(8, 16, 3, 3) * 3, torch.rand(64, 16) * 4 + 0.1)
    inner = (y * demodulation[:, :, None, None])[:, :, 1:-1, 1:-1]
    assert inner.var().item() == pytest.approx(1.0, abs=0.03)


def downsample(x: torch.Tensor) -> torch.Tensor:
    """Half the side, low-pass filtered, as the discriminator of the publication does."""
    channels = x.shape[1]
    return functional.conv2d(x, blur_kernel(channels, x, gain=1.0), stride=2, padding=1, groups=channels)


def test_filters_keep_constants_and_undo_each_other_on_them() -> None:
    x = torch.full((1, 3, 8, 8), 0.7)
    large = upsample(x)
    assert large.shape == (1, 3, 16, 16)
    torch.testing.assert_close(large[:, :, 2:-2, 2:-2], torch.full((1, 3, 12, 12), 0.7))
    torch.testing.assert_close(downsample(large)[:, :, 2:-2, 2:-2], x[:, :, 2:-2, 2:-2])


def test_upsample_equals_zero_insertion_and_filter() -> None:
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    spread = torch.zeros(2, 3, 10, 10, dtype=torch.float64)
    spread[:, :, ::2, ::2] = x
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64) / 8
    kernel = (torch.outer(taps, taps) * 4).expand(3, 1, 4, 4)
    torch.testing.assert_close(upsample(x), functional.conv2d(functional.pad(spread, (2, 1, 2, 1)), kernel, groups=3))


def test_dense_layers_start_with_unit_gain() -> None:
    torch.manual_seed(3)
    for multiplier in (1.0, 0.01):
        y = Dense(256, 512, lr_multiplier=multiplier)(torch.randn(64, 256))
        assert y.std().item() == pytest.approx(1.0, abs=0.03)
    x = torch.randn(100_000)
    assert (leaky(x) * GAIN).square().mean().item() == pytest.approx(1 + 0.2**2, abs=0.03)


def test_shape_of_the_network_is_the_published_one() -> None:
    for side in (8, 64, 512, 1024):
        config = StyleGAN2Config(resolution=side)
        assert config.sides[-1] == side
        assert config.style_layers == 2 * int(math.log2(side)) - 2
    names = set(Generator(TINY).state_dict())
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
    generator = tiny()
    z = torch.randn(4, TINY.z_dim)
    same = generator(z, psi=0.0, cutoff=TINY.style_layers)
    assert (same - same[:1]).abs().max() < 1e-5
    w = generator.mapping(z)
    full = generator.synthesis(w[:, None].expand(-1, TINY.style_layers, -1))
    torch.testing.assert_close(generator(z, psi=1.0), full)
    ws = truncate(w, generator.mapping.w_avg, TINY.style_layers, 0.5, cutoff=2)
    torch.testing.assert_close(ws[:, 0], (w + generator.mapping.w_avg) / 2)
    torch.testing.assert_close(ws[:, 2], w)


def test_only_the_direction_of_a_vector_counts() -> None:
    generator = tiny()
    z = torch.randn(4, TINY.z_dim)
    torch.testing.assert_close(generator.mapping(z), generator.mapping(z * 37.0), rtol=1e-4, atol=1e-4)


def test_pictures_do_not_depend_on_threads_or_batches() -> None:
    generator, z = tiny(), torch.randn(6, TINY.z_dim)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = generator(z)
        torch.set_num_threads(2)
        two = generator(z)
    finally:
        torch.set_num_threads(threads)
    limit = 0.25 / 127.5
    assert (one - two).abs().max() < limit
    split = torch.cat([generator(z[:1]), generator(z[1:4]), generator(z[4:])])
    assert (one - split).abs().max() < limit
    assert torch.equal(Generator(TINY).synthesis.b8.conv0.noise_const, generator.synthesis.b8.conv0.noise_const)


def test_bfloat16_maps_give_about_the_same_picture() -> None:
    generator, z = tiny(), torch.randn(4, TINY.z_dim)
    ws = truncate(generator.mapping(z), generator.mapping.w_avg, TINY.style_layers, 1.0, 0)
    exact, fast = generator.synthesis(ws), generator.synthesis(ws, dtype=torch.bfloat16)
    assert fast.dtype == torch.float32
    assert (exact - fast).abs().mean() < 0.02 * exact.abs().mean()


def test_weights_come_back_in_half_precision(tmp_path: Path) -> None:
    generator, path = tiny(), tmp_path / "g.safetensors"
    digest = save_generator(generator, path, {"images": 3})
    back = load_generator(path, digest)
    assert back.config == TINY
    for name, value in generator.state_dict().items():
        torch.testing.assert_close(back.state_dict()[name], value.half().float(), rtol=0, atol=0)
    notes = json.loads(weights_file.read_metadata(path.read_bytes())["notes"])
    assert notes == {"images": 3}
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
    from safetensors.torch import save_file

    path = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(2)}, path)
    with pytest.raises(WeightsError):
        load_generator(path)
    save_file(
        {"x": torch.zeros(2)},
        path,
        {"format": weights_file.FORMAT, "config": '{"resolution": 16}', "notes": "{}"},
    )
    with pytest.raises(WeightsError):
        load_generator(path)
    save_file({"x": torch.zeros(2)}, path, {"format": weights_file.FORMAT, "config": '{"rooms": 2}', "notes": "{}"})
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
