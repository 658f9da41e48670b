"""Two captures side by side, as a Markdown table.

    .venv/bin/python lab/benchmarks/answers/differences.py BEFORE AFTER [--all] [--common] [--lines N]

Compared are exit codes, the files that each step wrote, stdout, stderr and every file, byte by byte after
`contents.NORMAL`; where bytes differ, numbers, tensors or pixels say by how much. With --all a row for each step,
else one for each command and kind of output. What differs is listed below the table. Exit code 0 if everything is
equal, else 1.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from contents import Found, by_file, by_text

Rows = Mapping[tuple[str, str], Sequence[tuple[str, Found]]]
"""By (command or step, what is compared): (step, what was found)."""

ORDER = (
    "help", "front", "tokens", "fingerprint", "explain", "compare", "compare-saved", "report", "render", "parents",
    "matrix", "attack", "commit", "prove", "verify", "private", "lab",
)  # fmt: skip
TITLES = {
    "help": "every command's `--help`",
    "front": "faults of use, `--version`",
    "tokens": "`tokens rank`",
    "compare-saved": "`compare` of saved fingerprints",
    "lab": "`lab zoo`, `bench`, `study`, `calibrate`, `encoder`",
    "report": "`compare --report --sarif`",
    "private": "`compare --private`",
}
ENDINGS = {
    ".huref.safetensors": "fingerprint files: tensors, metadata, bytes",
    ".evidence.safetensors": "evidence files: tensors, metadata, bytes",
    ".safetensors": "weights: every tensor, bytes",
    ".png": "PNG: pixels, text, bytes",
    ".svg": "SVG",
    ".html": "HTML page",
    ".sarif": "SARIF log",
    ".json": "JSON files beside the weights",
    ".txt": "text files",
}
SEALED = {
    "commitment": "commitment: bytes",
    "opening": "opening: bytes",
    "inference-commitment": "commitment for inference: bytes",
    "inference-opening": "opening for inference: bytes",
    "link": "link: bytes",
}


def kind_of(path: str) -> str:
    """What a file is, for the table."""
    folder, name = path.split("/", 1)[0], path.rsplit("/", 1)[-1]
    if folder == "zoo":
        return "zoo: weights, fingerprints and JSON of every model"
    if folder == "lab" and name.endswith((".json", ".safetensors")):
        return "files of bench and encoder"
    if folder == "ranking":
        return "ranking files"
    known = next((kind for ending, kind in ENDINGS.items() if name.endswith(ending)), None)
    if known is None and folder == "sealed":
        known = SEALED.get(name, "proof: bytes" if "proof" in name else f"{name}: bytes")
    return known or ("proof: bytes" if folder == "proofs" else "other files")


def files_of(step: Path) -> dict[str, Path]:
    """What a step wrote, by its place in the work folder."""
    home = step / "files"
    return {str(path.relative_to(home)): path for path in sorted(home.rglob("*")) if path.is_file()}


def of_step(before: Path, after: Path, trees: tuple[str, str]) -> Iterator[tuple[str, Found]]:
    """(what is compared, what was found) for every thing of a step."""
    a, b = (json.loads((folder / "step.json").read_text()) for folder in (before, after))
    keys = ("arguments", "exit_code", "written", "removed", "random_bytes")
    other = [f"{key}: {a[key]} -> {b[key]}" for key in keys if a[key] != b[key]]
    what = "exit code, names of the files written, random bytes drawn"
    yield what, Found(not other, "" if other else "0", float("inf") if other else 0.0, other)
    for name in ("stdout", "stderr"):
        one, two = ((folder / name).read_bytes() for folder in (before, after))
        if name == "stdout" and (one or two):
            name = "stdout: JSON" if one.lstrip()[:1] == b"{" else "stdout: text"
        if one or two or name == "stderr":
            yield name, by_text(one, two, trees)
    one, two = files_of(before), files_of(after)
    for path in sorted({**one, **two}):
        if path not in one or path not in two:
            said = f"only {'before' if path in one else 'after'}: {path}"
            yield kind_of(path), Found(False, "file", float("inf"), [said])
            continue
        found = by_file(path, one[path].read_bytes(), two[path].read_bytes(), trees)
        found.detail = [f"{path}: {line}" for line in found.detail]
        yield kind_of(path), found


def of_captures(folders: Sequence[Path], captures: Sequence[dict[str, Any]], *, common: bool, each: bool) -> Rows:
    """Every step that either has, or with `common` both; a group for each command, or with `each` for each step."""
    before, after = ([run["name"] for run in capture["runs"]] for capture in captures)
    rows: dict[tuple[str, str], list[tuple[str, Found]]] = defaultdict(list)
    for name in dict.fromkeys([*before, *after]):
        group = name if each else name.split(".")[0]
        if name in before and name in after:
            trees = captures[0]["tree"], captures[1]["tree"]
            for what, found in of_step(folders[0] / name, folders[1] / name, trees):
                rows[group, what].append((name, found))
        elif not common:
            only = Found(False, "step", float("inf"), [f"only {'before' if name in before else 'after'}"])
            rows[group, "the step itself"].append((name, only))
    return rows


def print_table(rows: Rows) -> None:
    """A line for each group and kind of output."""
    commands = {name: number for number, name in enumerate(ORDER)}
    print("| command | what is compared | number | equal | largest difference |\n|---|---|---:|---|---|")
    for group, what in sorted(rows, key=lambda row: commands.get(row[0].split(".")[0], len(ORDER))):
        found = rows[group, what]
        other = [item for _, item in found if not item.equal]
        worst = max(other, key=lambda item: item.size, default=Found(True))
        equal = "yes" if not other else f"**no**, {len(other)} of {len(found)}"
        title = TITLES.get(group, f"`{group}`")
        print(f"| {title} | {what} | {len(found)} | {equal} | {worst.difference or 'see below'} |")


def print_details(rows: Rows, lines: int) -> bool:
    """Every difference, at most so many lines of each; True when there is one."""
    found = [(what, name, item) for (_, what), items in rows.items() for name, item in items]
    unequal = [(what, name, item) for what, name, item in found if not item.equal]
    steps = {name for _, name, _ in found}
    print(f"\n{len(steps)} steps, {len(found)} things compared, {len(unequal)} differ.")
    for what, name, item in unequal:
        print(f"\n- `{name}`, {what}: {item.difference}")
        for line in item.detail[:lines]:
            print(f"  - {line}")
        if len(item.detail) > lines:
            print(f"  - ... and {len(item.detail) - lines} more")
    return bool(unequal)


def main() -> None:
    """Compare two captures of the same models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--all", action="store_true", help="a row for each step")
    parser.add_argument("--common", action="store_true", help="only the steps that both have: for partial captures")
    parser.add_argument("--lines", type=int, default=6, help="details shown of each difference")
    options = parser.parse_args()
    folders = (options.before, options.after)
    if missing := [str(folder) for folder in folders if not (folder / "capture.json").is_file()]:
        raise SystemExit(f"no capture, or one that did not end: {', '.join(missing)}")
    captures = [json.loads((folder / "capture.json").read_text()) for folder in folders]
    if captures[0]["models"] != captures[1]["models"]:
        raise SystemExit("the captures are of different models: capture again what was captured first")
    rows = of_captures(folders, captures, common=options.common, each=options.all)
    if not rows:
        raise SystemExit("the captures have no step to compare")
    print_table(rows)
    outside = {key: path for capture in captures for key, path in capture["outside_the_tree"].items()}
    differs = print_details(rows, options.lines)
    print(f"\nModules of huref taken from outside the tree: {outside or 'none'}.")
    raise SystemExit(1 if differs or outside else 0)


if __name__ == "__main__":
    main()
