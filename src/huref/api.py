"""The front door: what the command line, the web and other programs call."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from huref import private
from huref.artefact import CompareOptions, Comparison
from huref.errors import HurefError, OutputError, UsageError
from huref.fingerprints.file import SUFFIX, is_fingerprint, load_fingerprint, save_fingerprint
from huref.fingerprints.recipe import Recipe
from huref.fingerprints.record import Fingerprint
from huref.model.model import model_name
from huref.progress import Progress
from huref.saved_comparison import compare_fingerprints

if TYPE_CHECKING:
    from PIL.Image import Image

    from huref.evidence import ReportOptions
    from huref.explanation import Checked, CheckOptions, ExplainOptions, Explanation
    from huref.merges.parentage import Parentage
    from huref.portraits import PictureOptions
    from huref.progress import Report

commit = private.commit
prove_fingerprint = private.prove_fingerprint
prove_compare = private.prove_compare
prove_inference = private.prove_inference
prove_rows = private.prove_rows
verify = private.verify
compare_private = private.compare_private

SCORES = ("pcs", "ics", "ics_canonical", "aligned", "agreement", "vectors")


@dataclass(frozen=True)
class Matrix:
    """All pairs of some models.

    Attributes:
        names: the models, in the order given.
        score: which of `SCORES`.
        values: (n, n) float64, symmetric, ones on the diagonal; NaN where a pair has no such score.
        notes: reasons for missing values.
    """

    names: tuple[str, ...]
    score: str
    values: np.ndarray
    notes: tuple[str, ...]


def fingerprint(
    model: str | Path,
    recipe: Recipe | None = None,
    *,
    tokens_file: Path | None = None,
    arch_file: Path | None = None,
    encoder_weights: Path | None = None,
    report: Report | None = None,
) -> Fingerprint:
    """Fingerprint a model, or load the fingerprint if that is what the reference names.

    Args:
        model: a directory, a weight file, or a saved fingerprint.
        recipe: defaults to the canonical sketch.
        tokens_file: a ranking, one token id a line from the most to the least frequent; its rarest are used.
        arch_file: an architecture file of your own, `docs/add-an-architecture.md`.
        encoder_weights: the weights file of the CNN encoder, for `Recipe(encoder="cnn", n_tokens=1024)`.
        report: called with a `Progress` at each step.

    Raises:
        HurefError: see `huref.errors`.
    """
    if is_fingerprint(model):
        saved = load_fingerprint(model)
        _require_same_recipe(saved, recipe, has_files=bool(tokens_file or arch_file or encoder_weights))
        return saved
    from huref.fingerprints import pipeline
    from huref.model.tokens import read_ranking

    ranking = read_ranking(tokens_file) if tokens_file else None
    files = {"arch_file": arch_file, "encoder_weights": encoder_weights}
    return pipeline.fingerprint(model, recipe or Recipe(), ranking=ranking, report=report, **files)


def compare(
    a: str | Path, b: str | Path, options: CompareOptions | None = None, report: Report | None = None
) -> Comparison:
    """Compare two models; from sketches alone where one is a saved fingerprint.

    Raises:
        HurefError: see `huref.errors`.
    """
    options = options or CompareOptions()
    if not (is_fingerprint(a) or is_fingerprint(b)):
        from huref.comparison import compare_models

        _require_use(options.encoder_weights, "two models are compared without the CNN encoder")
        return compare_models(a, b, options, report)
    saved = [load_fingerprint(model) if is_fingerprint(model) else None for model in (a, b)]
    recipe = next(found.recipe for found in saved if found)
    _require_options_of(recipe, options)
    if recipe.encoder != "cnn" or all(saved):
        _require_use(options.encoder_weights, "no model is to be encoded by the CNN encoder")
    first, second = (
        found or _fingerprint_like(model, recipe, options, report) for found, model in zip(saved, (a, b), strict=True)
    )
    read = tuple({} if is_saved else _read(made) for is_saved, made in zip(saved, (first, second), strict=True))
    return replace(compare_fingerprints(first, second), read=read)


def save_reports(
    found: Comparison,
    models: tuple[str | Path, str | Path],
    wanted: ReportOptions,
    options: CompareOptions | None = None,
    report: Report | None = None,
) -> None:
    """Write a comparison as a self-contained page, as SARIF, or as both: docs/reports.md.

    Args:
        found: what `compare` returned.
        models: what it was given.
        wanted: the files, and what to put into them.
        options: what it was given.

    Raises:
        OutputError: a file cannot be written.
        InputError: a file of the models cannot be read any more.
    """
    from huref.evidence import gather
    from huref.files.atomic import write_atomically
    from huref.report import html_page, sarif_log

    options = options or CompareOptions()
    prints = _prints(models, options, report, is_drawn=wanted.html is not None)
    evidence = gather(found, models, prints, options, wanted, report)
    if wanted.html is not None:
        write_atomically(wanted.html, html_page(found, evidence).encode())
    if wanted.sarif is not None:
        log = json.dumps(sarif_log(found, evidence), indent=2, allow_nan=False)
        write_atomically(wanted.sarif, f"{log}\n".encode())


def matrix(
    models: Sequence[str | Path],
    score: str = "ics_canonical",
    options: CompareOptions | None = None,
    report: Report | None = None,
) -> Matrix:
    """Compare every pair of models, as in the paper's tables 1 to 3 and 7.

    Raises:
        UsageError: fewer than two models, or no such score.
    """
    if len(models) < 2 or score not in SCORES:
        raise UsageError(
            "a matrix needs two models or more and one score",
            where="huref matrix",
            expected=f"2 or more models, --score {'|'.join(SCORES)}",
            got=f"{len(models)} models, --score {score}",
        )
    method = score if score in ("pcs", "aligned", "agreement") else "ics"
    options = replace(options or CompareOptions(), method=method)
    values, notes = np.eye(len(models)), dict[str, None]()
    pairs = [(i, j) for i in range(len(models)) for j in range(i)]
    names = [model_name(model).removesuffix(SUFFIX.removesuffix(".safetensors")) for model in models]
    for done, (i, j) in enumerate(pairs):
        if report:
            report(Progress("comparing pairs", done, len(pairs), "pair"))
        found = compare(models[j], models[i], options)
        value = getattr(found, score)
        values[i, j] = values[j, i] = np.nan if value is None else value
        notes.update(dict.fromkeys(found.notes if value is None else ()))
    return Matrix(tuple(names), score, values, tuple(notes))


def parents(
    child: str | Path,
    candidates: Sequence[str | Path],
    base: str | Path | None = None,
    *,
    arch_file: Path | None = None,
    report: Report | None = None,
) -> Parentage:
    """Which candidates a model was merged or tuned from, with their weights; see `docs/merges.md`.

    Args:
        base: what the parents were tuned from; chosen among three or more relatives where it is not given.

    Raises:
        HurefError: see `huref.errors`.
    """
    from huref.merges.finding import find_parents

    return find_parents(child, candidates, base, arch_file=arch_file, report=report)


def explain(
    a: str | Path,
    b: str | Path,
    options: ExplainOptions | None = None,
    out: Path | None = None,
    report: Report | None = None,
) -> Explanation:
    """Recover what was done to A to make B, and see what undoing it shows; see `docs/explain.md`.

    Args:
        out: saves the evidence there, for others to check.

    Raises:
        InconclusiveError: nothing of B agrees with anything of A; nothing is written.
        HurefError: see `huref.errors`.
    """
    from huref.explanation import save_evidence
    from huref.explanation.recovering import explain_models
    from huref.files.atomic import require_place

    if out is not None:
        require_place(out)
    found = explain_models(a, b, options, report)
    if out is not None:
        save_evidence(found, out)
    return found


def check_evidence(
    path: Path, a: str | Path, b: str | Path, options: CheckOptions | None = None, report: Report | None = None
) -> Checked:
    """Check the claims of saved evidence against the two models it is about, in either order.

    Raises:
        CorruptFileError: no evidence.
        InputError: evidence about other models; see `huref.errors`.
    """
    from huref.explanation.checking import check_evidence as check

    return check(path, a, b, options, report)


def render(fingerprints: Fingerprint | Sequence[Fingerprint], options: PictureOptions | None = None) -> Image:
    """The picture of a fingerprint; of several a sheet, a row or a difference, with their likeness to the first.

    Raises:
        HurefError: see `huref.errors`.
    """
    from PIL import Image

    from huref.portraits import PictureOptions, draw

    prints = [fingerprints] if isinstance(fingerprints, Fingerprint) else list(fingerprints)
    return Image.fromarray(draw(prints, options or PictureOptions()))


def save_picture(
    fingerprints: Sequence[Fingerprint], path: Path, options: PictureOptions | None = None, style: str = "png"
) -> None:
    """Draw fingerprints into a PNG file, or one into an SVG badge; both carry the fingerprints' metadata.

    Raises:
        OutputError: the file cannot be written.
    """
    from huref import portraits

    portraits.save(fingerprints, options or portraits.PictureOptions(), path, style)


def write(fingerprint: Fingerprint, out: Path) -> tuple[Path, Path]:
    """Write `NAME.huref.safetensors` and `NAME.png` with the same metadata into a folder.

    Raises:
        OutputError: the folder cannot be written; nothing is left half-written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            "cannot make the output folder",
            where=str(out),
            got=error.strerror or str(error),
            next_step="--out DIR",
        ) from None
    file, picture = out / f"{fingerprint.model}{SUFFIX}", out / f"{fingerprint.model}.png"
    save_picture([fingerprint], picture)
    save_fingerprint(fingerprint, file)
    return file, picture


