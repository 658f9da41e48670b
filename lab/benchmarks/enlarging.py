"""Ways to enlarge a small picture, on photographs whose large form is known.

    .venv/bin/python lab/benchmarks/enlarging.py --photographs DIR [--count 60]

Each photograph is brought to 128 pixels, reduced to 64 and to 32 with Lanczos' filter, enlarged again, and compared
with what it was:

PSNR, SSIM  nearness to the photograph (decibels; Wang et al., 2004, on luma).
sharpness   mean gradient as a share of the photograph's own: 1 is as sharp as that.
halos       mean excess beyond the lightest and darkest of the 3 x 3 neighbours in the small picture, in levels
            of 255.
ms          processor time of enlarging one, the median.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter

from huref.portraits.image import resize
from measure import machine, verdict

Picture = np.ndarray
SIDE = 128
LUMA = np.array([0.299, 0.587, 0.114])


def by_filter(kind: Image.Resampling) -> Callable[[Picture, int], Picture]:
    """One of Pillow's filters."""
    return lambda small, side: np.asarray(Image.fromarray(small).resize((side, side), kind))


def unsharp(small: Picture, side: int) -> Picture:
    """Lanczos' filter and a mild unsharp mask, half a small pixel wide."""
    factor = side / len(small)
    mask = ImageFilter.UnsharpMask(radius=0.5 * factor, percent=60, threshold=0)
    return np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.LANCZOS).filter(mask))


WAYS: dict[str, Callable[[Picture, int], Picture]] = {
    "bicubic": by_filter(Image.Resampling.BICUBIC),
    "Lanczos": by_filter(Image.Resampling.LANCZOS),
    "Lanczos, unsharp mask": unsharp,
    "huref": resize,
}


def measures(large: Picture, small: Picture, truth: Picture) -> tuple[float, float, float, float]:
    """PSNR, SSIM, sharpness, halos."""
    error = np.mean((large.astype(float) - truth) ** 2)
    psnr = 10 * np.log10(255**2 / error)
    return float(psnr), ssim(large @ LUMA, truth @ LUMA), gradient(large) / gradient(truth), halos(large, small)


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Structural similarity of two pictures in grey, (h, w), with the usual Gaussian window of 1.5 pixels."""

    def mean(x: np.ndarray) -> np.ndarray:
        return np.asarray(gaussian_filter(x, 1.5, truncate=3.5))

    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma * ma, mean(b * b) - mb * mb, mean(a * b) - ma * mb
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2))
    return float(values[5:-5, 5:-5].mean())


def gradient(picture: Picture) -> float:
    """Mean absolute difference of neighbours."""
    grey = picture @ LUMA
    return float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())


def halos(large: Picture, small: Picture) -> float:
    """What lies outside the range of the neighbours in the small picture."""
    side = len(large)
    low, high = (
        np.asarray(Image.fromarray(kind(small, (3, 3, 1))).resize((side, side), Image.Resampling.BILINEAR), float)
        for kind in (minimum_filter, maximum_filter)
    )
    return float((np.maximum(low - large, 0) + np.maximum(large - high, 0)).mean())


def photographs(folder: Path, count: int) -> list[Picture]:
    """Square pictures of `SIDE` pixels, in the order of their names."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))[:count]
    if not files:
        raise SystemExit(f"no photographs in {folder}")
    found = []
    for path in files:
        with Image.open(path) as picture:
            found.append(np.asarray(picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)))
    return found


def main() -> int:
    """Measure, print, judge; 0 when every goal is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--count", type=int, default=60)
    options = parser.parse_args()
    truths = photographs(options.photographs, options.count)
    print(f"{len(truths)} photographs of {SIDE} pixels")
    print(machine())
    met = []
    for side in (SIDE // 2, SIDE // 4):
        print(f"{f'from {side} to {SIDE} pixels':26}{'PSNR':>8}{'SSIM':>9}{'sharpness':>11}{'halos':>8}{'ms':>8}")
        scores = {}
        for name, way in WAYS.items():
            rows, seconds = [], []
            for truth in truths:
                small = np.asarray(Image.fromarray(truth).resize((side, side), Image.Resampling.LANCZOS))
                start = time.process_time()
                large = way(small, SIDE)
                seconds.append(time.process_time() - start)
                rows.append(measures(large, small, truth))
            scores[name] = means = np.mean(rows, axis=0)
            figures = f"{means[0]:8.2f}{means[1]:9.4f}{means[2]:11.3f}{means[3]:8.3f}"
            print(f"{name:26}{figures}{1000 * float(np.median(seconds)):8.1f}")
        others = [scores[name] for name in WAYS if name != "huref"]
        best = max(float(score[0]) for score in others)
        found = scores["huref"]
        met += [
            verdict("nearest to the photograph", found[0] > best, f"{found[0] - best:+.2f} dB to the best other"),
            verdict("fewest halos", all(found[3] < score[3] for score in others), f"{found[3]:.3f} levels"),
        ]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
