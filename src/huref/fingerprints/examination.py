"""What is there: of a model, or of what should be one, everything that can be told without computing anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from huref.errors import HurefError
from huref.fingerprints.file import require_weights
from huref.fingerprints.pipeline import vocabulary_notes
from huref.fingerprints.recipe import Recipe
from huref.fingerprints.record import Reference
from huref.fingerprints.sketching import read_next
from huref.model.arch import open_weights
from huref.model.arch.detect import identity
from huref.model.arch.weights import CanonicalWeights
from huref.model.model import Model
from huref.model.name import model_name
from huref.model.source import open_checkpoint
from huref.model.source.byte_source import missing_file
from huref.model.source.checkpoint import Checkpoint
from huref.model.source.packed.declaration import read_declaration
from huref.model.source.place import path_of, split_reference
from huref.model.source.remote.mirror import is_elsewhere, origin_of
from huref.model.source.remote.naming import shadowed
from huref.model.tokens import load_vocabulary
from huref.numerics.arrays import float32
from huref.text import printable

SCHEMA = "huref.examination/1.0"
_LOOKED_AT = 64
"""Rows of each matrix that are looked at for values that are all alike."""
_SHOWN = 6


@dataclass(frozen=True)
class Examination:
    """What there is at a reference.

    Attributes:
        model: what it is called.
        place: the folder or file that was opened; "" where nothing was found.
        origin: of a model elsewhere its reference, revision and files; else None.
        format: `safetensors`, `pickle`, `gguf`; "" where nothing could be opened.
        files: the weight files that count, with their bytes.
        packing: how the weights are packed, as declared; "" where they are plain.
        types: how many tensors are stored in which type.
        family, why: the description that was chosen, and what chose it; "" where none was.
        sizes: layers, widths, heads, rows.
        tokens: of the tokenizer; None where there is none.
        is_tied: whether embedding and output matrix are one; None where nothing is known.
        bytes_needed: of the weights, about, for a fingerprint.
        bytes_total: of all weight files.
        findings: what is odd.
        fault: why it cannot be read, with the next step; None where it can.
    """

    model: str
    place: str = ""
    origin: Mapping[str, Any] | None = None
    format: str = ""
    files: Mapping[str, int] = field(default_factory=dict)
    packing: str = ""
    types: Mapping[str, int] = field(default_factory=dict)
    family: str = ""
    why: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)
    tokens: int | None = None
    is_tied: bool | None = None
    bytes_needed: int = 0
    bytes_total: int = 0
    findings: tuple[str, ...] = ()
    fault: HurefError | None = None

    def to_dict(self) -> dict[str, Any]:
        """The `--json` document."""
        known = {name: getattr(self, name) for name in self.__dataclass_fields__}
        parts = ("what", "where", "expected", "got", "next_step")
        fault = self.fault
        known["fault"] = (
            None
            if fault is None
            else {
                "type": type(fault).__name__,
                "exit_code": fault.exit_code,
                **{part: getattr(fault, part) for part in parts},
            }
        )
        known["origin"] = None if self.origin is None else dict(self.origin)
        known |= {name: dict(known[name]) for name in ("files", "types", "sizes")}
        return {"schema_version": SCHEMA, **known, "findings": list(self.findings)}

    def __str__(self) -> str:
        """A few lines for people."""
        lines = [f"{self.model}: {'can be read' if self.fault is None else 'cannot be read'}"]
        facts = {
            "place": self._place(),
            "files": self._files(),
            "stored as": self._stored(),
            "family": f"{self.family}, by {self.why}" if self.family else "",
            "sizes": self._sizes(),
            "tokens": self._tokens(),
            "would read": self._needed(),
        }
        lines += [f"  {name:<12} {text}" for name, text in facts.items() if text]
        lines += [f"  {'odd':<12} {finding}" for finding in self.findings]
        if self.fault is not None:
            first, *rest = str(self.fault).splitlines()
            lines += [f"  {'fault':<12} {first}", *(f"  {'':<12} {line.strip()}" for line in rest)]
        return printable("\n".join(lines))

    def __repr__(self) -> str:
        return f"Examination({self.model}, {self.family or 'no family'})"

    def _place(self) -> str:
        if self.origin is None:
            return self.place
        return f"{self.origin['reference']} at {str(self.origin['revision'])[:12]}"

    def _files(self) -> str:
        shown = [f"{name} ({_size(n)})" for name, n in list(self.files.items())[:_SHOWN]]
        return ", ".join(shown) + (f" and {len(self.files) - _SHOWN} more" if len(self.files) > _SHOWN else "")

    def _stored(self) -> str:
        types = ", ".join(f"{stored} ({n})" for stored, n in self.types.items())
        packed = f", packed as {self.packing}" if self.packing else ""
        return f"{self.format}{packed}: {types}" if self.format else ""

    def _sizes(self) -> str:
        s = self.sizes
        if not s:
            return ""
        return (
            f"{s['n_layers']} layers, width {s['d_model']}, {s['n_heads']} heads of {s['head_dim']} "
            f"({s['n_kv_heads']} of keys and values), {s['d_ff']} neurons"
        )

    def _tokens(self) -> str:
        if not self.sizes:
            return ""
        count = "no tokenizer" if self.tokens is None else f"{self.tokens} tokens"
        head = "one matrix with the output" if self.is_tied else "apart from the output matrix"
        return f"{count} for {self.sizes['vocab_size']} rows of the embedding, {head}"

    def _needed(self) -> str:
        if not self.bytes_needed:
            return ""
        share = 100 * self.bytes_needed / max(1, self.bytes_total)
        return f"about {_size(self.bytes_needed)} of {_size(self.bytes_total)} ({share:.0f} %) for a fingerprint"


def doctor(
    model: Reference, *, arch_file: str | Path | None = None, tokenizer: str | Path | None = None
) -> Examination:
    """Tell what is there and what is odd; what cannot be read is told as a fault, not raised.

    Of a model on this machine some rows of every matrix are looked at; of one elsewhere headers alone are read.

    Args:
        arch_file: an architecture file of the user's own.
        tokenizer: a folder or GGUF file whose tokenizer to take where the model has none.

    Raises:
        UsageError: a saved fingerprint, or what names no model.
        MissingFileError, AccessError, NetworkError: there is nothing, or it cannot be asked.
    """
    reference = require_weights(model, "examine")
    found = Examination(model_name(reference))
    path = path_of(split_reference(reference)[0])
    if not path.exists():
        raise missing_file(path)
    found = replace(found, place=str(path))
    if (note := shadowed(reference)) is not None:
        found = replace(found, findings=(note,))
    with ExitStack() as opened:
        try:
            checkpoint = opened.enter_context(open_checkpoint(reference))
        except HurefError as error:
            return replace(found, fault=error)
        checkpoint.tokenizer = None if tokenizer is None else Path(tokenizer)
        found = _of_files(found, checkpoint)
        try:
            weights = open_weights(checkpoint, None if arch_file is None else Path(arch_file))
        except HurefError as error:
            return replace(found, fault=error)
        return _of_weights(found, weights)


def _of_files(found: Examination, checkpoint: Checkpoint) -> Examination:
    origin = origin_of(checkpoint.folder)
    try:
        packing = read_declaration(checkpoint).method
    except HurefError as error:
        packing = error.what
    types = Counter(info.dtype for info in checkpoint.tensors.values())
    return replace(
        found,
        origin=None if origin is None else origin.to_dict(list(checkpoint.files)),
        format=checkpoint.format,
        files=dict(checkpoint.files),
        packing=packing,
        types=dict(types.most_common()),
        bytes_total=checkpoint.bytes_total,
        findings=(*found.findings, *checkpoint.notes),
    )


def _of_weights(found: Examination, weights: CanonicalWeights) -> Examination:
    architecture, checkpoint = weights.architecture, weights.checkpoint
    findings = list(found.findings)
    findings += [note for note in weights.notes() if note not in findings]
    tokens, fault = None, None
    try:
        vocabulary = load_vocabulary(checkpoint)
        tokens = len(vocabulary)
        findings += vocabulary_notes(Model(found.model, weights, vocabulary))
    except HurefError as error:
        fault = error
    findings += _alike(weights)
    return replace(
        found,
        family=architecture.name,
        why=identity(checkpoint),
        sizes=vars(weights.geometry),
        tokens=tokens,
        is_tied=architecture.is_tied,
        bytes_needed=_needed(weights),
        findings=tuple(findings),
        fault=fault,
    )


def _needed(weights: CanonicalWeights) -> int:
    """Bytes of the rows and matrices that the usual fingerprint reads, as stored; of experts all."""
    recipe, tensors = Recipe(), weights.checkpoint.tensors
    names = {
        stored for name in read_next(weights, recipe) if name in weights for stored in weights.stored_names(name)
    }
    embedding = tensors[weights.stored_name("embedding")]
    share = min(1.0, recipe.n_tokens / max(1, weights.shape("embedding")[0]))
    return int(sum(tensors[name].nbytes for name in names if name in tensors) + share * embedding.nbytes)


def _alike(weights: CanonicalWeights) -> Iterator[str]:
    """Matrices of which the rows that are looked at are one number, or not all numbers."""
    if any(map(is_elsewhere, weights.checkpoint.paths)):
        return
    found: dict[str, list[str]] = {}
    for name in weights.names():
        shape = weights.shape(name)
        if len(shape) < 2 or min(shape) < 2:
            continue
        start = max(0, shape[0] - _LOOKED_AT) // 2
        try:
            rows = float32(weights.read(name, slice(start, start + _LOOKED_AT)))
        except HurefError as error:
            found.setdefault(error.what, []).append(weights.stored_name(name))
            continue
        if not np.isfinite(rows).all():
            found.setdefault("NaN or infinity", []).append(weights.stored_name(name))
        elif rows.min() == rows.max():
            kind = "zeros" if not rows.any() else "one number everywhere"
            found.setdefault(kind, []).append(weights.stored_name(name))
    for kind, names in found.items():
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        yield f"{kind} in {', '.join(names[:_SHOWN])}{more}, in the {_LOOKED_AT} rows that were looked at"


def _size(n: int) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.1f} MB" if n >= 1e5 else f"{n / 1e3:.1f} kB"
