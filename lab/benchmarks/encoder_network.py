"""What the CNN encoder costs: folded convolutions against torch's strided ones, and one training step.

    python lab/benchmarks/encoder_network.py [--side 1024] [--repeats 3] [--train-side 256]

The published network with untrained weights. Seconds are processor seconds; both forms run in turn, a layer at a
time, and must agree. float32 is what a fingerprint uses; training uses bfloat16 where the processor is faster at it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from huref.fingerprints.encoder.network import unfold
from huref_lab.encoder.network import EncoderCNN, FoldedConv2d
from huref_lab.encoder.samples import draw_triplets, stream
from huref_lab.encoder.training import EncoderTraining, Trainer
from measure import machine, median, spread, verdict


def timed(run: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Processor seconds and the result."""
    start = time.process_time()
    found = run()
    return time.process_time() - start, found


@torch.inference_mode()
def compare_layers(side: int, repeats: int, kind: torch.dtype) -> bool:
    """Forward passes of one sample through each convolution in both forms."""
    encoder = EncoderCNN(seed=0).eval().to(kind)
    x = torch.randn(1, 6, side, side, generator=torch.Generator().manual_seed(0)).to(kind)
    print(f"\nforward, one sample, K = {side}, {str(kind).removeprefix('torch.')}, n = {repeats}")
    print(f"  {'':14} {'GFLOP':>7} {'strided':>24} {'folded':>24} {'ratio':>6}")
    totals, worst = [0.0, 0.0], 0.0
    for k, conv in enumerate(encoder.convs):
        assert isinstance(conv, FoldedConv2d)
        kernel = torch.from_numpy(unfold(conv.weight.float().numpy(), conv.stride)).to(kind)

        def strided(x: Tensor = x, conv: FoldedConv2d = conv, kernel: Tensor = kernel) -> Tensor:
            return functional.conv2d(x, kernel, conv.bias, stride=4, padding=22)

        def folded(x: Tensor = x, conv: FoldedConv2d = conv) -> Tensor:
            found: Tensor = conv(x)
            return found

        seconds: tuple[list[float], list[float]] = ([], [])
        for turn in range(repeats + 1):
            pairs = [timed(strided), timed(folded)]
            for times, (spent, _) in zip(seconds, pairs, strict=True):
                if turn:  # the first turn warms up
                    times.append(spent)
        (_, a), (_, b) = pairs
        worst = max(worst, float((a - b).float().norm() / a.float().norm()))
        gflop = 2e-9 * kernel.numel() * a.shape[-1] ** 2
        columns = [f"{spread(times):>24}" for times in seconds]
        ratio = median(seconds[0]) / median(seconds[1])
        print(f"  convolution {k + 1:<2} {gflop:7.1f} {columns[0]} {columns[1]} {ratio:6.1f}", flush=True)
        totals = [total + median(times) for total, times in zip(totals, seconds, strict=True)]
        x = encoder.norms[k](functional.relu(b) if k < 3 else b)
    print(f"  {'together':14} {'':7} {totals[0]:24.3f} {totals[1]:24.3f} {totals[0] / totals[1]:6.1f}")
    limit = 1e-4 if kind == torch.float32 else 2e-2
    return verdict(f"both forms agree to {limit}", worst < limit, f"{worst:.1e}")


def measure_step(side: int, repeats: int) -> None:
    """One training step with the published batch of ten triplets, and the part of drawing them."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(EncoderTraining(Path(folder), side=side))
        shape, batch = trainer.settings.shape, trainer.settings.batch
        steps, draws = [], []
        for turn in range(repeats + 1):
            spent, _ = timed(lambda turn=turn: draw_triplets(shape, batch, stream(turn)))
            start = time.process_time()
            trainer.step()
            if turn:
                steps.append(time.process_time() - start)
                draws.append(spent)
    numbers = sum(p.numel() for p in trainer.encoder.parameters())
    print(f"\ntraining step, K = {side}, {batch} triplets: {spread(steps)} s; of it drawing {spread(draws)} s")
    print(f"  weights that such inputs reach: {numbers / 1e6:.1f} of 341.0 million")


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--train-side", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    print(machine())
    agreed = [compare_layers(chosen.side, chosen.repeats, kind) for kind in (torch.float32, torch.bfloat16)]
    measure_step(chosen.train_side, chosen.repeats)
    sys.exit(0 if all(agreed) else 1)


if __name__ == "__main__":
    main()
