"""The undone model as a checkpoint: what was recovered taken off the weights, the function kept and checked."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from huref.choices import option
from huref.errors import ArchitectureError, HurefError, InconclusiveError, InputError, UsageError
from huref.explanation.digests import model_digest
from huref.explanation.options import ExplainOptions
from huref.explanation.transform import Explanation, UndoneModel
from huref.forward.checkpoint_writer import write_folder
from huref.forward.decoder import Decoder
from huref.forward.rewriting import TOLERANCES, Rewriting, require_free
from huref.forward.settings import read_settings
from huref.kinship.recovery.matching import shared_ids
from huref.kinship.recovery.recovering import Recovered
from huref.kinship.recovery.stream import Stream
from huref.kinship.recovery.undoing import Undone, undo
from huref.model.model import Model, open_model
from huref.numerics.arrays import quietly
from huref.progress import Progress, Report

RECORD = "huref_undone.json"
STORED = "float32"
"""Of what is written: nothing narrower holds a rotation that was undone."""

_SAME = 1e-3


def is_turned_round(a: Model, b: Model) -> bool:
    """Whether B is taken for the reference: A is a mixture of experts and B is dense."""
    return bool(a.weights.architecture.n_experts and not b.weights.architecture.n_experts)


def require_undoable(a: str | Path, b: str | Path, out: str | Path, options: ExplainOptions | None = None) -> None:
    """Refuse, before long work, what `save_undone` would refuse after it.

    Raises:
        UsageError: only some layers are asked for, of which no model can be made.
        OutputError: something is in the way.
        InputError: the residual streams are of other widths, or a model cannot be read.
    """
    options = options or ExplainOptions()
    if options.layers != "all":
        raise UsageError(
            "no model can be written of some layers",
            where=option("layers", "write_undone"),
            expected="all",
            got=options.layers,
            next_step="leave one of the two out",
        )
    require_free(Path(out), RECORD, "undone model", a, b)
    with _opened(a, b, options) as models:
        _require_known(*models)
        _require_one_width(*models)


def save_undone(
    found: Explanation,
    a: str | Path,
    b: str | Path,
    out: str | Path,
    options: ExplainOptions | None = None,
    report: Report | None = None,
) -> UndoneModel:
    """Write the explained model with the transform undone: a checkpoint that computes what the model computes.

    Args:
        found: an explanation of all layers, just found or read from evidence.
        a, b: the models it is of, as they were given to `explain`.
        out: the folder to make, or an earlier undone model to replace.

    Raises:
        ArchitectureError: there is no forward pass for B, so that nothing could be checked.
        InconclusiveError: the logits came out different; nothing is kept.
        OutputError: the place cannot be written.
        InputError, UsageError: see `require_undoable`.
    """
    options = options or ExplainOptions()
    require_undoable(a, b, out, options)
    with _opened(a, b, options) as (first, second):
        if is_turned_round(first, second):
            first, second = second, first
        _require_about(found, first, second)
        transform = Recovered(Stream(found.residual), found.layers, shared_ids(second, first))
        return _write(first, second, transform, Path(out), options.arch_file, report)


@contextlib.contextmanager
def _opened(a: str | Path, b: str | Path, options: ExplainOptions) -> Iterator[tuple[Model, Model]]:
    with contextlib.ExitStack() as opened:
        models = []
        for reference in (a, b):
            models.append(open_model(reference, options.arch_file, options.tokenizer))
            opened.enter_context(models[-1].weights.checkpoint)
        yield models[0], models[1]


def _require_known(*models: Model) -> None:
    """Refuse families of which not every role is understood by what undoes them."""
    for model in models:
        if not model.weights.architecture.has_logits or model.weights.is_entwined:
            raise ArchitectureError(
                "no undone model is written of this family",
                where=model.name,
                expected="a family that huref has a forward pass for (docs/reference/architectures.md)",
                got=model.weights.architecture.name,
                next_step="huref explain without --write-undone says what was done",
            )


def _require_one_width(a: Model, b: Model) -> None:
    widths = [model.weights.geometry.d_model for model in (a, b)]
    if widths[0] != widths[1]:
        raise InputError(
            "streams of other widths: what was cut away, or added, cannot be undone",
            where=f"{a.name} and {b.name}",
            expected="two models of one width",
            got=f"{widths[0]} and {widths[1]}",
            next_step="huref explain without --write-undone says what was done",
        )


def _require_about(found: Explanation, a: Model, b: Model) -> None:
    sides = [(side.digest, model) for side, model in ((found.a, a), (found.b, b))]
    other = [model.name for digest, model in sides if model_digest(model) != digest]
    if other or len(found.layers) != b.weights.geometry.n_layers:
        raise InputError(
            "the explanation is about other models, or about some layers only",
            where=", ".join(other) or b.name,
            expected=f"{found.a.name} and {found.b.name}, in this order, and all layers",
            next_step="explain these two, all layers",
        )


@quietly
def _write(
    a: Model, b: Model, found: Recovered, out: Path, arch_file: Path | None, report: Report | None
) -> UndoneModel:
    if report:
        report(Progress("writing the undone model", 0, 1, "model"))
    rewriting = Rewriting(b.weights, arch_file)
    original = rewriting.original
    undone = undo(
        original.tensors,
        b,
        a,
        found,
        movable=original.renumberable,
        activation=original.settings.activation,
        is_numbered=bool(original.settings.layers_are_numbered),
    )
    changed = _changed(original, undone, a)
    told: list[UndoneModel] = []

    def fill(partial: Path) -> None:
        error = rewriting.write(partial, changed, STORED)
        moved = 0 if undone.token_order is None else int((undone.token_order != np.arange(b.n_rows)).sum())
        depths = original.geometry.n_layers, changed.geometry.n_layers
        result = UndoneModel(str(out), b.name, error, TOLERANCES[STORED], depths, moved, undone.left)
        _require_same_function(result)
        record = {key: value for key, value in result.to_dict().items() if key != "out"}
        (partial / RECORD).write_text(json.dumps(record, indent=2))
        told.append(result)

    write_folder(out, fill)
    if report:
        report(Progress("writing the undone model", 1, 1, "model"))
    return told[0]


def _changed(original: Decoder, undone: Undone, a: Model) -> Decoder:
    """The decoder that is written: the norms' epsilon follows the stream's length."""
    eps = original.settings.eps / undone.scale**2
    try:
        theirs = read_settings(a.weights).eps
    except HurefError:
        theirs = eps
    return replace(
        original,
        tensors=undone.tensors,
        geometry=replace(original.geometry, n_layers=len(undone.origins)),
        settings=replace(original.settings, eps=theirs if abs(theirs / eps - 1) < _SAME else eps),
        layer_origins=undone.origins,
        token_order=undone.token_order,
    )


def _require_same_function(result: UndoneModel) -> None:
    if result.error > result.tolerance:
        raise InconclusiveError(
            "the undone model does not compute what the rearranged one computes, so it was not kept",
            where=result.model,
            expected=f"logits within {result.tolerance:.0e} of their range",
            got=f"{result.error:.1e}",
            next_step="huref explain without --write-undone says what was found",
        )
