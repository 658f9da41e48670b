"""Is a model read rightly? Rearranged by its description, does transformers compute the same?

What `huref attack` moves about, it finds by the family's description. If that took heads, fused matrices, experts or
gains for what they are not, the rearranged copy computes something else, and transformers, which shares nothing with
huref, says so. Gains of one and biases of zero, as a fresh model has them, would hide what is taken for what; so the
model is stirred first. What no attack moves is not proved by this; what is not read at all is told.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from huref.attacks.kinds import ALL, apply
from huref.errors import ArchitectureError
from huref.forward.decoder import Decoder, load_decoder
from huref.forward.judges import by_transformers
from huref.forward.passes import logits
from huref.forward.rewriting import Rewriting, logit_error, prompt
from huref.model.arch import open_weights
from huref.model.arch.weights import CanonicalWeights
from huref.model.name import model_name
from huref.model.source import open_checkpoint
from huref.numerics.arrays import Array, quietly
from huref.progress import Progress, Report, shows_progress

TOLERANCE = 1e-4
"""Largest difference of the logits over their range: float32 leaves 1e-6, a wrong cut 1e-2 and more."""


@dataclass(frozen=True)
class Diagnosis:
    """What the check of a description found.

    Attributes:
        model: what the user called it.
        family: the description that was used.
        kinds: the attacks that were applied together.
        skipped: attacks that the family does not allow, with the reason.
        error: largest difference of the logits of the stirred model and its rearranged copy, over their range, as
            transformers computes them.
        wrong: attacks that change the logits even alone, with their errors; empty where the reading is right.
        own_error: of huref's own forward pass against transformers', of the stirred model; None where huref has none
            for the family.
        notes: what is stored and not read.
    """

    model: str
    family: str
    kinds: tuple[str, ...]
    skipped: Mapping[str, str]
    error: float
    wrong: Mapping[str, float]
    own_error: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_right(self) -> bool:
        """Whether the copy computes what the model computes, and huref's own pass, where there is one, too."""
        return self.error <= TOLERANCE and (self.own_error is None or self.own_error <= TOLERANCE)

    def to_dict(self) -> dict[str, Any]:
        """The `--json` document."""
        return {
            "schema_version": "huref.diagnosis/1.0",
            "model": self.model,
            "family": self.family,
            "is_right": self.is_right,
            "kinds": list(self.kinds),
            "skipped": dict(self.skipped),
            "logits_error": self.error,
            "tolerance": TOLERANCE,
            "wrong": dict(self.wrong),
            "own_logits_error": self.own_error,
            "notes": list(self.notes),
        }

    def to_text(self) -> str:
        """A few lines for people."""
        verdict = "read rightly, as far as rearranging tells" if self.is_right else "read WRONGLY"
        lines = [
            f"{self.model}: {verdict} (family {self.family})",
            f"  logits    of a rearranged copy within {self.error:.1e} of their range, in transformers; "
            f"allowed {TOLERANCE:.0e}",
            f"  moved     {', '.join(self.kinds)}",
            *(
                f"  wrong     {kind}: {error:.1e}; {_MEANS.get(kind, _OTHERWISE)}"
                for kind, error in self.wrong.items()
            ),
            *(f"  not moved {kind}: {reason}" for kind, reason in self.skipped.items()),
        ]
        if self.own_error is not None:
            is_other = self.own_error > TOLERANCE
            what = ": norms, positions, scales or branches are described wrongly" if is_other else ""
            lines.append(f"  own pass  huref's own logits within {self.own_error:.1e} of transformers'{what}")
        return "\n".join([*lines, *(f"  note      {note}" for note in self.notes)])

    __str__ = to_text


