"""StyleGAN2 as it trains: what `huref.portraits.generator.stylegan2` draws, with torch and differentiable.

Read from the top: the blocks in the order in which they are used, then the model. The arithmetic and the tensor
names are those of the published networks (Karras et al., "Analyzing and Improving the Image Quality of StyleGAN",
2020, and the later release with adaptive augmentation). The code is our own. A law of the tests: a generator draws
the same pictures here and there.

Axes: n pictures, c or i channels in, o channels out, h and w pixels, l style layers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from huref.portraits.generator.config import StyleGAN2Config
from huref.portraits.generator.stylegan2 import BLUR, GAIN, LEAK, PAPER_PSI, Generator


def leaky(x: Tensor) -> Tensor:
    """Leaky rectifier without its gain, which callers fold into what they add up before (it is homogeneous)."""
    return functional.leaky_relu(x, LEAK)


def normalize(x: Tensor) -> Tensor:
    """Rows scaled to a mean square of 1: (n, c) -> (n, c)."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


def clamp(x: Tensor, bound: float | None) -> Tensor:
    """Values held within -bound and bound, which keeps half-precision feature maps finite; None leaves them."""
    return x if bound is None else x.clamp(-bound, bound)


def blur_kernel(channels: int, like: Tensor, gain: float) -> Tensor:
    """The [1, 3, 3, 1] low-pass filter as a depthwise kernel (channels, 1, 4, 4) of sum `gain`."""
    taps = torch.from_numpy(BLUR)
    kernel = torch.outer(taps, taps) * gain
    return kernel.to(like.device, like.dtype).expand(channels, 1, 4, 4)


def upsample(x: Tensor) -> Tensor:
    """Twice the side, low-pass filtered: (n, c, h, w) -> (n, c, 2h, 2w)."""
    channels = x.shape[1]
    kernel = blur_kernel(channels, x, gain=4.0)
    return functional.conv_transpose2d(x, kernel, stride=2, padding=1, groups=channels)


class Dense(nn.Module):
    """Fully connected layer with equalised learning rate (Karras et al., "Progressive Growing of GANs", 4.1).

    Args:
        inputs: length of a row in.
        outputs: length of a row out.
        bias: initial bias.
        lr_multiplier: how much slower than the rest this layer learns.
        is_leaky: whether a leaky rectifier with its gain follows.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        bias: float = 0.0,
        lr_multiplier: float = 1.0,
        is_leaky: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((outputs,), bias / lr_multiplier))
        self.weight_gain = lr_multiplier / math.sqrt(inputs)
        self.bias_gain = lr_multiplier
        self.is_leaky = is_leaky

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs) -> (n, outputs)."""
        y = functional.linear(x, self.weight * self.weight_gain, self.bias * self.bias_gain)
        return leaky(y) * GAIN if self.is_leaky else y


class Mapping(nn.Module):
    """z to w: normalise z, then fully connected layers. Only the direction of z counts.

    A conditional generator appends the embedding of the class, normalised likewise.
    """

    w_avg: Tensor

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.layers = config.mapping_layers
        self.label_dim = config.label_dim
        inputs = config.z_dim
        if self.label_dim:
            self.embed = Dense(self.label_dim, config.w_dim)
            inputs += config.w_dim
        for k in range(self.layers):
            layer = Dense(inputs, config.w_dim, lr_multiplier=config.mapping_rate, is_leaky=True)
            self.add_module(f"fc{k}", layer)
            inputs = config.w_dim
        self.register_buffer("w_avg", torch.zeros(config.w_dim))

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """(n, z_dim) and class numbers (n,), None for class 0 -> (n, w_dim)."""
        w = normalize(z)
        if self.label_dim:
            numbers = z.new_zeros(len(z), dtype=torch.long) if labels is None else labels
            w = torch.cat([w, normalize(self.embed(functional.one_hot(numbers, self.label_dim).to(z.dtype)))], dim=1)
        for k in range(self.layers):
            w = self.get_submodule(f"fc{k}")(w)
        return w


def truncate(w: Tensor, w_avg: Tensor, layers: int, psi: float, cutoff: int) -> Tensor:
    """One style a layer, the first `cutoff` of them pulled towards the mean: (n, w_dim) -> (n, layers, w_dim).

    `psi` 1 leaves w as it is, 0 gives the mean (the truncation trick, "A Style-Based Generator", appendix B).
    """
    pulled = w_avg.lerp(w, psi)
    return torch.stack([pulled if k < cutoff else w for k in range(layers)], dim=1)


