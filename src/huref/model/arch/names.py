"""Stored tensor names: which export prefix a checkpoint uses, and how far it is from a family.

Layer numbers are normalised to `{i}`, so that a diff shows patterns and not a thousand names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from huref.model.arch.schema import OF_TWO, PER_EXPERT, STACKED, NameSet, TensorRule, names_layer

SHOWN = 8
_LAYER = re.compile(r"(?<=\.)\d+(?=\.)")
_LAYER_0 = re.compile(r"(?<=\.)0(?=\.)")


def expand(template: str, prefix: str, layer: int | None = None, expert: int | None = None) -> str:
    """Fill in a name template; without a layer `{i}` stays, and without an expert `{e}` becomes `{i}` too."""
    name = template.removesuffix(STACKED).replace("{p}", prefix)
    numbers = ("{i}",) * 3 if layer is None else (str(layer), str(layer // 2), str(layer % 2))
    for placeholder, number in zip(("{i}", *OF_TWO), numbers, strict=True):
        name = name.replace(placeholder, number)
    return name.replace(PER_EXPERT, "{i}" if expert is None else str(expert))


def patterns(stored: Iterable[str]) -> set[str]:
    """Stored names with their layer numbers normalised."""
    return {_LAYER.sub("{i}", name) for name in stored}


def is_head(name: str, names: NameSet, prefix: str) -> bool:
    """Whether a stored name is one of those that stand beside the decoder's: the unembedding."""
    modules = [m for rule in names.tensors.values() for m in rule.from_ if not names_layer(m) and "{p}" not in m]
    return any(name.startswith(f"{root}{module}.") for module in modules for root in roots(prefix))


def is_ignored(name: str, names: NameSet) -> bool:
    """Whether a stored tensor is known to be no weight."""
    return any(fnmatchcase(name, pattern) for pattern in names.ignored)


def has_no_role(name: str, names: NameSet) -> bool:
    """Whether a stored tensor is known to be a weight that no role describes."""
    return any(fnmatchcase(name, pattern) for pattern in names.beside)


def choose_prefix(names: NameSet, stored: Iterable[str], *, is_nested: bool = True) -> str:
    """The prefix under which most of the family's modules are stored.

    Args:
        is_nested: whether a prefix of the family may stand behind others: a model in a larger one, or wrapped by what
            trained it.
    """
    stored = {_LAYER_0.sub("{i}", name) for name in stored}
    modules = [module for rule in names.tensors.values() for module in rule.from_]

    def hits(prefix: str) -> int:
        return sum(not stored.isdisjoint(stored_as(expand(module, prefix))) for module in modules)

    usual = max(names.prefixes, key=hits)
    ends = [name for module in names.tensors["embedding"].from_ for name in stored_as(expand(module, ""))]
    if not is_nested or any(
        not stored.isdisjoint(stored_as(expand(module, usual))) for module in names.tensors["embedding"].from_
    ):
        return usual
    outer = {name.removesuffix(end) for end in ends for name in stored if name.endswith("." + end)}
    heads = {head + prefix for head in outer for prefix in ("", *names.prefixes)}
    return max(sorted(heads, key=lambda head: (head.count("."), head)), key=hits, default=usual)


def stored_as(module: str) -> tuple[str, str]:
    """The names under which a module's weights may be stored."""
    return f"{module}.weight", module


def roots(prefix: str) -> list[str]:
    """What may stand in front of a tensor that has no prefix: less and less of the prefix, last nothing."""
    parts = prefix.split(".")[:-1]
    return [".".join([*parts[:n], ""]) if n else "" for n in range(len(parts), -1, -1)]


def layers_stored(names: NameSet, prefix: str, stored: Iterable[str]) -> set[int]:
    """Layer numbers for which the checkpoint has a matrix that writes the stream."""
    return {int(layer) for layer, _ in _numbers(names, prefix, stored) if layer}


