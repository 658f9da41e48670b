"""Every error huref raises on purpose, with the exit code the command line gives it.

    HurefError                    4
    ├── UsageError                2   an option or argument that cannot be honoured
    │   └── OutputError           2   the place to write to cannot be written
    ├── InconclusiveError         3   the inputs are readable but nothing can be concluded
    ├── InputError                4   an input that cannot be read or is not supported
    │   ├── CorruptFileError      4   bytes that contradict their own format
    │   ├── UnsafeFileError       4   a file that asks for more than data: code, or absurd sizes
    │   ├── MissingFileError      4   a shard, a tokenizer or a configuration that is not there
    │   ├── MissingTensorError    4   a tensor the architecture promises and the checkpoint lacks
    │   ├── ArchitectureError     4   a model family that no data file describes
    │   ├── TokenizerError        4   a vocabulary that cannot be read or is too small
    │   ├── NotFiniteError        4   NaN or infinity in a tensor that is used
    │   └── WeightsError          4   shipped or given network weights that are not what they claim
    ├── RejectedError             1   a commitment or a proof that can be read and does not hold
    ├── AccessError               5   gated or denied
    └── NetworkError              6   network or offline

A message says what went wrong, where, what was expected, what was found, and what to do next.
"""

from __future__ import annotations


class HurefError(Exception):
    """Root of the tree; carries the parts of the message so that `--json` can keep them apart.

    Args:
        what: the fault, in one clause.
        where: the file, tensor or option at fault.
        expected: what would have been right.
        got: what was there instead.
        next_step: what the reader can do about it.
    """

    exit_code = 4

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        expected: str = "",
        got: str = "",
        next_step: str = "",
    ) -> None:
        self.what = what
        self.where = where
        self.expected = expected
        self.got = got
        self.next_step = next_step
        super().__init__(str(self))

    def __str__(self) -> str:
        lines = [self.what]
        for label, text in (
            ("where", self.where),
            ("expected", self.expected),
            ("got", self.got),
            ("next step", self.next_step),
        ):
            if text:
                lines.append(f"  {label}: {text}")
        return "\n".join(lines)


class UsageError(HurefError):
    """An option or argument that cannot be honoured."""

    exit_code = 2


class OutputError(UsageError):
    """The place to write to cannot be written; nothing was left half-written."""


class InconclusiveError(HurefError):
    """The inputs are readable, but they give no ground for a conclusion."""

    exit_code = 3


class InputError(HurefError):
    """An input that cannot be read or is not supported."""


class CorruptFileError(InputError):
    """Bytes that contradict their own format: truncated, overlapping, out of range."""


class UnsafeFileError(InputError):
    """A file that asks for more than data: code to run, or counts that would exhaust memory."""


class MissingFileError(InputError):
    """A shard, a tokenizer or a configuration that should be there and is not."""


class MissingTensorError(InputError):
    """A tensor that the architecture promises and the checkpoint lacks, or one nobody expects."""


class ArchitectureError(InputError):
    """A model family, or a shape within it, that no architecture file describes."""


class TokenizerError(InputError):
    """A vocabulary that cannot be read, or has too few usable tokens."""


class NotFiniteError(InputError):
    """NaN or infinity in a tensor that the fingerprint would use."""


class WeightsError(InputError):
    """Network weights, shipped or given, that are not what they claim to be."""


class RejectedError(HurefError):
    """A commitment or a proof that can be read and does not hold."""

    exit_code = 1


class AccessError(HurefError):
    """A gated or denied resource."""

    exit_code = 5


class NetworkError(HurefError):
    """The network failed, or is switched off while something remote was asked for."""

    exit_code = 6
