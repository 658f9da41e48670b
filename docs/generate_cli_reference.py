"""Write `docs/reference/cli.md` from the commands themselves: `python docs/generate_cli_reference.py`.

A test compares the page with what this makes, so they cannot part.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

PAGE = Path(__file__).parent / "reference" / "cli.md"

_HEAD = """# Command line

Made from the commands by `python docs/generate_cli_reference.py`; do not edit.

    huref --version
    huref COMMAND --help

A MODEL is a folder, one weight file (`.safetensors`, `.gguf`, `.bin`, `.pt`; of several shards any one), or a saved
fingerprint (`*.huref.safetensors`). Human text and the `--json` document go to stdout, progress and errors to stderr.
With `--json` stdout holds exactly one document, which has a `schema_version`, also when the command fails. Exit codes
and what to do about them: [errors](errors.md).

## While a command works

On a terminal one bar stands for the work, with its stage, the time so far and the time left. Elsewhere a line on
stderr says the same every ten seconds; work that is done sooner says nothing. Work of which the sizes of the files
say that it will take over a minute says so before it begins. At the end stands how long it took, what it read of
models, and which stage took longest.

`--progress none` leaves all of that out. `--progress json` writes one JSON object a line instead:

    {"schema_version": "huref.progress/1.0", "stage": "comparing parameters", "done": 3, "total": 12,
     "unit": "tensor", "elapsed": 4.2, "share": 0.21, "left": 15.8}

`elapsed` and `left` are seconds; `share`, of the whole work or of the stage where the command does not know more, and
`left` are null while nobody can tell. The stage of the last line is `done`, with `took` in seconds and `bytes_read`;
a first line may have the stage `estimate`, with `estimate` in seconds.

A folder that is to be written to is made if it is missing: one, in a folder
that is there, and not at the disk's root.
"""
_KINDS = {str: "TEXT", int: "INTEGER", float: "NUMBER", Path: "PATH"}


def page() -> str:
    """The whole reference."""
    from huref.cli.app import app

    return "\n".join([_HEAD, *(_section(name, callback) for name, callback in commands(app))])


def commands(app: typer.Typer, prefix: str = "huref") -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every command with its full name, in the order in which `--help` lists them."""
    for command in app.registered_commands:
        assert command.callback is not None
        yield f"{prefix} {command.name}", command.callback
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from commands(group.typer_instance, f"{prefix} {group.name}")


def parameters(callback: Callable[..., Any]) -> Iterator[tuple[str, str, str, str]]:
    """Of each parameter of a command: kind (`argument` or `option`), how it is written, default, help."""
    hints = typing.get_type_hints(callback, include_extras=True)
    for name, parameter in inspect.signature(callback).parameters.items():
        kind, info = typing.get_args(hints[name])
        is_required = parameter.default is inspect.Parameter.empty
        default = "required" if is_required else _shown(parameter.default)
        if type(info).__name__.startswith("Argument"):
            metavar = info.metavar or name.upper()
            yield "argument", metavar + ("..." if typing.get_origin(kind) is list else ""), default, info.help or ""
        else:
            yield "option", f"{_flag(info, name)} {_value(kind)}".strip(), default, info.help or ""


def _section(name: str, callback: Callable[..., Any]) -> str:
    rows = list(parameters(callback))
    arguments = [written for kind, written, _, _ in rows if kind == "argument"]
    told = re.sub(r"^Example: (.*)$", r"Example: `\1`", inspect.getdoc(callback) or "", flags=re.M)
    lines = [f"## `{' '.join([name, *arguments])}`", "", told, ""]
    lines += ["| argument or option | default | meaning |", "|---|---|---|"]
    lines += [
        f"| `{written.replace('|', chr(92) + '|')}` | {default} | {text.replace('|', chr(92) + '|')} |"
        for _, written, default, text in rows
    ]
    return "\n".join([*lines, ""])


def _flag(info: Any, name: str) -> str:
    """In `Annotated`, the first name given to `typer.Option` lands in the place of a default."""
    given = [part for part in (info.default, *(info.param_decls or ())) if isinstance(part, str) and part[:1] == "-"]
    return given[0] if given else f"--{name.replace('_', '-')}"


def _value(kind: Any) -> str:
    """`INTEGER` for an int; nothing for a switch; `...` where an option can be repeated."""
    if typing.get_origin(kind) is list:
        return f"{_value(typing.get_args(kind)[0])} ..."
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kind = next(part for part in typing.get_args(kind) if part is not type(None))
    if typing.get_origin(kind) is typing.Literal:
        return "|".join(typing.get_args(kind))
    return _KINDS.get(kind, "")


def _shown(default: object) -> str:
    return "" if default is None or default is False or default == "" else f"`{default}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
