"""`huref`: the commands, and how errors become exit codes."""

from __future__ import annotations

import errno
import sys
from itertools import pairwise
from typing import Annotated, Any, NoReturn

import typer

from huref.cli import (
    attack,
    cache,
    commit,
    compare,
    demo,
    diff,
    doctor,
    encoder,
    explain,
    fingerprint,
    generator,
    laboratory,
    matrix,
    output,
    parents,
    prove,
    publish,
    render,
    tokens,
    verify,
)
from huref.cli.groups import Grouped
from huref.cli.threads import choose_threads
from huref.errors import HurefError, InputError, OutputError, UsageError
from huref.version import __version__

# typer may carry its own copy of click: the root of its errors is reached through a class that it exports.
_CommandLineFault: Any = typer.BadParameter.__mro__[2]

_INTERRUPTED = 130

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)

app = typer.Typer(
    name="huref",
    cls=Grouped,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_COMPARE, _PUBLISH, _PORTRAITS = "Compare", "Publish and prove", "Portraits"
app.command("compare", rich_help_panel=_COMPARE)(compare.compare)
app.command("matrix", rich_help_panel=_COMPARE)(matrix.matrix)
app.command("parents", rich_help_panel=_COMPARE)(parents.parents)
app.command("explain", rich_help_panel=_COMPARE)(explain.explain)
app.command("diff", rich_help_panel=_COMPARE)(diff.diff)
app.command("cache", rich_help_panel=_COMPARE)(cache.cache)
app.command("demo", rich_help_panel=_COMPARE)(demo.demo)
app.command("fingerprint", rich_help_panel=_PUBLISH)(fingerprint.fingerprint)
app.command("commit", rich_help_panel=_PUBLISH)(commit.commit)
app.add_typer(prove.app, name="prove", rich_help_panel=_PUBLISH)
app.command("publish", rich_help_panel=_PUBLISH)(publish.publish)
app.command("verify", rich_help_panel=_PUBLISH)(verify.verify)
app.command("render", rich_help_panel=_PORTRAITS)(render.render)
app.add_typer(generator.app, name="generator", rich_help_panel=_PORTRAITS)
app.command("attack", rich_help_panel=laboratory.PANEL)(attack.attack)
app.command("doctor", rich_help_panel=laboratory.PANEL)(doctor.doctor)
app.add_typer(tokens.app, name="tokens", rich_help_panel=laboratory.PANEL)
app.add_typer(encoder.app, name="encoder", rich_help_panel=laboratory.PANEL)
laboratory.add_commands(app, {"encoder": encoder.app, "generator": generator.app})


def _print_version(is_asked: bool) -> None:
    if is_asked:
        output.say(f"huref {__version__}")
        raise typer.Exit


@app.callback()
def main_options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """Which base model does a language model descend from? Read it from the weights.

    Example: huref compare ./base ./suspect --report report.html
    """


def main() -> None:
    """The command line: 0 done, 1 contradicted, 2 usage, 3 inconclusive, 4 input, 5 denied, 6 network, 130.

    A fault is a message, never a traceback; with `--json` it is also the one document on stdout.
    """
    as_json = "--json" in sys.argv[1:]
    output.begin()
    choose_threads(sys.argv[1] if len(sys.argv) > 1 else "")
    try:
        code = app(standalone_mode=False, prog_name="huref")
    except HurefError as error:
        _end_with(error, as_json)
    except _CommandLineFault as fault:
        _end_with(_usage_error(fault), as_json)
    except OSError as error:
        _end_with(_system_error(error), as_json)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    if code == _INTERRUPTED:  # typer turns an interrupt into this code, or into an exception, by its version
        output.complain("huref: interrupted")
    sys.exit(code)


def _usage_error(fault: Any) -> UsageError:
    """What typer says of the command line, as an error of ours; a group without a command shows its help."""
    if type(fault).__name__ == "NoArgsIsHelpError":
        fault.show()
        sys.exit(UsageError.exit_code)
    context = getattr(fault, "ctx", None)
    command = context.command_path if context else "huref"
    what = fault.format_message().rstrip(".").replace("Value error, ", "")
    given = [_given(flag) for flag in getattr(getattr(fault, "param", None), "opts", ())]
    return UsageError(what, where=command, got=next(filter(None, given), ""), next_step=f"{command} --help")


def _given(flag: str) -> str:
    """What was typed for an option: behind it, or joined to it by =."""
    for word, following in pairwise([*sys.argv[1:], ""]):
        if word.partition("=")[0] == flag:
            return (word.partition("=")[2] or following)[:80]
    return ""


def _system_error(error: OSError) -> HurefError:
    """What the operating system refuses: a full disk, else something that cannot be read."""
    where, got = str(error.filename or ""), error.strerror or str(error)
    if error.errno not in _NO_ROOM:
        return InputError("the operating system refuses", where=where, got=got)
    output.silence(sys.stdout)
    return OutputError("there is no room to write", where=where, got=got, next_step="make room on the disk")


def _end_with(error: HurefError, as_json: bool) -> NoReturn:
    output.print_error(error, as_json)
    sys.exit(error.exit_code)
