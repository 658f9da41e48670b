"""Where in a pickled dictionary the model's tensors are: training scripts put them under a key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from huref.errors import UnsafeFileError
from huref.model.source.pickle_records import SubclassRecord, TensorRecord
from huref.model.source.pickle_stream import Window

NESTS = (
    "state_dict",  # Lightning
    "model",  # nanoGPT, fairseq, timm
    "model_state_dict",  # torch's own tutorials
    "model_state",
    "module",  # DeepSpeed
    "params",
    "weights",
    "params_ema",
    "model_ema",
    "ema_state_dict",
    "ema",
)
"""Keys under which a state dictionary stands, the usual first; averages of the weights come last."""

_DEEPEST = 3


@dataclass(frozen=True)
class Table:
    """The tensors directly in one dictionary.

    Attributes:
        path: keys that lead to it.
        tensors: by name; of subclasses (torchao's) their parts, as torchao calls them in safetensors:
            `m._weight_qdata`.
        kinds: of the subclasses, by the name of the whole.
    """

    path: tuple[str, ...]
    tensors: dict[str, TensorRecord]
    kinds: dict[str, str]

    @property
    def n_matrices(self) -> int:
        """How many of the tensors have rows and columns."""
        return sum(len(record.shape) > 1 for record in self.tensors.values())


def find_state_dict(root: Any, where: str) -> tuple[dict[str, TensorRecord], dict[str, str], tuple[str, ...]]:
    """The tensors of the model, its tensor subclasses by name, and what to tell of other models in the same file.

    Of several tables the first counts that holds at least half as many matrices as the fullest: a loose tensor
    beside a nest is no model, and weights go before their average.

    Raises:
        UnsafeFileError: a tensor whose name was passed over as a long text.
    """
    tables = list(_tables(root, (), where))
    most = max((table.n_matrices for table in tables), default=0)
    full = [table for table in tables if 2 * table.n_matrices >= most and table.tensors]
    if not full:
        return {}, {}, ()
    first, *rest = full
    others = [
        ".".join(table.path) for table in rest if table.n_matrices and table.path[: len(first.path)] != first.path
    ]
    if not others:
        return first.tensors, first.kinds, ()
    read = ".".join(first.path) or "the outermost"
    return first.tensors, first.kinds, (f"{where} holds several models: {read} is read, not {', '.join(others)}",)


def _tables(value: Any, path: tuple[str, ...], where: str) -> Iterator[Table]:
    """The tensors directly in a dictionary, then those in its nests."""
    if not isinstance(value, dict):
        return
    require_names(value, where)
    yield Table(path, *_tensors(value))
    if len(path) < _DEEPEST:
        for key in NESTS:
            yield from _tables(value.get(key), (*path, key), where)


def _tensors(table: Mapping[Any, Any]) -> tuple[dict[str, TensorRecord], dict[str, str]]:
    tensors: dict[str, TensorRecord] = {}
    kinds: dict[str, str] = {}
    for key, value in table.items():
        if isinstance(key, str) and isinstance(value, TensorRecord):
            tensors[key] = value
        elif isinstance(key, str) and isinstance(value, SubclassRecord):
            module, dot, weight = key.rpartition(".")
            tensors |= {f"{module}{dot}_{weight}_{part}": record for part, record in value.parts.items()}
            kinds[key] = value.kind
    return tensors, kinds


def require_names(table: Mapping[Any, Any], where: str) -> None:
    """Refuse a tensor whose name was passed over as a long text: it would be left out without a word.

    Raises:
        UnsafeFileError: there is one.
    """
    if any(
        isinstance(key, Window) and isinstance(value, TensorRecord | SubclassRecord) for key, value in table.items()
    ):
        raise UnsafeFileError(
            "a tensor with an absurdly long name",
            where=where,
            expected="names of at most 1,024 characters",
            got="a longer one",
            next_step="load it with torch and save it as safetensors, if you trust it",
        )
