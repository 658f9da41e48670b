"""From an adapter and a base to one checkpoint, and what is said where one of them is missing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huref.errors import HurefError, InputError, UsageError
from huref.model.source.adapted import AdaptedCheckpoint
from huref.model.source.adapters import (
    CONFIG,
    FILES,
    AdapterAloneError,
    adapter_file,
    described,
    is_adapter,
    is_unmerged,
    read_changes,
    refusal,
)
from huref.model.source.checkpoint import Checkpoint
from huref.model.source.json_file import CONFIG_LIMIT, read_object
from huref.model.source.place import ON, path_of

_COPY = re.compile(r"\.modules_to_save\.[^.]+\.")


def adapter_config(folder: Path) -> Mapping[str, Any]:
    """The folder's `adapter_config.json`, or an empty mapping."""
    path = folder / CONFIG
    return read_object(path, CONFIG_LIMIT) if path.is_file() else {}


def on_base(reference: str, adapter: Checkpoint, base: Checkpoint) -> Checkpoint:
    """The model that an adapter makes of its base; closing it closes both.

    Raises:
        InputError: no adapter, of another kind, or made for another base.
    """
    if not is_adapter(adapter):
        raise InputError(
            "no adapter in front of the base",
            where=adapter.reference,
            expected="LoRA weights: lora_A and lora_B",
            got="other tensors",
            next_step="name the adapter first: ADAPTER::BASE",
        )
    changes = read_changes(adapter, adapter_config(adapter.folder))
    names = {name: name for name in base.tensors}
    more = dict(zip(adapter.files, adapter.paths, strict=True))
    if (path := adapter.folder / CONFIG).is_file():
        more[CONFIG] = path
    more = {f"adapter: {name}": path for name, path in more.items()}
    return AdaptedCheckpoint(reference, base, adapter, changes, names, more)


def with_own_adapter(checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint as it is, or, where it was saved with an adapter beside its matrices, merged.

    Raises:
        InputError: an adapter alone, or one of a kind that is not read.
    """
    if is_adapter(checkpoint):
        raise refusal(checkpoint.reference, adapter_config(checkpoint.folder))
    if not is_unmerged(checkpoint.tensors):
        return checkpoint
    kept, changing = {}, []
    for name in checkpoint.tensors:
        if ".lora_" in name:
            changing.append(name)
        elif ".original_module." not in name:  # what was trained whole stands in its place
            kept[_COPY.sub(".", name).replace(".base_layer.", ".")] = name
    changes = read_changes(checkpoint, adapter_config(checkpoint.folder), changing)
    return AdaptedCheckpoint(checkpoint.reference, checkpoint, checkpoint, changes, kept, {})


def put_on_base(models: Sequence[str | Path], base: str) -> list[str]:
    """References in which every adapter stands on the base; models stay as they are.

    Raises:
        UsageError: none is an adapter.
    """
    put = [f"{model}{ON}{base}" if _is_alone(path_of(model)) else str(model) for model in models]
    if put == [str(model) for model in models]:
        raise _nothing_to_apply("--base", models)
    return put


def put_on_own(models: Sequence[str | Path]) -> list[str]:
    """References in which every model that has an adapter beside it stands under that.

    Raises:
        UsageError: none has one.
    """
    put = [f"{model}{ON}{model}" if _has_beside(path_of(model)) else str(model) for model in models]
    if put == [str(model) for model in models]:
        raise _nothing_to_apply("--adapter", models)
    return put


def _nothing_to_apply(flag: str, models: Sequence[str | Path]) -> UsageError:
    return UsageError(
        "there is no adapter to apply",
        where=flag,
        expected=f"a folder with {' or '.join(FILES)}, or a GGUF adapter",
        got=", ".join(map(str, models))[:200],
        next_step="leave it out",
    )


def _has_beside(path: Path) -> bool:
    return path.is_dir() and adapter_file(path) is not None and not _is_alone(path)


def _is_alone(path: Path) -> bool:
    """Whether a reference is an adapter and no model; what cannot be read is refused where it is opened."""
    from huref.model.source.opening import holds_weights, open_checkpoint

    if path.is_dir():
        return adapter_file(path) is not None and not holds_weights(path)
    try:
        open_checkpoint(path).close()
    except AdapterAloneError:
        return True
    except HurefError:
        return False
    return False


def note_beside(folder: Path) -> tuple[str, ...]:
    """That an adapter lies beside the weights that were read, which is not applied."""
    if adapter_file(folder) is None:
        return ()
    return (f"beside the weights lies {described(adapter_config(folder))}: not applied; --adapter applies it",)


def adapter_alone(reference: str, folder: Path) -> InputError | None:
    """The error for a folder that holds an adapter and no weights, or None."""
    return refusal(reference, adapter_config(folder)) if adapter_file(folder) is not None else None
