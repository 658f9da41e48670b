"""`huref commit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from huref.cli import options, output, passphrases


def commit(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Directory or weight file; its weights stay here.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="A new folder for what is public: the commitment.")],
    purpose: Annotated[
        options.Purpose,
        typer.Option("--for", help="inference: all weights of a plain Llama, minutes instead of seconds."),
    ] = "fingerprint",
    recipe: Annotated[
        options.RecipeName | None,
        typer.Option(help="Usually canonical-2; for inference canonical.", show_default=False),
    ] = None,
    layers: options.Layers = "last2",
    n_tokens: options.NTokens = 4096,
    tokens: options.TokensFile = None,
    arch_file: options.ArchFile = None,
    tokenizer: options.Tokenizer = None,
    secret: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the secret opening. Default: beside the public one, OUT.secret.", show_default=False
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(help="Processes; 0 for one a core.", min=0, max=options.MAX_JOBS)] = 0,
    encrypt: Annotated[
        bool, typer.Option("--encrypt", help="Encrypt the opening; asks for a passphrase, or HUREF_PASSPHRASE.")
    ] = False,
    download: options.Download = False,  # noqa: ARG001 its callback acts
    show: options.Show = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Commit to a model's weights, which stay private.

    Writes a public commitment and a secret opening; run again to resume.

    Example: huref commit ./base --out sealed
    """
    options.require_there(model)
    from huref import api
    from huref.fingerprints import Recipe
    from huref.private import CommitOptions
    from huref.proof.files.opening import find_opening

    passphrase = passphrases.to_set(out, secret) if encrypt else passphrases.to_open(out, secret)
    chosen = CommitOptions(jobs, passphrase, secret)
    files = {"tokens_file": tokens, "arch_file": arch_file, "tokenizer": tokenizer}
    recipe = recipe or ("canonical" if purpose == "inference" else "canonical-2")
    sought = Recipe(name=recipe, layers=layers, n_tokens=n_tokens)
    with output.progress(show, f"commit {purpose}") as report:
        made = api.commit(model, out, sought, chosen, purpose, report=report, **files)
    layout = made.layout
    public = ("commitment", "inference-commitment", "link") if purpose == "inference" else ("commitment",)
    document = {
        "schema_version": "huref.committed/1.0",
        "root": made.root.hex(),
        "model": layout.model,
        "architecture": layout.architecture,
        "commitment_file": str(out / "commitment"),
        "publish": [str(out / name) for name in public],
        "opening_file": str(find_opening(out, secret)),
        "encrypted": encrypt or chosen.passphrase is not None,
        "integers": layout.n_rows * layout.width,
        "bits": layout.bits,
    }
    if as_json:
        output.print_json(document)
        return
    publish = "".join(f"  publish     {out / name}\n" for name in public)
    beside = (
        f"\n  note        it lies beside what is public: move it to {out}.secret"
        if (out / "opening").exists()
        else ""
    )
    output.say(
        f"{layout.model} ({layout.architecture}): {document['integers']:,} integers of {layout.bits} bits committed\n"
        f"  root        {document['root']}\n"
        f"{publish}"
        f"  keep secret {document['opening_file']}{' (encrypted)' if document['encrypted'] else ''}{beside}"
    )
