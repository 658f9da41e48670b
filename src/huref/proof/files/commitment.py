"""The public `commitment`: proof-v1, section 5.1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from huref.proof.arithmetic.curve import POINT_BYTES, SCALAR_BYTES, decode_scalars
from huref.proof.arithmetic.field import from_bytes, to_bytes
from huref.proof.files.container import Frame, Reader, read_file, root_of
from huref.proof.files.layout import PROJECTIONS, Layout

NAME = "commitment"
FRAME = Frame(b"HUREFCM1", "commitment")
LONGEST_TOKEN = 4096
_ROOT_DOMAIN = b"huref/root/1"


@dataclass(frozen=True)
class NoWrapProof:
    """What bounds every committed integer: section 7.

    Attributes:
        masks: 192 points, encoded.
        sums: (192, d) objects, the masked row sums `t_kj`.
        blindings: (192,) objects.
    """

    masks: bytes
    sums: np.ndarray
    blindings: np.ndarray


@dataclass(frozen=True)
class Commitment:
    """A public commitment.

    Attributes:
        layout: what it says about itself.
        strings: K token strings.
        points: N points, encoded, not yet decoded or checked.
        no_wrap: the bound on every integer.
    """

    layout: Layout
    strings: tuple[bytes, ...]
    points: bytes
    no_wrap: NoWrapProof

    @cached_property
    def root(self) -> bytes:
        """32 bytes that bind everything but the no-wrap proof."""
        return commitment_root(self.layout, self.strings, self.points)

    def to_bytes(self) -> bytes:
        """The file."""
        layout, proof = self.layout, self.no_wrap
        width = sum_bytes(layout)
        return FRAME.pack(
            layout.to_dict(),
            pack_strings(self.strings)
            + self.points
            + proof.masks
            + to_bytes(proof.sums + layout.mask_bound, width)
            + to_bytes(proof.blindings, SCALAR_BYTES),
        )


def commitment_root(layout: Layout, strings: Sequence[bytes], points: bytes) -> bytes:
    """The root: section 5.1."""
    return root_of(_ROOT_DOMAIN, layout.to_dict(), pack_strings(strings) + points)


def sum_bytes(layout: Layout) -> int:
    """Bytes of a masked row sum in the file."""
    return ((2 * layout.mask_bound).bit_length() + 7) // 8


def pack_strings(strings: Sequence[bytes]) -> bytes:
    """Token strings with their lengths."""
    return b"".join(len(string).to_bytes(4, "little") + string for string in strings)


def take_strings(reader: Reader, count: int) -> tuple[bytes, ...]:
    """The inverse of `pack_strings`."""
    strings = []
    for _ in range(count):
        length = reader.number(4, "token length")
        if length > LONGEST_TOKEN:
            raise reader.fault("has a token string that is too long", f"at most {LONGEST_TOKEN} bytes", str(length))
        strings.append(reader.take(length, "a token string"))
    if len(set(strings)) != len(strings):
        raise reader.fault("lists a token string twice", "every string once", "a repeat")
    return tuple(strings)


def parse_commitment(data: bytes, where: str) -> Commitment:
    """Read a commitment strictly. Its points are not decoded: `huref.proof.sketch.verifier` does that.

    Raises:
        CorruptFileError: anything that is not as the format says.
    """
    layout, reader = FRAME.open(data, where, Layout.from_dict)
    strings = take_strings(reader, layout.n_tokens)
    points = reader.take(layout.n_rows * POINT_BYTES, "points")
    masks = reader.take(PROJECTIONS * POINT_BYTES, "masks")
    width = sum_bytes(layout)
    sums = from_bytes(reader.take(PROJECTIONS * layout.width * width, "row sums"), width) - layout.mask_bound
    blindings = decode_scalars(reader.take(PROJECTIONS * SCALAR_BYTES, "blindings"), where)
    reader.end()
    return Commitment(layout, strings, points, NoWrapProof(masks, sums.reshape(PROJECTIONS, -1), blindings))


def read_commitment(folder: Path) -> Commitment:
    """The commitment in a folder, or a file of that kind itself.

    Raises:
        InputError: none, or not one that can be read.
    """
    path = folder / NAME if folder.is_dir() else folder
    return parse_commitment(read_file(path), str(path))
