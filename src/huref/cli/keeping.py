"""Results of earlier commands: the cache that a command uses, and what it says of it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from huref.cli import output

if TYPE_CHECKING:
    from huref.cli.waiting import Mode
    from huref.files.cache import Cache

_HINT = "; --no-cache computes afresh"


@contextlib.contextmanager
def keeping(no_cache: bool, show: Mode, *, is_confirmed: bool = False) -> Iterator[Cache | bool]:
    """What to hand on as `cache`; afterwards stderr says what came from it, or why nothing can be kept.

    Args:
        is_confirmed: the result is to be published: see `Cache`.
    """
    from huref.files.cache import Cache, is_off

    if no_cache or is_off():
        yield False
        return
    cache = Cache(is_confirmed=is_confirmed)
    yield cache
    if show == "none" or not (cache.n_kept or cache.trouble):
        return
    if show == "json":
        told = {"kept": cache.n_kept, "computed": cache.n_made, "trouble": cache.trouble or None}
        output.complain(json.dumps({"schema_version": "huref.progress/1.0", "stage": "cache", **told}))
        return
    if cache.n_kept:
        whole = cache.n_kept + cache.n_made
        output.complain(f"huref: {f'{cache.n_kept} of {whole} results' if whole > 1 else 'result'} from cache{_HINT}")
    if cache.trouble:
        output.complain(f"huref: nothing is kept for next time ({cache.trouble})")
