"""Stored tensor names: which export prefix a checkpoint uses, and how far it is from a family.

Layer numbers are normalised to `{i}`, so that a diff shows patterns and not a thousand names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from huref.model.arch.schema import PER_EXPERT, STACKED, NameSet, TensorRule

SHOWN = 8
_LAYER = re.compile(r"(?<=\.)\d+(?=\.)")


def expand(template: str, prefix: str, layer: int | None = None, expert: int | None = None) -> str:
    """Fill in a name template; without a layer `{i}` stays, and without an expert `{e}` becomes `{i}` too."""
    name = template.removesuffix(STACKED).replace("{p}", prefix)
    name = name if layer is None else name.replace("{i}", str(layer))
    return name.replace(PER_EXPERT, "{i}" if expert is None else str(expert))


def patterns(stored: Iterable[str]) -> set[str]:
    """Stored names with their layer numbers normalised."""
    return {_LAYER.sub("{i}", name) for name in stored}


def is_ignored(name: str, names: NameSet) -> bool:
    """Whether a stored tensor is known to be no weight."""
    return any(fnmatchcase(name, pattern) for pattern in names.ignored)


def choose_prefix(names: NameSet, stored: set[str]) -> str:
    """The prefix under which most of the family's modules are stored."""

    def hits(prefix: str) -> int:
        return sum(
            f"{expand(name, prefix)}.weight" in stored for rule in names.tensors.values() for name in rule.from_
        )

    return max(names.prefixes, key=hits)


def layers_stored(names: NameSet, prefix: str, stored: Iterable[str]) -> set[int]:
    """Layer numbers for which the checkpoint has a `down` matrix."""
    return {int(layer) for layer, _ in _numbers(names, prefix, stored) if layer}


def experts_stored(names: NameSet, prefix: str, stored: Iterable[str]) -> set[int]:
    """Expert numbers for which the checkpoint has a `down` matrix."""
    return {int(expert) for _, expert in _numbers(names, prefix, stored) if expert}


def _numbers(names: NameSet, prefix: str, stored: Iterable[str]) -> list[tuple[str, str]]:
    """Layer and expert in the name of every stored `down` matrix; a dense layer's expert is empty."""
    patterns = [re.compile(_numbered(template, prefix)) for template in names.tensors["down"].from_]
    matches = (pattern.fullmatch(name) for name in stored for pattern in patterns)
    found = (match.groupdict() for match in matches if match)
    return [(groups.get("i", ""), groups.get("e", "")) for groups in found]


def _numbered(template: str, prefix: str) -> str:
    """A regular expression for the names of a template's weights, with groups `i` and, for experts, `e`."""
    name = re.escape(f"{template.removesuffix(STACKED).replace('{p}', prefix)}.weight")
    for group, placeholder in (("i", re.escape("{i}")), ("e", re.escape(PER_EXPERT))):
        name = name.replace(placeholder, rf"(?P<{group}>\d{{1,6}})", 1).replace(placeholder, r"\d{1,6}")
    return name


def compare_names(names: NameSet, stored: Iterable[str]) -> tuple[float, list[str], list[str]]:
    """How alike the stored names are to a family's.

    Returns:
        Jaccard similarity of the name patterns; patterns only the checkpoint has; patterns it lacks.
    """
    found = patterns(name for name in stored if not is_ignored(name, names))
    prefix = choose_prefix(names, found)
    wanted = {name for rule in names.tensors.values() for name in _wanted(rule, prefix, found)}
    either = found | wanted
    alike = len(found & wanted) / len(either) if either else 0.0
    return alike, sorted(found - wanted), sorted(wanted - found)


def _wanted(rule: TensorRule, prefix: str, found: set[str]) -> list[str]:
    modules = [expand(name, prefix) for name in rule.from_]
    present = [module for module in modules if f"{module}.weight" in found]
    if not present and rule.optional:
        return []
    module = (present or modules)[0]
    has_bias = rule.bias == "required" or (rule.bias == "optional" and f"{module}.bias" in found)
    return [f"{module}.weight", f"{module}.bias"] if has_bias else [f"{module}.weight"]


def shown(names: list[str]) -> str:
    """A list of names short enough for an error message."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return (", ".join(names[:SHOWN]) + more) if names else "none"