def modulated_conv(x: Tensor, weight: Tensor, style: Tensor, *, is_up: bool = False) -> tuple[Tensor, Tensor]:
    """Convolution whose input channels are scaled by a style, and the factors that demodulate it.

    The published form scales the weights and convolves every sample with its own (a grouped convolution). Scaling
    the input instead is the same sum, shares one weight among the samples and is several times faster. The
    demodulation factor depends on weight and style only, so the caller can fold it into what follows.

    Args:
        x: (n, i, h, w), in the precision to compute in.
        weight: (o, i, k, k).
        style: (n, i).
        is_up: double the side, with the low-pass filter after the transposed convolution.

    Returns:
        The undemodulated output (n, o, h', w') and the factors (n, o), in the precision of `style`.
    """
    power = weight.square().sum(dim=(2, 3))
    demodulation = torch.rsqrt(style.square() @ power.t() + 1e-8)
    x = x * style.to(x.dtype)[:, :, None, None]
    kernel = weight.to(x.dtype)
    if not is_up:
        return functional.conv2d(x, kernel, padding=weight.shape[-1] // 2), demodulation
    y = functional.conv_transpose2d(x, kernel.transpose(0, 1), stride=2)
    y = functional.conv2d(y, blur_kernel(y.shape[1], y, gain=4.0), padding=1, groups=y.shape[1])
    return y, demodulation


class StyledConv(nn.Module):
    """Modulated 3 x 3 convolution, noise, bias, leaky rectifier."""

    noise_const: Tensor

    def __init__(self, inputs: int, outputs: int, side: int, config: StyleGAN2Config, *, is_up: bool) -> None:
        super().__init__()
        self.is_up = is_up
        self.clamp = config.conv_clamp
        self.affine = Dense(config.w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.bias = nn.Parameter(torch.zeros(outputs))
        seed = torch.Generator().manual_seed(config.noise_seed * 4096 + 2 * side + int(is_up))
        self.register_buffer("noise_const", torch.randn(side, side, generator=seed))

    def forward(self, x: Tensor, w: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """(n, i, h, w) and styles (n, w_dim) -> (n, o, h', w'); `noise` draws fresh noise, None takes the
        constant.
        """
        y, demodulation = modulated_conv(x, self.weight, self.affine(w), is_up=self.is_up)
        y = y * (demodulation * GAIN).to(y.dtype)[:, :, None, None]
        picture = self.noise_const
        if noise is not None:
            picture = torch.randn(y.shape[0], 1, *y.shape[2:], generator=noise)
        y = y + (picture * (self.noise_strength * GAIN)).to(y.dtype)
        return clamp(leaky(y + (self.bias * GAIN).to(y.dtype)[:, None, None]), self.clamp)


class ToRGB(nn.Module):
    """Modulated 1 x 1 convolution to colours, not demodulated."""

    def __init__(self, inputs: int, config: StyleGAN2Config) -> None:
        super().__init__()
        self.clamp = config.conv_clamp
        self.affine = Dense(config.w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(3, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))
        self.weight_gain = 1.0 / math.sqrt(inputs)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """(n, i, h, w) and styles (n, w_dim) -> fp32 colours (n, 3, h, w)."""
        style = self.affine(w) * self.weight_gain
        kernel = style[:, None, :] * self.weight[None, :, :, 0, 0]
        n, _, height, width = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(n, height * width, -1)
        colours = torch.bmm(rows, kernel.to(x.dtype).transpose(1, 2)).float() + self.bias
        return clamp(colours.reshape(n, height, width, 3).permute(0, 3, 1, 2), self.clamp)


class Block(nn.Module):
    """One side: two styled convolutions (the 4 x 4 block: a constant and one) and its share of the picture."""

    def __init__(self, side: int, config: StyleGAN2Config) -> None:
        super().__init__()
        outputs = config.channels(side)
        self.is_first = side == 4
        if self.is_first:
            self.const = nn.Parameter(torch.randn(outputs, 4, 4))
        else:
            self.conv0 = StyledConv(config.channels(side // 2), outputs, side, config, is_up=True)
        self.conv1 = StyledConv(outputs, outputs, side, config, is_up=False)
        self.torgb = ToRGB(outputs, config)


class Synthesis(nn.Module):
    """w to picture, from 4 x 4 up; every block adds its colours to the upsampled sum (skip connections)."""

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.sides = config.sides
        for side in self.sides:
            self.add_module(f"b{side}", Block(side, config))

    def forward(self, ws: Tensor, noise: torch.Generator | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
        """(n, l, w_dim) -> fp32 (n, 3, r, r), about [-1, 1]; `dtype` is the precision of the feature maps."""
        first = self._block(4)
        x = first.const.to(dtype).expand(ws.shape[0], -1, -1, -1)
        x = first.conv1(x.contiguous(memory_format=torch.channels_last), ws[:, 0], noise)
        picture: Tensor = first.torgb(x, ws[:, 1])
        for k, side in enumerate(self.sides[1:]):
            block = self._block(side)
            x = block.conv0(x, ws[:, 2 * k + 1], noise)
            x = block.conv1(x, ws[:, 2 * k + 2], noise)
            picture = upsample(picture) + block.torgb(x, ws[:, 2 * k + 3])
        return picture

    def _block(self, side: int) -> Block:
        block = self.get_submodule(f"b{side}")
        assert isinstance(block, Block)
        return block


class TrainableGenerator(nn.Module):
    """The whole network; `state_dict` has the names of the published weights.

    Attributes:
        usual_psi: truncation where none is asked for.
    """

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.config = config
        self.usual_psi = PAPER_PSI
        self.mapping = Mapping(config)
        self.synthesis = Synthesis(config)

    @classmethod
    def of(cls, generator: Generator) -> TrainableGenerator:
        """The network of these weights."""
        network = cls(generator.config)
        network.load_state_dict({name: torch.from_numpy(value) for name, value in generator.tensors.items()})
        network.usual_psi = generator.usual_psi
        return network

    def drawing(self) -> Generator:
        """What draws with the weights as they are now: a copy of them."""
        tensors = {name: value.float().numpy(force=True).copy() for name, value in self.state_dict().items()}
        return Generator(self.config, tensors, self.usual_psi)

    def forward(self, z: Tensor, psi: float | None = None, cutoff: int = 8, labels: Tensor | None = None) -> Tensor:
        """Gaussian vectors (n, z_dim) -> pictures (n, 3, r, r), about [-1, 1], the same on every call.

        `labels` are the class numbers (n,) of a conditional generator; None is class 0 for all.
        """
        w = self.mapping(z, labels)
        ws = truncate(w, self.mapping.w_avg, self.config.style_layers, self.usual_psi if psi is None else psi, cutoff)
        pictures: Tensor = self.synthesis(ws)
        return pictures
