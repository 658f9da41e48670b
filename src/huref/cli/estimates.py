"""How long a command will take, by the sizes of the files that it is given: said before work of over a minute.

Measured on two cores with models of 135 million weights; `compare` and `matrix` also with 7 billion and with twenty
models (lab/benchmarks/results/kinship_7b.txt, compare.txt). Half or twice as long is nothing to wonder at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_WEIGHTS = (".safetensors", ".gguf", ".bin", ".pt", ".pth")
_SAVED = ".huref.safetensors"


@dataclass(frozen=True)
class Cost:
    """Seconds of a command: in any case, for each gigabyte of weights, and for each pair of models."""

    base: float
    gigabyte: float
    pair: float = 0.0


COSTS: Mapping[str, Cost] = {
    "compare": Cost(6, 4),
    "matrix": Cost(2, 4, pair=0.3),
    "explain": Cost(5, 100),
    "parents": Cost(1, 4),
    "attack": Cost(2, 40),
}


def expected_seconds(command: str, models: Iterable[str | Path]) -> float:
    """How long a command will take with these models; 0 where nothing was measured."""
    cost, sizes = COSTS.get(command), [weight_bytes(Path(model)) for model in models]
    if cost is None or not any(sizes):
        return 0.0
    pairs = len(sizes) * (len(sizes) - 1) / 2
    return cost.base + cost.gigabyte * sum(sizes) / 1e9 + cost.pair * pairs


def weight_bytes(model: Path) -> int:
    """Bytes of a weight file, or of those in a folder; none for a saved fingerprint, or where none can be seen."""
    try:
        files = [model] if model.is_file() else list(model.iterdir())
        return sum(file.stat().st_size for file in files if _is_weights(file.name))
    except OSError:
        return 0


def _is_weights(name: str) -> bool:
    return name.endswith(_WEIGHTS) and not name.endswith(_SAVED)
