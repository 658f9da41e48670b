"""`huref publish`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from huref.cli import options, output, passphrases
from huref.extras import require

if TYPE_CHECKING:
    from huref.private import Publication

_SHOWN_OTHERS = 6


def publish(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="To be made, or to be brought up to date.")],
    model: Annotated[str, typer.Option(help="Directory, weight file or saved fingerprint; it stays where it is.")],
    commitment: Annotated[
        Path | None, typer.Option(help="The folder that huref commit wrote. Default: FOLDER, if it holds one.")
    ] = None,
    secret: options.Secret = None,
    codes: Annotated[
        bool, typer.Option("--codes", help="Add the codes of the model's neurons: others then get a verdict.")
    ] = False,
    tokens: options.TokensFile = None,
    arch_file: options.ArchFile = None,
    show: options.Show = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Lay out what may be shown of a model, and nothing else.

    Fingerprint, portrait, badge, commitment, proof, a block for the model card, checksums.

    Example: huref publish public --model ./my-model --commitment sealed
    """
    require("py_arkworks_bls12381", "huref publish")
    options.require_there(model)
    from huref import api
    from huref.private import PublishOptions
    from huref.private.publication import require_no_secret

    require_no_secret(folder)  # before anybody is asked for its passphrase
    passphrase = passphrases.to_open(commitment or folder, secret)
    chosen = PublishOptions(commitment, secret, passphrase, codes, tokens, arch_file)
    with output.progress(show) as report:
        made = api.publish(folder, model, chosen, report)
    if as_json:
        output.print_json(made.to_dict())
    else:
        output.say(_text(made))


def _text(made: Publication) -> str:
    """What may be uploaded, what stays, and what is not said."""
    lines = [f"{made.model}: may be uploaded, from {made.folder}"]
    lines += [f"  {'written' if file.is_new else 'as it was':<10}{file.name}" for file in made.files]
    lines.append(f"  root      {made.root or 'none: no commitment, huref commit makes one'}")
    if made.secret is not None:
        lines.append(f"  secret    {made.secret} stays where it is: who has it knows the weights")
    lines += [f"  not ours  {name}" for name in made.others[:_SHOWN_OTHERS]]
    if len(made.others) > _SHOWN_OTHERS:
        lines.append(f"  not ours  and {len(made.others) - _SHOWN_OTHERS} more files: look at them before you upload")
    if not made.is_proved:
        lines.append(f"  not said  {made.not_claimed[0]}")
    return "\n".join([*lines, f"  check     huref verify {made.folder}"])
