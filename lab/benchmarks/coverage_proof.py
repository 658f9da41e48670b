"""One model of `coverage.py`: is it read, and is what was read right? transformers is asked, not huref.

Weights that huref rearranged inside what it read must give the logits of the original in transformers. A head cut
at the wrong row, a forgotten bias or the wrong kind of norm would change them.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

import huref
from coverage_models import one_line, text_logits
from huref.attacks.kinds import KINDS, Outcome, apply
from huref.errors import ArchitectureError, HurefError
from huref.files.safetensors_writer import write_safetensors
from huref.forward.decoder import Decoder, load_decoder
from huref.forward.settings import Settings, activation_of
from huref.forward.stored import layout_of, stored_config, stored_tensors
from huref.model.arch import open_weights
from huref.model.arch.weights import CanonicalWeights
from huref.model.source import open_checkpoint
from huref.numerics.arrays import Array

LOGITS = 1e-4
"""Largest difference of the logits over their range up to which a copy is the same function in float32."""
SCORES = 1e-5
"""How near to 1 ICS and agreement of a copy have to be."""
OF_SETTINGS = ("scale_residual", "insert_layers")
"""Kinds that ask for more than the weights: the norms' epsilon, a count of layers."""


@dataclass(frozen=True)
class Row:
    """What became of one model.

    Attributes:
        status: `right`, `read` (not proved: see the reason), `wrong`, `refused`, or `unbuilt`.
        family: the architecture file it was read by.
        kinds: the rearrangements of the copy; empty where there is none.
        logit_error: largest difference of the logits over their range, in transformers.
        changed: share of the stored numbers' tensors that differ in the copy.
        reason: of every status but `right`; for `right`, what was left out.
    """

    mapping: str
    model_type: str
    status: str
    family: str = ""
    kinds: tuple[str, ...] = ()
    logit_error: float | None = None
    changed: float | None = None
    ics: float | None = None
    agreement: float | None = None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """A line of the `--json` document."""
        return {**asdict(self), "kinds": list(self.kinds)}


def prove(mapping: str, model_type: str, folder: Path, arch_file: Path | None = None, seed: int = 1) -> Row:
    """Read a model, rearrange it, and let transformers compare."""

    def row(status: str, **found: Any) -> Row:
        return Row(mapping, model_type, status, **found)

    try:
        huref.fingerprint(folder, arch_file=arch_file)
    except HurefError as error:
        return row("refused", reason=str(error).splitlines()[0])
    except Exception as error:
        return row("wrong", reason=f"huref ended with {type(error).__name__}: {one_line(error)}")
    family = ""
    try:
        with open_checkpoint(folder) as checkpoint, tempfile.TemporaryDirectory() as work:
            weights = open_weights(checkpoint, arch_file)
            family = weights.architecture.name
            return row(**_proof(folder, Path(work), weights, arch_file, seed), family=family)
    except Exception as error:
        return row("wrong", family=family, reason=f"on the way {type(error).__name__}: {one_line(error)}")


def decoder_of(weights: CanonicalWeights) -> tuple[Decoder, str]:
    """The weights in memory; without settings, and a note of it, where huref's own forward pass has none for them."""
    try:
        return load_decoder(weights), ""
    except ArchitectureError as error:
        settings = Settings(activation=activation_of(weights), layers_are_numbered="unknown")
        return load_decoder(weights, settings=settings), f"no forward pass of huref's own: {error.what}"


def _proof(folder: Path, work: Path, weights: CanonicalWeights, arch_file: Path | None, seed: int) -> dict[str, Any]:
    """Status and figures of a copy with every kind that the model allows."""
    expected = in_transformers(folder)
    if isinstance(expected, str):
        return {"status": "read", "reason": f"not proved: {expected}"}
    decoder, note = decoder_of(weights)
    kinds, copy = allowed_kinds(decoder), work / "all"
    changed = write_copy(folder, copy, weights, apply(decoder, kinds, seed))
    if not changed:
        return {"status": "read", "reason": "not proved: no kind changes a weight"}
    error = logit_error(expected, in_transformers(copy))
    scores = huref.compare(folder, copy, arch_file=arch_file)
    faults = _faults({"logits": error})
    if faults:
        for kind in kinds:
            write_copy(folder, work / kind, weights, apply(decoder, (kind,), seed))
            faults += _faults({f"{kind} alone": logit_error(expected, in_transformers(work / kind))})
    for name, score in (("canonical-2 ICS", scores.ics_canonical_2), ("agreement", scores.agreement)):
        if score is None or not abs(score - 1) < SCORES:
            faults.append(f"{name} {score}")
    return {
        "status": "wrong" if faults else "right",
        "kinds": kinds,
        "logit_error": error if isinstance(error, float) else None,
        "changed": changed,
        "ics": scores.ics_canonical_2,
        "agreement": scores.agreement,
        "reason": "; ".join(text for text in (*faults, note) if text),
    }


def _faults(errors: Mapping[str, float | str]) -> list[str]:
    """Which of some differences of logits are too large."""
    bad = {name: error for name, error in errors.items() if isinstance(error, str) or not error < LOGITS}
    return [
        f"{name}: {error}" if isinstance(error, str) else f"{name} off by {error:.1e}" for name, error in bad.items()
    ]


def allowed_kinds(decoder: Decoder) -> tuple[str, ...]:
    """Kinds of `all` that it allows; without settings only those of the weights; tokens keep their numbers."""
    left_out = ("permute_vocabulary", *(OF_SETTINGS if decoder.settings.layers_are_numbered == "unknown" else ()))
    return tuple(
        name for name, kind in KINDS.items() if kind.in_all and name not in left_out and not kind.obstacle(decoder)
    )


def write_copy(folder: Path, copy: Path, weights: CanonicalWeights, outcome: Outcome) -> float:
    """Write a rearranged model as huref does; the share of the stored tensors that are not the original's."""
    layout = layout_of(weights)
    tensors = stored_tensors(layout, outcome.model, np.float32)
    copy.mkdir(parents=True)
    for path in folder.iterdir():
        if path.suffix != ".safetensors" and path.name != "model.safetensors.index.json":
            shutil.copy(path, copy / path.name)
    write_safetensors(copy / "model.safetensors", tensors)
    config = stored_config(layout, outcome.model, np.float32)
    (copy / "config.json").write_text(json.dumps(config))
    stored = weights.checkpoint
    differ = [n not in stored.tensors or not np.array_equal(stored.read(n), t) for n, t in tensors.items()]
    return sum(differ) / len(differ)


def in_transformers(folder: Path) -> Array | str:
    """Logits of a folder as transformers loads it, or what stands against them."""
    try:
        cls = getattr(transformers, json.loads((folder / "config.json").read_text())["architectures"][0])
        model, info = cls.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
        if unknown := [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]]:
            return f"{len(unknown)} tensors without a match: {sorted(map(str, unknown))[0]}"
        found: Array = text_logits(model.eval()).double().numpy()
    except Exception as error:
        return f"no logits of text alone: {type(error).__name__}: {one_line(error)}"
    return found if np.isfinite(found).all() else "logits that are not finite"


def logit_error(expected: Array, got: Array | str) -> float | str:
    """Largest difference over the range of the first, or what stands against it."""
    if isinstance(got, str):
        return got
    spread = float(expected.max() - expected.min())
    return float(np.abs(expected - got).max()) / spread if spread > 0 else "logits that are all equal"
