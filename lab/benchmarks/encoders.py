"""Which encoder is best? Sketch, mean pooling and CNN on real models of known kinship.

    .venv/bin/python lab/benchmarks/encoders.py [--make] [--cnn WEIGHTS] [--plot SVG] [--recipe canonical-2]

1. Cosine of the vectors against ICS, by band, and the claim that no encoder's cosine exceeds the ICS in the
   mean, `k(rho) <= rho`, where terms look isotropic (docs/decisions/2026-11-25-cnn-encoder.md).
2. Are vectors Gaussian? Kolmogorov-Smirnov a model (Lilliefors' null by simulation), uniformity of those p-values
   over independent models, and Mardia's tests over random-weight models.
3. Of use? Whether the nearest base is the right one, and how well kin separate from strangers.
4. Collisions: how alike strangers' vectors are, against independent normal vectors; twins on their own.

`--make` trains what is missing in `--work` first (about 15 minutes of one core); without it, `--work` must hold a
study. Every table says from how many models, pairs and families it is. `--recipe canonical-2` measures the sketch of
that recipe against its ICS, and no other encoder: none takes its terms.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import encoder_tables as tables
import isotropic
from huref.fingerprints.encoder.file import load_encoder
from huref.fingerprints.encoder.network import Encoder, encode
from huref.fingerprints.recipe import Recipe
from huref.progress import Progress
from huref_lab.encoder.network import EncoderCNN
from huref_lab.encoder_study.measurement import Encode, by_recipe, by_terms, measure, study_recipes
from huref_lab.encoder_study.models import BASES, Family, ZooOptions, make_families
from huref_lab.encoder_study.offspring import random_copy
from huref_lab.encoder_study.record import Study, load_study, save_study
from huref_lab.encoder_study.similarity import all_pairs
from measure import machine

N_TOKENS = 1024
ROOT = Path(__file__).resolve().parents[2]
RANDOM_MODELS = 200


def main() -> None:
    """Make what is asked for, then report."""
    arguments = _arguments()
    start = time.perf_counter()
    print(machine())
    print(f"command: lab/benchmarks/encoders.py {' '.join(sys.argv[1:])}")
    families = _make(arguments) if arguments.make else []
    study = load_study(_place(arguments))
    tables.introduce(study)
    if families and arguments.cnn:
        report_tokens(study, families, load_encoder(arguments.cnn).side or N_TOKENS)
    for name in study.vectors:
        tables.report_bands(study, name)
    tables.report_claim(study)
    if not _is_dual(arguments):
        isotropic.report(_of_matrices(arguments.cnn), 40)
    tables.report_use(study)
    tables.report_gaussianity(study, random_vectors(arguments.work, _encoders(arguments)))
    tables.report_collisions(study)
    if arguments.plot:
        arguments.plot.write_text(tables.plot(study), encoding="utf-8")
    print(f"\n{time.perf_counter() - start:.0f} s")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "study")
    parser.add_argument("--make", action="store_true")
    parser.add_argument("--bases", type=int, default=len(BASES), help="train only the first so many")
    parser.add_argument("--cnn", type=Path, help="trained encoder weights, .safetensors")
    parser.add_argument("--plot", type=Path, help="an SVG to write, such as docs/images/which-encoder.svg")
    parser.add_argument("--recipe", default="canonical", choices=("canonical-2", "canonical"))
    return parser.parse_args()


def _is_dual(arguments: argparse.Namespace) -> bool:
    return bool(arguments.recipe == "canonical-2")


def _place(arguments: argparse.Namespace) -> Path:
    """Where the study is: under canonical-2 in a folder beside the models."""
    place: Path = arguments.work / arguments.recipe if _is_dual(arguments) else arguments.work
    return place


def _encoders(arguments: argparse.Namespace) -> dict[str, Encode]:
    if _is_dual(arguments):
        return {"sketch": by_recipe(Recipe(n_tokens=N_TOKENS))}
    return encoders(arguments.cnn)


def _make(arguments: argparse.Namespace) -> list[Family]:
    families = list(make_families(arguments.work, BASES[: arguments.bases], ZooOptions(), _report))
    study = measure(families, _encoders(arguments), N_TOKENS, _report, arguments.recipe)
    notes = notes_of(list(study.vectors), arguments.cnn, arguments.recipe)
    place = _place(arguments)
    place.mkdir(parents=True, exist_ok=True)
    save_study(place, replace(study, encoders=notes))
    return families


def notes_of(names: list[str], cnn: Path | None, recipe: str) -> dict[str, str]:
    """What each encoder is, for the tables."""
    known = load_encoder(cnn).notes if cnn else {}
    run = known.get("training", {})
    cnn_note = f"K = {known.get('side')} as in training, {run.get('done')} steps of {run.get('batch')} triplets"
    canonical, paper = f"terms of {recipe}, {N_TOKENS} tokens", f"the paper's terms, {N_TOKENS} tokens"
    notes = {
        "sketch": canonical,
        "mean": f"{paper}: means of rows that are not centred",
        "cnn": f"canonical terms; {cnn_note}",
        "cnn-paper": f"the paper's terms; {cnn_note}",
        "cnn-untrained": "canonical terms; random weights, a control",
    }
    return {name: notes[name] for name in names}


def encoders(cnn: Path | None) -> dict[str, Encode]:
    """Every encoder that can be had. The CNN's weights are the caller's; it is given the K it was trained at."""
    found: dict[str, Encode] = {name: by_recipe(recipe) for name, recipe in study_recipes(N_TOKENS).items()}
    side = N_TOKENS
    if cnn is not None:
        weights = load_encoder(cnn)
        side = weights.side or N_TOKENS
        trained = weights.encoder
        for name, recipe in (
            ("cnn", Recipe("canonical", n_tokens=side)),
            ("cnn-paper", Recipe(name="paper", n_tokens=side)),
        ):
            found[name] = by_terms(recipe, lambda terms: encode(terms.numpy(), trained))
    untrained = EncoderCNN(seed=0).encoding()
    found["cnn-untrained"] = by_terms(
        Recipe("canonical", n_tokens=side), lambda terms: encode(terms.numpy(), untrained)
    )
    return found


def _of_matrices(cnn: Path | None) -> dict[str, isotropic.EncodeMatrices]:
    """The same encoders, fed with matrices."""

    def network(encoder: Encoder) -> isotropic.EncodeMatrices:
        return lambda matrices: encode(matrices, encoder)

    found = {"sketch": isotropic.by_sketch, "mean": isotropic.by_mean_pooling}
    if cnn is not None:
        found["cnn"] = network(load_encoder(cnn).encoder)
    return {**found, "cnn-untrained": network(EncoderCNN(seed=0).encoding())}


def random_vectors(work: Path, ways: dict[str, Encode]) -> dict[str, np.ndarray]:
    """Vectors of random-weight models of one shape and vocabulary: n large enough for Mardia's tests."""
    rows: dict[str, list[np.ndarray]] = {name: [] for name in ways}
    for seed in range(RANDOM_MODELS):
        path = random_copy(work / "random", work / "models" / BASES[0].name / "base", seed)
        for name, way in ways.items():
            rows[name].append(way(path))
    return {name: np.stack(found) for name, found in rows.items()}


def report_tokens(study: Study, families: list[Family], n_tokens: int) -> None:
    """How much ICS depends on the choice of tokens: over fewer of them, kin pairs."""
    paths = [path for family in families for path in (family.path, *(child.path for child in family.offspring))]
    rows, columns = np.triu_indices(len(paths), 1)
    kin = study.is_kin()[rows, columns]
    for name, usual in (("canonical", study.ics), ("paper", study.ics_paper)):
        other = all_pairs(paths, Recipe(name=name, n_tokens=n_tokens), 0)
        change = (other - usual)[rows, columns][kin]
        print(
            f"{name} ICS over {n_tokens} tokens less that over {N_TOKENS}, {len(change)} kin pairs: "
            f"{change.mean():+.4f}, sd {change.std(ddof=1):.4f}, at most {np.abs(change).max():.3f}"
        )


def _report(step: Progress) -> None:
    if step.done % 20 == 0 or step.done == step.total:
        print(f"{step.stage} {step.done}/{step.total}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
