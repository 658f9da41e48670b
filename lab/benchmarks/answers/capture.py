"""Run huref's commands from a source tree on a fixed set of models and keep what they say.

    .venv/bin/python lab/benchmarks/answers/capture.py TREE OUT [--only PREFIX ...] [--python PYTHON] [--work DIR]

TREE is any checkout, also one from before `lab/` was there. Every step of steps.py runs as `python -P -m huref ...`
with PYTHONPATH=deterministic:TREE/src:TREE/lab/src in one folder (DIR/work, emptied first; by default under
runs/answers/ of the checkout that this file is in), so that paths are the same whatever the tree. OUT gets a folder
for each step: `step.json` (arguments, exit code, files written), `stdout`, `stderr`, and under `files/` all that the
step wrote, as it is. Nothing is normalised here; differences.py does that.

Randomness that huref draws from the operating system comes from a stream seeded by the step's name, see
deterministic/sitecustomize.py. The capture fails if any module of huref came from outside the tree.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from places import HOME, MODELS, WORK, digest, require_models
from step import Step
from steps import all_steps

DETERMINISTIC = Path(__file__).resolve().parent / "deterministic"
FOLDERS = (
    "fingerprints", "evidence", "reports", "pictures", "tables", "ranking", "attacked", "sealed", "proofs", "lab",
)  # fmt: skip
"""What steps expect in the work folder, beside the models."""

TOO_LARGE = 64 << 20
"""Bytes of a file beyond which only its digest is kept."""

Listing = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Setting:
    """What is the same in every step: source tree, Python, work folder, PYTHONHASHSEED, where a capture goes."""

    tree: Path
    python: str
    work: Path
    hash_seed: str
    out: Path

    @property
    def path(self) -> str:
        """PYTHONPATH for the tree's own code."""
        return os.pathsep.join(map(str, (self.tree / "src", self.tree / "lab" / "src")))

    def environment(self, step: Step, log: Path) -> dict[str, str]:
        """Of a step: one thread, no network, no colours, seeded."""
        inherited = {key: value for key, value in os.environ.items() if key != "HUREF_PASSPHRASE"}
        return {
            **inherited,
            "PYTHONPATH": f"{DETERMINISTIC}{os.pathsep}{self.path}",
            "PYTHONHASHSEED": self.hash_seed,
            "PYTHONDONTWRITEBYTECODE": "",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "COLUMNS": "100",
            "NO_COLOR": "1",
            "HUREF_CAPTURE_SEED": step.name,
            "HUREF_CAPTURE_TREE": str(self.tree),
            "HUREF_CAPTURE_LOG": str(log),
            "HUREF_NO_CACHE": "1",
            **step.environment,
        }


