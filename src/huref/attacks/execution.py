"""One attack from a checkpoint to a checkpoint, checked on the way: read, change, write, read back, compare logits.

The check runs on what was written: the new folder is opened as any checkpoint is, and its logits are compared
with the original's before it gets its name. A folder whose logits differ is never seen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from huref.attacks.kinds import ALL, apply, parse_kinds
from huref.choices import chosen, option, take_texts_for_paths
from huref.errors import InconclusiveError, UsageError
from huref.fingerprints.file import require_weights
from huref.forward.checkpoint_writer import write_folder
from huref.forward.decoder import Decoder
from huref.forward.judges import OWN, TRANSFORMERS
from huref.forward.rewriting import TOLERANCES, Rewriting, require_free
from huref.model.arch import open_weights
from huref.model.name import model_name
from huref.model.source import open_checkpoint
from huref.model.source.checkpoint import Checkpoint
from huref.numerics.arrays import quietly
from huref.progress import Progress, Report, shows_progress

RECORD = "huref_attack.json"

_BY = {OWN: "as huref computes them", TRANSFORMERS: "as transformers computes them"}


@dataclass(frozen=True)
class AttackOptions:
    """What to do to a model.

    Attributes:
        kinds: names from `huref.attacks.KINDS`, in order, or `all`; a text has commas between them.
        seed: of every random draw.
        dtype: stored type of the result.
        arch_file: an architecture file of the user's own.
        tokenizer: a folder or a GGUF file whose tokenizer goes along where the model has none of its own.
    """

    kinds: tuple[str, ...] = (ALL,)
    seed: int = 1
    dtype: str = "float32"
    arch_file: Path | None = None
    tokenizer: Path | None = None

    def __post_init__(self) -> None:
        take_texts_for_paths(self, "arch_file", "tokenizer")
        if isinstance(self.kinds, str):
            object.__setattr__(self, "kinds", parse_kinds(self.kinds))
        if self.dtype not in TOLERANCES:
            raise UsageError(
                "unknown type",
                where=option("dtype"),
                expected=", ".join(TOLERANCES),
                got=self.dtype,
                next_step="float32",
            )


@dataclass(frozen=True)
class AttackResult:
    """What was done, and how well the function was kept.

    Attributes:
        model: what the user called the original.
        out: the folder that was made.
        kinds: the attacks applied, in order.
        skipped: attacks that `all` left out, with the reason.
        error: largest difference of the logits over their range, as written and read back.
        tolerance: what the error must stay below.
        n_layers: before and after.
        changed: share of the tensors, named alike on both sides, that are not equal.
        checked_by: who computed the logits: `huref`, or `transformers` for families that huref has no pass for.
    """

    model: str
    out: Path
    kinds: tuple[str, ...]
    skipped: Mapping[str, str]
    seed: int
    dtype: str
    error: float
    tolerance: float
    n_layers: tuple[int, int]
    changed: float
    notes: tuple[str, ...] = field(default=())
    checked_by: str = OWN

    def to_dict(self) -> dict[str, Any]:
        """The `--json` document, also kept in the folder (without `out`)."""
        return {
            "schema_version": "huref.attack/1.1",
            "model": self.model,
            "out": str(self.out),
            "kinds": list(self.kinds),
            "skipped": dict(self.skipped),
            "seed": self.seed,
            "dtype": self.dtype,
            "checked_by": self.checked_by,
            "logits_error": self.error,
            "tolerance": self.tolerance,
            "n_layers": list(self.n_layers),
            "changed": self.changed,
            "notes": list(self.notes),
        }

    def to_text(self) -> str:
        """A few lines for people."""
        before, after = self.n_layers
        lines = [
            f"{self.out}: {self.model} after {', '.join(self.kinds)} (seed {self.seed}, {self.dtype})",
            f"  logits    within {self.error:.1e} of their range of the original's, {_BY[self.checked_by]}; "
            f"allowed {self.tolerance:.0e}",
            f"  weights   {100 * self.changed:.0f} % of the tensors changed",
            *([f"  layers    {before} -> {after}"] if before != after else []),
            *(f"  left out  {kind}: {reason}" for kind, reason in self.skipped.items()),
            *(f"  note      {note}" for note in self.notes),
        ]
        return "\n".join(lines)


@quietly
@shows_progress
def attack(
    model: str | Path,
    out: str | Path,
    options: AttackOptions | None = None,
    report: Report | None = None,
    *,
    kinds: str | Sequence[str] | None = None,
    seed: int | None = None,
    dtype: str | None = None,
    arch_file: str | Path | None = None,
    tokenizer: str | Path | None = None,
) -> AttackResult:
    """Write a checkpoint with other weights and the same function.

    Args:
        model: a checkpoint: folder, weight file, or a GGUF of a Llama.
        out: the folder to make.
        options: instead of the keywords `kinds` to `tokenizer`, which are the attributes of `AttackOptions`.
        report: called with a `Progress` at each step; a notebook shows bars without it.

    Raises:
        UsageError: options as an object and as keywords; an attack that this model does not allow.
        OutputError: something that this tool did not write is in the way, or the place cannot be written.
        InconclusiveError: the logits came out different, so nothing was kept.
    """
    named = kinds if kinds is None or isinstance(kinds, str) else tuple(kinds)
    paths = {"arch_file": arch_file, "tokenizer": tokenizer}
    options = chosen(AttackOptions, options, kinds=named, seed=seed, dtype=dtype, **paths)
    model, out = require_weights(model, "attack"), Path(out)
    require_free(out, RECORD, "attacked copy", model)
    tell = _stages(report)
    with open_checkpoint(model) as checkpoint:
        checkpoint.tokenizer = options.tokenizer
        weights = open_weights(checkpoint, options.arch_file)
        tell("read")
        rewriting = Rewriting(weights, options.arch_file)
        original = rewriting.original
        outcome = apply(original, options.kinds, options.seed, tell)
        attacked = outcome.model
        notes = (*original.settings.notes, *weights.notes(), *_notes(attacked, checkpoint))
        found: list[AttackResult] = []

        def fill(partial: Path) -> None:
            tell("write")
            error = rewriting.write(partial, attacked, options.dtype)
            result = AttackResult(
                model_name(model),
                out,
                outcome.applied,
                outcome.skipped,
                options.seed,
                options.dtype,
                error,
                TOLERANCES[options.dtype],
                (original.geometry.n_layers, attacked.geometry.n_layers),
                _changed(original, attacked),
                notes,
                rewriting.judge.name,
            )
            _check(result)
            record = {key: value for key, value in result.to_dict().items() if key != "out"}
            (partial / RECORD).write_text(json.dumps(record, indent=2))
            found.append(result)

        write_folder(out, fill)
    return found[0]


def _check(result: AttackResult) -> None:
    if result.error <= result.tolerance:
        return
    raise InconclusiveError(
        "the attacked copy does not compute what the original computes, so it was not kept",
        where=f"{' + '.join(result.kinds)} on {result.model}",
        expected=f"logits within {result.tolerance:.0e} of their range in {result.dtype}",
        got=f"{result.error:.1e}",
        next_step="write it with --dtype float32, or leave out the kind that loses precision",
    )


def _stages(report: Report | None) -> Callable[[str], None]:
    def tell(stage: str) -> None:
        if report:
            report(Progress(f"attack: {stage}", 0, 1))

    return tell


def _notes(attacked: Decoder, checkpoint: Checkpoint) -> tuple[str, ...]:
    notes = []
    if attacked.token_order is not None:
        notes.append("tokens have other numbers: compare logits by the tokenizers' strings")
    if any((checkpoint.folder / name).is_file() for name in ("modeling.py",)) or "auto_map" in checkpoint.config:
        notes.append("the repository's own code was not carried along")
    return tuple(notes)


def _changed(original: Decoder, attacked: Decoder) -> float:
    names = [name for name in original.tensors if name in attacked.tensors]
    is_equal = [np.array_equal(original.tensors[name], attacked.tensors[name]) for name in names]
    return 1 - sum(is_equal) / len(is_equal)
