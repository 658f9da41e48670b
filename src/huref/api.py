"""The front door: what the command line, the web and other programs call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from huref.artefact import CompareOptions, Comparison, Fingerprint, Progress, Recipe, canonical_json, model_name
from huref.errors import OutputError, UsageError
from huref.fingerprint_file import SUFFIX, is_fingerprint, load_fingerprint, save_fingerprint
from huref.saved_comparison import compare_fingerprints

if TYPE_CHECKING:
    from PIL.Image import Image

    from huref.pipeline import Report

SCORES = ("pcs", "ics", "ics_canonical", "vectors")


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
    report: Report | None = None,
) -> Fingerprint:
    """Fingerprint a model, or load the fingerprint if that is what the reference names.

    Args:
        model: a directory, a weight file, or a saved fingerprint.
        recipe: defaults to the canonical sketch.
        tokens_file: a ranking, one token id a line from the most to the least frequent; its rarest are used.
        arch_file: an architecture file of your own, `docs/add-an-architecture.md`.
        report: called with a `Progress` at each step.

    Raises:
        HurefError: see `huref.errors`.
    """
    if is_fingerprint(model):
        saved = load_fingerprint(model)
        _require_same_recipe(saved, recipe, has_files=bool(tokens_file or arch_file))
        return saved
    from huref import pipeline
    from huref.tokens import read_ranking

    ranking = read_ranking(tokens_file) if tokens_file else None
    return pipeline.fingerprint(model, recipe or Recipe(), ranking=ranking, arch_file=arch_file, report=report)


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

        return compare_models(a, b, options, report)
    saved = [load_fingerprint(model) if is_fingerprint(model) else None for model in (a, b)]
    recipe = next(found.recipe for found in saved if found)
    _require_options_of(recipe, options)
    first, second = (
        found or _fingerprint_like(model, recipe, options, report) for found, model in zip(saved, (a, b), strict=True)
    )
    return compare_fingerprints(first, second)


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
    options = replace(options or CompareOptions(), method="pcs" if score == "pcs" else "ics")
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


def render(fingerprints: Fingerprint | Sequence[Fingerprint], size: int | None = None) -> Image:
    """The picture of a fingerprint; of several, a sheet with their names and similarity to the first.

    Args:
        size: side in pixels; the generator's own when None.
    """
    from PIL import Image

    from huref.image import contact_sheet, resize
    from huref.image import render as render_vectors

    prints = [fingerprints] if isinstance(fingerprints, Fingerprint) else list(fingerprints)
    pictures = render_vectors(np.stack([item.vector for item in prints]))
    if len(prints) == 1:
        return Image.fromarray(pictures[0] if size is None else resize(pictures[0], size))
    labels = [item.model + _kinship(prints[0], item) for item in prints]
    return Image.fromarray(contact_sheet(pictures, labels, side=192 if size is None else size))


def save_picture(fingerprints: Sequence[Fingerprint], size: int | None, path: Path) -> None:
    """Draw fingerprints into a PNG file; one picture carries its fingerprint's metadata.

    Raises:
        OutputError: the file cannot be written.
    """
    from huref.image import save_png

    headers = [item.header() for item in fingerprints]
    document = headers[0] if len(headers) == 1 else {"schema_version": "huref.sheet/1.0", "fingerprints": headers}
    pixels = np.asarray(render(fingerprints[0] if len(fingerprints) == 1 else fingerprints, size))
    save_png(path, pixels, {"huref": canonical_json(document)})


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
    save_picture([fingerprint], None, picture)
    save_fingerprint(fingerprint, file)
    return file, picture


def rank_tokens(
    model: str | Path, corpus: Sequence[Path], out: Path | None = None, report: Report | None = None
) -> np.ndarray:
    """Token ids that occur in a corpus, most frequent first; written to `out`, one a line, as the official files are.

    Raises:
        InputError: no tokenizer, or an unreadable corpus file.
    """
    from huref.source import open_checkpoint
    from huref.tokens import count_tokens, load_vocabulary, rank_by_count, write_ranking

    def step(done: int, total: int) -> None:
        if report:
            report(Progress("counting tokens", done, total, "byte"))

    with open_checkpoint(model) as checkpoint:
        counted = count_tokens(checkpoint, corpus, progress=step)
        ids = rank_by_count(counted.counts, load_vocabulary(checkpoint), keep_unseen=False).ids
    if out is not None:
        write_ranking(out, ids.tolist())
    return ids


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
    files = {"tokens_file": options.tokens_file, "arch_file": options.arch_file}
    return fingerprint(model, plain, report=report, **files)


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
    if has_files or (recipe is not None and replace(recipe, ranking=saved.recipe.ranking) != saved.recipe):
        raise UsageError(
            "a saved fingerprint keeps the recipe it was made with",
            where=saved.model,
            expected=str(saved.recipe.to_dict()),
            got="a ranking or an architecture file" if has_files else str(recipe.to_dict() if recipe else {}),
            next_step="fingerprint the model itself",
        )


def _kinship(first: Fingerprint, other: Fingerprint) -> str:
    return "" if other is first else f"\n{100 * first.similarity(other):.1f} %"
