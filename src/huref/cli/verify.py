"""`huref verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from huref.cli import options, output
from huref.extras import require


def verify(
    proof: Annotated[Path, typer.Argument(metavar="PROOF", help="A proof, or a commitment by itself.")],
    commitment: Annotated[
        Path | None, typer.Option(help="Folder or file; the public part suffices, the opening is not read.")
    ] = None,
    fingerprint: Annotated[
        Path | None, typer.Option(help="A published fingerprint file: refuse unless it is the proof's.")
    ] = None,
    image: Annotated[
        Path | None, typer.Option(help="A published portrait (PNG): refuse unless it is the proof's.")
    ] = None,
    nonce: Annotated[str | None, typer.Option(help="For opened rows: the nonce that you drew, hexadecimal.")] = None,
    model: Annotated[Path | None, typer.Option(help="For opened rows: refuse unless they are of this model.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Verify a proof, opened rows or a commitment: exit code 0 if it holds, 1 if it does not, 4 if it is damaged."""
    require("py_arkworks_bls12381", "huref verify")
    from huref import api
    from huref.private import Published

    drawn = None if nonce is None else options.hexadecimal(nonce, "--nonce")
    found = api.verify(proof, commitment, Published(fingerprint, image, drawn, model))
    if as_json:
        output.print_json(found.to_dict())
        return
    lines = [
        f"valid: {found.kind}",
        f"  root   {found.root}",
        f"  model  {' '.join(f'{found.model} ({found.architecture}), a claim'.splitlines())}",
    ]
    lines += [f"  shown  {sentence}" for sentence in found.shown]
    lines += [f"  not    {sentence}" for sentence in found.not_claimed]
    if found.vector is not None:
        lines.append(f"  vector {' '.join(f'{value:.3f}' for value in found.vector[:6])} ... (512 numbers; --json)")
    output.say("\n".join(lines))
