"""The CNN encoder that trains: the published architecture, exactly; folded convolutions; and what it encodes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from huref.fingerprints.encoder.network import EncoderConfig, encode, fold, unfold
from huref_lab.encoder.network import EncoderCNN, FoldedConv2d, standardised_terms
from kit.tiny_encoders import official_like, plain_conv, trained

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
    kernel = torch.from_numpy(unfold(conv.weight.detach().numpy(), stride))
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


def test_folded_layers_are_the_plain_torch_ones() -> None:
    module = official_like(TINY)
    encoder = EncoderCNN(TINY)
    for k in range(2):
        encoder.convs[k].weight.data = torch.from_numpy(fold(getattr(module, f"cnn{k}").weight.data.numpy(), 4))  # type: ignore[union-attr]
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
    encoder = EncoderCNN.of(trained(TINY))
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


def test_the_seed_decides() -> None:
    a, b, c = (EncoderCNN(TINY, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["convs.1.weight"], c["convs.1.weight"])
    bound = 1 / np.sqrt(3 * 12 * 12)
    assert a["convs.1.weight"].abs().max() == pytest.approx(bound, rel=0.01)


def test_what_trains_and_what_encodes_are_one_network() -> None:
    encoder = trained(TINY)
    network, terms = EncoderCNN.of(encoder), np.random.default_rng(0).standard_normal((2, 32, 32), dtype=np.float32)
    with torch.no_grad():
        expected = network(standardised_terms(torch.from_numpy(terms))[None])[0].numpy()
    np.testing.assert_allclose(encode(terms, encoder), expected, atol=1e-5)
    again = network.encoding()
    assert again.config == encoder.config
    assert all(np.array_equal(again.tensors[name], value) for name, value in encoder.tensors.items())
