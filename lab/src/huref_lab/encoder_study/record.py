"""The study's models as data: who descends from whom, their vectors, and the true similarity of every pair.

What the models are made of is in `models`. A saved study is a folder with two files: `models.json`
(one entry a model) and `vectors.npz` (arrays). It holds no weights, so the questions "which encoder is best?" and
"does it read?" are answered in seconds once it exists.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from huref.errors import CorruptFileError, MissingFileError
from huref.files.atomic import write_atomically
from huref.fingerprints.record import VECTOR_LENGTH

SCHEMA_VERSION = "huref.study/1.0"
KINDS = ("base", "fine-tune", "noise", "requantised")
_ARRAYS, _MODELS = "vectors.npz", "models.json"
_MATRICES = ("ics", "ics_paper")


@dataclass(frozen=True)
class StudyModel:
    """One model of the study.

    Attributes:
        name: unique in the study.
        base: name of the base it descends from; its own name for a base.
        kind: one of `KINDS`.
        ics_canonical: canonical ICS to its base, in [-1, 1]; 1 for a base. Of a study under `canonical-2`, that.
        ics_paper: the paper's ICS to its base.
        made: how, in a few words, with the losses that were measured.
        text: which text the base was trained on. Two bases of one text are twins: independent, but the data
            they share makes them alike (hard negatives).
        tokenizer: which vocabulary it has; models of equal `tokenizer` have equal vocabularies.
        architecture: the family's name.
    """

    name: str
    base: str
    kind: str
    ics_canonical: float
    ics_paper: float
    made: str = ""
    text: str = ""
    tokenizer: str = ""
    architecture: str = ""


@dataclass(frozen=True)
class Study:
    """Models, their fingerprint vectors by several encoders, and every pair's true similarity.

    Attributes:
        models: in the order of every array's first axis.
        vectors: encoder -> (n, 512) float32, root mean square 1.
        ics: (n, n) float64, ICS of every pair by the study's recipe; NaN where vocabularies share too few strings.
        ics_paper: (n, n) float64, over the paper's terms; NaN where vocabularies differ.
        encoders: what each encoder is: recipe, tokens, and how long it was trained.
    """

    models: tuple[StudyModel, ...]
    vectors: Mapping[str, np.ndarray]
    ics: np.ndarray
    ics_paper: np.ndarray
    encoders: Mapping[str, str] = field(default_factory=dict)

    @property
    def bases(self) -> tuple[int, ...]:
        """Indices of the bases."""
        return tuple(i for i, model in enumerate(self.models) if model.kind == "base")

    def is_kin(self) -> np.ndarray:
        """(n, n) bool: the two descend from one base (or are one)."""
        bases = np.array([model.base for model in self.models])
        kin: np.ndarray = bases[:, None] == bases[None, :]
        return kin

    def is_twin(self) -> np.ndarray:
        """(n, n) bool: independent, but their bases saw the same text."""
        texts = {model.name: model.text for model in self.models if model.kind == "base"}
        seen = np.array([texts[model.base] for model in self.models])
        twins: np.ndarray = (seen[:, None] == seen[None, :]) & ~self.is_kin()
        return twins

    def shares_tokenizer(self) -> np.ndarray:
        """(n, n) bool: equal vocabularies, so that both vectors come from the same tokens."""
        names = np.array([model.tokenizer for model in self.models])
        same: np.ndarray = names[:, None] == names[None, :]
        return same


def save_study(path: Path, study: Study) -> None:
    """Write a study into a folder; each file appears whole or not at all.

    Raises:
        OutputError: the folder cannot be written.
    """
    arrays = {f"vectors.{name}": array.astype(np.float32) for name, array in study.vectors.items()}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, ics=study.ics, ics_paper=study.ics_paper, **arrays)
    document = {
        "schema_version": SCHEMA_VERSION,
        "encoders": dict(study.encoders),
        "models": [asdict(model) for model in study.models],
    }
    write_atomically(path / _ARRAYS, buffer.getvalue())
    write_atomically(path / _MODELS, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())


def load_study(path: Path) -> Study:
    """Read a study; what it says about itself is checked before it is believed.

    Raises:
        MissingFileError: one of the two files is not there.
        CorruptFileError: a file that cannot be read, or the two contradict each other.
    """
    document, arrays = _document(path / _MODELS), _arrays(path / _ARRAYS)
    models = tuple(_model(path / _MODELS, entry) for entry in document["models"])
    _check_names(path / _MODELS, models)
    n = len(models)
    vectors = {name.removeprefix("vectors."): array for name, array in arrays.items() if name not in _MATRICES}
    shapes = {name: (n, n) if name in _MATRICES else (n, VECTOR_LENGTH) for name in {*arrays, *_MATRICES}}
    for name, shape in shapes.items():
        found = arrays.get(name)
        if found is None or found.shape != shape or found.dtype.kind != "f":
            got = "no such array" if found is None else f"{found.dtype} {list(found.shape)}"
            raise _corrupt(path / _ARRAYS, f"{name}: floating numbers {list(shape)}, one row a model", got)
    if not all(np.isfinite(array).all() for array in vectors.values()):
        raise _corrupt(path / _ARRAYS, "finite vectors", "NaN or infinity")
    return Study(models, vectors, arrays["ics"], arrays["ics_paper"], dict(document.get("encoders", {})))


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(_bytes(path))
    except (ValueError, RecursionError) as error:
        raise _corrupt(path, "a JSON document", str(error)) from None
    if not isinstance(document, dict):
        raise _corrupt(path, "a JSON object", type(document).__name__)
    version = document.get("schema_version")
    if version != SCHEMA_VERSION:
        raise _corrupt(path, f"schema_version {SCHEMA_VERSION}", str(version))
    if not isinstance(document.get("models"), list) or not isinstance(document.get("encoders", {}), dict):
        raise _corrupt(path, "a list `models` and a mapping `encoders`", "something else")
    return document


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(_bytes(path)), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise _corrupt(path, "an .npz archive of plain arrays", str(error) or type(error).__name__) from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MissingFileError(
            "a study's file cannot be read",
            where=str(path),
            expected=f"a folder with {_MODELS} and {_ARRAYS}",
            got=error.strerror or str(error),
            next_step="make the study first: docs/explanation/which-encoder.md",
        ) from None


def _model(path: Path, entry: Any) -> StudyModel:
    known = {item.name: item for item in fields(StudyModel)}
    if not isinstance(entry, dict) or not {"name", "base", "kind", "ics_canonical", "ics_paper"} <= entry.keys():
        raise _corrupt(path, "models with name, base, kind, ics_canonical and ics_paper", str(entry)[:80])
    for key, value in entry.items():
        wanted: tuple[type, ...] = (float, int) if key.startswith("ics_") else (str,)
        if key not in known or not isinstance(value, wanted) or isinstance(value, bool):
            raise _corrupt(path, f"{', '.join(known)}, texts and numbers", f"{key}: {str(value)[:40]}")
    if entry["kind"] not in KINDS:
        raise _corrupt(path, f"a kind of {', '.join(KINDS)}", str(entry["kind"])[:40])
    return StudyModel(**entry)


def _check_names(path: Path, models: tuple[StudyModel, ...]) -> None:
    names = [model.name for model in models]
    if not names or len(set(names)) != len(names):
        raise _corrupt(path, "models with names of their own", f"{len(names)} models, {len(set(names))} names")
    bases = {model.name for model in models if model.kind == "base" and model.base == model.name}
    lost = sorted({model.base for model in models} - bases)
    if lost:
        raise _corrupt(path, "every base among the models, as its own base", ", ".join(lost)[:80])


def _corrupt(path: Path, expected: str, got: str) -> CorruptFileError:
    return CorruptFileError(
        "a study's file contradicts its format",
        where=str(path),
        expected=expected,
        got=got,
        next_step="make the study again: docs/explanation/which-encoder.md",
    )
