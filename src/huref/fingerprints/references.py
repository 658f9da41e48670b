"""A reference in, its fingerprint out: of a model made, of a saved fingerprint loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from huref.choices import chosen, flag, given, option
from huref.errors import UsageError
from huref.fingerprints.file import saved_fingerprint
from huref.fingerprints.recipe import Recipe
from huref.fingerprints.record import Fingerprint, Reference
from huref.model.name import require_names
from huref.progress import Report, shows_progress


@shows_progress
def fingerprint(
    model: Reference,
    recipe: Recipe | str | None = None,
    *,
    encoder: str | None = None,
    layers: str | None = None,
    n_tokens: int | None = None,
    tokens_file: str | Path | None = None,
    arch_file: str | Path | None = None,
    tokenizer: str | Path | None = None,
    name: str | None = None,
    encoder_weights: str | Path | None = None,
    codes: bool = False,
    plain_codes: bool = False,
    report: Report | None = None,
) -> Fingerprint:
    """Fingerprint a model, or load the fingerprint if that is what the reference names.

    Args:
        model: a directory, a weight file, a saved fingerprint, or a fingerprint, which is handed back.
        recipe: a `Recipe`, or the name of one: `canonical-2`, which is the usual one, `canonical` or `paper`.
        encoder, layers, n_tokens: the attributes of `Recipe`, where it is not handed over as one.
        tokens_file: a ranking, one token id a line from the most to the least frequent; its rarest are used.
        arch_file: an architecture file of your own, `docs/how-to/add-an-architecture.md`.
        tokenizer: a folder or a GGUF file whose tokenizer to take where the model has none of its own.
        name: what to call the model, and so its files; else the last part of its path.
        encoder_weights: the weights file of the CNN encoder, for `encoder="cnn"`.
        codes: add the codes of the model's neurons, with which saved fingerprints get a verdict; what they tell of
            the weights is told in docs/explanation/what-codes-reveal.md.
        plain_codes: codes in the stream's own dimensions too: kin with another tokenizer are then recognised without
            weights, and a reader of the file learns more of them.
        report: called with a `Progress` at each step; a notebook shows bars without it.

    Raises:
        UsageError: options that cannot be honoured, or given as a `Recipe` and as keywords.
        HurefError: see `huref.errors`.
    """
    asked = given(encoder=encoder, layers=layers, n_tokens=n_tokens)
    if isinstance(recipe, Recipe):
        asked = chosen(Recipe, recipe, **asked).to_dict()
    elif recipe is not None:
        asked["name"] = recipe
    if name is not None:
        require_names([name], 1, are_files=True)
    saved = saved_fingerprint(model)
    if saved is not None:
        _require_same_recipe(saved, asked, has_files=bool(tokens_file or arch_file or tokenizer or encoder_weights))
        require_codes(saved, is_asked=codes or plain_codes, is_plain=plain_codes)
        return saved if name is None else replace(saved, model=name)
    from huref.fingerprints import pipeline
    from huref.model.tokens import read_ranking

    assert not isinstance(model, Fingerprint)
    weights = Path(encoder_weights) if encoder_weights else None
    return pipeline.fingerprint(
        model,
        recipe if isinstance(recipe, Recipe) else recipe_of(recipe, encoder, layers, n_tokens, weights),
        ranking=read_ranking(tokens_file) if tokens_file else None,
        arch_file=Path(arch_file) if arch_file else None,
        tokenizer=Path(tokenizer) if tokenizer else None,
        name=name or "",
        encoder_weights=weights,
        codes=codes,
        plain_codes=plain_codes,
        report=report,
    )


def recipe_of(
    name: str | None = None,
    encoder: str | None = None,
    layers: str | None = None,
    n_tokens: int | None = None,
    encoder_weights: Path | None = None,
) -> Recipe:
    """A recipe from the parts that were named: `canonical` is the usual one of the CNN encoder.

    Raises:
        UsageError: parts that do not go together.
    """
    if n_tokens is None and encoder_weights is not None:
        from huref.fingerprints.encoder.file import trained_side

        n_tokens = trained_side(encoder_weights) or 1024
    name = name or ("canonical" if encoder == "cnn" else None)
    return Recipe(**given(name=name, encoder=encoder, layers=layers, n_tokens=n_tokens))


def _require_same_recipe(saved: Fingerprint, asked: Mapping[str, Any], *, has_files: bool) -> None:
    """Refuse a recipe that a saved fingerprint was not made with; it keeps its own token ranking."""
    made = saved.recipe.to_dict()
    others = {key: value for key, value in asked.items() if key != "ranking" and made.get(key) != value}
    if has_files or others:
        raise UsageError(
            "a saved fingerprint keeps the recipe it was made with",
            where=saved.model,
            expected=", ".join(f"{key} {made.get(key)}" for key in others or made),
            got=", ".join(f"{key} {value}" for key, value in others.items()) or "a file that shapes a fingerprint",
            next_step="fingerprint the model itself",
        )


def require_codes(saved: Fingerprint, *, is_asked: bool = True, is_plain: bool = False) -> None:
    """Refuse to take a saved fingerprint without codes for one that has some.

    Raises:
        UsageError: codes are asked for, and there are none; or plain ones, and there are none of those.
    """
    has_some = saved.codes is not None and (bool(saved.codes.plain) or not is_plain)
    if is_asked and not has_some:
        name = "plain_codes" if is_plain else "codes"
        raise UsageError(
            "a saved fingerprint without these neuron codes",
            where=saved.model,
            expected=f"one that was made with {option(name)}",
            got="none, or codes of a version that this huref does not know",
            next_step=f"fingerprint the model again: huref fingerprint MODEL {flag(name)}",
        )
