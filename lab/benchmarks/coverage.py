"""What huref reads, counted over every class of transformers, and proved right by transformers.

    .venv/bin/python lab/benchmarks/coverage.py [--mapping causal,image-text,encoder-decoder,masked] [--only TYPE,...]
                                                [--work DIR] [--make] [--arch-file YAML] [--json F]

For every class of four mappings a tiny random model is built and saved by transformers (`--make` stops there). It is
`right` if huref reads it and a copy that huref rearranged in every way the model allows (tokens keep their numbers)
gives the same logits in transformers, and canonical-2 ICS and agreement 1; `read` if it is read and could not be
proved, for the reason given; `wrong` if logits or scores differ; `refused` if huref says that it cannot read it.
Ends with exit code 1 where any model is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import transformers

from coverage_models import MAPPINGS, Made, in_own_process, make_all
from coverage_proof import Row, prove
from huref.files.atomic import write_atomically
from measure import machine

SECONDS = 300
"""Of one model's proof."""
VERSION = "huref.coverage/1.0"


def measure(made: Made, arch_file: Path | None = None) -> Row:
    """One model's row, found in a process of its own."""
    if made.reason:
        return Row(made.mapping, made.model_type, "unbuilt", reason=made.reason)
    row = in_own_process(prove, (made.mapping, made.model_type, made.folder, arch_file), SECONDS)
    return row if isinstance(row, Row) else Row(made.mapping, made.model_type, "wrong", reason=row)


def line(row: Row) -> str:
    """A row for people; what is wrong stands out."""
    mark = "WRONG!" if row.status == "wrong" else row.status
    error = "" if row.logit_error is None else f"logits {row.logit_error:.0e}, "
    scores = "" if row.ics is None or row.agreement is None else f"ICS {row.ics:.6f}, agreement {row.agreement:.6f}"
    kinds = f", {len(row.kinds)} kinds" if row.kinds else ""
    reason = f" {row.reason}" if row.reason else ""
    return f"{mark:8}{row.mapping}/{row.model_type} {row.family} {error}{scores}{kinds}{reason}".rstrip()


def summary(rows: Iterable[Row]) -> str:
    """A table per mapping, the refusals by reason, and what is wrong."""
    rows, lines = list(rows), []
    for mapping in dict.fromkeys(row.mapping for row in rows):
        of = [row for row in rows if row.mapping == mapping]
        n = Counter(row.status for row in of)
        read = n["right"] + n["read"] + n["wrong"]
        errors = [row.logit_error for row in of if row.status == "right" and row.logit_error is not None]
        lines.append(
            f"{mapping}: {len(of)} classes, {len(of) - n['unbuilt']} built, {read} read, {n['right']} right, "
            f"{n['wrong']} wrong, {n['refused']} refused"
        )
        if errors:
            kinds = Counter(kind for row in of if row.status == "right" for kind in row.kinds)
            lines.append(f"  logits of the right ones within {min(errors):.0e} to {max(errors):.0e} of their range")
            lines.append("  proved by " + ", ".join(f"{kind} {n}" for kind, n in kinds.items()))
        for status in ("read", "refused", "unbuilt"):
            reasons = Counter(_short(row.reason) for row in of if row.status == status)
            lines += [f"  {status} {n}: {reason}" for reason, n in reasons.most_common()]
    wrong = [row for row in rows if row.status == "wrong"]
    if wrong:
        lines += ["", f"*** {len(wrong)} WRONG: read, and not as transformers computes ***", *map(line, wrong)]
    return "\n".join(lines)


def _short(reason: str) -> str:
    return reason if len(reason) <= 110 else f"{reason[:107]}..."


def main() -> int:
    """Make what is missing, prove what is there, print and write the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mapping", default=",".join(MAPPINGS), help="which mappings, with commas between them")
    parser.add_argument("--only", default="", help="which model types, with commas between them")
    parser.add_argument("--work", type=Path, default=Path("runs/coverage"), help="folder of the models")
    parser.add_argument("--make", action="store_true", help="build what is not there, measure nothing")
    parser.add_argument("--arch-file", type=Path, help="read them by an architecture file of your own")
    parser.add_argument("--json", type=Path, help="file for one row a model")
    options = parser.parse_args()
    made = make_all(options.mapping.split(","), filter(None, options.only.split(",")), options.work)
    if options.make:
        return 0
    rows = []
    for each in made:
        rows.append(measure(each, options.arch_file))
        print(line(rows[-1]), flush=True)
    print(f"\n{machine()}\n{summary(rows)}")
    if options.json:
        versions = {"schema_version": VERSION, "transformers": transformers.__version__}
        document = {**versions, "rows": [row.to_dict() for row in rows]}
        write_atomically(options.json, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())
    return int(any(row.status == "wrong" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
