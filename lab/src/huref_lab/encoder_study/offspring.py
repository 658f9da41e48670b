"""Offspring that need no training: copies with noise of a wanted strength, and a copy in four bits.

Noise is `W + sigma std(W) N` for every matrix W, embeddings included, with a fixed N for a tensor's name, so that
ICS is one continuous function of sigma and a wanted ICS is found by bisection, without a copy on disk.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from huref.demo.tensors import as_tensor, float_tensor
from huref.errors import InconclusiveError
from huref.fingerprints.recipe import Recipe
from huref.forward.checkpoint_writer import TOKENIZER_FILES, write_folder
from huref.model.model import open_model
from huref.model.source import open_checkpoint
from huref.model.source.checkpoint import Checkpoint, Rows
from huref_lab.encoder_study.similarity import changed, self_ics

TOLERANCE = 0.004
_SMALLEST, _LARGEST = 1e-3, 30.0
_MOST_HALVINGS = 20
_GGUF_BLOCK = 32


@dataclass(frozen=True)
class Offspring:
    """A model made from a base: its checkpoint, kind (one of `record.KINDS`), and how it was made."""

    path: Path
    kind: str
    made: str


class Noise:
    """A fixed draw of noise for every matrix of a checkpoint, to be added at any strength."""

    def __init__(self, checkpoint: Checkpoint, seed: int = 0) -> None:
        self._checkpoint, self._seed = checkpoint, seed
        self._draws: dict[str, Tensor] = {}

    def at(self, sigma: float) -> Callable[[str, Tensor, Rows], Tensor]:
        """The change that adds `sigma std(W) N` to a tensor, or to some rows of it."""

        def change(name: str, tensor: Tensor, rows: Rows) -> Tensor:
            if len(self._checkpoint.tensors[name].shape) != 2:
                return tensor
            draw = self._draw(name)
            picked = draw if rows is None else draw[torch.from_numpy(rows) if isinstance(rows, np.ndarray) else rows]
            return tensor.float() + sigma * picked

        return change

    def _draw(self, name: str) -> Tensor:
        """Standard normal numbers times the tensor's standard deviation; they belong to the name and the seed."""
        if name not in self._draws:
            digest = hashlib.sha256(f"huref/noise/{self._seed}/{name}".encode()).digest()
            dice = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
            tensor = float_tensor(self._checkpoint.read(name))
            self._draws[name] = torch.randn(tensor.shape, generator=dice) * tensor.std()
        return self._draws[name]


def noise_levels(base: Path, targets: Sequence[float], n_tokens: int, seed: int = 0) -> list[float]:
    """The sigma at which a noisy copy has a wanted canonical ICS to its base.

    Args:
        targets: ICS in (0, 1).
        n_tokens: over how many tokens ICS is taken.

    Returns:
        One sigma a target; the ICS there is within `TOLERANCE` of it.

    Raises:
        InconclusiveError: no strength of noise gives that ICS.
    """
    if not targets:
        return []
    recipe = Recipe("canonical", n_tokens=n_tokens)
    model = open_model(base)
    with model.weights.checkpoint as checkpoint:
        noise = Noise(checkpoint, seed)

        @cache
        def ics(log_sigma: float) -> float:
            return self_ics(model, [changed(model, noise.at(math.exp(log_sigma)))], recipe)[0]

        return [math.exp(_bisect(ics, target, str(base))) for target in targets]


def make_noisy(folder: Path, base: Path, sigma: float, seed: int = 0) -> Path:
    """Write a checkpoint folder again with noise; stored in bfloat16 where the base is, else in float32."""
    with open_checkpoint(base) as checkpoint:
        change = Noise(checkpoint, seed).at(sigma)
        return _rewritten(folder, base, checkpoint, lambda name, tensor: change(name, tensor, None))


def make_requantised(folder: Path, base: Path) -> Offspring:
    """Write a checkpoint folder again with every matrix rounded to four bits (GGUF Q4_1) and back."""
    if not (folder / "model.safetensors").is_file():
        with open_checkpoint(base) as checkpoint:
            _rewritten(folder, base, checkpoint, lambda _, tensor: _through_four_bits(tensor))
    return Offspring(folder, "requantised", "every matrix through GGUF Q4_1")


def random_copy(folder: Path, base: Path, seed: int) -> Path:
    """Write a checkpoint folder again with random numbers: N(0, 0.02^2) for every matrix; gains and biases stay.

    It stands for an untrained stranger of the same shape and vocabulary, of which hundreds can be had.
    """
    dice = torch.Generator().manual_seed(seed)

    def draw(_: str, tensor: Tensor) -> Tensor:
        return 0.02 * torch.randn(tensor.shape, generator=dice) if tensor.ndim > 1 else tensor

    with open_checkpoint(base) as checkpoint:
        return _rewritten(folder, base, checkpoint, draw)


def _through_four_bits(tensor: Tensor) -> Tensor:
    from gguf import GGMLQuantizationType, quants

    if tensor.ndim != 2 or tensor.shape[1] % _GGUF_BLOCK:
        return tensor
    kind = GGMLQuantizationType.Q4_1
    return torch.from_numpy(quants.dequantize(quants.quantize(tensor.float().numpy(), kind), kind))


def _rewritten(folder: Path, base: Path, checkpoint: Checkpoint, change: Callable[[str, Tensor], Tensor]) -> Path:
    def fill(partial: Path) -> None:
        tensors = {}
        for name in checkpoint.tensors:
            stored = as_tensor(checkpoint.read(name))
            tensors[name] = change(name, stored).to(stored.dtype).contiguous()
        save_file(tensors, partial / "model.safetensors", metadata={"format": "pt"})
        for name in ("config.json", *TOKENIZER_FILES):
            if (base / name).is_file():
                shutil.copyfile(base / name, partial / name)

    return write_folder(folder, fill)


def _bisect(ics: Callable[[float], float], target: float, where: str) -> float:
    """Halve an interval of log sigma; every target halves the same one, so that values are used again."""
    low, high = math.log(_SMALLEST), math.log(_LARGEST)
    for _ in range(_MOST_HALVINGS):
        middle = (low + high) / 2
        found = ics(middle)
        if abs(found - target) <= TOLERANCE:
            return middle
        low, high = (middle, high) if found > target else (low, middle)
    raise InconclusiveError(
        "no strength of noise gives the wanted similarity",
        where=where,
        expected=f"ICS {target} within {TOLERANCE}",
        got=f"{ics((low + high) / 2):.3f} at sigma {math.exp((low + high) / 2):.4f}",
        next_step="ask for another ICS",
    )
