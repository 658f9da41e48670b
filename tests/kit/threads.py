"""As many threads as asked for, for numpy's products and, where it is there, torch's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import threadpoolctl


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Checked: a limit that does not reach the library would make a law that cannot fail."""
    with threadpoolctl.threadpool_limits(n):
        found = {pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"}
        assert found == {n}
        yield
