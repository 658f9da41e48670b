"""The sampler that trains the CNN encoder against drawing as officially: is the law the same, and what is saved?

    python lab/benchmarks/encoder_sampler.py [--pairs 60] [--side 256] [--timed-side 1024] [--repeats 3]

Three ways to draw an anchor and a positive of side K from models of width and rank 4096:

- `naive`: X, Q, K and their noise drawn, M = X Q^T K X^T multiplied out: what the definition says;
- `exact`: `huref_lab.encoder.samples.draw_pair`, which has the same law by proof;
- `plain`: independent normal entries with the right correlation, which has not.

Every statistic is one number a pair, pairs are independent, and so the two-sample Kolmogorov-Smirnov p-values are
honest; `energy` is a permutation test on whole vectors of the untrained encoder (the published one for one matrix).
All three multiply with bfloat16 operands where the processor is faster at that. Seconds are processor seconds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from huref.fingerprints.encoder.network import EncoderConfig
from huref_lab.encoder.network import EncoderCNN, standardised_terms
from huref_lab.encoder.samples import SampleShape, draw_naively, draw_one, draw_pair, draw_plainly, stream
from measure import machine, median, spread, verdict

WAYS: dict[str, Callable[[SampleShape, torch.Generator], tuple[Tensor, Tensor]]] = {
    "naive": draw_naively,
    "exact": draw_pair,
    "plain": draw_plainly,
}
PATCH = 48
ENTRIES = 64


def statistics(anchor: Tensor, positive: Tensor, random: np.random.Generator) -> dict[str, float]:
    """One number each, of a standardised pair."""
    found: dict[str, float] = {}
    for name, M in (("anchor", anchor), ("positive", positive)):
        side = M.shape[0]
        gram = M @ M.T
        found[f"{name}: entry"] = float(M.flatten()[random.integers(side * side)])
        found[f"{name}: fourth moment of entries"] = float(M.pow(4).mean())
        found[f"{name}: spread of row norms"] = float(M.norm(dim=1).std())
        found[f"{name}: spread of column norms"] = float(M.norm(dim=0).std())
        found[f"{name}: tr (M M^T)^2"] = float(gram.square().sum() / side**3)
        found[f"{name}: tr (M M^T)^3"] = float((gram @ gram).mul(gram).sum() / side**4)
        found[f"{name}: largest singular value"] = float(torch.linalg.eigvalsh(gram)[-1].sqrt() / side**0.5)
        found[f"{name}: covariance of neighbours"] = float((M[:, 1:] * M[:, :-1]).mean())
        energy = M[: side // PATCH * PATCH, : side // PATCH * PATCH].unfold(0, PATCH, PATCH).unfold(1, PATCH, PATCH)
        found[f"{name}: spread of {PATCH} x {PATCH} patches"] = float(energy.square().mean(dim=(2, 3)).std())
    found["correlation of the pair"] = float((anchor * positive).mean())
    found["tr M M^T M' M'^T"] = float((anchor @ anchor.T).mul(positive @ positive.T).sum() / anchor.shape[0] ** 3)
    return found


def collect(way: str, shape: SampleShape, pairs: int, encoder: EncoderCNN) -> dict[str, np.ndarray]:
    """Statistics of many pairs: name -> (pairs,); `vectors` (pairs, 1024), `entries` (pairs * ENTRIES,)."""
    rows: list[dict[str, float]] = []
    vectors, entries = [], []
    for k in range(pairs):
        random = np.random.default_rng([k, len(way)])
        drawn = WAYS[way](shape, stream(k, *way.encode()))
        pair = standardised_terms(torch.stack(drawn))
        rows.append(statistics(pair[0], pair[1], random))
        with torch.inference_mode():
            vectors.append(torch.cat([encoder(M[None, None])[0] for M in pair]).numpy())
        entries.append(random.choice(pair[0].flatten().numpy(), ENTRIES))
        print(f"  {way}: {k + 1} of {pairs}", end="\r", file=sys.stderr, flush=True)
    found = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return {**found, "entries": np.concatenate(entries), "vectors": np.stack(vectors)}


def energy_test(x: np.ndarray, y: np.ndarray, permutations: int = 999) -> float:
    """Permutation p-value of the energy distance between two sets of vectors."""
    both = np.concatenate([x, y])
    distances = np.linalg.norm(both[:, None] - both[None], axis=2)
    random, n = np.random.default_rng(0), len(x)

    def energy(order: np.ndarray) -> float:
        a, b = order[:n], order[n:]
        within = distances[np.ix_(a, a)].mean() + distances[np.ix_(b, b)].mean()
        return float(2 * distances[np.ix_(a, b)].mean() - within)

    seen = energy(np.arange(len(both)))
    as_far = sum(energy(random.permutation(len(both))) >= seen for _ in range(permutations))
    return (as_far + 1) / (permutations + 1)


def tests(found: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> dict[str, float]:
    """p-value by the name of the test."""
    p = {
        name: float(stats.ks_2samp(values, reference[name]).pvalue)
        for name, values in found.items()
        if name != "vectors"
    }
    ours, theirs = found["vectors"], reference["vectors"]
    p["untrained encoder: energy distance"] = energy_test(ours, theirs)
    half = ours.shape[1] // 2
    cosines = [(v[:, :half] * v[:, half:]).sum(1) / (half - 1) for v in (ours, theirs)]
    p["untrained encoder: cos(anchor, positive)"] = float(stats.ks_2samp(*cosines).pvalue)
    for k in range(3):
        p[f"untrained encoder: number {k}"] = float(stats.ks_2samp(ours[:, k], theirs[:, k]).pvalue)
    return p


def compare_laws(side: int, pairs: int) -> bool:
    """Print the table of p-values; True when exact and naive cannot be told apart."""
    shape = SampleShape(side)
    encoder = EncoderCNN(EncoderConfig(inputs=1), seed=0).eval()
    with torch.no_grad():  # statistics of its own, or the vectors would nearly coincide
        for norm in encoder.norms:
            norm.momentum = None
        random = stream(10**6)
        encoder.train()(standardised_terms(torch.stack([draw_one(shape, random) for _ in range(16)]))[:, None])
        encoder.eval()
    found = {way: collect(way, shape, pairs, encoder) for way in WAYS}
    table = {way: tests(found[way], found["naive"]) for way in ("exact", "plain")}
    print(f"\nsame law? K = {side}, {pairs} pairs each; p-values against naive; means")
    print(f"  {'':44} {'p exact':>9} {'p plain':>9} {'naive':>10} {'exact':>10} {'plain':>10}")
    for name in table["exact"]:
        means = [f"{found[way][name].mean():10.5f}" if name in found[way] else f"{'':10}" for way in WAYS]
        print(f"  {name:44} {table['exact'][name]:9.3g} {table['plain'][name]:9.3g} {' '.join(means)}")
    least = {way: min(1.0, min(p.values()) * len(p)) for way, p in table.items()}
    anchor = [found[way]["correlation of the pair"] for way in ("naive", "exact")]
    print(f"  correlation, analytic {shape.correlation:.5f}; standard errors of the means above:", end=" ")
    print(", ".join(f"{values.std(ddof=1) / pairs**0.5:.5f}" for values in anchor))
    n = len(table["exact"])
    ok = verdict(
        f"exact is not told from naive by {n} tests", least["exact"] > 0.05, f"Bonferroni p {least['exact']:.3g}"
    )
    told = least["plain"] < 0.01
    print(f"plain is {'told' if told else 'not told'} from naive: Bonferroni p {least['plain']:.3g}")
    return ok


def compare_costs(side: int, repeats: int) -> None:
    """Print processor seconds a pair and a single matrix, measured in turn."""
    shape = SampleShape(side)
    seconds: dict[str, list[float]] = {way: [] for way in (*WAYS, "exact, single")}
    for turn in range(repeats + 1):
        for name, times in seconds.items():
            start = time.process_time()
            (draw_one if name == "exact, single" else WAYS[name])(shape, stream(turn))
            if turn:  # the first turn warms up
                times.append(time.process_time() - start)
    print(f"\nprocessor seconds for a pair, K = {side}, width and rank 4096, in turn, n = {repeats}")
    for name, times in seconds.items():
        print(f"  {name:14} {spread(times)}")
    print(f"  ratio naive / exact {median(seconds['naive']) / median(seconds['exact']):.1f}")


def main() -> None:
    """Run both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--timed-side", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    print(machine())
    for side in sorted({chosen.side, 512, chosen.timed_side}):
        compare_costs(side, chosen.repeats)
    if not compare_laws(chosen.side, chosen.pairs):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
