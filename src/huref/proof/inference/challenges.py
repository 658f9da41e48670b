"""The two sets of challenges, and the tables seen through the first: proof-inference-v1, section 6."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from huref.proof.arithmetic.field import ORDER, integers
from huref.proof.inference.inventory import Inventory, table_entries


@dataclass(frozen=True)
class Early:
    """Challenges after the activations: of lookups (alpha, beta, gamma), of columns (omega), of positions (tau)."""

    alpha: int
    beta: int
    gamma: int
    omega: int
    tau: int


@dataclass(frozen=True)
class Late:
    """Challenges after the auxiliary rows: of equations (kappa), of columns (theta)."""

    kappa: int
    theta: int


def table_inverses(inventory: Inventory, early: Early) -> np.ndarray:
    """`1 / (alpha + beta tag + entry + gamma partner)` of the entries of all tables, in order: objects.

    Raises:
        ValueError: one of them has no inverse; that happens with probability below 2^-230.
    """
    values = []
    for tag, _ in inventory.tables:
        first, second = table_entries(inventory, tag)
        shifted = first.astype(object) + (early.alpha + early.beta * tag)
        values.append(shifted if second is None else shifted + early.gamma * second.astype(object))
    return inverses(np.concatenate(values) % ORDER)


def inverses(values: np.ndarray) -> np.ndarray:
    """Modulo p, all at once (Montgomery's trick): (n,) objects.

    Raises:
        ValueError: a zero.
    """
    prefix, total = [], 1
    for value in values.tolist():
        prefix.append(total)
        total = total * value % ORDER
    inverse = pow(total, -1, ORDER)
    out = [0] * len(prefix)
    for i in range(len(prefix) - 1, -1, -1):
        out[i] = inverse * prefix[i] % ORDER
        inverse = inverse * values[i] % ORDER
    return integers(out)
