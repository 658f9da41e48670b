"""`huref fingerprint`."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from huref.cli import options, output


def fingerprint(
    models: Annotated[list[str], typer.Argument(metavar="MODEL", help="Directories or weight files.")],
    recipe: Annotated[
        str | None,
        typer.Option(help="canonical-2, canonical or paper. Default: canonical-2, or canonical for the encoder cnn."),
    ] = None,
    encoder: Annotated[str, typer.Option(help="sketch, mean or cnn.")] = "sketch",
    layers: options.Layers = "last2",
    n_tokens: Annotated[
        int | None,
        typer.Option("--n-tokens", help="Vocabulary rows to use (K): 4096; for cnn what its weights say, or 1024."),
    ] = None,
    tokens: options.TokensFile = None,
    arch_file: options.ArchFile = None,
    encoder_weights: options.EncoderWeights = None,
    codes: Annotated[
        bool, typer.Option("--codes", help="Add the codes of the model's neurons: saved files then get a verdict.")
    ] = False,
    plain_codes: Annotated[
        bool,
        typer.Option("--plain-codes", help="Codes in the model's own dimensions too: for files that stay private."),
    ] = False,
    out: options.Out = Path(),
    as_json: options.AsJson = False,
) -> None:
    """Fingerprint models: writes NAME.huref.safetensors and NAME.png."""
    options.require_there(*models)
    from huref.fingerprints import Recipe

    name = recipe or ("canonical" if encoder == "cnn" else "canonical-2")
    chosen = Recipe(name=name, encoder=encoder, layers=layers, n_tokens=n_tokens or _usual(encoder_weights))
    _require_distinct(models)
    files: dict[str, Any] = {"tokens_file": tokens, "arch_file": arch_file, "encoder_weights": encoder_weights}
    files |= {"codes": codes, "plain_codes": plain_codes}
    documents = [_one(model, chosen, files, out, as_json) for model in models]
    if as_json:
        several = {"schema_version": documents[0]["schema_version"], "fingerprints": documents}
        output.print_json(documents[0] if len(documents) == 1 else several)


def _one(model: str, recipe: Any, files: dict[str, Any], out: Path, quiet: bool) -> dict[str, Any]:
    from huref import api

    start = time.perf_counter()
    with output.progress() as report:
        item = api.fingerprint(model, recipe, report=report, **files)
    written = tuple(str(path) for path in api.write(item, out))
    seconds = time.perf_counter() - start
    if not quiet:
        output.say(output.fingerprint_text(item, (written[0], written[1]), seconds))
    return {
        **item.header(),
        "vector": [float(number) for number in item.vector],
        "fingerprint_file": written[0],
        "image_file": written[1],
        "bytes_read": item.weights["bytes_read"],
        "bytes_total": item.weights["bytes_total"],
        "seconds": round(seconds, 4),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _usual(encoder_weights: Path | None) -> int:
    """K: 4096, or for the CNN encoder what its weights were trained at, 1024 where they do not say."""
    if encoder_weights is None:
        return 4096
    from huref.fingerprints.encoder.file import trained_side

    return trained_side(encoder_weights) or 1024


def _require_distinct(models: list[str]) -> None:
    from huref.errors import UsageError
    from huref.model import model_name

    names = [model_name(model) for model in models]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(
            "two models would write the same files",
            where=", ".join(twice),
            expected="models with different last path parts",
            next_step="fingerprint them one at a time with different --out folders",
        )