def run(step: Step, setting: Setting) -> dict[str, Any]:
    """Run a step and keep what it said and wrote."""
    place, work = setting.out / step.name, setting.work
    place.mkdir(parents=True)
    spoil(step, work)
    log = place / "processes"
    before, start = listing(work), time.perf_counter()
    done = subprocess.run(
        [setting.python, "-P", "-m", "huref", *step.arguments],
        cwd=work,
        env=setting.environment(step, log),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    (place / "stdout").write_bytes(done.stdout)
    (place / "stderr").write_bytes(done.stderr)
    after = listing(work)
    logged = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    told = {
        "arguments": list(step.arguments),
        "exit_code": done.returncode,
        "written": keep(work, before, after, place / "files"),
        "removed": sorted(set(before) - set(after)),
        "random_bytes": sum(item["drawn"] for item in logged),
    }
    (place / "step.json").write_text(json.dumps(told, indent=1) + "\n")
    strange = {name: path for item in logged for name, path in item["outside_the_tree"].items()}
    return {
        "name": step.name,
        "seconds": round(seconds, 2),
        "outside_the_tree": strange,
        "logged": len(logged),
        **told,
    }


def spoil(step: Step, work: Path) -> None:
    """Write the damaged copies that a step asks for; of a file that is not there, one byte."""
    for new, (old, where) in step.spoil.items():
        data = bytearray((work / old).read_bytes()) if (work / old).is_file() else bytearray(1)
        data[where] ^= 1
        (work / new).parent.mkdir(parents=True, exist_ok=True)
        (work / new).write_bytes(data)


def listing(work: Path) -> Listing:
    """Every file in the work folder, with its time and size; models are behind a link and not among them."""
    found = {}
    for folder, _, files in os.walk(work):
        for name in files:
            path = Path(folder, name)
            status = path.lstat()
            found[str(path.relative_to(work))] = (status.st_mtime_ns, status.st_size)
    return found


def keep(work: Path, before: Listing, after: Listing, files: Path) -> list[str]:
    """Copy what a step wrote, of large files the digest; their names."""
    written = sorted(path for path, status in after.items() if before.get(path) != status)
    for path in written:
        target = files / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if after[path][1] > TOO_LARGE:
            target.with_name(f"{target.name}.sha256").write_text(f"{digest(work / path)}\n")
        else:
            shutil.copyfile(work / path, target)
    return written


def require_tree(setting: Setting) -> str:
    """The huref that will run, which must be the tree's."""
    command = [setting.python, "-P", "-c", "import huref; print(huref.__file__)"]
    environment = {**os.environ, "PYTHONPATH": setting.path}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd="/")
    where = Path(found.stdout.strip()).resolve()
    if not where.is_relative_to(setting.tree):
        raise SystemExit(f"huref is {where}, not in {setting.tree}")
    return str(where)


@contextmanager
def emptied(work: Path, models: Path) -> Iterator[None]:
    """The work folder, emptied and with its link to the models, for this capture alone."""
    work.parent.mkdir(parents=True, exist_ok=True)
    with work.with_name("lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SystemExit("another capture is running in the same work folder") from None
        if work.exists() and not (work / MODELS).is_symlink():
            raise SystemExit(f"{work} was not made by a capture: choose another --work")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        (work / MODELS).symlink_to(models)
        for name in FOLDERS:
            (work / name).mkdir()
        yield


def main() -> None:
    """Run the steps in their order, and write capture.json last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", default=[], help="prefixes of steps, and of those whose files they read")
    parser.add_argument("--python", default=sys.executable, help="by default this one; it has what huref depends on")
    parser.add_argument("--work", type=Path, default=HOME, help="folder of the models and of the runs")
    parser.add_argument("--hash-seed", default="0", help="PYTHONHASHSEED")
    options = parser.parse_args()
    home, out = options.work.resolve(), options.out.resolve()
    setting = Setting(options.tree.resolve(), options.python, home / WORK, options.hash_seed, out)
    if out.exists():
        raise SystemExit(f"{out} exists: remove it, or choose another folder")
    models, where = require_models(home / MODELS), require_tree(setting)
    steps = [step for step in all_steps() if not options.only or step.name.startswith(tuple(options.only))]
    start, runs = time.perf_counter(), []
    with emptied(setting.work, home / MODELS):
        for step in steps:
            found = run(step, setting)
            runs.append(found)
            print(f"{found['seconds']:7.2f} s  exit {found['exit_code']}  {step.name}", flush=True)
    seconds = round(time.perf_counter() - start, 1)
    strange = {name: path for item in runs for name, path in item["outside_the_tree"].items()}
    summary = {
        "tree": str(setting.tree),
        "huref": where,
        "python": setting.python,
        "work": str(setting.work),
        "models": models,
        "seconds": seconds,
        "outside_the_tree": strange,
        "runs": runs,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "capture.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(f"{len(runs)} steps, {seconds} s, into {out}")
    if strange:
        raise SystemExit(f"modules of huref from outside the tree: {strange}")


if __name__ == "__main__":
    main()