def experts_stored(names: NameSet, prefix: str, stored: Iterable[str]) -> set[int]:
    """Expert numbers for which the checkpoint has a `down` matrix."""
    return {int(expert) for _, expert in _numbers(names, prefix, stored) if expert}


def _numbers(names: NameSet, prefix: str, stored: Iterable[str]) -> list[tuple[str, str]]:
    """Layer and expert in the name of every stored `down` and `o` matrix; a dense layer's expert is empty."""
    templates = [
        template for role in ("down", "o") if role in names.tensors for template in names.tensors[role].from_
    ]
    patterns = [re.compile(_numbered(template, prefix)) for template in templates]
    matches = (pattern.fullmatch(name) for name in stored for pattern in patterns)
    found = (match.groupdict() for match in matches if match)
    return [(_layer_of(groups), groups.get("e", "")) for groups in found]


def _layer_of(groups: dict[str, str]) -> str:
    return str(2 * int(groups["two"]) + int(groups["of"])) if "two" in groups else groups.get("i", "")


def _numbered(template: str, prefix: str) -> str:
    """A regular expression for the names of a template's weights, with groups `i`, or `two` and `of`, and `e`."""
    name = re.escape(template.removesuffix(STACKED).replace("{p}", prefix)) + r"(\.weight)?"
    groups = zip(("i", "two", "of", "e"), ("{i}", *OF_TWO, PER_EXPERT), strict=True)
    for group, placeholder in ((group, re.escape(marks)) for group, marks in groups):
        name = name.replace(placeholder, rf"(?P<{group}>\d{{1,6}})", 1).replace(placeholder, r"\d{1,6}")
    return name


def compare_names(names: NameSet, stored: Iterable[str]) -> tuple[float, list[str], list[str]]:
    """How alike the stored names are to a family's.

    Returns:
        Jaccard similarity of the name patterns; patterns only the checkpoint has; patterns it lacks.
    """
    found = patterns(name for name in stored if not is_ignored(name, names))
    prefix = choose_prefix(names, found)
    found = {name for name in found if name.startswith(prefix) or is_head(name, names, prefix)}
    wanted = {name for rule in names.tensors.values() for name in _wanted(rule, prefix, found)}
    either = found | wanted
    alike = len(found & wanted) / len(either) if either else 0.0
    return alike, sorted(found - wanted), sorted(wanted - found)


def _wanted(rule: TensorRule, prefix: str, found: set[str]) -> list[str]:
    """Names that a family would have; of alternatives those that are stored, and the first where none is."""
    modules = [expand(name, prefix) for name in (*rule.from_, *rule.shared)]
    stored = [module for module in modules if not found.isdisjoint(stored_as(module))]
    if not stored:
        return [] if rule.optional or rule.some else [f"{modules[0]}.weight"]
    return [name for module in stored for name in _with_bias(module, rule, found)]


def _with_bias(module: str, rule: TensorRule, found: set[str]) -> list[str]:
    if module in found:
        return [module, *([f"{module}_bias"] if f"{module}_bias" in found else [])]
    has_bias = rule.bias == "required" or (rule.bias == "optional" and f"{module}.bias" in found)
    return [f"{module}.weight", f"{module}.bias"] if has_bias else [f"{module}.weight"]


def summary(names: Iterable[str]) -> str:
    """What many stored tensors are, in a few patterns."""
    groups: dict[str, int] = {}
    for name in names:
        parts = name.split(".")
        place = next((i for i, part in enumerate(parts) if part.isdigit()), 0)
        key = ".".join(parts[place + 1 : place + 2] if place else parts[: 2 if parts[0] == "model" else 1])
        groups[key] = groups.get(key, 0) + 1
    listed = [f"{key} ({count} tensor{'s' * (count != 1)})" for key, count in groups.items()]
    return shown(listed)


def shown(names: list[str]) -> str:
    """A list of names short enough for an error message."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return (", ".join(names[:SHOWN]) + more) if names else "none"
