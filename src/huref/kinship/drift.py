"""Scores along a run: checkpoints of one training, known by the numbers in their names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_STEP = re.compile(
    r"(?P<run>.*(?:checkpoint|ckpt|steps?|epoch|iter(?:ation)?|revision|tokens)[-_. ]?)"
    r"(?P<step>\d{1,15})(?P<unit>\D*)",
    re.I,
)
_FEWEST = 3


@dataclass(frozen=True)
class Drift:
    """Where a run went. Scores are in [-1, 1], None where a pair has none.

    Attributes:
        run: what the checkpoints' names have in common.
        names: of the checkpoints, by step.
        steps: their numbers, ascending.
        first: each one's score against the first.
        previous: against the one before; None for the first.
        others: of every model outside the run, each checkpoint's score against it.
    """

    run: str
    names: tuple[str, ...]
    steps: tuple[int, ...]
    first: tuple[float | None, ...]
    previous: tuple[float | None, ...]
    others: Mapping[str, tuple[float | None, ...]]

    @property
    def columns(self) -> dict[str, tuple[float | None, ...]]:
        """Every series by its title."""
        return {"from the first": self.first, "from the previous": self.previous, **self.others}


def drift_of(names: Sequence[str], values: np.ndarray) -> Drift | None:
    """The longest run of three checkpoints or more among models, or None.

    Args:
        names: `checkpoint-10`, `run/step_2000`, `1B-tokens4`: a word for a step, then a number.
        values: (n, n) scores, NaN where a pair has none.
    """
    runs = defaultdict[tuple[str, str], dict[int, int]](dict)
    for i, name in enumerate(names):
        if found := _STEP.fullmatch(name):
            runs[found["run"], found["unit"]].setdefault(int(found["step"]), i)
    (run, unit), steps = max(runs.items(), key=lambda item: len(item[1]), default=(("", ""), {}))
    if len(steps) < _FEWEST:
        return None
    order = [steps[step] for step in sorted(steps)]

    def scores(pairs: Sequence[tuple[int, int]]) -> tuple[float | None, ...]:
        return tuple(None if np.isnan(values[pair]) else float(values[pair]) for pair in pairs)

    return Drift(
        f"{run}*{unit}",
        tuple(names[i] for i in order),
        tuple(sorted(steps)),
        scores([(i, order[0]) for i in order]),
        (None, *scores([(i, before) for i, before in zip(order[1:], order, strict=False)])),
        {names[k]: scores([(i, k) for i in order]) for k in range(len(names)) if k not in order},
    )
