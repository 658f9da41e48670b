"""`huref demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from huref.cli import options, output


def demo(
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("demo"),
    show: options.Show = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Try huref on a bundled model: a family, a stranger, portraits.

    Without any network.

    Example: huref demo --out demo
    """
    from huref import api

    with output.progress(show, "demo") as report:
        result = api.run_demo(out, report)
    if as_json:
        output.print_json(result.to_dict())
    else:
        output.say(result.to_text())
        output.say(f"The pictures side by side: {out / result.sheet}")
