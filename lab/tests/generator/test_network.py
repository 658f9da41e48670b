"""Laws of the network that trains: its convolutions, filters, truncation; and what it draws is what huref draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from huref.portraits.generator.config import StyleGAN2Config
from huref.portraits.generator.file import shipped_generator
from huref.portraits.generator.stylegan2 import GAIN
from huref_lab.generator.network import (
    Dense,
    TrainableGenerator,
    blur_kernel,
    leaky,
    modulated_conv,
    truncate,
    upsample,
)

TINY = StyleGAN2Config(resolution=16, z_dim=24, w_dim=16, mapping_layers=3, channel_base=128, channel_max=12)


def tiny(seed: int = 0, config: StyleGAN2Config = TINY) -> TrainableGenerator:
    """A small generator with every parameter away from its initial value."""
    torch.manual_seed(seed)
    generator = TrainableGenerator(config).eval().requires_grad_(False)
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


@pytest.mark.parametrize(("classes", "clamp"), [(0, None), (3, None), (0, 0.5)])
def test_what_trains_and_what_draws_are_one_network(classes: int, clamp: float | None) -> None:
    config = StyleGAN2Config(16, 24, 16, 3, 128, 12, label_dim=classes, conv_clamp=clamp)
    network = tiny(config=config)
    generator, z = network.drawing(), np.random.default_rng(0).standard_normal((3, 24), dtype=np.float32)
    labels = np.array([2, 0, 1]) if classes else None
    for psi, cutoff in ((1.0, 8), (0.5, 3), (0.2, 8)):
        chosen = None if labels is None else torch.from_numpy(labels)
        expected = network(torch.from_numpy(z), psi, cutoff, chosen).permute(0, 2, 3, 1).numpy()
        found = generator(z, psi, cutoff, labels)
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    again = TrainableGenerator.of(generator).state_dict()
    assert all(torch.equal(again[name], value) for name, value in network.state_dict().items())


def test_the_shipped_generator_draws_with_torch_what_it_draws_without() -> None:
    generator = shipped_generator()
    z = np.random.default_rng(0).standard_normal((2, 512), dtype=np.float32)
    with torch.inference_mode():
        expected = TrainableGenerator.of(generator)(torch.from_numpy(z)).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(generator(z), expected, rtol=0, atol=0.1 / 127.5)


def test_a_drawing_does_not_train_on() -> None:
    network = tiny()
    generator = network.drawing()
    before = generator.tensors["synthesis.b4.const"].copy()
    network.synthesis.b4.const += 1
    assert np.array_equal(generator.tensors["synthesis.b4.const"], before)


def test_bfloat16_maps_give_about_the_same_picture() -> None:
    generator, z = tiny(), torch.randn(4, TINY.z_dim)
    ws = truncate(generator.mapping(z), generator.mapping.w_avg, TINY.style_layers, 1.0, 0)
    exact, fast = generator.synthesis(ws), generator.synthesis(ws, dtype=torch.bfloat16)
    assert fast.dtype == torch.float32
    assert (exact - fast).abs().mean() < 0.02 * exact.abs().mean()
