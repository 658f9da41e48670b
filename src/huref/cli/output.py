"""What the commands print: one JSON document or human text on stdout, progress and errors on stderr."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from huref.errors import HurefError
    from huref.fingerprints.record import Fingerprint
    from huref.kinship import Comparison
    from huref.private.comparison import PrivateComparison
    from huref.progress import Report


def print_json(document: Mapping[str, Any]) -> None:
    """Exactly one document; ASCII, so that no terminal and no file name can spoil it."""
    _write(json.dumps(document, indent=2, allow_nan=False))


def say(text: str) -> None:
    """Human text on stdout."""
    _write(printable(text))


def _write(text: str) -> None:
    """Flushed at once: a reader that has gone away is noticed here, where it ends the command without a fuss."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def printable(text: str) -> str:
    """Text with control characters spelled out: names in files are not to steer the reader's terminal."""
    return "".join(letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text)


def print_error(error: HurefError, as_json: bool, *, is_shown: bool = False) -> None:
    """The message on stderr, unless it is there already; with `--json` its parts on stdout too."""
    if not is_shown:
        sys.stderr.write(printable(f"huref: {error}\n"))
    if as_json:
        parts = {key: getattr(error, key) for key in ("what", "where", "expected", "got", "next_step")}
        document = {"type": type(error).__name__, "exit_code": error.exit_code, **parts}
        print_json({"schema_version": "huref.error/1.0", "error": document})


@contextlib.contextmanager
def progress() -> Iterator[Report | None]:
    """A progress bar on stderr; nothing at all where stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from huref.progress import Progress

    with Bar(console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def report(step: Progress) -> None:
            if step.stage not in tasks:
                tasks[step.stage] = bar.add_task(escape(printable(step.stage)), total=step.total)
            bar.update(tasks[step.stage], completed=step.done, total=step.total)

        yield report


def print_kinds(kinds: Mapping[str, str], as_json: bool) -> None:
    """Names with what they mean, a line each, name first."""
    if as_json:
        print_json({"schema_version": "huref.kinds/1.0", "kinds": dict(kinds)})
        return
    width = max(map(len, kinds))
    say("\n".join(f"{name:<{width}}  {meaning}" for name, meaning in kinds.items()))


def percent(value: float | None) -> str:
    """A score for people: `98.91 %`, or a dash."""
    return "-" if value is None or math.isnan(value) else f"{100 * value:.2f} %"


def fingerprint_text(item: Fingerprint, files: tuple[str, str], seconds: float) -> str:
    """A few lines about one fingerprint."""
    weights = item.weights
    share = weights["bytes_read"] / max(1, weights["bytes_total"])
    lines = [
        f"{item.model}: {item.architecture}, {item.geometry['n_layers']} layers, width {item.geometry['d_model']}",
        f"  recipe       {item.recipe.name}, {item.recipe.encoder}, layers {item.recipe.layers}, "
        f"{item.tokens['used']} tokens",
        f"  read         {weights['bytes_read'] / 1e6:.1f} of {weights['bytes_total'] / 1e6:.1f} MB "
        f"({100 * share:.1f} %) in {seconds:.2f} s",
        f"  fingerprint  {files[0]}",
        f"  picture      {files[1]}",
        *(f"  note         {note}" for note in item.notes),
    ]
    return "\n".join(lines)


def comparison_text(found: Comparison) -> str:
    """The scores of a comparison, its terms, its background and its verdict."""
    from huref.kinship.record import ICS_OF

    lines = [f"{found.a}  ~  {found.b}"]
    for name, field in (
        ("PCS, parameters", "pcs"),
        *((f"ICS, {recipe}", name) for recipe, name in ICS_OF.items() if getattr(found, name) is not None),
        *([] if found.invariant_ics is not None else [("ICS", "invariant_ics")]),
        ("ICS, paper", "ics"),
        ("fingerprint vectors", "vectors"),
        ("aligned weights", "aligned"),
        ("pairing agreement", "agreement"),
    ):
        value = getattr(found, field)
        lines.append(f"  {name:<22}{percent(value):>10}{_error(found, field)}")
    lines += [
        f"    layer {term.layer_a:>3} ~ {term.layer_b:<3} {term.term:<12}{percent(term.score):>10}"
        for term in found.terms
    ]
    lines += _pairing_lines(found)
    lines.append(f"  verdict: {found.verdict}{_derivation(found)}")
    lines += [f"  note: {note}" for note in found.notes]
    return "\n".join(lines)


def _error(found: Comparison, field: str) -> str:
    """` +- 0.20`, of a score that was estimated."""
    return f" +- {100 * found.errors[field]:.2f}" if field in found.errors else ""


_SHOWN_LAYERS = 6


def _pairing_lines(found: Comparison) -> list[str]:
    """What the verdict rests on: neurons of the first matched layers, and the unrelated pairs for comparison."""
    lines = [
        f"    layer {layer.layer_a:>3} ~ {layer.layer_b:<3} {round(layer.agreement * layer.n_neurons):,} of "
        f"{layer.n_neurons:,} neurons have one partner by two criteria"
        for layer in found.layers[:_SHOWN_LAYERS]
    ]
    if len(found.layers) > _SHOWN_LAYERS:
        lines.append(f"    ... and {len(found.layers) - _SHOWN_LAYERS} more layers, in --json")
    if found.witnesses and found.alignment is not None:
        best = max(found.witnesses, key=lambda name: found.witnesses[name])
        others = ", ".join(f"{name} {percent(value)}" for name, value in found.witnesses.items() if name != best)
        lines.append(f"  witness               {best}, frame {found.alignment['method']}{others and f'; {others}'}")
    if found.background is not None and found.p_value is not None:
        told = found.background
        nearest = told["nearest"]
        lines.append(
            f"  unrelated pairs       {percent(told['mean'])} +- {100 * told['std']:.2f}, {told['n']} pairs, at most "
            f"{percent(told['max'])} ({nearest['a']} ~ {nearest['b']})"
        )
        distance = "" if found.z is None else f", z {found.z:.1f}"
        lines.append(f"  p-value               {found.p_value:.2g}{distance}")
    return lines


def _derivation(found: Comparison) -> str:
    told = found.derivation
    if told is None or told["kind"] == found.verdict:
        return ""
    parts = [told["kind"], told["strength"], "" if told["direction"] == "unknown" else told["direction"]]
    return f" ({', '.join(part for part in parts if part)})"


def private_text(found: PrivateComparison) -> str:
    """A private comparison for people: the result, or who has to do what next."""
    lines = [f"{found.a} and {found.b}, by proofs about {found.roots[0][:16]} and {found.roots[1][:16]}"]
    lines += [f"  written: {path}: send it, and the commitment beside it, to the other owner" for path in found.made]
    if found.missing:
        lines += [f"  waiting for {path}" for path in found.missing]
        return "\n".join([*lines, "  then run the same command again"])
    if found.score is not None:
        score = found.score
        lines.append(f"  ICS {score.ics:.4f} +- {score.error:.4f} over {score.n_tokens} shared tokens")
        lines += [f"    {term.key_a:>14} {term.key_b:>14} {term.cosine:8.4f}" for term in score.terms]
    return "\n".join([*lines, f"  verdict: {found.verdict}", *(f"  {note}" for note in found.notes)])
