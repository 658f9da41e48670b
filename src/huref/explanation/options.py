"""What to explain, and how thoroughly to check: settings that are stored with what they produced."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from huref.choices import option, take_texts_for_paths
from huref.errors import UsageError

FEW = 4
"""Layers that `few` takes."""


@dataclass(frozen=True)
class ExplainOptions:
    """How to explain.

    Attributes:
        layers: of B: `all`, `few` (four, evenly spaced), or a list such as `0,5,-1`.
        arch_file: an architecture file of the user's own.
        tokenizer: a folder or a GGUF file whose tokenizer to take for a model that has none of its own.
    """

    layers: str = "all"
    arch_file: Path | None = None
    tokenizer: Path | None = None

    def __post_init__(self) -> None:
        take_texts_for_paths(self, "arch_file", "tokenizer")
        _parsed(self.layers)

    def layer_indices(self, n_layers: int) -> tuple[int, ...]:
        """The layers of a model of `n_layers`, ascending.

        Raises:
            UsageError: a layer that the model has not.
        """
        if self.layers == "few" and n_layers > FEW:
            return tuple(int((k + 0.5) * n_layers / FEW) for k in range(FEW))
        return _inside(self.layers, n_layers)


@dataclass(frozen=True)
class CheckOptions:
    """How to check.

    Attributes:
        layers: of B: `all`, `few` (four, drawn by the seed), or a list.
        n_neurons: neurons drawn in each layer whose partners are sought again among all candidates.
        seed: of everything that is drawn; the verifier's choice, so that nobody can prepare for it.
        arch_file: an architecture file of the user's own.
        tokenizer: a folder or a GGUF file whose tokenizer to take for a model that has none of its own.
    """

    layers: str = "all"
    n_neurons: int = 64
    seed: int = 1
    arch_file: Path | None = None
    tokenizer: Path | None = None

    def __post_init__(self) -> None:
        take_texts_for_paths(self, "arch_file", "tokenizer")
        _parsed(self.layers)
        if not (1 <= self.n_neurons <= 1 << 20 and 0 <= self.seed < 1 << 63):
            raise UsageError(
                "a sample that cannot be drawn",
                where=option("n_neurons", "seed"),
                expected="1 neuron or more, and a seed from 0",
                got=f"{self.n_neurons}, {self.seed}",
                next_step="see help(huref), or --help of the command",
            )

    def dice(self, about: int) -> np.random.Generator:
        """A stream of randomness of its own for every thing that is drawn."""
        return np.random.Generator(np.random.Philox(key=self.seed, counter=about))

    def layer_indices(self, n_layers: int) -> tuple[int, ...]:
        """The layers to check, ascending.

        Raises:
            UsageError: a layer that the model has not.
        """
        if self.layers == "few" and n_layers > FEW:
            return tuple(sorted(int(i) for i in self.dice(0).choice(n_layers, FEW, replace=False)))
        return _inside(self.layers, n_layers)


def _parsed(text: str) -> tuple[int, ...] | None:
    """The numbers of a list; None for the words."""
    if text in ("all", "few"):
        return None
    try:
        return tuple(int(part) for part in str(text).split(","))
    except ValueError:
        raise UsageError(
            "unreadable layer list",
            where=option("layers"),
            expected="all, few, or 0,5,-1",
            got=text,
            next_step="see help(huref), or --help of the command",
        ) from None


def _inside(text: str, n_layers: int) -> tuple[int, ...]:
    numbers = _parsed(text)
    if numbers is None:
        return tuple(range(n_layers))
    if not all(-n_layers <= number < n_layers for number in numbers):
        raise UsageError(
            "no such layer",
            where=option("layers"),
            expected=f"-{n_layers} to {n_layers - 1}",
            got=text,
            next_step="all",
        )
    return tuple(sorted({number % n_layers for number in numbers}))
