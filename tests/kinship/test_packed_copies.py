"""Packed copies of a model read `requantised`, by their own format's bound, and strangers do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import huref
from kit.packed_llamas import plain_llama, save_packed
from kit.packers import LAYOUTS, Packed, gptq, symmetric, with_feedback


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_packed(tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_packed_copy_is_requantised(layout: str, base: Path, tmp_path: Path) -> None:
    found = huref.compare(base, save_packed(tmp_path / "copy", LAYOUTS[layout]))
    assert found.verdict == "requantised"
    least = {"2": 0.85, "3": 0.95, "8": 0.999}.get(layout.split(" bit", maxsplit=1)[0][-1], 0.98)
    assert found.ics_canonical_2 is not None
    assert found.ics_canonical_2 > (0.999 if "int8" in layout else least)


def test_error_feedback_goes_beyond_rounding(base: Path, tmp_path: Path) -> None:
    """GPTQ proper makes up for each column's error in the next ones: these are no longer the nearest numbers."""
    found = huref.compare(base, save_packed(tmp_path / "copy", lambda w: gptq(w, rounded=with_feedback)))
    assert found.verdict == "derived"
    assert found.derivation is not None
    assert found.derivation["strength"] == "light"
    assert found.ics_canonical_2 is not None
    assert found.ics_canonical_2 > 0.98


@pytest.mark.parametrize("layout", ["gptq v1, 4 bits", "bitsandbytes nf4", "mlx, 2 bits"])
def test_a_packed_stranger_is_not(layout: str, base: Path, tmp_path: Path) -> None:
    found = huref.compare(base, save_packed(tmp_path / "other", LAYOUTS[layout], plain_llama(1)))
    assert found.verdict in ("independent", "inconclusive")
    assert found.ics_canonical_2 is not None
    assert abs(found.ics_canonical_2) < 0.2


def test_a_packed_fine_tune_is_not_requantised(base: Path, tmp_path: Path) -> None:
    dice = np.random.default_rng(5)
    tuned = {
        name: weight + (0.1 * weight.std() * dice.standard_normal(weight.shape)).astype(np.float32)
        for name, weight in plain_llama().items()
    }
    found = huref.compare(base, save_packed(tmp_path / "tuned", LAYOUTS["mlx, 8 bits"], tuned))
    assert found.verdict == "derived"


def test_a_scale_that_would_explain_every_model_explains_none(base: Path, tmp_path: Path) -> None:
    """All codes 0 under a huge scale: everything lies within half a step of 0."""

    def empty(w: np.ndarray) -> Packed:
        codes, scale, _ = symmetric(w, 8, w.shape[1])
        codes = np.zeros_like(codes)
        codes[0, 0] = 1
        tensors = {".weight": codes.astype(np.int8), ".weight_scale": np.full_like(scale, 100)}
        return Packed(tensors, w, {"quantization_config": {"quant_method": "compressed-tensors"}})

    found = huref.compare(base, save_packed(tmp_path / "empty", empty))
    assert found.verdict != "requantised"
