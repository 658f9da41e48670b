"""SmolLM2-135M, packed in every layout that huref unpacks, against itself: scores, verdict, cost.

    OMP_NUM_THREADS=1 .venv/bin/python lab/benchmarks/packed.py [--only LAYOUT ...] [--work DIR]

The base is the demo's GGUF file (Q4_1), dequantised and written by huref as float32 safetensors. Every `_proj` matrix
is packed by `tests/kit/packers.py`, written from the layouts' definitions, in groups of 64 where one may choose;
embeddings and norms stay. Goals: verdict `requantised`, ICS at least 0.98 at four bits and 0.999 at eight. "feedback"
is GPTQ proper, which makes up for the error of a column in later ones: `derived`. `read` is the processor time to
read every matrix once as float32, in nanoseconds a weight, `peak` the memory that tracemalloc counts while the
largest is read, over that of its float32 values; the first line has both of a bfloat16 file.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ml_dtypes import bfloat16

import huref
from huref.demo.bundled import bundled_model
from huref.files.safetensors_writer import write_safetensors
from huref.forward.checkpoint_writer import tokenizer_files, write_checkpoint
from huref.forward.decoder import load_decoder
from huref.model.arch import open_weights
from huref.model.source import open_checkpoint
from huref.numerics.arrays import float32

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from kit import packers

GROUP = 64
LAYOUTS: dict[str, tuple[int, Callable[[np.ndarray], packers.Packed]]] = {
    **{f"GPTQ v1, {bits} bits": (bits, lambda w, bits=bits: packers.gptq(w, bits, GROUP)) for bits in (2, 3, 4, 8)},
    "GPTQ v2, 4 bits, act-order": (4, lambda w: packers.gptq(w, 4, GROUP, version=2, order=packers.shuffled(w))),
    **{
        f"GPTQ, {bits} bits, feedback": (
            bits,
            lambda w, bits=bits: packers.gptq(w, bits, GROUP, rounded=packers.with_feedback),
        )
        for bits in (4, 8)
    },
    "AWQ gemm": (4, lambda w: packers.awq(w, GROUP)),
    "AWQ gemv": (4, lambda w: packers.awq(w, GROUP, version="gemv")),
    "bitsandbytes nf4, nested": (4, packers.bitsandbytes4),
    "bitsandbytes fp4": (4, lambda w: packers.bitsandbytes4(w, "fp4", is_nested=False)),
    "bitsandbytes int8": (8, packers.bitsandbytes8),
    "FP8, one scale": (8, lambda w: packers.fp8(w, "tensor")),
    "FP8, a scale a row": (8, packers.fp8),
    "FP8, blocks of 128": (8, lambda w: packers.fp8(w, "block")),
    "compressed-tensors int4": (4, lambda w: packers.pack_quantized(w, 4, GROUP)),
    "compressed-tensors int8": (8, packers.int8),
    "NVFP4": (4, packers.nvfp4),
    "MXFP4": (4, packers.mxfp4),
    **{f"MLX, {bits} bits": (bits, lambda w, bits=bits: packers.mlx(w, bits, GROUP)) for bits in (2, 3, 4, 5, 6, 8)},
    "HQQ, 4 bits": (4, lambda w: packers.hqq(w, GROUP)),
    "Quanto, 4 bits": (4, lambda w: packers.quanto(w, GROUP)),
    "Quanto, 8 bits": (8, packers.quanto8),
    "EXL2, 3 to 8 bits": (4, packers.exl2),
    "torchao int4": (4, lambda w: packers.torchao4(w, GROUP)),
}
FEEDBACK = "feedback"
"""What makes up for each column's error in the next ones is no plain rounding: `derived` is right for it."""
LEAST = {2: 0.0, 3: 0.0, 4: 0.98, 8: 0.999}


def write_base(folder: Path) -> Path:
    """The bundled model as float32 safetensors."""
    with open_checkpoint(bundled_model()) as checkpoint:
        return write_checkpoint(
            load_decoder(open_weights(checkpoint), np.float32), folder, tokenizer_files(checkpoint)
        )


def write_packed(base: Path, folder: Path, pack: Callable[[np.ndarray], packers.Packed]) -> Path:
    """The base with every `_proj` packed."""
    folder.mkdir()
    config = json.loads((base / "config.json").read_text())
    tensors: dict[str, np.ndarray] = {}
    with open_checkpoint(base) as checkpoint:
        for name in checkpoint.tensors:
            weight = float32(checkpoint.read(name))
            if "_proj" not in name:
                tensors[name] = weight
                continue
            packed = pack(weight)
            start = name.removesuffix(".weight")
            tensors |= {f"{start}{ending}": tensor for ending, tensor in packed.tensors.items()}
            config |= packed.config
    write_safetensors(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps(config))
    for path in base.glob("tokenizer*"):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def in_bfloat16(weight: np.ndarray) -> packers.Packed:
    """Not packed at all."""
    return packers.Packed({".weight": weight.astype(bfloat16)}, weight)


def reading(folder: Path) -> tuple[float, float]:
    """Nanoseconds a weight to read every projection as float32, the better of two, and the peak over the values."""
    seconds = []
    with open_checkpoint(folder) as checkpoint:
        names = [name for name in checkpoint.tensors if "_proj" in name]
        for _ in range(2):
            start = time.process_time()
            for name in names:
                float32(checkpoint.read(name))
            seconds.append(time.process_time() - start)
        n_weights = sum(int(np.prod(checkpoint.tensors[name].shape)) for name in names)
        largest = max(names, key=lambda name: np.prod(checkpoint.tensors[name].shape))
        tracemalloc.start()
        n_bytes = float32(checkpoint.read(largest)).nbytes
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return min(seconds) / n_weights * 1e9, peak / n_bytes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=list(LAYOUTS))
    parser.add_argument("--work", type=Path)
    options = parser.parse_args()
    missed = 0
    with tempfile.TemporaryDirectory(dir=options.work) as scratch:
        base = write_base(Path(scratch) / "base")
        plain = write_packed(base, Path(scratch) / "plain", in_bfloat16)
        seconds, peak = reading(plain)
        print(f"{'layout':30} {'canonical-2':>11} {'canonical':>9} {'verdict':12} {'read':>5} {'peak':>5}")
        print(f"{'bfloat16':66}{seconds:5.1f} {peak:5.1f}", flush=True)
        for name in options.only:
            bits, pack = LAYOUTS[name]
            with tempfile.TemporaryDirectory(dir=scratch) as place:
                copy = write_packed(base, Path(place) / "copy", pack)
                seconds, peak = reading(copy)
                found = huref.compare(base, copy)
                other = huref.compare(base, copy, method="ics", recipe="canonical")
            scores = found.ics_canonical_2 or 0.0, other.ics_canonical or 0.0
            is_met = found.verdict == ("derived" if FEEDBACK in name else "requantised") and min(scores) >= LEAST.get(
                bits, 0.98
            )
            missed += not is_met
            print(
                f"{name:30} {scores[0]:11.4f} {scores[1]:9.4f} {found.verdict:12} {seconds:5.1f} "
                f"{peak:5.1f} {'[met]' if is_met else '[MISSED]'}",
                flush=True,
            )
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
