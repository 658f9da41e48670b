"""huref on a 7B Llama shape: 13.5 GB of bfloat16 in shards, peak memory and bytes read.

    .venv/bin/python lab/benchmarks/shape_7b.py [--work DIR] [--repeats 3]

The weights are cut from one block of random numbers, which changes no size and no amount of work. A cold run has
the shards' pages dropped from the page cache first (posix_fadvise); a warm one follows a run. The official way
needs 27 GB for the weights in float32 alone and is not run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import struct
import sys
import tempfile
from pathlib import Path

from measure import GIB, MIB, Clock, alternate, machine, median, run_child, table, verdict, workplace

K = 4096
SIZES = (4096, 11008, 32, 32, 32000)
SCRIPT = str(Path(__file__).resolve())


def write() -> None:
    """Child: write the checkpoint."""
    from llama_shapes import Shape, write_model

    clock = Clock()
    write_model(Path(sys.argv[2]), Shape(*SIZES), 2 << 30, is_repeated=True)
    clock.finish()


def huref() -> None:
    """Child: fingerprint and image; counted are the seconds after the imports."""
    from huref import api
    from huref.fingerprints import pipeline  # noqa: F401
    from huref.portraits import drawing  # noqa: F401
    from huref.portraits.generator import file as weights_file

    if len(sys.argv) > 3:
        weights_file.SHIPPED, weights_file.SHIPPED_SHA256 = Path(sys.argv[3]), None  # type: ignore[assignment, misc]
    with tempfile.TemporaryDirectory() as out:
        clock = Clock()
        found = api.fingerprint(sys.argv[2])
        api.write(found, Path(out))
        clock.finish(read=found.weights["bytes_read"], total=found.weights["bytes_total"])


CHILDREN = {"write": write, "huref": huref}


def bytes_needed(folder: Path) -> int:
    """From the shapes alone: K embedding rows; of the last two layers four attention matrices, gate, down and two
    norms; the header of every shard, where the tensors are found."""
    d_model, d_ff = SIZES[:2]
    layer = 2 * (4 * d_model**2 + 2 * d_model * d_ff + 2 * d_model)
    headers = 0
    for shard in folder.glob("*.safetensors"):
        with shard.open("rb") as file:
            headers += 8 + struct.unpack("<Q", file.read(8))[0]
    return 2 * K * d_model + 2 * layer + headers


def drop_cache(folder: Path) -> None:
    """Ask the kernel to forget the shards' pages; they are on the disk already."""
    for shard in folder.glob("*.safetensors"):
        with shard.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> int:
    """Write, measure, judge; the checkpoint is deleted unless --work says where to keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="where the 13.5 GB checkpoint is kept; default: temporary")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--generator", type=Path, help="image generator weights; default: the shipped ones")
    options = parser.parse_args()
    with workplace(options.work, "huref-7b-") as work:
        folder = work / "llama-7b"
        if not (folder / "ranking.txt").exists():
            if shutil.disk_usage(work).free < 20 * GIB:
                raise SystemExit(f"{work} has less than 20 GiB free: name another folder with --work")
            print("writing the checkpoint ...", file=sys.stderr)
            run_child(SCRIPT, "write", str(folder))
        return report(folder, options)


def report(folder: Path, options: argparse.Namespace) -> int:
    """Run cold and warm, print the table and the verdicts; 0 when all goals are met."""
    generator = [str(options.generator)] if options.generator else []

    def cold() -> object:
        drop_cache(folder)
        return run_child(SCRIPT, "huref", str(folder), *generator)

    ways = {"cold page cache": cold, "warm page cache": lambda: run_child(SCRIPT, "huref", str(folder), *generator)}
    samples = alternate(ways, dict.fromkeys(ways, options.repeats))  # type: ignore[arg-type]
    print(
        "7B Llama shape (d 4096, ff 11008, 32 layers, V 32000, bf16, sharded by 2 GiB), default fingerprint and image"
    )
    print(machine())
    table(samples)
    runs = [run for group in samples.values() for run in group]
    needed, read, total = bytes_needed(folder), runs[0].notes["read"], runs[0].notes["total"]
    peak = max(run.peak for run in runs)
    print(f"weight files {total / GIB:.2f} GiB; read {read / MIB:.1f} MiB; needed {needed / MIB:.1f} MiB")
    print(f"median peak {median([run.peak for run in runs]) / MIB:.0f} MiB")
    met = [
        verdict("peak memory under 2 GB", peak < 2e9, f"{peak / 1e9:.2f} GB at most"),
        verdict("at most 1.05 times the bytes needed", read <= 1.05 * needed, f"{read / needed:.4f} times"),
    ]
    return 0 if all(met) else 1


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[1] in CHILDREN:
        CHILDREN[sys.argv[1]]()
    else:
        sys.exit(main())
