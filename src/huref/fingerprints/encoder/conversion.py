"""A user's own encoder of the official kind, `encoder.pth`, as safetensors of ours. Nothing in it is run.

The official code pickles the whole network. Its names are its authors' affair: layers are told by the shapes of their
tensors, convolutions by the chain of their channels, batch normalisations by their widths.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from huref.errors import UsageError, WeightsError
from huref.fingerprints.encoder.file import save_encoder
from huref.fingerprints.encoder.network import EPS, Encoder, EncoderConfig, fold
from huref.model.source.pickle_modules import open_network
from huref.model.source.ranged_checkpoint import RangedCheckpoint
from huref.numerics.arrays import Array, Floats, float32

_LEAVES = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


@dataclass(frozen=True)
class EncoderConversion:
    """What was converted, and into what: the digests of both files, and the layers as the source names them."""

    target: Path
    sha256: str
    source_sha256: str
    layers: tuple[str, ...]


def convert_encoder(
    source: Path, target: Path, side: int = 0, config: EncoderConfig | None = None
) -> EncoderConversion:
    """Write the encoder in a torch file as safetensors.

    Args:
        source: a state dictionary or a whole pickled module.
        target: the file to write.
        side: K that it was trained at, where that is known.
        config: the architecture that it must have; the published one.

    Raises:
        UsageError: a target that is the source or does not end in `.safetensors`.
        InputError: unreadable, unsafe, or another architecture.
        OutputError: the target cannot be written.
    """
    _require_target(source, target)
    config = config or EncoderConfig()
    checkpoint, settings = open_network(source)
    with checkpoint:
        layers = _Layers(checkpoint, settings, config)
        encoder = Encoder(config, layers.tensors())
    source_sha256 = _sha256(source)
    save_encoder(encoder, target, {"side": side, "source": source.name, "source_sha256": source_sha256})
    return EncoderConversion(target, _sha256(target), source_sha256, layers.names)


class _Layers:
    """The layers of a file, told apart and put in order."""

    def __init__(
        self, checkpoint: RangedCheckpoint, settings: Mapping[str, Mapping[str, Any]], config: EncoderConfig
    ) -> None:
        self.checkpoint, self.settings, self.config = checkpoint, settings, config
        self.groups: dict[str, dict[str, tuple[int, ...]]] = {}
        for name, info in checkpoint.tensors.items():
            layer, _, leaf = name.rpartition(".")
            self.groups.setdefault(layer, {})[leaf] = tuple(info.shape)
        convs, norms = self._told_apart()
        self.pairs = [
            (self._conv(convs, inputs, outputs), self._norm(norms, outputs))
            for inputs, outputs in zip((config.inputs, *config.channels), config.channels, strict=False)
        ]
        if convs or norms:
            raise self._refusal(f"also {', '.join([*convs, *norms][:4])}")

    @property
    def names(self) -> tuple[str, ...]:
        """Convolution, batch normalisation, convolution, ... as the file calls them."""
        return tuple(name for pair in self.pairs for name in pair)

    def _told_apart(self) -> tuple[list[str], list[str]]:
        convs, norms = [], []
        for layer, leaves in self.groups.items():
            if len(leaves.get("weight", ())) == 4 and leaves.keys() <= {"weight", "bias"}:
                convs.append(layer)
            elif {"running_mean", "running_var"} <= leaves.keys() <= _LEAVES:
                norms.append(layer)
            else:
                shapes = ", ".join(f"{leaf} {list(shape)}" for leaf, shape in list(leaves.items())[:4])
                raise self._refusal(f"a layer {layer or '(unnamed)'} with {shapes}")
        return convs, norms

    def _conv(self, convs: list[str], inputs: int, outputs: int) -> str:
        """Takes the convolution with these channels out of the list."""
        wanted = (outputs, inputs, self.config.kernel, self.config.kernel)
        for layer in convs:
            leaves = self.groups[layer]
            if leaves["weight"] == wanted and leaves.get("bias", (outputs,)) == (outputs,):
                pair = self.config.stride, self.config.padding
                self._require_settings(layer, stride=pair[0], padding=pair[1], dilation=1, groups=1)
                self._require_settings(layer, padding_mode="zeros")
                convs.remove(layer)
                return layer
        shapes = "; ".join(str(list(self.groups[layer]["weight"])) for layer in convs[:6])
        raise self._refusal(f"convolutions {shapes or 'none'}; {list(wanted)} is wanted")

    def _norm(self, norms: list[str], width: int) -> str:
        """Takes the batch normalisation of this width out of the list."""
        for layer in norms:
            shapes = {shape for leaf, shape in self.groups[layer].items() if leaf != "num_batches_tracked"}
            if shapes == {(width,)}:
                self._require_settings(layer, eps=EPS)
                norms.remove(layer)
                return layer
        raise self._refusal(f"no batch normalisation of {width} channels")

    def _require_settings(self, layer: str, **wanted: float | str) -> None:
        for name, value in wanted.items():
            found = self.settings.get(layer, {}).get(name, value)
            if found not in (value, (value,), (value, value)):
                raise self._refusal(f"{layer}: {name} {found}; {value} is wanted")

    def tensors(self) -> dict[str, Array]:
        """The tensors under our names."""
        state: dict[str, Array] = {}
        for k, ((conv, norm), width) in enumerate(zip(self.pairs, self.config.channels, strict=True)):
            state[f"convs.{k}.weight"] = fold(self._read(conv, "weight"), self.config.stride)
            state[f"convs.{k}.bias"] = self._read(conv, "bias", np.zeros(width, np.float32))
            state[f"norms.{k}.weight"] = self._read(norm, "weight", np.ones(width, np.float32))
            state[f"norms.{k}.bias"] = self._read(norm, "bias", np.zeros(width, np.float32))
            state[f"norms.{k}.running_mean"] = self._read(norm, "running_mean")
            variance = self._read(norm, "running_var")
            if (variance < 0).any():
                raise self._refusal(f"{norm}: a negative running variance")
            state[f"norms.{k}.running_var"] = variance
            state[f"norms.{k}.num_batches_tracked"] = np.zeros((), np.int64)
        return state

    def _read(self, layer: str, leaf: str, absent: Floats | None = None) -> Floats:
        if leaf not in self.groups[layer] and absent is not None:
            return absent
        name = f"{layer}.{leaf}" if layer else leaf
        value = float32(self.checkpoint.read(name))
        if not np.isfinite(value).all():
            raise self._refusal(f"NaN or infinity in {name}")
        return value

    def _refusal(self, got: str) -> WeightsError:
        config = self.config
        chain = ", ".join(str(width) for width in config.channels)
        return WeightsError(
            "not the encoder that HuRef describes",
            where=self.checkpoint.reference,
            expected=f"convolutions of {config.inputs} matrices to {chain} channels, kernel {config.kernel}, each "
            "with a batch normalisation, finite numbers",
            got=got[:300],
            next_step="docs/explanation/cnn-encoder.md describes the architecture; others cannot be used",
        )


def _require_target(source: Path, target: Path) -> None:
    is_same = source.exists() and target.exists() and source.samefile(target)
    if target.suffix != ".safetensors" or is_same:
        raise UsageError(
            "cannot convert into this file",
            where=str(target),
            expected="a name that ends in .safetensors",
            got="the source itself" if is_same else repr(target.suffix),
            next_step=f"name it {target.with_suffix('.safetensors').name}, elsewhere than the source",
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
