"""`huref prove fingerprint`, `compare`, `inference`, `rows`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from huref.cli import options, output, passphrases

if TYPE_CHECKING:
    from huref.proof.files.proof import SketchProof

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Prove things about committed weights, in zero knowledge.

    Example: huref prove fingerprint --commitment sealed --out model.proof
    """


Model = Annotated[
    str | None,
    typer.Argument(metavar="[MODEL]", help="Refuse unless this is the committed model; not needed to prove."),
]
Folder = Annotated[Path, typer.Option("--commitment", help="The folder that huref commit wrote.")]
Proof = Annotated[Path, typer.Option("--out", "-o", help="The proof to write.")]


@app.command("fingerprint")
def prove_fingerprint(
    commitment: Folder,
    out: Proof,
    model: Model = None,
    secret: options.Secret = None,
    arch_file: options.ArchFile = None,
    tokenizer: options.Tokenizer = None,
    show: options.Show = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Prove that a fingerprint comes from committed weights.

    The weights stay private.

    Example: huref prove fingerprint --commitment sealed --out model.proof
    """
    from huref import api

    passphrase = passphrases.to_open(commitment, secret)
    with output.progress(show) as report:
        made = api.prove_fingerprint(
            commitment, out, model, passphrase, arch_file=arch_file, tokenizer=tokenizer, secret=secret, report=report
        )
    _say(made, out, commitment, as_json)


@app.command("compare")
def prove_compare(
    commitment: Folder,
    peer: Annotated[Path, typer.Option(help="The other owner's commitment: a folder or the file.")],
    out: Proof,
    rows: Annotated[
        int, typer.Option(help="Rows of a sketch: the error shrinks with it, the proof grows.", min=8, max=512)
    ] = 64,
    secret: options.Secret = None,
    show: options.Show = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Prove one side of a comparison of two commitments.

    huref compare --private does all of it.

    Example: huref prove compare --commitment mine --peer theirs --out x.proof
    """
    from huref import api

    passphrase = passphrases.to_open(commitment, secret)
    with output.progress(show) as report:
        made = api.prove_compare(commitment, peer, out, rows, passphrase, report, secret=secret)
    _say(made, out, commitment, as_json)


@app.command("inference")
def prove_inference(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model that was committed with --for inference.")],
    commitment: Folder,
    out: Proof,
    text: Annotated[str | None, typer.Option(help="The prompt; no special tokens are added.")] = None,
    ids: Annotated[str | None, typer.Option(help="The prompt as token ids, separated by commas.")] = None,
    precision: Annotated[options.Precision, typer.Option(help="small: coarser tables, quicker.")] = "standard",
    secret: options.Secret = None,
    arch_file: options.ArchFile = None,
    tokenizer: options.Tokenizer = None,
    show: options.Show = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Prove which logits committed weights answer after a prompt.

    Through every layer; a few tokens, minutes.

    Example: huref prove inference ./base --commitment sealed --out a.proof --ids 1,2
    """
    from huref import api
    from huref.private import Prompt

    prompt = Prompt(text, () if ids is None else options.whole_numbers(ids, "--ids"), precision)
    passphrase = passphrases.to_open(commitment, secret)
    with output.progress(show) as report:
        made = api.prove_inference(
            model,
            commitment,
            out,
            prompt,
            passphrase,
            arch_file=arch_file,
            tokenizer=tokenizer,
            secret=secret,
            report=report,
        )
    document = {
        "schema_version": "huref.proved/1.0",
        "kind": "inference",
        "root": made.statement.root.hex(),
        "tokens": list(made.statement.tokens),
        "answer": int(made.logits.argmax()),
        "proof_file": str(out),
        "bytes": out.stat().st_size,
    }
    if as_json:
        output.print_json(document)
        return
    output.say(
        f"proof of inference written: {out} ({document['bytes']:,} bytes)\n"
        f"  after   {' '.join(map(str, made.statement.tokens))}\n"
        f"  answer  token {document['answer']}\n"
        f"  root    {document['root']}\n"
        f"  check   huref verify {out} --commitment {commitment}"
    )


@app.command("rows")
def prove_rows(
    commitment: Folder,
    out: Proof,
    nonce: Annotated[str, typer.Option(help="What the auditor drew after the root was published, hexadecimal.")],
    count: Annotated[
        int,
        typer.Option(
            help="Rows to open; 59 exclude 5 %, 299 exclude 1 % of bad ones.", min=1, max=options.MAX_TOKENS
        ),
    ] = 59,
    secret: options.Secret = None,
    as_json: options.AsJson = False,
) -> None:
    """Open the rows that an auditor's nonce picks.

    They are public from then on, all others stay private.

    Example: huref prove rows --commitment sealed --nonce $NONCE --out r.proof
    """
    from huref import api

    passphrase = passphrases.to_open(commitment, secret)
    made = api.prove_rows(commitment, out, options.hexadecimal(nonce, "--nonce"), count, passphrase, secret=secret)
    document = {
        "schema_version": "huref.proved/1.0",
        "kind": "rows",
        "root": made.root.hex(),
        "rows": len(made.rows),
        "proof_file": str(out),
        "bytes": out.stat().st_size,
    }
    if as_json:
        output.print_json(document)
    else:
        output.say(f"{len(made.rows)} rows opened: {out} ({document['bytes']:,} bytes)\n  root    {document['root']}")


def _say(made: SketchProof, out: Path, folder: Path, as_json: bool) -> None:
    claim = made.claim
    document = {
        "schema_version": "huref.proved/1.0",
        "kind": claim.kind,
        "root": claim.root.hex(),
        "peer": None if claim.peer is None else claim.peer.hex(),
        "proof_file": str(out),
        "bytes": out.stat().st_size,
    }
    if as_json:
        output.print_json(document)
        return
    output.say(
        f"proof of {claim.kind} written: {out} ({document['bytes']:,} bytes)\n"
        f"  root    {document['root']}\n"
        f"  check   huref verify {out} --commitment {folder}"
    )
