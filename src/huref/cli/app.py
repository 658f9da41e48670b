"""`huref`: the commands, and how errors become exit codes."""

from __future__ import annotations

import sys
from typing import Annotated, Any, NoReturn

import typer

from huref.cli import (
    attack,
    commit,
    compare,
    demo,
    encoder,
    explain,
    fingerprint,
    generator,
    laboratory,
    matrix,
    parents,
    prove,
    render,
    tokens,
    verify,
)
from huref.cli.threads import choose_threads
from huref.errors import HurefError, InputError, UsageError
from huref.version import __version__

# typer may carry its own copy of click: the root of its errors is reached through a class that it exports.
_CommandLineFault: Any = typer.BadParameter.__mro__[2]

_INTERRUPTED = 130

app = typer.Typer(
    name="huref",
    help="Which base model does a language model descend from? Read it from the weights.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("fingerprint")(fingerprint.fingerprint)
app.command("compare")(compare.compare)
app.command("matrix")(matrix.matrix)
app.command("parents")(parents.parents)
app.command("explain")(explain.explain)
app.command("render")(render.render)
app.command("demo")(demo.demo)
app.command("attack")(attack.attack)
app.command("commit")(commit.commit)
app.command("verify")(verify.verify)
app.add_typer(prove.app, name="prove", help="Zero-knowledge proofs about committed weights.")
app.add_typer(tokens.app, name="tokens", help="Token rankings.")
app.add_typer(encoder.app, name="encoder", help="CNN encoders: convert them, measure them.")
app.add_typer(generator.app, name="generator", help="Generators of pictures: measure them, convert them.")
laboratory.add_commands(app, {"encoder": encoder.app, "generator": generator.app})


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"huref {__version__}")
        raise typer.Exit


@app.callback()
def main_options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """Which base model does a language model descend from? Read it from the weights."""


def main() -> None:
    """The console entry point: 0 done, 1 contradicted, 2 usage, 3 inconclusive, 4 input, 5 denied, 6 network, 130.

    A fault is a message, never a traceback; with `--json` it is also the one document on stdout.
    """
    as_json = "--json" in sys.argv[1:]
    choose_threads(sys.argv[1] if len(sys.argv) > 1 else "")
    try:
        code = app(standalone_mode=False, prog_name="huref")
    except HurefError as error:
        _end_with(error, as_json)
    except _CommandLineFault as fault:
        fault.show()
        _end_with(UsageError(fault.format_message(), next_step="huref --help"), as_json, is_shown=True)
    except OSError as error:
        where, got = str(error.filename or ""), error.strerror or str(error)
        _end_with(InputError("the operating system refuses", where=where, got=got), as_json)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    if code == _INTERRUPTED:  # typer turns an interrupt into this code, or into an exception, by its version
        sys.stderr.write("huref: interrupted\n")
    sys.exit(code)


def _end_with(error: HurefError, as_json: bool, *, is_shown: bool = False) -> NoReturn:
    from huref.cli.output import print_error

    print_error(error, as_json, is_shown=is_shown)
    sys.exit(error.exit_code)
