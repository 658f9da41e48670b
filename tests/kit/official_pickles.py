"""Pickles in the structure of stylegan2-ada-pytorch, written with stand-ins for its modules; and what they mean.

`reference` is the published description of the network in numpy, slow and plain: it shares nothing with huref.
"""

from __future__ import annotations

import math
import pickle
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

SOURCE = "# The whole Python file that defines the class is stored with every module.\n" * 60
"""What stands for that file; longer than any text that the reader keeps."""


def _their_code(*_: Any) -> None:
    raise AssertionError("code of the pickle was run")


class EasyDict(dict):
    """A dictionary of theirs, by which settings are stored."""


@contextmanager
def stand_ins() -> Iterator[None]:
    """Their modules, importable while a pickle is written: pickle wants to find what it names."""
    fakes: dict[str, dict[str, Any]] = {
        "torch_utils": {},
        "torch_utils.persistence": {"_reconstruct_persistent_obj": _their_code},
        "dnnlib": {},
        "dnnlib.util": {"EasyDict": EasyDict},
        "dnnlib.tflib": {},
        "dnnlib.tflib.network": {"Network": TensorFlowNetwork},
    }
    for name, content in fakes.items():
        module = types.ModuleType(name)
        sys.modules[name] = module
        for key, value in content.items():
            value.__module__, value.__qualname__, value.__name__ = name, key, key
            setattr(module, key, value)
    try:
        yield
    finally:
        for name in fakes:
            del sys.modules[name]


class TensorFlowNetwork:
    """What the pickles of the TensorFlow releases hold."""


class Layer(torch.nn.Module):
    """A module of theirs: `kind` is the name of its class, `source` the file that is stored with it."""

    kind = ""
    source = SOURCE

    def __init__(self, kind: str, **attributes: Any) -> None:
        super().__init__()
        object.__setattr__(self, "kind", kind)
        self._init_args = ()
        self._init_kwargs = EasyDict(kwargs=EasyDict())
        for key, value in attributes.items():
            setattr(self, key, value)

    def __reduce__(self) -> tuple[Any, ...]:
        state = {key: value for key, value in self.__dict__.items() if key not in ("kind", "source")}
        meta = {"type": "class", "version": 6, "module_src": self.source, "class_name": self.kind, "state": state}
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (meta,), None


@dataclass(frozen=True)
class Shape:
    """A generator to be made: as small as the structure allows."""

    resolution: int = 16
    z_dim: int = 512
    w_dim: int = 8
    layers: int = 2
    channel_base: int = 64
    channel_max: int = 8
    classes: int = 0
    rate: float = 0.01
    clamp: float | None = 256
    has_noise: bool = True
    channels_last: bool = False

    @property
    def sides(self) -> list[int]:
        return [2**k for k in range(2, int(math.log2(self.resolution)) + 1)]

    def channels(self, side: int) -> int:
        return min(self.channel_base // side, self.channel_max)


def random(*shape: int) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.randn(shape), requires_grad=False)


def dense(inputs: int, outputs: int, rate: float = 1, activation: str = "linear", start: float = 0) -> Layer:
    layer = Layer("FullyConnectedLayer", activation=activation, weight_gain=rate / np.sqrt(inputs), bias_gain=rate)
    layer.weight = torch.nn.Parameter(random(outputs, inputs) / rate)
    layer.bias = torch.nn.Parameter(start + 0.2 * random(outputs) / rate)
    return layer


def low_pass(taps: tuple[float, ...] = (1, 3, 3, 1)) -> torch.Tensor:
    row = torch.tensor(taps) / sum(taps)
    return torch.outer(row, row)


def convolution(shape: Shape, inputs: int, outputs: int, side: int, up: int) -> Layer:
    layer = Layer(
        "SynthesisLayer",
        resolution=side,
        up=up,
        use_noise=shape.has_noise,
        activation="lrelu",
        conv_clamp=shape.clamp,
        padding=1,
        act_gain=np.sqrt(2),
    )
    layer.register_buffer("resample_filter", low_pass())
    layer.affine = dense(shape.w_dim, inputs, start=1)
    order = torch.channels_last if shape.channels_last else torch.contiguous_format
    layer.weight = torch.nn.Parameter(random(outputs, inputs, 3, 3).to(memory_format=order))
    if shape.has_noise:
        layer.register_buffer("noise_const", torch.randn(side, side))
        layer.noise_strength = random()
    layer.bias = random(outputs)
    return layer


