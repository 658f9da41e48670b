"""The tables and the plot of `lab/benchmarks/encoders.py`, from a study and vectors alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy import stats

from huref_lab.encoder_study.record import Study
from huref_lab.encoder_study.statistics import (
    BANDS,
    by_band,
    cosines,
    expected_maximum,
    holm,
    mardia,
    normality,
    random_directions,
    uniformity,
)
from scatter import Panel, Points, scatter

THRESHOLDS = (0.2, 0.3, 0.5)
ENOUGH = 30
"""Pairs from which on a deviation says something about a tail."""

COLOURS = {"kin": "#1f77b4", "strangers": "#999999", "twins": "#d62728"}


def introduce(study: Study) -> None:
    kinds: dict[str, int] = {}
    for model in study.models:
        kinds[model.kind] = kinds.get(model.kind, 0) + 1
    print(f"{len(study.models)} models: " + ", ".join(f"{n} {kind}" for kind, n in kinds.items()))
    for index in study.bases:
        model = study.models[index]
        print(f"  {model.name:<16}{model.architecture:<10}{model.made}")


def read_by(study: Study, name: str) -> np.ndarray:
    """The ICS over the terms that an encoder reads: (n, n)."""
    return study.ics_paper if name in ("mean", "cnn-paper") else study.ics


def comparable_pairs(study: Study) -> tuple[np.ndarray, np.ndarray]:
    """Indices (i, j), i < j, of pairs of one vocabulary: both vectors are of the same tokens."""
    rows, columns = np.triu_indices(len(study.models), 1)
    keep = study.shares_tokenizer()[rows, columns]
    return rows[keep], columns[keep]


def families_of(study: Study, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The cluster of each pair: its base, or the two bases where they are strangers."""
    bases = [model.base for model in study.models]
    return np.array(["|".join(sorted({bases[i], bases[j]})) for i, j in zip(rows, columns, strict=True)])


def report_bands(study: Study, name: str) -> None:
    """Table 1: cosine by band of ICS."""
    rows, columns = comparable_pairs(study)
    ics, cosine = read_by(study, name)[rows, columns], cosines(study.vectors[name])[rows, columns]
    bands = by_band(ics, cosine, families_of(study, rows, columns))
    print(f"\n{name}: {study.encoders.get(name, '')}")
    print(f"{'ICS band':>14}{'pairs':>7}{'families':>9}{'ICS':>8}{'cosine':>8}{'sd of cos - ICS':>17}", end="")
    print(f"{'gain over ICS':>22}{'p (gain > 0), Holm':>20}")
    for band, p in zip(bands, holm([band.p_above for band in bands]), strict=True):
        gain = f"{band.gain:+.4f} +- {band.error:.4f}"
        print(
            f"{band.low:>6.2f} - {band.high:<5.2f}{band.n:>7}{band.families:>9}{band.ics:>8.3f}{band.cosine:>8.3f}"
            f"{band.spread:>17.4f}{gain:>22}{p:>20.2g}"
        )


def report_claim(study: Study) -> None:
    """Table 2: does an encoder's cosine exceed the ICS, over all kin pairs at once?"""
    rows, columns = comparable_pairs(study)
    kin = study.is_kin()[rows, columns]
    family = families_of(study, rows, columns)
    print("\nk(rho) <= rho? Mean of cosine less ICS over kin pairs, a family one observation; one-sided t-test.")
    print("c0: mean cosine of strangers of one vocabulary without twins; the second gain is of (cos - c0) / (1 - c0)")
    strangers = ~kin & ~study.is_twin()[rows, columns]
    for name in study.vectors:
        ics, cosine = read_by(study, name)[rows, columns], cosines(study.vectors[name])[rows, columns]
        common = float(cosine[strangers].mean()) if strangers.any() else 0.0
        plain, clean = (_gain(values - ics, kin, family) for values in (cosine, (cosine - common) / (1.0 - common)))
        both = stats.spearmanr(ics[kin], cosine[kin]).statistic
        print(f"{name:>14}: {plain}; c0 {common:+.3f}, then {clean}; rank correlation with ICS {both:.3f}")


def _gain(gain: np.ndarray, kin: np.ndarray, family: np.ndarray) -> str:
    means = np.array([gain[kin & (family == base)].mean() for base in np.unique(family[kin])])
    test = stats.ttest_1samp(means, 0.0, alternative="greater")
    error = means.std(ddof=1) / len(means) ** 0.5
    return f"{means.mean():+.4f} +- {error:.4f} ({len(means)} families, p = {test.pvalue:.2g})"


def report_use(study: Study) -> None:
    """Table 3: what a cosine is for. Is an offspring nearest to its own base, and nearer than strangers are?"""
    bases = list(study.bases)
    names = [study.models[i].name for i in bases]
    children = [i for i, model in enumerate(study.models) if model.kind != "base"]
    own = np.array([names.index(study.models[i].base) for i in children])
    ics = np.array([study.models[i].ics_canonical for i in children])
    print(
        f"\nOf use? Offspring whose own base is the nearest of {len(bases)}, by lower border of their canonical ICS;"
    )
    print("AUC: chance that an offspring's cosine to its base exceeds one of two independent bases (twins left out)")
    rows, columns = np.triu_indices(len(bases), 1)
    strangers = ~study.is_twin()[np.ix_(bases, bases)][rows, columns]
    for name, vectors in study.vectors.items():
        table = cosines(vectors)
        found = table[np.ix_(children, bases)]
        kin = found[np.arange(len(children)), own]
        other = table[np.ix_(bases, bases)][rows, columns][strangers]
        cells = []
        for high, low in pairwise(BANDS[:-1]):
            inside = (ics >= low) & ((ics < high) | (high == 1.0))
            if inside.any():
                hits = found[inside].argmax(axis=1) == own[inside]
                auc = (kin[inside][:, None] > other[None, :]).mean()
                cells.append(f"{low:.2f}: {hits.sum()}/{len(hits)} {auc:.3f}")
        print(f"{name:>14}: " + "  ".join(cells))


