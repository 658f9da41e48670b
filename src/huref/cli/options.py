"""Options that several commands share, named and explained once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from huref.cli.waiting import Mode
from huref.errors import UsageError

MAX_TOKENS = 1 << 22
MAX_JOBS = 1024
MAX_SEED = 2**31 - 1

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def every_once(layers: str) -> str:
    """For options: a list that names nothing twice."""
    named = [part.strip() for part in layers.split(",")]
    if twice := next((part for part in named if named.count(part) > 1), None):
        raise typer.BadParameter(f"{layers} names {twice} twice.")
    return layers


def fetch_whole(is_asked: bool) -> bool:
    """For options: from now on models elsewhere are fetched whole."""
    if is_asked:
        from huref.model.source.remote import mirror

        mirror.fetch_whole()
    return is_asked


Layers = Annotated[str, typer.Option(help="last2, all, or a list such as 0,5,-1.", callback=every_once)]
Show = Annotated[
    Mode, typer.Option("--progress", help="On stderr: a bar or lines, json for an object a line, or none.")
]
NTokens = Annotated[int, typer.Option("--n-tokens", help="Vocabulary rows to use (K).", min=256, max=MAX_TOKENS)]
TokensFile = Annotated[
    Path | None, typer.Option("--tokens", help="Token ranking, one id a line, most frequent first.")
]
ArchFile = Annotated[Path | None, typer.Option("--arch-file", help="An architecture file of your own (YAML).")]
Tokenizer = Annotated[
    Path | None,
    typer.Option("--tokenizer", help="Folder or GGUF file whose tokenizer to take for a model that has none."),
]
EncoderWeights = Annotated[
    Path | None, typer.Option("--encoder-weights", help="Weights of the CNN encoder (safetensors).")
]
Names = Annotated[
    list[str] | None,
    typer.Option("--name", help="What to call a model, in their order: once for each. Default: by their paths."),
]
NoCache = Annotated[
    bool, typer.Option("--no-cache", help="Compute afresh: take nothing from the cache, keep nothing (huref cache).")
]
Base = Annotated[str | None, typer.Option("--base", help="The base of whichever of the models is an adapter (LoRA).")]
Adapter = Annotated[
    bool, typer.Option("--adapter", help="Apply the adapters that lie beside models, which are noted otherwise.")
]
Download = Annotated[
    bool,
    typer.Option(
        "--download", help="Fetch models elsewhere whole, instead of the parts that are needed.", callback=fetch_whole
    ),
]
Secret = Annotated[
    Path | None,
    typer.Option("--secret", help="Folder of the opening. Default: the commitment's, its name with .secret."),
]
Out = Annotated[Path, typer.Option("--out", help="Folder to write to.")]

# Choices, as the rooms have them; importing those here would take longer than to refuse a wrong one.
RecipeName = Literal["canonical-2", "canonical", "paper"]
EncoderName = Literal["sketch", "mean", "cnn"]
Method = Literal["all", "pcs", "ics", "aligned", "agreement"]
IcsRecipe = Literal["canonical-2", "canonical"]
Score = Literal["pcs", "ics", "ics_canonical_2", "ics_canonical", "aligned", "agreement", "vectors"]
Verdict = Literal["identical", "requantised", "derived", "merged", "independent", "inconclusive"]
Faithful = Literal["faithful"]
SetName = Literal["llama_family_models", "offspring_models", "independent_models"]
PaperTable = Literal["1", "2", "3", "7"]
TableStyle = Literal["text", "csv", "latex"]
Layout = Literal["portrait", "sheet", "row", "difference"]
PictureFormat = Literal["png", "svg"]
CacheAction = Literal["show", "ls", "prune", "clear"]
StoredType = Literal["float64", "float32", "float16", "bfloat16"]
GeneratorType = Literal["float16", "float32"]
Purpose = Literal["fingerprint", "inference"]
Precision = Literal["standard", "small"]


def require_there(*references: str | Path) -> None:
    """Refuse references to nothing before anything is loaded or computed.

    Raises:
        UsageError: a remote model.
        MissingFileError: nothing at that path.
    """
    from huref.model.source import require_there as require
    from huref.model.source.remote.naming import remote_name

    if all(remote_name(reference) is None for reference in references):
        require(*references)
        return
    from huref.cli.waiting import waiting
    from huref.progress import Progress

    with waiting("auto") as work:
        for k, reference in enumerate(references):
            work(Progress("finding models", k, len(references)))
            require(reference)


def adapted(models: Sequence[str | Path], base: str | None, adapter: bool) -> list[str]:
    """The references with adapters put on what they change, docs/how-to/files-as-they-are.md.

    Raises:
        UsageError: none of the models is an adapter, or has one beside it.
    """
    refuse_together("--base", "--adapter", is_given=base is not None and adapter)
    if base is None and not adapter:
        return [str(model) for model in models]
    from huref.model.source.adapting import put_on_base, put_on_own

    if base is None:
        return put_on_own(models)
    from huref.fingerprints.listing import one_of

    require_there(base)
    return put_on_base(models, str(one_of(base)))


def refuse_together(first: str, second: str, *, is_given: bool) -> None:
    """Refuse two options of which one would be dropped.

    Raises:
        UsageError: both are given.
    """
    if is_given:
        raise UsageError(
            f"{first} and {second} do not go together",
            where=f"{first}, {second}",
            expected="one of them",
            got="both",
            next_step="leave one out",
        )


def require_with(flag: str, **given: object) -> None:
    """Refuse options that mean something with another one only, which is missing.

    Raises:
        UsageError: one of them is given.
    """
    for name, value in given.items():
        if value is not None:
            raise UsageError(
                f"--{name} means something with {flag} only",
                where=f"--{name}",
                expected=flag,
                next_step="leave it out",
            )


def require_place(*paths: Path | None, is_folder: bool = False) -> None:
    """Refuse, before long work, what cannot be written in the end.

    Args:
        is_folder: a folder is to be made there, or to be written into.

    Raises:
        OutputError: see `huref.files.atomic`.
    """
    from huref.files import atomic

    for path in paths:
        if path is not None:
            atomic.require_folder(path) if is_folder else atomic.require_place(path)


def require_png(path: Path, where: str) -> None:
    """Refuse, before long work, the name of another format for what will be a PNG, or a place that takes no file.

    Raises:
        UsageError: it does not end in .png.
        OutputError: see `require_place`.
    """
    require_place(path)
    if path.suffix.lower() != ".png":
        raise UsageError(
            "a PNG under another name", where=where, expected="NAME.png", got=path.name, next_step=f"{where} NAME.png"
        )


def require_ending(path: Path | None, where: str, *endings: str) -> None:
    """Refuse, before long work, a file whose ending does not say what will be in it, or a place that takes no file.

    Raises:
        UsageError: it has another ending.
        OutputError: see `require_place`.
    """
    require_place(path)
    if path is not None and path.suffix.lower() not in endings:
        raise UsageError(
            "a file under another name",
            where=where,
            expected=" or ".join(f"NAME{ending}" for ending in endings),
            got=path.name,
            next_step=f"{where} NAME{endings[0]}",
        )


def finite(number: float | None) -> float | None:
    """For options: a number that a range does not refuse though it is none."""
    if number is not None and not abs(number) < float("inf"):
        raise typer.BadParameter(f"{number} is no finite number.")
    return number


def hexadecimal(text: str, where: str) -> bytes:
    """Bytes that were written in hexadecimal.

    Raises:
        UsageError: they were not.
    """
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise UsageError("no hexadecimal number", where=where, expected="digits 0-9 and a-f", got=text[:80]) from None


def whole_numbers(text: str, where: str) -> tuple[int, ...]:
    """Numbers that were written with commas between them.

    Raises:
        UsageError: they were not.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise UsageError("no list of whole numbers", where=where, expected="12,345,6", got=text[:80])
    return tuple(map(int, parts))
