"""`huref compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from huref.cli import options, output, passphrases

if TYPE_CHECKING:
    from huref.errors import HurefError


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="Directory, weight file or saved fingerprint.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The other one.")],
    method: Annotated[str, typer.Option(help="all, pcs, ics, aligned or agreement.")] = "all",
    layers: options.Layers = "last2",
    n_tokens: options.NTokens = 4096,
    tokens: options.TokensFile = None,
    arch_file: options.ArchFile = None,
    encoder_weights: options.EncoderWeights = None,
    expect: Annotated[str | None, typer.Option(help="Exit with 1 unless this is the verdict.")] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write a self-contained HTML page, docs/how-to/reports.md.")
    ] = None,
    sarif: Annotated[Path | None, typer.Option(help="Write a SARIF 2.1.0 log for continuous integration.")] = None,
    hash_files: Annotated[bool, typer.Option("--hash", help="Hash files above 1 GB too, for both of these.")] = False,
    private: Annotated[
        bool,
        typer.Option(
            "--private", help="A and B are folders with commitments: compare by proofs, docs/explanation/proofs.md."
        ),
    ] = False,
    evidence: Annotated[Path | None, typer.Option(help="Of huref explain: check it, and tell it there.")] = None,
    exact: Annotated[
        bool,
        typer.Option("--exact", help="Whole terms and every weight, also of models of a billion weights and more."),
    ] = False,
    recipe: Annotated[
        str | None, typer.Option(help="canonical-2 or canonical: whose ICS to compute. Default: canonical-2.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Compare two models: every score, its background, a verdict; exit code 0 for a verdict, 3 for inconclusive."""
    if private:
        ignored = (layers != "last2", method != "all", n_tokens != 4096, tokens, arch_file, encoder_weights, expect)
        if any(ignored) or any((report, sarif, hash_files, evidence, exact, recipe)):
            raise _private_takes_no_option()
        _compare_private(Path(a), Path(b), as_json)
    from huref.report import ReportOptions

    wanted = ReportOptions(report, sarif, hash_files, evidence)
    options.require_there(a, b)
    from huref import api
    from huref.kinship import CompareOptions

    chosen = CompareOptions(method, layers, n_tokens, tokens, arch_file, expect, encoder_weights, exact, recipe)
    with output.progress() as progress:
        found = api.compare(a, b, chosen, progress)
        if wanted.paths:
            api.save_reports(found, (a, b), wanted, chosen, progress)
    if as_json:
        output.print_json(found.to_dict())
    else:
        output.say("\n".join([output.comparison_text(found), *(f"  written: {path}" for path in wanted.paths)]))
    raise typer.Exit(chosen.exit_code(found))


def _private_takes_no_option() -> HurefError:
    from huref.errors import UsageError

    return UsageError(
        "a private comparison compares what was committed",
        where="huref compare --private",
        expected="two folders, and --json at most",
        got="an option about models that are read",
        next_step="recipe, layers and tokens are chosen by huref commit",
    )


def _compare_private(a: Path, b: Path, as_json: bool) -> NoReturn:
    """A step of a private comparison: what can be done now, and what is still to come."""
    from huref import api

    passphrase = passphrases.to_open(a) or passphrases.to_open(b)
    with output.progress() as progress:
        found = api.compare_private(a, b, passphrase=passphrase, report=progress)
    if as_json:
        output.print_json(found.to_dict())
    else:
        output.say(output.private_text(found))
    raise typer.Exit(found.exit_code)
