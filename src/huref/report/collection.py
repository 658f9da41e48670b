"""What stands behind a comparison, gathered for its report: files, digests, portraits, the command to repeat it.

Nothing is compared here, and no tensor is read: files are only listed and, if that is quick or asked for, hashed.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from huref.choices import flag, option
from huref.errors import HurefError, InputError, UsageError
from huref.fingerprints.file import SUFFIX, fingerprint_digest, is_fingerprint
from huref.fingerprints.record import Fingerprint, Reference
from huref.kinship.record import FRAMES, CompareOptions, Comparison
from huref.kinship.verdict import FALSE_ACCUSATION_RATE
from huref.model.source.place import path_of
from huref.model.source.remote.mirror import is_elsewhere, sha256_of, size_of
from huref.model.source.remote.naming import remote_name
from huref.portraits.drawing import PictureOptions, draw
from huref.portraits.image import png_bytes
from huref.progress import Progress, Report
from huref.report import Evidence, FileRecord, InputRecord
from huref.report.numbers import share, size
from huref.report.options import ReportOptions
from huref.version import __version__

HASHED_UNASKED = 10**9
"""Bytes of both models together up to which every file is hashed without being asked for: a few seconds."""

PORTRAIT_SIDE = 288
_BLOCK = 1 << 22


def gather(
    found: Comparison,
    models: tuple[Reference, Reference],
    prints: Sequence[Fingerprint | str],
    options: CompareOptions,
    wanted: ReportOptions,
    report: Report | None = None,
) -> Evidence:
    """Everything that a report says beside the comparison.

    Args:
        models: as the user named them.
        prints: of each model its fingerprint, or why there is none.

    Raises:
        InputError: a file that cannot be read any more.
    """
    listed = [_files(model) for model in models]
    here = [path for files in listed for path in files if not is_elsewhere(path)]
    n_bytes = sum(path.stat().st_size for path in here)
    is_hashed = wanted.hash_files or n_bytes <= HASHED_UNASKED
    hashed = _Hashing(n_bytes, report) if is_hashed else None
    read = found.read or ({}, {})
    inputs = [
        _input(model, files, dict(part), item, hashed, is_drawn=wanted.html is not None)
        for model, files, part, item in zip(models, listed, read, prints, strict=True)
    ]
    return Evidence(
        inputs=(inputs[0], inputs[1]),
        command=(*command(models, options), *_report_flags(wanted)),
        settings=_settings(options, prints),
        expect=options.expect,
        exit_code=options.exit_code(found),
        hashing=_hashing(is_hashed, n_bytes, len(here) < sum(map(len, listed))),
        version=__version__,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        accused_from=FRAMES[str((found.alignment or {}).get("method", "tokens"))].accused_from,
        accusation_rate=FALSE_ACCUSATION_RATE,
        transform=_transform(models, wanted, options, report),
    )


def _hashing(is_hashed: bool, n_bytes: int, is_some_elsewhere: bool) -> str:
    said = (
        "The sha256 of every file is given."
        if is_hashed
        else f"The files were not hashed: they hold {size(n_bytes)}, more than {size(HASHED_UNASKED)}; --hash hashes "
        "them all."
    )
    return said + " Of files on a server it is what that says." * is_some_elsewhere


def command(models: Sequence[Reference], options: CompareOptions) -> tuple[str, ...]:
    """The arguments that compare these models like this, `huref` first; usual settings are left out."""
    words = ["huref", "compare", *(shown(model) for model in models)]
    usual = CompareOptions()
    for item in fields(CompareOptions):
        value = getattr(options, item.name)
        if value == getattr(usual, item.name):
            continue
        name = flag(item.name)
        words += [name] if value is True else [name, shown(value) if isinstance(value, Path) else str(value)]
    return tuple(words)


def _report_flags(wanted: ReportOptions) -> list[str]:
    """The arguments that write these reports."""
    named = (("--report", wanted.html), ("--sarif", wanted.sarif), ("--evidence", wanted.transform))
    files = [word for name, path in named if path is not None for word in (name, shown(path))]
    return files + (["--hash"] if wanted.hash_files else [])


def shown(reference: Reference) -> str:
    """A path as a report may show it: within the working folder as it is, elsewhere by its last part alone.

    What names a model elsewhere stays as it is.

    A fingerprint in memory goes by the name of the file that it would be saved as.
    """
    if not isinstance(reference, Fingerprint) and remote_name(reference) is not None:
        return str(reference)
    path = Path(f"{reference.model}{SUFFIX}" if isinstance(reference, Fingerprint) else reference)
    if path.is_absolute():
        here = Path.cwd()
        path = path.relative_to(here) if path.is_relative_to(here) else Path(path.name)
    text = path.as_posix()
    return f"./{text}" if text.startswith("-") else text


def _input(
    model: Reference,
    files: Sequence[Path],
    read: Mapping[str, Any],
    item: Fingerprint | str,
    hashed: _Hashing | None,
    *,
    is_drawn: bool,
) -> InputRecord:
    is_saved = is_fingerprint(model)
    portrait, note = _portrait(item) if is_drawn else (b"", "")
    base = shown(model)
    is_folder = not is_saved and path_of(base if isinstance(model, Fingerprint) else model).is_dir()
    folder = base if is_folder else Path(base).parent.as_posix()
    records = [
        FileRecord(
            name=path.name,
            size=size_of(path),
            sha256=_digest_of(path, hashed),
            path=(Path(folder) / path.name).as_posix(),
        )
        for path in files
    ]
    architecture = item.architecture if isinstance(item, Fingerprint) else ""
    return InputRecord(
        reference=base,
        is_saved=is_saved,
        architecture=str(read.get("architecture", architecture)),
        storage=str(read.get("format", "")),
        files=tuple(records),
        bytes_read=None if is_saved else read.get("bytes_read"),
        contents=_contents(item) if is_saved and isinstance(item, Fingerprint) else (),
        portrait=portrait,
        portrait_note=note,
    )


def _files(model: Reference) -> tuple[Path, ...]:
    """The files that a reference stands for, in shard order; of a fingerprint in memory none."""
    if isinstance(model, Fingerprint):
        return ()
    if is_fingerprint(model):
        return (path_of(model),)
    from huref.model.source import open_checkpoint

    with open_checkpoint(model) as checkpoint:
        return checkpoint.paths


def _transform(
    models: tuple[Reference, Reference], wanted: ReportOptions, options: CompareOptions, report: Report | None
) -> tuple[tuple[str, str], ...]:
    """A saved transform in words, and whether its claims hold on the two models; what fails comes first."""
    path = wanted.transform
    if path is None:
        return ()
    if any(is_fingerprint(model) for model in models):
        what = "evidence is checked on weights, and a saved fingerprint has none"
        cure = "leave the option out, or compare the models themselves"
        raise UsageError(what, where=option("transform"), next_step=cure)
    from huref.explanation import CheckOptions, explain_text, load_evidence
    from huref.explanation.checking import check_evidence

    checked = check_evidence(
        path, *models, CheckOptions(arch_file=options.arch_file, tokenizer=options.tokenizer), report
    )
    held = sum(claim.holds for claim in checked.claims)
    lines = [line.partition(": ") for line in explain_text(load_evidence(path))]
    return (
        *((f"FAILS: {claim.name}", claim.detail) for claim in checked.claims if not claim.holds),
        ("checked", f"{held} of {len(checked.claims)} claims hold on the weights at hand"),
        *((label, text) for label, _, text in lines),
        ("check again", f"huref explain {shlex.join(map(shown, models))} --check {shlex.quote(shown(path))}"),
    )


def _digest_of(path: Path, hashed: _Hashing | None) -> str:
    """Of a file's contents, or nothing; of one elsewhere what its publisher says."""
    if is_elsewhere(path):
        return sha256_of(path) or ""
    return hashed.digest(path) if hashed else ""


