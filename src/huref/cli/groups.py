"""The help of many commands: a heading for each job, and under it its commands."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup


class Grouped(TyperGroup):
    """Lists its commands under the headings that they were registered with, in that order."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """As the parent does it, but for the headings; first lines of help are not cut to fit."""
        jobs: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                job = getattr(command, "rich_help_panel", None) or "Commands"
                jobs.setdefault(str(job), []).append((name, _first_sentence(command.help or "")))
        width = max((len(name) for rows in jobs.values() for name, _ in rows), default=0)
        for job, rows in jobs.items():
            with formatter.section(job):
                formatter.write_dl([(name.ljust(width), text) for name, text in rows])


def _first_sentence(text: str) -> str:
    """Of the first paragraph, in one line."""
    paragraph = " ".join(text.strip().split("\n\n")[0].split())
    return paragraph.partition(". ")[0].removesuffix(".") + "." if paragraph else ""
