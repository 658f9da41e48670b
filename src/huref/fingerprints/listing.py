"""What users name to mean several models: folders of checkpoints or of fingerprints, and lists in a file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from huref.errors import InputError, MissingFileError, UsageError
from huref.fingerprints.file import SUFFIX
from huref.fingerprints.record import Fingerprint, Reference
from huref.model.name import distinct_names, require_names
from huref.model.source.hub_cache import is_repository, snapshot_of
from huref.model.source.opening import known_endings, open_checkpoint

_MIDDLE = SUFFIX.removesuffix(".safetensors")
_MOST_LISTED, _LONGEST_LIST = 10_000, 1 << 22


def listed(references: Sequence[str | Path]) -> list[str | Path]:
    """Every model that the references name, in the order given; within a folder by name, numbers by size.

    `@FILE` stands for the references that a file lists, a line each (`#` begins a remark). A folder that is no
    model itself stands for all in it that are: fingerprints, GGUF files, folders with weights or a config.json such
    as `checkpoint-10`, readable or not. A folder of the hub's cache stands for the snapshot that its `main` names.

    Raises:
        MissingFileError: no such list.
        UsageError: a list of nothing, or of more than 10,000 models.
    """
    found = [model for reference in references for model in _models(reference)]
    if len(found) > _MOST_LISTED:
        raise UsageError(
            "too many models", where="MODEL", expected=f"at most {_MOST_LISTED:,}", got=f"{len(found):,}"
        )
    return found


def one_of(reference: str) -> str | Path:
    """A model by its folder in the hub's cache too; anything else as it is."""
    return snapshot_of(Path(reference)) or reference


def names_of(references: Sequence[Reference], asked: Sequence[str] | None = None) -> tuple[str, ...]:
    """What models and fingerprints are called beside each other: by their paths, objects by the model's own name.

    Args:
        asked: names that the user gave, one a model.

    Raises:
        UsageError: see `require_names`.

    No two are called alike: what their folders do not tell apart is numbered. A name is one line that steers nothing.
    """
    if asked:
        require_names(list(asked), len(references))
        return tuple(asked)
    paths = [reference for reference in references if not isinstance(reference, Fingerprint)]
    named = iter(distinct_names(paths, _MIDDLE))
    names = [_line(item.model if isinstance(item, Fingerprint) else next(named)) for item in references]
    counts, seen = Counter(names), Counter[str]()
    for i, name in enumerate(names):
        seen[name] += 1
        if counts[name] > 1:
            names[i] = f"{name} ({seen[name]})"
    return tuple(names)


def _line(name: str) -> str:
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)


def _models(reference: str | Path) -> Iterator[str | Path]:
    if str(reference).startswith("@") and not Path(reference).exists():
        for line in _lines(Path(str(reference)[1:])):
            yield from _in_folder(line)
    else:
        yield from _in_folder(reference)


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise MissingFileError(
            "no such list of models",
            where=f"@{path}",
            expected="a text file with a model a line",
            got="nothing at that path",
        )
    if path.stat().st_size > _LONGEST_LIST:
        raise UsageError("too long a list", where=f"@{path}", expected="4 MiB at most", got="more")
    text = path.read_text("utf-8-sig", "surrogateescape")
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        raise UsageError("an empty list of models", where=f"@{path}", expected="a model a line", got="none")
    return lines


def _in_folder(reference: str | Path) -> Iterator[str | Path]:
    folder = Path(reference)
    if not folder.is_dir():
        yield reference
        return
    snapshot = snapshot_of(folder)
    if snapshot is not None or _is_model(folder):
        yield snapshot or reference
        return
    found = [path for path in sorted(folder.iterdir(), key=_by_number) if _is_candidate(path)]
    yield from (snapshot_of(path) or path for path in found or [folder])  # whoever opens it says what is missing


def _is_candidate(path: Path) -> bool:
    """Whether something in a folder of models is one, readable or not: a fingerprint, a GGUF file, a folder."""
    if not path.is_dir():
        is_later_part = re.search(r"-(?!0*1-of-)\d+-of-\d+\.gguf$", path.name)
        return path.name.endswith(SUFFIX) or (path.name.endswith(".gguf") and not is_later_part)
    return is_repository(path) or (path / "config.json").is_file() or bool(_weight_files(path))


def _is_model(folder: Path) -> bool:
    """Whether a folder is one model, readable or not."""
    if not _weight_files(folder):
        return (folder / "config.json").is_file()
    try:
        open_checkpoint(folder).close()
    except UsageError:  # several models
        return False
    except InputError:
        return (folder / "config.json").is_file() or not any(map(_is_candidate, folder.iterdir()))
    return True


def _weight_files(folder: Path) -> list[str]:
    endings = known_endings()
    return [path.name for path in folder.iterdir() if path.name.endswith(endings) and not path.name.endswith(SUFFIX)]


def _by_number(path: Path) -> list[tuple[int, int, str]]:
    """`checkpoint-9` before `checkpoint-10`."""
    parts = re.split(r"(\d+)", path.name)
    return [(1, int(part[:18]), part) if part.isdigit() else (0, 0, part) for part in parts]