class _Hashing:
    """Hashes files, and says how far it has come over all of them."""

    def __init__(self, total: int, report: Report | None) -> None:
        self._done, self._total, self._report = 0, total, report

    def digest(self, path: Path) -> str:
        """Hexadecimal SHA-256 of a file."""
        state = hashlib.sha256()
        try:
            with path.open("rb") as file:
                while block := file.read(_BLOCK):
                    state.update(block)
                    self._done += len(block)
                    if self._report:
                        self._report(Progress("hashing files", self._done, self._total, "byte"))
        except OSError as error:
            got = error.strerror or str(error)
            raise InputError("a file cannot be hashed", where=path.name, got=got) from None
        return state.hexdigest()


def _portrait(item: Fingerprint | str) -> tuple[bytes, str]:
    """PNG and how it was made, or nothing and why."""
    if isinstance(item, str):
        return b"", item
    try:
        pixels = draw([item], PictureOptions(size=PORTRAIT_SIDE))
    except HurefError as error:
        return b"", error.what
    recipe = item.recipe
    said = f"{recipe.name} recipe, {recipe.encoder}, layers {recipe.layers}, {item.tokens['used']} tokens"
    return png_bytes(pixels, {}), f"{said}; fingerprint {fingerprint_digest(item)[:12]}"


def _contents(item: Fingerprint) -> tuple[tuple[str, str], ...]:
    """What a saved fingerprint holds. What it says of weights is its maker's word: they were not seen."""
    recipe, weights = item.recipe, item.weights
    files = ", ".join(f"{name} ({size(int(n))})" for name, n in dict(weights.get("files", {})).items())
    total, read = int(weights.get("bytes_total", 0)), int(weights.get("bytes_read", 0))
    return (
        ("holds", f"a vector of {len(item.vector)} numbers and {len(item.sketches)} sketches of terms; no weights"),
        ("its sha256 of contents", fingerprint_digest(item)),
        ("recipe", f"{recipe.name}, {recipe.encoder}, layers {recipe.layers}, {item.tokens.get('used')} tokens"),
        ("made by", f"huref {item.version}"),
        ("from, as it says", files or "no file is named"),
        ("read then, as it says", f"{size(read)} of {size(total)} ({share(read, total)})"),
    )


def _settings(options: CompareOptions, prints: Sequence[Fingerprint | str]) -> tuple[tuple[str, str], ...]:
    """Every choice that shaped the scores, whether it was the usual one or not."""
    items = [
        ("scores", options.method),
        ("layers named", options.layers),
        ("tokens asked for", str(options.n_tokens)),
        ("token ranking", shown(options.tokens_file) if options.tokens_file else "none"),
    ]
    if options.arch_file:
        items.append(("architecture file", shown(options.arch_file)))
    if options.tokenizer:
        items.append(("tokenizer of models without one", shown(options.tokenizer)))
    if options.encoder_weights:
        items.append(("encoder weights", shown(options.encoder_weights)))
    recipes = [item.recipe for item in prints if isinstance(item, Fingerprint)]
    if recipes:
        first = recipes[0]
        items.append(("recipe of the fingerprints", f"{first.name}, {first.encoder}, seed {first.seed}"))
    return tuple(items)
