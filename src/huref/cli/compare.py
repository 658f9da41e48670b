"""`huref compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from huref.cli import options, output, passphrases
from huref.cli.keeping import keeping

if TYPE_CHECKING:
    from huref.cli.waiting import Mode
    from huref.errors import HurefError
    from huref.kinship import CompareOptions
    from huref.report import ReportOptions


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="Directory, weight file or saved fingerprint.")],
    others: Annotated[
        list[str],
        typer.Argument(
            metavar="B...",
            help="The other one; or several, a folder of models or fingerprints, @LIST: then a ranking.",
        ),
    ],
    method: Annotated[options.Method, typer.Option(help="Only one of the scores.")] = "all",
    layers: options.Layers = "last2",
    n_tokens: options.NTokens = 4096,
    tokens: options.TokensFile = None,
    arch_file: options.ArchFile = None,
    tokenizer: options.Tokenizer = None,
    base: options.Base = None,
    adapter: options.Adapter = False,
    encoder_weights: options.EncoderWeights = None,
    expect: Annotated[options.Verdict | None, typer.Option(help="Exit with 1 unless this is the verdict.")] = None,
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
        options.IcsRecipe | None, typer.Option(help="Whose ICS to compute. Default: canonical-2.")
    ] = None,
    secret: Annotated[
        Path | None, typer.Option(help="With --private: folder of A's opening, if not A.secret.")
    ] = None,
    name: options.Names = None,
    no_cache: options.NoCache = False,
    download: options.Download = False,  # noqa: ARG001 its callback acts
    show: options.Show = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Compare two models, or one with many.

    Scores, their background, and a verdict; of many candidates a ranking. Exit code 0 for a verdict, 3 for
    inconclusive.

    Example: huref compare ./suspect ./a ./b ./c --report report.html
    """
    if private:
        changed = (layers != "last2", method != "all", n_tokens != 4096, len(others) != 1)
        named = (tokens, arch_file, tokenizer, encoder_weights, expect, report, sarif, evidence, recipe, name, base)
        if any((*changed, *named, hash_files, exact, no_cache, adapter)):
            raise _private_takes_no_option()
        _compare_private(Path(a), Path(others[0]), secret, as_json, show)
    if secret is not None:
        raise _secret_is_private()
    from huref.report import ReportOptions

    wanted = ReportOptions(report, sarif, hash_files, evidence)
    options.require_there(a, *(other for other in others if not other.startswith("@")))
    from huref.fingerprints.listing import listed, one_of

    a, *models = options.adapted([one_of(a), *listed(others)], base, adapter)
    options.require_there(*models)
    from huref.kinship import CompareOptions

    chosen = CompareOptions(
        method, layers, n_tokens, tokens, arch_file, expect, encoder_weights, exact, recipe, tokenizer
    )
    work = _rank if len(models) > 1 or len(others) > 1 else _pair
    with keeping(no_cache, show, is_confirmed=bool(wanted.paths) or hash_files) as cache:
        code = work(a, models, chosen, wanted, show, as_json, {"cache": cache, "names": name})
    raise typer.Exit(code)


def _pair(
    a: str,
    models: list[str],
    chosen: CompareOptions,
    wanted: ReportOptions,
    show: Mode,
    as_json: bool,
    more: dict[str, Any],
) -> int:
    """Of two models; printed before reports are written, so that a full disk loses nothing."""
    from huref import api

    with output.progress(show, "compare", models=(a, models[0])) as progress:
        found = api.compare(a, models[0], chosen, progress, **more)
    output.print_json(found.to_dict()) if as_json else output.say(str(found))
    if wanted.paths:
        with output.progress(show) as progress:
            api.save_reports(found, (a, models[0]), wanted, chosen, progress)
        output.say_written(wanted.paths, as_json)
    return chosen.exit_code(found)


def _rank(
    a: str,
    models: list[str],
    chosen: CompareOptions,
    wanted: ReportOptions,
    show: Mode,
    as_json: bool,
    more: dict[str, Any],
) -> int:
    """Of one model and its candidates."""
    from huref import api

    with output.progress(show) as progress:
        found = api.rank(a, models, chosen, progress, **more)
    output.print_json(found.to_dict()) if as_json else output.say(str(found))
    if wanted.paths:
        with output.progress(show) as progress:
            api.save_ranking(found, a, wanted, chosen, progress)
        output.say_written(wanted.paths, as_json)
    return found.exit_code(chosen.expect)


def _private_takes_no_option() -> HurefError:
    from huref.errors import UsageError

    return UsageError(
        "a private comparison compares what was committed",
        where="huref compare --private",
        expected="two folders, and --secret and --json at most",
        got="an option about models that are read",
        next_step="recipe, layers and tokens are chosen by huref commit",
    )


def _secret_is_private() -> HurefError:
    from huref.errors import UsageError

    return UsageError(
        "only a private comparison takes an opening",
        where="--secret",
        expected="huref compare --private",
        got="a comparison of models",
        next_step="leave it out, or name two folders with commitments and --private",
    )


def _compare_private(a: Path, b: Path, secret: Path | None, as_json: bool, show: Mode) -> NoReturn:
    """A step of a private comparison: what can be done now, and what is still to come."""
    from huref import api

    passphrase = passphrases.to_open(a, secret) or passphrases.to_open(b)
    with output.progress(show) as progress:
        found = api.compare_private(a, b, passphrase=passphrase, secret=secret, report=progress)
    output.print_json(found.to_dict()) if as_json else output.say(output.private_text(found))
    raise typer.Exit(found.exit_code)