def rank_tokens(
    model: str | Path, corpus: Sequence[Path], out: Path | None = None, report: Report | None = None
) -> np.ndarray:
    """Token ids that occur in a corpus, most frequent first; written to `out`, one a line, as the official files are.

    Raises:
        InputError: no tokenizer, or an unreadable corpus file.
    """
    from huref.model.source import open_checkpoint
    from huref.model.tokens import count_tokens, load_vocabulary, rank_by_count, write_ranking

    def step(done: int, total: int) -> None:
        if report:
            report(Progress("counting tokens", done, total, "byte"))

    with open_checkpoint(model) as checkpoint:
        counted = count_tokens(checkpoint, corpus, progress=step)
        ids = rank_by_count(counted.counts, load_vocabulary(checkpoint), keep_unseen=False).ids
    if out is not None:
        write_ranking(out, ids.tolist())
    return ids


def _prints(
    models: tuple[str | Path, str | Path], options: CompareOptions, report: Report | None, *, is_drawn: bool
) -> list[Fingerprint | str]:
    """Of each model the fingerprint to draw, or why there is none; saved ones are only loaded."""
    saved = [load_fingerprint(model) if is_fingerprint(model) else None for model in models]
    usual = Recipe(layers=options.layers, n_tokens=options.n_tokens)
    recipe = next((found.recipe for found in saved if found), usual)
    prints: list[Fingerprint | str] = []
    for known, model in zip(saved, models, strict=True):
        try:
            if known is None and is_drawn:
                known = _fingerprint_like(model, recipe, options, report)
            prints.append(known or "no portrait was asked for")
        except HurefError as error:
            prints.append(error.what)
    return prints


