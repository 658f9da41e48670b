"""Two references in, one comparison out: models by their weights, saved fingerprints by their sketches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from huref.choices import chosen, option
from huref.errors import UsageError
from huref.files.cache import Cache
from huref.fingerprints.file import is_fingerprint, saved_fingerprint
from huref.fingerprints.listing import names_of
from huref.fingerprints.recipe import Recipe
from huref.fingerprints.record import Fingerprint, Reference
from huref.fingerprints.references import fingerprint
from huref.kinship.record import CompareOptions, Comparison
from huref.kinship.saved import compare_fingerprints
from huref.model.kept import Asker, options_of
from huref.progress import Report, shows_progress


@shows_progress
def compare(
    a: Reference,
    b: Reference,
    options: CompareOptions | None = None,
    report: Report | None = None,
    *,
    method: str | None = None,
    layers: str | None = None,
    n_tokens: int | None = None,
    tokens_file: str | Path | None = None,
    arch_file: str | Path | None = None,
    encoder_weights: str | Path | None = None,
    is_exact: bool | None = None,
    recipe: str | None = None,
    tokenizer: str | Path | None = None,
    names: Sequence[str] | None = None,
    cache: Cache | bool = False,
) -> Comparison:
    """Compare two models; from sketches alone where one is a saved fingerprint.

    Args:
        a, b: models, fingerprints, or files of these.
        options: instead of the keywords `method` to `tokenizer`, which are the attributes of `CompareOptions`.
        report: called with a `Progress` at each step; a notebook shows bars without it.
        names: what to call the two; else by their paths.
        cache: True to keep the result on this machine, and to take it from there the next time; or a `Cache`.

    Raises:
        UsageError: options that cannot be honoured, or given as an object and as keywords.
        HurefError: see `huref.errors`.
    """
    options = chosen(
        CompareOptions,
        options,
        method=method,
        layers=layers,
        n_tokens=n_tokens,
        tokens_file=tokens_file,
        arch_file=arch_file,
        encoder_weights=encoder_weights,
        is_exact=is_exact,
        recipe=recipe,
        tokenizer=tokenizer,
    )
    if any(is_fingerprint(model) for model in (a, b)):
        _require_no_weights_asked(options)
    memory = None if is_fingerprint(a) and is_fingerprint(b) else Cache.of(cache)
    asker = Asker(memory, Comparison, "compare", options_of(options, "expect"))
    called = names_of([a, b], names) if names else ()
    found = asker.ask(a, b, called=called).answer(lambda: compare_references(a, b, options, report, called))
    if found.a == found.b:
        first, second = names_of([a, b])
        found = replace(found, a=first, b=second)
    return found


def _require_no_weights_asked(options: CompareOptions) -> None:
    """Refuse what only weights can answer."""
    for name, is_asked in (("method", options.method != "all"), ("is_exact", options.is_exact)):
        if is_asked:
            raise UsageError(
                "a saved fingerprint gives all the scores that it has, and no others",
                where=option(name),
                expected="two models",
                got="a saved fingerprint",
                next_step="leave the option out, or compare the models themselves",
            )


def compare_references(
    a: Reference, b: Reference, options: CompareOptions, report: Report | None = None, names: Sequence[str] = ()
) -> Comparison:
    """`compare` with options as an object."""
    saved = [saved_fingerprint(model) for model in (a, b)]
    first_name, second_name = names or ("", "")
    if isinstance(a, str | Path) and isinstance(b, str | Path) and not any(saved):
        from huref.kinship.comparison import compare_models

        require_use(options.encoder_weights, "two models are compared without the CNN encoder")
        return compare_models(a, b, options, report, (first_name, second_name))
    recipe = next(found.recipe for found in saved if found)
    codes = [found.codes for found in saved if found is not None and found.codes is not None]
    wanted = {"codes": bool(codes), "plain_codes": any(each.plain for each in codes)}
    require_options_of(recipe, options)
    if recipe.encoder != "cnn" or all(saved):
        require_use(options.encoder_weights, "no model is to be encoded by the CNN encoder")
    first, second = (
        found or fingerprint_like(model, recipe, options, report, **wanted)
        for found, model in zip(saved, (a, b), strict=True)
    )
    if names:
        first, second = replace(first, model=first_name), replace(second, model=second_name)
    read = tuple({} if is_saved else _read(made) for is_saved, made in zip(saved, (first, second), strict=True))
    return replace(compare_fingerprints(first, second), read=read)


def fingerprint_like(
    model: Reference,
    recipe: Recipe,
    options: CompareOptions,
    report: Report | None,
    *,
    codes: bool = False,
    plain_codes: bool = False,
) -> Fingerprint:
    """Fingerprint a model as a saved fingerprint was made, with codes where that has some."""
    if recipe.ranking and options.tokens_file is None:
        raise UsageError(
            "the saved fingerprint was made with a token ranking",
            where=str(model),
            expected="the same ranking for the other model",
            got="none",
            next_step="tokens_file=FILE (--tokens FILE)",
        )
    plain = replace(recipe, ranking="")
    names = ("tokens_file", "arch_file", "encoder_weights", "tokenizer")
    return fingerprint(
        model,
        plain,
        codes=codes,
        plain_codes=plain_codes,
        report=report,
        **{name: getattr(options, name) for name in names},
    )


def _read(made: Fingerprint) -> dict[str, Any]:
    """What was read to make a fingerprint, as a comparison of weights has it."""
    return {"architecture": made.architecture, **made.weights}


def require_use(weights: Path | None, why: str) -> None:
    """Refuse encoder weights that would be ignored."""
    if weights is not None:
        raise UsageError(
            "encoder weights without use",
            where=option("encoder_weights"),
            expected="a model and a saved fingerprint of the CNN encoder",
            got=why,
            next_step="leave the option out",
        )


def require_options_of(recipe: Recipe, options: CompareOptions) -> None:
    """Refuse layers, tokens or a recipe that a saved fingerprint was not made with: it cannot be made again."""
    usual = CompareOptions()
    for name, attribute in (("layers", "layers"), ("n_tokens", "n_tokens"), ("recipe", "name")):
        asked, made = getattr(options, name), getattr(recipe, attribute)
        if asked not in (getattr(usual, name), made):
            raise UsageError(
                "a saved fingerprint keeps the recipe it was made with",
                where=option(name),
                expected=str(made),
                got=str(asked),
                next_step="leave the option out, or compare the models themselves",
            )
