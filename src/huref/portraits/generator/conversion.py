"""A generator in a file of another kind, as safetensors of ours with a note on where it comes from."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path

from huref.choices import option
from huref.errors import UsageError
from huref.files.atomic import write_atomically
from huref.portraits.generator.config import StyleGAN2Config
from huref.portraits.generator.file import open_generator, save_generator

DTYPES = ("float16", "float32")

LICENCE = (
    "A conversion changes no rights: the weights keep the licence of their owner. The official StyleGAN2 weights are "
    "NVIDIA's; those trained on AFHQ (afhqdog, afhqcat, afhqwild) are CC BY-NC: not for commercial use."
)

_LOSS = {
    "float16": (
        "Every number is rounded to half precision, 11 significant bits: by at most 1/2048 of itself, or by 3e-8 "
        "where it is smaller than 6e-5. huref computes with the rounded numbers in fp32."
    ),
    "float32": "Nothing: every number is the one in the source.",
}

_NOTE = """# {name}

A StyleGAN2 generator of {side} x {side} pixels{classes}, for `huref render --generator`.
Written by `huref generator convert`.

- source: `{source}`, sha256 `{source_sha256}`
- this file: {dtype}, sha256 `{sha256}`
- what is lost: {loss} The training networks, the discriminator and all code of the source are left out.

## Licence
{licence}
"""


@dataclass(frozen=True)
class Conversion:
    """What was converted, and into what.

    Attributes:
        source: the file that was read.
        source_sha256: its digest.
        target: the safetensors file.
        sha256: its digest.
        note: the page beside it.
        dtype: of the numbers in it.
        config: the shape of the network.
    """

    source: Path
    source_sha256: str
    target: Path
    sha256: str
    note: Path
    dtype: str
    config: StyleGAN2Config


def convert_generator(source: Path, target: Path, dtype: str = "float16") -> Conversion:
    """Writes the generator in `source` as `target`, and a note with digests and licence beside it (`.md`).

    Args:
        source: what `open_generator` reads.
        target: a name that ends in `.safetensors`.
        dtype: float16, or float32 to lose nothing.

    Raises:
        UsageError: another dtype or ending, or a target that is the source.
        InputError: the source cannot be read.
        NotFiniteError: a weight too large for half precision.
        OutputError: the target cannot be written.
    """
    if dtype not in DTYPES:
        raise UsageError("no such number type", where=option("dtype"), expected=" or ".join(DTYPES), got=dtype)
    is_same = source.exists() and target.exists() and source.samefile(target)
    if target.suffix != ".safetensors" or is_same:
        raise UsageError(
            "cannot convert into this file",
            where=str(target),
            expected="a name that ends in .safetensors",
            got="the source itself" if is_same else repr(target.suffix),
            next_step=f"name it {target.with_suffix('.safetensors').name}, elsewhere than the source",
        )
    generator = open_generator(source)
    with source.open("rb") as file:
        source_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    notes = {"source": source.name, "source_sha256": source_sha256, "licence": LICENCE}
    sha256 = save_generator(generator, target, notes, dtype)
    note = target.with_suffix(".md")
    done = Conversion(source, source_sha256, target, sha256, note, dtype, generator.config)
    write_atomically(note, _note(done).encode())
    return done


def _note(done: Conversion) -> str:
    classes = f", with {done.config.label_dim} classes" if done.config.label_dim else ""
    text = {key: str(value) for key, value in dataclasses.asdict(done).items()}
    return _NOTE.format(
        **text | {"source": done.source.name},
        name=done.target.name,
        side=done.config.resolution,
        classes=classes,
        loss=_LOSS[done.dtype],
        licence=LICENCE,
    )
