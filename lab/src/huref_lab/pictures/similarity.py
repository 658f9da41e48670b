"""How alike pictures look, by three measures that know nothing of fingerprints.

- `embedding`: cosine of a pretrained network's features (`huref_lab.pictures.embedding`).
- `ssim`: structural similarity (Wang et al. 2004), as scikit-image computes it, on luminance at 64 x 64.
- `phash`: perceptual hash (Zauner 2010), as ImageHash computes it: share of the 64 bits that agree.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from huref.errors import MissingFileError, UsageError
from huref.portraits.image.pixels import Pixels
from huref_lab.pictures.embedding import DEFAULT, load_embedding

MEASURES = ("embedding", "ssim", "phash")
"""Larger is more alike for each; 1 for equal pictures."""

SSIM_SIDE = 64


def similarity_matrix(
    images_a: Pixels, images_b: Pixels, measure: str, *, extractor: str = DEFAULT
) -> NDArray[np.float64]:
    """Every picture of one stack against every picture of another.

    Args:
        images_a: uint8 (n, h, w, 3).
        images_b: uint8 (m, h', w', 3).
        measure: one of `MEASURES`.
        extractor: whose features the measure `embedding` compares.

    Returns:
        fp64 (n, m), larger is more alike.

    Raises:
        UsageError: no such measure, or not stacks of pictures.
        MissingFileError: a package that the measure needs is not installed.
    """
    if measure not in MEASURES:
        raise UsageError("no such measure", where=measure, expected=" or ".join(MEASURES))
    for stack in (images_a, images_b):
        if stack.ndim != 4 or stack.shape[3] != 3 or stack.dtype != np.uint8 or 0 in stack.shape:
            raise UsageError(
                "not a stack of pictures", expected="uint8 (n, h, w, 3)", got=f"{stack.dtype} {stack.shape}"
            )
    if measure == "embedding":
        embed = load_embedding(extractor)
        return cosines(embed(images_a), embed(images_b))
    if measure == "ssim":
        return _ssim(images_a, images_b)
    return _phash(images_a, images_b)


def cosines(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Cosines of rows: (n, d), (m, d) -> fp64 (n, m); 0 where a row is zero."""
    wide = [x.astype(np.float64) for x in (a, b)]
    rows = [x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-30) for x in wide]
    return np.asarray(rows[0] @ rows[1].T)


def luminance(pixels: Pixels, side: int) -> NDArray[np.float64]:
    """uint8 (n, h, w, 3) -> levels 0 to 255 of the grey picture at side x side, fp64 (n, side, side)."""
    grey = [Image.fromarray(p).convert("L").resize((side, side), Image.Resampling.LANCZOS) for p in pixels]
    return np.stack([np.asarray(picture, dtype=np.float64) for picture in grey])


def _ssim(images_a: Pixels, images_b: Pixels) -> NDArray[np.float64]:
    """Gaussian window of sigma 1.5, as in the paper."""
    metrics = _imported("skimage.metrics")
    a, b = luminance(images_a, SSIM_SIDE), luminance(images_b, SSIM_SIDE)
    options = {"data_range": 255.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    rows = [[metrics.structural_similarity(x, y, **options) for y in b] for x in a]
    return np.asarray(rows, dtype=np.float64)


def _phash(images_a: Pixels, images_b: Pixels) -> NDArray[np.float64]:
    """1 less the Hamming distance over 64."""
    hashing = _imported("imagehash")
    stacks = [
        np.stack([np.asarray(hashing.phash(Image.fromarray(p)).hash).ravel() for p in images])
        for images in (images_a, images_b)
    ]
    return np.asarray((stacks[0][:, None] == stacks[1][None]).mean(axis=2), dtype=np.float64)


def _imported(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingFileError(
            "a package that measures pictures is not installed",
            where=module,
            next_step="in a checkout of huref: pip install './lab[study]'",
        ) from error
