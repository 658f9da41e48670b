"""A grown generator makes the pictures of the one it was grown from, enlarged."""

import pytest
import torch

from huref.errors import UsageError
from huref.portraits.generator.config import StyleGAN2Config
from huref_lab.generator.growth import grow
from huref_lab.generator.network import TrainableGenerator, upsample


def generator(seed: int, **changes) -> TrainableGenerator:
    torch.manual_seed(seed)
    shape = {"resolution": 16, "z_dim": 24, "w_dim": 24, "mapping_layers": 2, "channel_base": 128, "channel_max": 12}
    network = TrainableGenerator(StyleGAN2Config(**(shape | changes))).eval().requires_grad_(False)
    for block in network.synthesis.children():
        block.conv1.noise_strength.fill_(0.3)
    network.mapping.w_avg.normal_()
    return network


@pytest.mark.parametrize(
    "changes", [{"resolution": 32}, {"channel_base": 256}, {"channel_max": 20, "channel_base": 512, "resolution": 64}]
)
def test_grown_generator_makes_the_same_picture_enlarged(changes):
    small, large = generator(1), generator(2, **changes)
    for block in list(large.synthesis.children())[len(small.config.sides) :]:
        block.conv1.noise_strength.fill_(0.3)
    grow(small, large)
    z = torch.randn(3, 24, generator=torch.Generator().manual_seed(3))
    expected = small(z, psi=0.7, cutoff=4)
    while expected.shape[-1] < large.config.resolution:
        expected = upsample(expected)
    torch.testing.assert_close(large(z, psi=0.7, cutoff=4), expected, atol=2e-5, rtol=1e-5)


def test_grown_generator_can_use_what_is_new():
    small, large = generator(1), generator(2, resolution=32, channel_max=20)
    grow(small, large)
    large.requires_grad_(True)
    large(torch.randn(2, 24)).square().mean().backward()
    assert large.synthesis.b32.torgb.weight.grad.abs().sum() > 0
    assert large.synthesis.b4.torgb.weight.grad[:, 12:].abs().sum() > 0


def test_generator_that_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="does not fit"):
        grow(generator(1), generator(2, channel_max=6))
    with pytest.raises(UsageError, match="no such tensor"):
        grow(generator(1, resolution=32), generator(2))
