"""`huref fingerprint`."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from huref.cli import options, output

if TYPE_CHECKING:
    from huref.fingerprints import Fingerprint, Recipe


def fingerprint(
    models: Annotated[list[str], typer.Argument(metavar="MODEL", help="Directories or weight files.")],
    recipe: Annotated[
        options.RecipeName | None,
        typer.Option(help="Default: canonical-2, or canonical for the encoder cnn."),
    ] = None,
    encoder: Annotated[options.EncoderName, typer.Option(help="How terms become 512 numbers.")] = "sketch",
    layers: options.Layers = "last2",
    n_tokens: Annotated[
        int | None,
        typer.Option(
            "--n-tokens",
            help="Vocabulary rows to use (K): 4096; for cnn what its weights say, or 1024.",
            min=256,
            max=options.MAX_TOKENS,
        ),
    ] = None,
    tokens: options.TokensFile = None,
    arch_file: options.ArchFile = None,
    tokenizer: options.Tokenizer = None,
    base: options.Base = None,
    adapter: options.Adapter = False,
    encoder_weights: options.EncoderWeights = None,
    name: options.Names = None,
    codes: Annotated[
        bool, typer.Option("--codes", help="Add the codes of the model's neurons: saved files then get a verdict.")
    ] = False,
    plain_codes: Annotated[
        bool,
        typer.Option("--plain-codes", help="Codes in the model's own dimensions too: for files that stay private."),
    ] = False,
    out: options.Out = Path(),
    force: Annotated[bool, typer.Option("--force", help="Also over the files of another model.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what is there and what would be read, as huref doctor does.")
    ] = False,
    download: options.Download = False,  # noqa: ARG001 its callback acts
    show: options.Show = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Write a model's fingerprint and its portrait.

    NAME.huref.safetensors and NAME.png of each model, by its last path part, or by --name.

    Example: huref fingerprint ./base ./suspect --out prints
    """
    options.require_there(*(model for model in models if not model.startswith("@")))
    from huref.fingerprints.listing import listed

    models = options.adapted(listed(models), base, adapter)
    if dry_run:
        _tell(models, arch_file, tokenizer, as_json)
        return
    options.require_place(out, is_folder=True)
    from huref.fingerprints.references import recipe_of

    chosen = recipe_of(recipe, encoder, layers, n_tokens, encoder_weights)
    _require_distinct(models, name)
    files: dict[str, Any] = {"tokens_file": tokens, "arch_file": arch_file, "tokenizer": tokenizer}
    files |= {"encoder_weights": encoder_weights, "codes": codes, "plain_codes": plain_codes}
    documents, plan = [], "fingerprint --codes" if codes or plain_codes else "fingerprint"
    for k, model in enumerate(models, 1):
        with output.progress(show, plan, f"{k} of {len(models)}: " if len(models) > 1 else "") as report:
            told = {**files, "name": name[k - 1] if name else None, "report": report}
            item, document = _one(model, chosen, told, out, force)
        documents.append(document)
        if not as_json:
            written = document["fingerprint_file"], document["image_file"]
            output.say(output.fingerprint_text(item, written, document["seconds"]))
    if as_json:
        several = {"schema_version": documents[0]["schema_version"], "fingerprints": documents}
        output.print_json(documents[0] if len(documents) == 1 else several)


def _tell(models: list[str], arch_file: Path | None, tokenizer: Path | None, as_json: bool) -> None:
    from huref import api

    found = [api.doctor(model, arch_file=arch_file, tokenizer=tokenizer) for model in models]
    if as_json:
        several = {"schema_version": "huref.examinations/1.0", "models": [each.to_dict() for each in found]}
        output.print_json(found[0].to_dict() if len(found) == 1 else several)
    else:
        output.say("\n".join(map(str, found)))
    fault = next((each.fault for each in found if each.fault is not None), None)
    if fault is not None:
        raise typer.Exit(fault.exit_code)


def _one(
    model: str, recipe: Recipe, told: dict[str, Any], out: Path, force: bool
) -> tuple[Fingerprint, dict[str, Any]]:
    """Fingerprint a model and write it; what was made, and the document about it."""
    from huref import api

    start = time.perf_counter()
    item = api.fingerprint(model, recipe, **told)
    if not force:
        from huref.portraits.files import require_own_files

        require_own_files(item, out)
    written = tuple(str(path) for path in api.write(item, out))
    return item, {
        **item.header(),
        "vector": [float(number) for number in item.vector],
        "fingerprint_file": written[0],
        "image_file": written[1],
        "bytes_read": item.weights["bytes_read"],
        "bytes_total": item.weights["bytes_total"],
        "seconds": round(time.perf_counter() - start, 4),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _require_distinct(models: list[str], asked: list[str] | None) -> None:
    from huref.errors import UsageError
    from huref.model import model_name
    from huref.model.name import require_names

    if asked:
        require_names(asked, len(models), are_files=True)
        return
    names = [model_name(model) for model in models]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(
            "two models would write the same files",
            where=", ".join(twice),
            expected="models with different last path parts",
            next_step="give each a --name, or fingerprint them one at a time with different --out folders",
        )
