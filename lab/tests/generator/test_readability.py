"""Laws of training for readability: kin, the line-up loss, the mapping of one layer."""

import math

import pytest
import torch

from huref.portraits.generator.config import StyleGAN2Config
from huref_lab.generator.growth import grow
from huref_lab.generator.mapping import even_out, fit_one_layer
from huref_lab.generator.network import Mapping, TrainableGenerator
from huref_lab.generator.readability import FARTHEST, NEAREST, line_up_loss, make_kin


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_kin_have_the_promised_cosines_and_stay_gaussian():
    z = make_kin(torch.randn(2000, 512, generator=seeded(0)), seeded(1))
    first, second = z.chunk(2)
    cosines = torch.cosine_similarity(first, second)
    spread = 4 / math.sqrt(512)
    assert FARTHEST - spread < cosines.min() < FARTHEST + 0.05
    assert NEAREST - 0.05 < cosines.max() < NEAREST + spread
    assert second.std() == pytest.approx(1.0, abs=0.01)
    assert torch.cosine_similarity(first, second.roll(1, 0)).mean() == pytest.approx(0.0, abs=0.01)


def test_line_up_loss_is_zero_for_kin_that_coincide_and_chance_without_kin():
    strangers = torch.randn(8, 4096, generator=seeded(2))
    assert line_up_loss(strangers) == pytest.approx(math.log(7), abs=0.1)
    assert line_up_loss(torch.cat([strangers, strangers])) < 0.01
    mixed = torch.cat([strangers, strangers.roll(1, 0)])
    assert line_up_loss(mixed) > 5


def test_line_up_loss_does_not_depend_on_scale_or_order():
    rows = torch.randn(12, 64, generator=seeded(3))
    order = torch.randperm(6, generator=seeded(4))
    again = torch.cat([rows[:6][order], rows[6:][order]])
    torch.testing.assert_close(line_up_loss(again * 7), line_up_loss(rows))


def test_one_layer_keeps_the_statistics_and_bends_less():
    torch.manual_seed(5)
    shape = StyleGAN2Config(resolution=8, z_dim=48, w_dim=48, mapping_layers=6)
    deep, shallow = Mapping(shape), Mapping(StyleGAN2Config(resolution=8, z_dim=48, w_dim=48, mapping_layers=1))
    for layer in deep.children():
        torch.nn.init.normal_(layer.bias, std=30.0)
    fit_one_layer(deep, shallow)
    z = torch.randn(20_000, 48, generator=seeded(6))
    kin = 0.8 * z + 0.6 * torch.randn(z.shape, generator=seeded(7))
    before, after = deep(z), shallow(z)
    torch.testing.assert_close(after.mean(0), before.mean(0), atol=0.15 * float(before.detach().std()), rtol=0)
    covariance, wanted = torch.cov(after.t()), torch.cov(before.t())
    assert (covariance - wanted).norm() < 0.2 * wanted.norm()
    torch.testing.assert_close(shallow.w_avg, after.mean(0), atol=0.05 * float(before.detach().std()), rtol=0)
    assert correlation(shallow(z), shallow(kin)) > correlation(deep(z), deep(kin)) + 0.05


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a - a.mean(0), b - b.mean(0)
    return float(((a * b).sum() / (a.norm() * b.norm())).detach())


def test_growing_into_one_layer_keeps_the_synthesis():
    torch.manual_seed(8)
    shape = {"resolution": 16, "z_dim": 24, "w_dim": 24, "channel_base": 128, "channel_max": 12}
    small = TrainableGenerator(StyleGAN2Config(**shape, mapping_layers=4)).requires_grad_(False)
    large = TrainableGenerator(StyleGAN2Config(**shape, mapping_layers=1)).requires_grad_(False)
    grow(small, large)
    styles = torch.randn(2, small.config.style_layers, 24, generator=seeded(9))
    torch.testing.assert_close(large.synthesis(styles), small.synthesis(styles))


def test_evening_out_moves_more_of_the_picture_by_more_directions():
    torch.manual_seed(10)
    config = StyleGAN2Config(resolution=32, z_dim=64, w_dim=64, channel_base=256, channel_max=16, mapping_layers=1)
    network = TrainableGenerator(config).eval().requires_grad_(False)
    network.mapping.fc0.weight.mul_(torch.linspace(3, 0.1, 64)[:, None])
    z = torch.randn(400, 64, generator=seeded(11))
    before = network(z, psi=1.0)
    even_out(network, reach=16, level=6.0)
    after = network(z, psi=1.0)
    assert visible_dimensions(after) > 1.2 * visible_dimensions(before)
    torch.testing.assert_close(network.mapping.w_avg, network.mapping(z).mean(0), atol=0.3, rtol=0)


def visible_dimensions(pictures: torch.Tensor) -> float:
    """Participation ratio of the variance on a coarse grid."""
    rows = torch.nn.functional.adaptive_avg_pool2d(pictures, 16).flatten(1)
    power = torch.linalg.svdvals(rows - rows.mean(0)) ** 2
    return float(power.sum() ** 2 / power.square().sum())