def colours(shape: Shape, inputs: int) -> Layer:
    layer = Layer("ToRGBLayer", conv_clamp=shape.clamp, weight_gain=1 / np.sqrt(inputs))
    layer.affine = dense(shape.w_dim, inputs, start=1)
    layer.weight, layer.bias = random(3, inputs, 1, 1), random(3)
    return layer


def block(shape: Shape, side: int) -> Layer:
    inputs, outputs = shape.channels(side // 2) if side > 4 else 0, shape.channels(side)
    layer = Layer(
        "SynthesisBlock",
        in_channels=inputs,
        w_dim=shape.w_dim,
        resolution=side,
        img_channels=3,
        is_last=side == shape.resolution,
        architecture="skip",
        use_fp16=side >= 8,
        channels_last=shape.channels_last,
        num_conv=1 + (side > 4),
        num_torgb=1,
    )
    layer.register_buffer("resample_filter", low_pass())
    if side == 4:
        layer.const = random(outputs, 4, 4)
    else:
        layer.conv0 = convolution(shape, inputs, outputs, side, up=2)
    layer.conv1 = convolution(shape, outputs, outputs, side, up=1)
    layer.torgb = colours(shape, outputs)
    return layer


def generator(shape: Shape, seed: int = 0) -> Layer:
    torch.manual_seed(seed)
    mapping = Layer(
        "MappingNetwork",
        z_dim=shape.z_dim,
        c_dim=shape.classes,
        w_dim=shape.w_dim,
        num_ws=2 * len(shape.sides),
        num_layers=shape.layers,
        w_avg_beta=0.995,
    )
    inputs = shape.z_dim
    if shape.classes:
        mapping.embed = dense(shape.classes, shape.w_dim)
        inputs += shape.w_dim
    for k in range(shape.layers):
        setattr(mapping, f"fc{k}", dense(inputs, shape.w_dim, shape.rate, "lrelu"))
        inputs = shape.w_dim
    mapping.register_buffer("w_avg", torch.randn(shape.w_dim))
    synthesis = Layer("SynthesisNetwork", w_dim=shape.w_dim, img_resolution=shape.resolution, img_channels=3)
    synthesis.block_resolutions = shape.sides
    for side in shape.sides:
        setattr(synthesis, f"b{side}", block(shape, side))
    whole = Layer("Generator", z_dim=shape.z_dim, c_dim=shape.classes, w_dim=shape.w_dim)
    whole.img_resolution, whole.img_channels, whole.num_ws = shape.resolution, 3, 2 * len(shape.sides)
    whole.synthesis, whole.mapping = synthesis, mapping
    return whole


def contents(ema: Any, **changes: Any) -> dict[str, Any]:
    """A training snapshot: the averaged generator is the fourth of five."""
    critic = Layer("Discriminator", c_dim=0, img_resolution=16, img_channels=3)
    critic.b4 = Layer("DiscriminatorEpilogue", in_channels=4, resolution=4)
    critic.b4.conv = Layer("Conv2dLayer", activation="lrelu", up=1, down=1, conv_clamp=256)
    critic.b4.conv.weight = random(64, 64, 3, 3)
    pipe = Layer("AugmentPipe", xflip=1.0, rotate_max=1.0, imgfilter_bands=[1, 1, 1, 1])
    pipe.register_buffer("p", torch.ones([]))
    pipe.wavelets = np.arange(300.0)
    pipe.register_buffer("Hz_fbank", torch.randn(4, 20))
    snapshot = {
        "training_set_kwargs": {
            "class_name": "training.dataset.ImageFolderDataset",
            "path": "dogs.zip",
            "xflip": True,
        },
        "G": generator(Shape(), seed=99),
        "D": critic,
        "G_ema": ema,
        "augment_pipe": pipe,
    }
    return {key: value for key, value in (snapshot | changes).items() if value is not None}


def pickled(root: Any, protocol: int = 3) -> bytes:
    with stand_ins():
        return pickle.dumps(root, protocol=protocol)


Arrays = dict[str, np.ndarray]


def arrays(network: Layer) -> Arrays:
    """The generator's tensors in double precision, by name."""
    return {name: value.detach().double().numpy() for name, value in network.state_dict().items()}


def reference(
    tensors: Arrays, shape: Shape, z: np.ndarray, label: int = 0, psi: float = 1.0, cutoff: int = 0
) -> np.ndarray:
    """The picture (3, r, r) of one z, by the description in the papers."""
    w = z / np.sqrt((z**2).mean() + 1e-8)
    if shape.classes:
        chosen = np.eye(shape.classes)[label]
        code = tensors["mapping.embed.weight"] @ chosen / np.sqrt(shape.classes) + tensors["mapping.embed.bias"]
        w = np.concatenate([w, code / np.sqrt((code**2).mean() + 1e-8)])
    for k in range(shape.layers):
        weight, bias = tensors[f"mapping.fc{k}.weight"], tensors[f"mapping.fc{k}.bias"]
        w = rectified(weight @ w * shape.rate / np.sqrt(weight.shape[1]) + bias * shape.rate)
    mean = tensors["mapping.w_avg"]
    styles = [mean + psi * (w - mean) if k < cutoff else w for k in range(2 * len(shape.sides))]
    x, picture, turn = tensors["synthesis.b4.const"], np.zeros((3, 2, 2)), 0
    for side in shape.sides:
        name = f"synthesis.b{side}"
        if side > 4:
            x = styled(tensors, shape, f"{name}.conv0", x, styles[turn], is_up=True)
            turn += 1
        x = styled(tensors, shape, f"{name}.conv1", x, styles[turn], is_up=False)
        turn += 1
        style = affine(tensors, f"{name}.torgb", styles[turn]) / np.sqrt(len(x))
        kernel = tensors[f"{name}.torgb.weight"][:, :, 0, 0] * style
        share = np.einsum("oi,ihw->ohw", kernel, x) + tensors[f"{name}.torgb.bias"][:, None, None]
        picture = spread(picture, low_pass().double().numpy() * 4, crop=1) + bounded(share, shape.clamp)
    return picture


def affine(tensors: Arrays, name: str, w: np.ndarray) -> np.ndarray:
    weight = tensors[f"{name}.affine.weight"]
    return weight @ w / np.sqrt(weight.shape[1]) + tensors[f"{name}.affine.bias"]


def rectified(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.2 * x) * np.sqrt(2)


def bounded(x: np.ndarray, bound: float | None) -> np.ndarray:
    return x if bound is None else np.clip(x, -bound, bound)


def spread(x: np.ndarray, stamp: np.ndarray, crop: int) -> np.ndarray:
    """Every pixel leaves a stamp, two pixels from its neighbour's: upsampling, and transposed convolution."""
    side, size = x.shape[-1], stamp.shape[-1]
    out = np.zeros((*x.shape[:-2], 2 * side - 2 + size, 2 * side - 2 + size))
    for row in range(side):
        for column in range(side):
            out[..., 2 * row : 2 * row + size, 2 * column : 2 * column + size] += (
                x[..., row, column, None, None] * stamp
            )
    return out[..., crop : out.shape[-2] - crop, crop : out.shape[-1] - crop]


def styled(tensors: Arrays, shape: Shape, name: str, x: np.ndarray, w: np.ndarray, *, is_up: bool) -> np.ndarray:
    """Weights scaled by the style, then to unit length; convolution; noise; bias; rectifier."""
    kernel = tensors[f"{name}.weight"] * affine(tensors, name, w)[None, :, None, None]
    kernel = kernel / np.sqrt((kernel**2).sum(axis=(1, 2, 3), keepdims=True) + 1e-8)
    side = x.shape[-1] * (2 if is_up else 1)
    y = np.zeros((len(kernel), side, side))
    for o, own in enumerate(kernel):
        for i, plane in enumerate(x):
            y[o] += enlarged(plane, own[i]) if is_up else correlated(plane, own[i])
    if shape.has_noise:
        y = y + tensors[f"{name}.noise_const"] * tensors[f"{name}.noise_strength"]
    return bounded(rectified(y + tensors[f"{name}.bias"][:, None, None]), shape.clamp)


def correlated(plane: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    padded = np.pad(plane, kernel.shape[0] // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape)
    return np.einsum("hwyx,yx->hw", windows, kernel)


def enlarged(plane: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Transposed convolution, then the low-pass filter: (h, w) -> (2h, 2w)."""
    wide = np.pad(spread(plane, kernel, crop=0), 1)
    windows = np.lib.stride_tricks.sliding_window_view(wide, (4, 4))
    return np.einsum("hwyx,yx->hw", windows, low_pass().double().numpy() * 4)
