"""How many neurons agree, against how many would by chance.

The two criteria of a witness know nothing of each other in models that share no weights, so each neuron tested agrees
with probability near `1 / candidates`: the count is nearly binomial. Nearly: what the same text teaches both makes it
a little more, by a factor measured on unrelated pairs for every frame (`huref.kinship.record.FRAMES`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from huref.kinship.record import LayerMatch


@dataclass(frozen=True)
class Count:
    """Neurons of all matched layers together, by the witness that agrees most.

    Attributes:
        neurons: tested.
        agreeing: whose best partners by two criteria are one.
        by_chance: expected under blind choice.
        p_value: probability of as many under blind choice times the frame's excess, times the number of witnesses and
            frames that the best was chosen of.
    """

    neurons: int
    agreeing: int
    by_chance: float
    p_value: float

    def to_dict(self) -> dict[str, Any]:
        """A plain dictionary, for JSON."""
        return asdict(self)


def count(layers: Sequence[LayerMatch], excess: float, n_chosen_of: int) -> Count:
    """Count the neurons of matched layers.

    Args:
        excess: of the frame.
        n_chosen_of: witnesses and frames together.
    """
    neurons = sum(layer.n_neurons for layer in layers)
    agreeing = sum(round(layer.agreement * layer.n_neurons) for layer in layers)
    by_chance = sum(layer.chance * layer.n_neurons for layer in layers)
    rate = min(1.0, excess * by_chance / max(1, neurons))
    p_value = min(1.0, 2 * max(1, n_chosen_of) * binomial_tail(agreeing, neurons, rate))  # 2: either way, the better
    return Count(neurons, agreeing, by_chance, p_value)


def binomial_tail(k: int, n: int, rate: float) -> float:
    """Probability of k or more of n, each with probability `rate`; what is too small for a float is 0."""
    if k <= 0:
        return 1.0
    if k > n or rate <= 0:
        return 0.0
    if rate >= 1:
        return 1.0
    at = np.arange(k, n + 1, dtype=np.float64)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])  # of factorials
    terms = logs[n] - logs[k:] - logs[n - k :: -1][: len(at)] + at * np.log(rate) + (n - at) * np.log1p(-rate)
    top = terms.max()
    return float(np.exp(top) * np.exp(terms - top).sum())
