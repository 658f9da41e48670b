"""`huref demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from huref.cli import options, output


def demo(
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("demo"),
    as_json: options.AsJson = False,
) -> None:
    """The main job on a real bundled model, without any network: a family, a stranger, their pictures."""
    from huref import api

    with output.progress() as report:
        result = api.run_demo(out, report)
    if as_json:
        output.print_json(result.to_dict())
    else:
        output.say(result.to_text())
        output.say(f"The pictures side by side: {out / result.sheet}")