def report_gaussianity(study: Study, random: dict[str, np.ndarray]) -> None:
    """Table 4: one vector as a sample of 512, then many vectors as a sample of 512 coordinates."""
    bases = list(study.bases)
    print(f"\nGaussian? The 512 numbers of one vector: Kolmogorov-Smirnov, null simulated; {len(bases)} bases")
    for name, vectors in study.vectors.items():
        p_values = normality(vectors[bases])
        kurtosis = stats.kurtosis(vectors[bases], axis=1, fisher=False)
        print(
            f"{name:>14}: p under 0.05 in {(p_values < 0.05).sum()} of {len(p_values)}, least {p_values.min():.1g}; "
            f"uniform p-values: p = {uniformity(p_values):.2g}; kurtosis {kurtosis.mean():.2f} "
            f"({kurtosis.min():.2f}-{kurtosis.max():.2f})"
        )
    for label, found in (("trained bases", study.vectors), ("random weights", random)):
        _report_mardia(label, found, bases if found is study.vectors else None)


def _report_mardia(label: str, vectors: dict[str, np.ndarray], rows: list[int] | None) -> None:
    for name, array in vectors.items():
        sample = array if rows is None else array[rows]
        p = 5 if len(sample) >= 100 else 2
        tests = [mardia(sample @ random_directions(sample.shape[1], p, seed), 1000) for seed in range(20)]
        skew, kurt = np.array([t.p_skewness for t in tests]), np.array([t.p_kurtosis for t in tests])
        print(
            f"{name:>14}: Mardia, {label}, n = {len(sample)}, p = {p}, 20 random projections: p under 0.05 in "
            f"{(skew < 0.05).sum()} (skewness) and {(kurt < 0.05).sum()} (kurtosis) of 20; median p "
            f"{np.median(skew):.2f} and {np.median(kurt):.2f}"
        )


def report_collisions(study: Study) -> None:
    """Table 5: strangers' cosines against independent normal vectors."""
    bases = np.array(study.bases)
    rows, columns = (bases[index] for index in np.triu_indices(len(bases), 1))
    twins, same = study.is_twin()[rows, columns], study.shares_tokenizer()[rows, columns]
    groups = {
        "independent, other vocabulary": ~twins & ~same,
        "independent, same vocabulary": ~twins & same,
        "twins (same text, other seed)": twins,
    }
    chance = 512**-0.5
    print(f"\nCollisions among {len(bases)} bases; independent normal vectors have a deviation of {chance:.4f}")
    print("false match: share of a normal law of the pairs' own mean and deviation above a cosine")
    for name, vectors in study.vectors.items():
        cosine, ics = cosines(vectors)[rows, columns], study.ics[rows, columns]
        for label, inside in groups.items():
            found = cosine[inside]
            if len(found) < 2:
                continue
            mean, deviation = float(found.mean()), float(found.std(ddof=1))
            rates = ", ".join(f"{t}: {stats.norm.sf((t - mean) / deviation):.1g}" for t in THRESHOLDS)
            tail = f"  false match over {rates}" if len(found) >= ENOUGH else "  (too few for a false-match rate)"
            print(
                f"{name:>14}: {label:<30} n = {len(found):>3}  ICS {ics[inside].mean():+.3f} (largest "
                f"{ics[inside].max():.3f})  cosine {mean:+.3f}, sd {deviation:.3f}, largest {found.max():.3f} "
                f"(of normal vectors {expected_maximum(len(found), chance):.3f}){tail}"
            )


def plot(study: Study) -> str:
    """Cosine against ICS, one panel an encoder."""
    rows, columns = comparable_pairs(study)
    kin, twins = study.is_kin()[rows, columns], study.is_twin()[rows, columns]
    classes = {"strangers": ~kin & ~twins, "kin": kin, "twins": twins}
    panels = []
    for name in (name for name in study.vectors if name != "cnn-paper"):
        xy = np.stack([read_by(study, name)[rows, columns], cosines(study.vectors[name])[rows, columns]], axis=1)
        bands = by_band(xy[:, 0], xy[:, 1], families_of(study, rows, columns))
        line = np.array([[band.ics, band.cosine] for band in bands])
        shown = [Points(label, COLOURS[label], _thinned(xy[inside])) for label, inside in classes.items()]
        panels.append(Panel(name, shown, line))
    return scatter(panels, "ICS of the terms it reads", "cosine of the two vectors")


def _thinned(xy: np.ndarray, most: int = 600) -> np.ndarray:
    if len(xy) <= most:
        return xy
    return xy[np.random.default_rng(0).choice(len(xy), most, replace=False)]
