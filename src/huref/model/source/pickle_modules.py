"""Whole pickled networks (`torch.save(module)`) as named tensors. Nothing is imported and nothing is run.

A pickled module names its class, which may be anybody's, and then its attributes. The class is kept as a name; only
the tensors in `_parameters`, `_buffers` and `_modules` count, with a few plain settings of each layer. A pickle that
calls what it names is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from huref.errors import CorruptFileError
from huref.model.source.byte_source import ByteSource
from huref.model.source.file_set import FileSet
from huref.model.source.pickle_container import read_container
from huref.model.source.pickle_format import PickleCheckpoint, locate
from huref.model.source.pickle_records import StorageRecord, TensorRecord, checkpoint_rules
from huref.model.source.pickle_rules import Name, PickleRules, as_tuple
from huref.model.source.ranged_checkpoint import RangedCheckpoint, Shard, open_all

SETTINGS = ("stride", "padding", "dilation", "groups", "padding_mode", "eps")
"""Attributes of layers that decide what they compute, besides their tensors."""

_MAX_DEPTH = 32
_MAX_MODULES = 10_000
_NESTS = ("encoder", "state_dict", "model_state_dict", "model", "net", "module")


@dataclass(eq=False)
class ModuleRecord:
    """A pickled module: its class's name and its attributes."""

    kind: str
    state: dict[Any, Any] = field(default_factory=dict)


def module_rules(storages: dict[str, StorageRecord]) -> PickleRules:
    """State dictionaries and modules: sets besides what checkpoints hold, and any other name, which cannot be called.

    Args:
        storages: filled with the storages that tensors of the file refer to, by key.
    """
    plain = checkpoint_rules(storages)
    return replace(
        plain,
        allowed="modules and tensors, and nothing that can execute",
        next_step="distrust this file",
        calls={**plain.calls, **dict.fromkeys(("builtins.set", "__builtin__.set"), as_tuple)},
        other=Name,
        persistent=partial(_reference, plain.persistent),
        make=ModuleRecord,
        set_state=_set_state,
    )


def _reference(storage: Any, pid: Any) -> Any:
    """A storage, or, before torch 1.6, a module's class with its source, which is passed over."""
    if isinstance(pid, tuple) and len(pid) > 1 and pid[0] == "module" and isinstance(pid[1], Name):
        return pid[1]
    return storage(pid)


def _set_state(target: Any, state: Any) -> None:
    """A module's attributes; of others they are passed over."""
    if isinstance(target, ModuleRecord) and isinstance(state, dict):
        target.state = state


def open_network(path: Path) -> tuple[RangedCheckpoint, Mapping[str, Mapping[str, Any]]]:
    """The tensors of a `torch.save` file that holds a state dictionary or a whole module.

    Returns:
        The tensors, named as `state_dict()` names them and in its order; and for each module its plain `SETTINGS`, by
        the module's name. A state dictionary has no settings.

    Raises:
        UnsafeFileError: the pickle calls anything.
        CorruptFileError: not a torch file, damaged, or without tensors.
    """
    settings: dict[str, Mapping[str, Any]] = {}

    def parse(source: ByteSource) -> Shard:
        container = read_container(source, module_rules)
        records = dict(_tensors(_network(container.root), settings))
        return Shard(source, [locate(source, container, name, record) for name, record in records.items()])

    def build(shards: list[Shard]) -> PickleCheckpoint:
        return PickleCheckpoint(str(path), alone, shards, {})

    alone = FileSet(path.parent, (path.name,))
    return open_all(alone, parse, build), settings


def _network(root: Any) -> Any:
    """The root, or what training scripts wrap into a dictionary."""
    if isinstance(root, dict) and not any(isinstance(value, TensorRecord) for value in root.values()):
        for key in _NESTS:
            if isinstance(root.get(key), dict | ModuleRecord):
                return root[key]
    return root


def _tensors(
    part: Any, settings: dict[str, Mapping[str, Any]], prefix: str = "", depth: int = 0
) -> Iterator[tuple[str, TensorRecord]]:
    """Named tensors of a state dictionary or of a module and what it contains, in order; settings by the way."""
    if depth > _MAX_DEPTH or len(settings) > _MAX_MODULES:
        raise CorruptFileError(
            "modules within modules without end",
            where=prefix[:80],
            expected=f"at most {_MAX_MODULES} modules, {_MAX_DEPTH} deep",
            got="more",
            next_step="distrust this file",
        )
    if isinstance(part, ModuleRecord):
        settings[prefix.removesuffix(".")] = _plain_settings(part)
        for table in ("_parameters", "_buffers"):
            yield from _own_tensors(part.state.get(table), prefix)
        children = part.state.get("_modules")
        for name, child in children.items() if isinstance(children, dict) else ():
            if isinstance(child, ModuleRecord):
                yield from _tensors(child, settings, f"{prefix}{name}.", depth + 1)
    else:
        yield from _own_tensors(part, prefix)


def _own_tensors(table: Any, prefix: str) -> Iterator[tuple[str, TensorRecord]]:
    for name, value in table.items() if isinstance(table, dict) else ():
        if isinstance(value, TensorRecord) and isinstance(name, str):
            yield prefix + name, value


def _plain_settings(module: ModuleRecord) -> dict[str, Any]:
    """Numbers, texts and short tuples of numbers; anything else could be endless."""
    found: dict[str, Any] = {"kind": module.kind}
    for name in SETTINGS:
        value = module.state.get(name)
        is_pair = isinstance(value, tuple) and len(value) <= 4 and all(type(item) is int for item in value)
        if is_pair or type(value) in (int, float, str):
            found[name] = value
    return found
