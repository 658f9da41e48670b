"""A reference in, its fingerprint out: of a model made, of a saved fingerprint loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from huref.errors import UsageError
from huref.fingerprints.file import is_fingerprint, load_fingerprint
from huref.fingerprints.recipe import Recipe
from huref.fingerprints.record import Fingerprint
from huref.progress import Report


def fingerprint(
    model: str | Path,
    recipe: Recipe | None = None,
    *,
    tokens_file: Path | None = None,
    arch_file: Path | None = None,
    encoder_weights: Path | None = None,
    codes: bool = False,
    plain_codes: bool = False,
    report: Report | None = None,
) -> Fingerprint:
    """Fingerprint a model, or load the fingerprint if that is what the reference names.

    Args:
        model: a directory, a weight file, or a saved fingerprint.
        recipe: defaults to the sketch of canonical-2.
        tokens_file: a ranking, one token id a line from the most to the least frequent; its rarest are used.
        arch_file: an architecture file of your own, `docs/how-to/add-an-architecture.md`.
        encoder_weights: the weights file of the CNN encoder, for `Recipe("canonical", "cnn", n_tokens=1024)`.
        codes: add the codes of the model's neurons, with which saved fingerprints get a verdict; what they tell of
            the weights is told in docs/explanation/what-codes-reveal.md.
        plain_codes: codes in the stream's own dimensions too: kin with another tokenizer are then recognised without
            weights, and a reader of the file learns more of them.
        report: called with a `Progress` at each step.

    Raises:
        HurefError: see `huref.errors`.
    """
    if is_fingerprint(model):
        saved = load_fingerprint(model)
        _require_same_recipe(saved, recipe, has_files=bool(tokens_file or arch_file or encoder_weights))
        require_codes(saved, is_asked=codes or plain_codes, is_plain=plain_codes)
        return saved
    from huref.fingerprints import pipeline
    from huref.model.tokens import read_ranking

    ranking = read_ranking(tokens_file) if tokens_file else None
    return pipeline.fingerprint(
        model,
        recipe or Recipe(),
        ranking=ranking,
        arch_file=arch_file,
        encoder_weights=encoder_weights,
        codes=codes,
        plain_codes=plain_codes,
        report=report,
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


def require_codes(saved: Fingerprint, *, is_asked: bool = True, is_plain: bool = False) -> None:
    """Refuse to take a saved fingerprint without codes for one that has some.

    Raises:
        UsageError: codes are asked for, and there are none; or plain ones, and there are none of those.
    """
    has_some = saved.codes is not None and (bool(saved.codes.plain) or not is_plain)
    if is_asked and not has_some:
        flag = "--plain-codes" if is_plain else "--codes"
        raise UsageError(
            "a saved fingerprint without these neuron codes",
            where=saved.model,
            expected=f"one that was made with {flag}",
            got="none, or codes of a version that this huref does not know",
            next_step=f"fingerprint the model again: huref fingerprint MODEL {flag}",
        )
