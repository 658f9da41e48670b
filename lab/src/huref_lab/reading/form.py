"""The study for people: one HTML file with everything inside, that runs offline and scores itself.

The markup, style and script are the three files of this module's name beside it. The page's own policy forbids every
request to a network; a test opens it in a browser. The right answers are in the file, scrambled so that nobody meets
them by chance; they are not secret.
"""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from huref.errors import UsageError
from huref.portraits.generator.file import PSI
from huref.portraits.image import Pixels, render, resize
from huref.portraits.image.rendering import CUTOFF
from huref_lab.reading.bands import BANDS, band_of
from huref_lab.reading.line_ups import BASES, KIN_BANDS, STRANGER, Lineup, draw_lineup, study_lineup

if TYPE_CHECKING:
    from huref.portraits.generator.stylegan2 import Generator
    from huref_lab.encoder_study.record import Study

MAX_QUESTIONS = 200
MAX_SIDE = 256
"""Pictures larger than this are reduced: the page shows them no larger."""


@dataclass(frozen=True)
class FormOptions:
    """What a form asks.

    Attributes:
        questions: how many portraits, 1 to 200; kinship bands and strangers in turn.
        seed: chooses bases, portraits and their order.
        encoder: whose vectors, where real models are asked about.
        psi: truncation.
        cutoff: style layers that it reaches.
    """

    questions: int = 24
    seed: int = 0
    encoder: str = "sketch"
    psi: float = PSI
    cutoff: int = CUTOFF

    def __post_init__(self) -> None:
        if not 1 <= self.questions <= MAX_QUESTIONS:
            raise UsageError(
                "no such number of questions",
                where="--questions",
                expected=f"1 to {MAX_QUESTIONS}",
                got=str(self.questions),
            )


def make_form(options: FormOptions, study: Study | None = None, generator: Generator | None = None) -> str:
    """The page.

    Args:
        options: what it asks.
        study: real models; None draws vectors with known cosines instead.
        generator: of the pictures; None takes the shipped one.

    Returns:
        HTML.

    Raises:
        UsageError: fewer than 18 bases in the study, or nothing to ask about.
    """
    lineup = drawn_questions(options) if study is None else study_questions(study, options)
    everyone = np.concatenate([lineup.bases, lineup.models])
    pictures = [_data_uri(each) for each in render(everyone, generator, psi=options.psi, cutoff=options.cutoff)]
    key = [
        [None if truth == STRANGER else int(truth), round(float(ics), 4)]
        for truth, ics in zip(lineup.truth, lineup.ics, strict=True)
    ]
    identity = hashlib.sha256(json.dumps([pictures, key]).encode()).hexdigest()[:16]
    about = {
        "models": "drawn" if study is None else "real",
        "encoder": None if study is None else options.encoder,
        "psi": options.psi,
        "cutoff": options.cutoff,
        "seed": options.seed,
    }
    data = {
        "id": identity,
        "about": about,
        "bases": pictures[: len(lineup.bases)],
        "questions": pictures[len(lineup.bases) :],
        "bands": [[band.name, max(band.low, -2.0), min(band.high, 2.0)] for band in BANDS],
        "key": scramble(json.dumps(key), identity),
    }
    return _page(data)


def scramble(text: str, identity: str) -> str:
    """ASCII text as base64 that shows nothing to a glance; not encryption. `form.js` undoes it."""
    mixed = bytes(a ^ b for a, b in zip(text.encode("ascii"), itertools.cycle(identity.encode()), strict=False))
    return base64.b64encode(mixed).decode()


def drawn_questions(options: FormOptions) -> Lineup:
    """18 random bases; portraits at cosines of every band in turn and strangers, shuffled."""
    dice = np.random.default_rng([options.seed, 1])
    kinds = list(itertools.islice(itertools.cycle([*KIN_BANDS, None]), options.questions))
    cosines = [dice.uniform(band.low, min(band.high, 1.0)) for band in kinds if band is not None]
    cosines = dice.permutation(cosines).tolist()
    lineup = draw_lineup(options.seed, cosines, strangers=kinds.count(None))
    return _select(lineup, np.arange(BASES), dice.permutation(options.questions))


def study_questions(study: Study, options: FormOptions) -> Lineup:
    """18 bases of a study; its models in turn by band, and strangers if there are bases left over.

    Raises:
        UsageError: fewer than 18 bases, or none of them has offspring.
    """
    whole, dice = study_lineup(study, options.encoder), np.random.default_rng([options.seed, 1])
    if len(whole.bases) < BASES:
        raise UsageError(
            "too few bases for a line-up",
            where="--study",
            expected=f"{BASES} or more",
            got=str(len(whole.bases)),
            next_step="leave the study out: vectors with known cosines are drawn",
        )
    chosen = dice.permutation(len(whole.bases))[:BASES]
    groups: dict[str, list[int]] = {}
    for index in dice.permutation(len(whole.models)).tolist():
        group = _group(whole, index, chosen)
        if group:
            groups.setdefault(group, []).append(index)
    asked = list(itertools.islice(_in_turn([groups[name] for name in sorted(groups)]), options.questions))
    if not asked:
        raise UsageError("nothing to ask about", where="--study", expected="offspring of its bases", got="none")
    return _select(whole, chosen, dice.permutation(asked))


def _group(lineup: Lineup, index: int, chosen: np.ndarray) -> str:
    """The band of a model whose base is chosen, `stranger` for a base that is not, or empty: not to be asked."""
    truth = int(lineup.truth[index])
    if truth != STRANGER:
        return band_of(float(lineup.ics[index])).name if truth in chosen else ""
    return "" if int(lineup.barred[index]) in chosen else "stranger"


def _in_turn(groups: list[list[int]]) -> Iterator[int]:
    """One of each group after another, until all are used up."""
    for row in itertools.zip_longest(*groups):
        yield from (index for index in row if index is not None)


def _select(lineup: Lineup, bases: np.ndarray, models: np.ndarray) -> Lineup:
    """Some bases and some models of a line-up, in the order given."""
    place = {int(base): k for k, base in enumerate(bases)}
    truth = np.array([place.get(int(base), STRANGER) for base in lineup.truth[models]], dtype=np.int64)
    barred = np.full(len(models), -1, dtype=np.int64)
    return Lineup(lineup.bases[bases], lineup.models[models], truth, lineup.ics[models], barred)


def _data_uri(picture: Pixels) -> str:
    side = min(picture.shape[0], MAX_SIDE)
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(resize(picture, side))).save(stream, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def _page(data: dict[str, Any]) -> str:
    """The template filled in; a policy in its head allows its own script and style and nothing else."""
    parts = {
        kind: Path(__file__).with_suffix(f".{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")
    }
    hashes = {
        kind: base64.b64encode(hashlib.sha256(parts[kind].encode()).digest()).decode() for kind in ("css", "js")
    }
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes['css']}'; "
        f"script-src 'sha256-{hashes['js']}'; base-uri 'none'; form-action 'none'"
    )
    fills = {
        "policy": policy,
        "style": parts["css"],
        "script": parts["js"],
        "data": json.dumps(data, allow_nan=False).replace("<", "\\u003c"),
    }
    page = parts["html"]
    for name, text in fills.items():
        page = page.replace("{{" + name + "}}", text)
    return page