_MEANS = {
    "absorb_gains": "the kind of norm, 1 + gamma, or what stands behind a norm is described wrongly",
    "rotate_residual": "something else reads or writes the stream, or a norm is of another kind",
    "permute_residual": "something else reads or writes the stream",
    "permute_neurons": "gate, up and down do not belong together as described",
    "scale_neurons": "gate and up are exchanged, or there is no gate",
    "qk_map": "queries or keys are cut wrongly, or positions rotate other dimensions",
    "vo_map": "values or outputs are cut wrongly, or something acts on them",
    "permute_heads": "heads or their groups are cut wrongly",
    "permute_experts": "experts or their router are described wrongly",
}
_NUMBERS = ("sinks", "router_correction", "expert_down_bias")
"""Roles beside gains and biases that a fresh model has constant."""

_OTHERWISE = "what this moves is described wrongly"


@quietly
@shows_progress
def examine(
    model: str | Path, arch_file: str | Path | None = None, seed: int = 1, report: Report | None = None
) -> Diagnosis:
    """Check a model's description against transformers; the whole model is read, and held several times in memory.

    Args:
        model: a checkpoint folder of a family that transformers knows.
        arch_file: an architecture file of the user's own, instead of the known families.
        seed: of the rearrangement.
        report: called with a `Progress` at each step.

    Raises:
        ArchitectureError: no family claims the model, or transformers cannot compute it.
        UsageError: transformers is not installed.
    """
    described = None if arch_file is None else Path(arch_file)

    def tell(stage: str) -> None:
        if report:
            report(Progress(f"doctor: {stage}", 0, 1))

    with open_checkpoint(model) as checkpoint, tempfile.TemporaryDirectory(prefix="huref-doctor-") as place:
        tell("read")
        weights = open_weights(checkpoint, described)
        rewriting = Rewriting(weights, described, by_transformers(weights))
        tell("transformers")
        ids, stirred = prompt(rewriting.original), _stirred(rewriting.original, seed)

        def computed(model: Decoder) -> Array:
            folder = Path(tempfile.mkdtemp(dir=place))
            rewriting.fill(folder, model, "float32")
            return rewriting.judge.of_folder(folder, ids)

        expected = computed(stirred)

        def tried(kinds: Sequence[str]) -> tuple[tuple[str, ...], Mapping[str, str], float]:
            outcome = apply(stirred, tuple(kinds), seed, tell)
            return outcome.applied, outcome.skipped, logit_error(expected, computed(outcome.model))

        kinds, skipped, error = tried((ALL,))
        wrong = {} if error <= TOLERANCE else _alone(kinds, lambda kind: tried((kind,))[2])
        own = _own_error(weights, stirred, ids, expected)
        return Diagnosis(
            model_name(model), weights.architecture.name, kinds, skipped, error, wrong, own, weights.notes()
        )


def _alone(kinds: Sequence[str], error_of: Callable[[str], float]) -> dict[str, float]:
    """Which kinds change the logits by themselves."""
    errors = {kind: error_of(kind) for kind in kinds}
    return {kind: error for kind, error in errors.items() if not error <= TOLERANCE}


def _stirred(model: Decoder, seed: int) -> Decoder:
    """With gains and biases that are not all alike; the same for the same seed."""
    dice = np.random.Generator(np.random.PCG64(seed))

    def changed(name: str, tensor: Array) -> Array:
        if name.endswith("_norm"):
            found: Array = tensor * dice.uniform(0.7, 1.4, tensor.shape).astype(tensor.dtype)
        else:
            found = tensor + (0.1 * dice.standard_normal(tensor.shape)).astype(tensor.dtype)
        return found

    ends = ("_bias", "_norm", *_NUMBERS)
    return model.changed(
        {name: changed(name, tensor) for name, tensor in model.tensors.items() if name.endswith(ends)}
    )


def _own_error(weights: CanonicalWeights, stirred: Decoder, ids: Array, expected: Array) -> float | None:
    try:
        own = load_decoder(weights).changed(stirred.tensors)
    except ArchitectureError:
        return None
    ids = ids[:, : own.settings.longest]
    return logit_error(expected[:, : ids.shape[1], : own.geometry.vocab_size], logits(own, ids))
