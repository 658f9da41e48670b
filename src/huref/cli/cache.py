"""`huref cache`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from huref.cli import options, output


def cache(
    action: Annotated[
        options.CacheAction,
        typer.Argument(metavar="ACTION", help="show, ls, prune to the limits, or clear to let go of all."),
    ] = "show",
    as_json: options.AsJson = False,
) -> None:
    """Show or clear what is kept for next time.

    Results, and what was read of models elsewhere.

    compare, matrix, parents and explain take results where models, options and huref are the same. HUREF_HOME is the
    place, HUREF_CACHE_LIMIT (2G) and HUREF_BLOCKS_LIMIT (20G) the most bytes, HUREF_NO_CACHE=1 does without. See
    docs/how-to/cache.md.

    Example: huref cache ls
    """
    from huref.files.cache import Cache
    from huref.model.source.remote import segments

    kept, before = Cache(), segments.kept()
    gone = kept.clear() if action == "clear" else None
    if action in ("prune", "clear"):
        segments.prune(0 if action == "clear" else None)
    if action == "clear":
        from huref.model.source.remote.mirror import forget_all

        forget_all()
    usage, blocks = kept.usage(), segments.kept()
    size, limit = sum(each.size for each in blocks), segments.most_bytes()
    listed = [{"of": each.shown, "size": each.size, "last_used": round(each.last_used)} for each in blocks]
    if as_json:
        document = {"place": usage.place, "entries": usage.entries, "size": usage.size, "limit": usage.limit}
        cleared = 0 if gone is None else gone.entries - usage.entries
        read = {"place": str(segments.blocks_folder()), "files": listed, "size": size, "limit": limit}
        output.print_json({"schema_version": "huref.cache/1.1", **document, "cleared": cleared, "blocks": read})
        return
    if gone is not None:
        output.say(f"{gone.place}: {gone.entries} results, {gone.size:,} bytes, are gone")
    else:
        output.say(f"{usage.place}: {usage.entries} results, {usage.size:,} of {usage.limit:,} bytes")
    left = f"blocks of {len(blocks)} files elsewhere, {size:,} of {limit:,} bytes"
    went = sum(each.size for each in before) - size
    output.say(f"{segments.blocks_folder()}: {left}" + (f"; {went:,} bytes are gone" if went else ""))
    if action == "ls":
        for each in blocks:
            used = datetime.fromtimestamp(each.last_used, UTC).strftime("%Y-%m-%d %H:%M")
            output.say(f"  {each.size:>15,}  {used}  {each.shown}")
