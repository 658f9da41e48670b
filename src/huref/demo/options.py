"""What the demo does."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

DEMO_KINDS = (
    "absorb_gains",
    "rotate_residual",
    "permute_neurons",
    "scale_neurons",
    "flip_neurons",
    "qk_map",
    "vo_map",
    "permute_heads",
)
"""What changes every weight and keeps config.json."""


@dataclass(frozen=True)
class TuneOptions:
    """What decides a fine-tune, besides the model and the text.

    Attributes:
        steps: of the optimiser.
        batch: sequences a step.
        length: tokens a sequence.
        learning_rate: constant after three steps of warm-up.
        seed: of the choice of sequences.
    """

    steps: int = 12
    batch: int = 4
    length: int = 128
    learning_rate: float = 2e-4
    seed: int = 0


@dataclass(frozen=True)
class DemoOptions:
    """What the demo does; the defaults are the demo.

    Attributes:
        base: a GGUF file of a Llama; None takes the bundled model.
        tune: the offspring's training.
        kinds: attacks on the rearranged copies, by name.
        seed: of the attacks and of the stranger.
        text: characters of Python source to train on.
        n_tokens: vocabulary rows of the fingerprints.
        keep: whether the copies' checkpoints stay, in `OUT/models` (2 GB).
    """

    base: Path | None = None
    tune: TuneOptions = field(default_factory=TuneOptions)
    kinds: tuple[str, ...] = DEMO_KINDS
    seed: int = 1
    text: int = 200_000
    n_tokens: int = 4096
    keep: bool = False
