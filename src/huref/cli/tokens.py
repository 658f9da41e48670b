"""`huref tokens`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from huref.cli import options, output

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Token rankings, for the paper's choice of tokens.

    Example: huref tokens rank ./base --corpus text.txt --out ranking.txt
    """


@app.command("rank")
def rank(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model with its tokenizer.")],
    corpus: Annotated[list[Path], typer.Option("--corpus", help="Text file, UTF-8; repeat for more.")],
    out: Annotated[Path | None, typer.Option(help="File to write; stdout when left out.")] = None,
    tokenizer: options.Tokenizer = None,
    show: options.Show = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Rank token ids by their frequency in a corpus.

    One id a line, most frequent first.

    Example: huref tokens rank ./base --corpus text.txt --out ranking.txt
    """
    options.require_there(model)
    if out is not None:
        from huref.files.atomic import require_place

        require_place(out, *(str(digit).encode() for digit in range(10)))
    from huref import api

    with output.progress(show) as report:
        ids = api.rank_tokens(model, corpus, out, report, tokenizer=tokenizer)
    if as_json:
        document = {"schema_version": "huref.ranking/1.0", "model": Path(model).name, "ids": ids.tolist()}
        output.print_json({**document, "ranking_file": str(out) if out else None})
    elif out is None:
        output.say("\n".join(map(str, ids.tolist())))
    else:
        output.say(f"{out}: {len(ids)} token ids")
