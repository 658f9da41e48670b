"""`huref cache`."""

from __future__ import annotations

from typing import Annotated

import typer

from huref.cli import options, output


def cache(
    action: Annotated[
        options.CacheAction, typer.Argument(metavar="ACTION", help="show, or clear to let go of all.")
    ] = "show",
    as_json: options.AsJson = False,
) -> None:
    """Show or clear the results that are kept.

    compare, matrix, parents and explain take them where models, options and huref are the same. HUREF_HOME is the
    place, HUREF_CACHE_LIMIT the most bytes (2G), HUREF_NO_CACHE=1 does without. See docs/how-to/cache.md.

    Example: huref cache show
    """
    from huref.files.cache import Cache

    kept = Cache()
    gone = kept.clear() if action == "clear" else None
    usage = kept.usage()
    if as_json:
        document = {"place": usage.place, "entries": usage.entries, "size": usage.size, "limit": usage.limit}
        cleared = 0 if gone is None else gone.entries - usage.entries
        output.print_json({"schema_version": "huref.cache/1.0", **document, "cleared": cleared})
    elif gone is not None:
        output.say(f"{gone.place}: {gone.entries} results, {gone.size:,} bytes, are gone")
    else:
        output.say(f"{usage.place}: {usage.entries} results, {usage.size:,} of {usage.limit:,} bytes")