def _read(made: Fingerprint) -> dict[str, Any]:
    """What was read to make a fingerprint, as a comparison of weights has it."""
    return {"architecture": made.architecture, **made.weights}


def _fingerprint_like(
    model: str | Path, recipe: Recipe, options: CompareOptions, report: Report | None
) -> Fingerprint:
    """Fingerprint a model as a saved fingerprint was made."""
    if recipe.ranking and options.tokens_file is None:
        raise UsageError(
            "the saved fingerprint was made with a token ranking",
            where=str(model),
            expected="the same ranking for the other model",
            got="none",
            next_step="--tokens FILE",
        )
    plain = replace(recipe, ranking="")
    names = ("tokens_file", "arch_file", "encoder_weights")
    return fingerprint(model, plain, report=report, **{name: getattr(options, name) for name in names})


def _require_use(weights: Path | None, why: str) -> None:
    """Refuse encoder weights that would be ignored."""
    if weights is not None:
        raise UsageError(
            "encoder weights without use",
            where="--encoder-weights",
            expected="a model and a saved fingerprint of the CNN encoder",
            got=why,
            next_step="leave the option out",
        )


def _require_options_of(recipe: Recipe, options: CompareOptions) -> None:
    """Refuse layers or a number of tokens that a saved fingerprint was not made with: it cannot be made again."""
    usual = CompareOptions()
    for name in ("layers", "n_tokens"):
        asked, made = getattr(options, name), getattr(recipe, name)
        if asked not in (getattr(usual, name), made):
            raise UsageError(
                "a saved fingerprint keeps the recipe it was made with",
                where=f"--{name.replace('_', '-')}",
                expected=str(made),
                got=str(asked),
                next_step="leave the option out, or compare the models themselves",
            )


def _require_same_recipe(saved: Fingerprint, recipe: Recipe | None, *, has_files: bool) -> None:
    made = saved.recipe
    if recipe is not None:
        recipe = replace(recipe, ranking=made.ranking, encoder_weights=recipe.encoder_weights or made.encoder_weights)
    if has_files or recipe not in (None, made):
        raise UsageError(
            "a saved fingerprint keeps the recipe it was made with",
            where=saved.model,
            expected=str(saved.recipe.to_dict()),
            got="a file that shapes a fingerprint" if has_files else str(recipe.to_dict() if recipe else {}),
            next_step="fingerprint the model itself",
        )
