"""`huref verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from huref.cli import options, output
from huref.extras import require

_SHOWN_UNLISTED = 6


def verify(
    proof: Annotated[
        Path, typer.Argument(metavar="PROOF", help="A proof, a commitment by itself, or a published folder.")
    ],
    commitment: Annotated[
        Path | None, typer.Option(help="Folder or file. Default: a commitment beside the proof, or above.")
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
    """Verify a proof, rows, a commitment or a published folder.

    Exit code 0 if it holds, 1 if it does not, 4 if it is damaged.

    Example: huref verify model.proof --commitment sealed
    """
    require("py_arkworks_bls12381", "huref verify")
    from huref import api
    from huref.private import Published

    drawn = None if nonce is None else options.hexadecimal(nonce, "--nonce")
    published = Published(fingerprint, image, drawn, model)
    if proof.is_dir():
        published.refuse(("fingerprint", "image", "nonce", "model"), "published folder")
        found = api.verify_published(proof, commitment)
    else:
        found = api.verify(proof, commitment, published)
    if as_json:
        output.print_json(found.to_dict())
        return
    lines = [
        f"valid: {found.kind}",
        f"  root   {found.root or 'none'}",
        f"  model  {' '.join(f'{found.model} ({found.architecture}), a claim'.splitlines())}",
    ]
    if (used := found.details.get("commitment_file")) and not proof.is_dir():
        lines.append(f"  with   {used}{'' if commitment else ', found near the proof'}")
    lines += [f"  shown  {sentence}" for sentence in found.shown]
    lines += [f"  not    {sentence}" for sentence in found.not_claimed]
    lines += [f"  beside {name}, which is not listed" for name in found.details.get("unlisted", ())[:_SHOWN_UNLISTED]]
    if found.vector is not None:
        lines.append(f"  vector {' '.join(f'{value:.3f}' for value in found.vector[:6])} ... (512 numbers; --json)")
    output.say("\n".join(lines))
