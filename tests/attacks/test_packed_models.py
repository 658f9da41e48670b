"""Attacks on packed models: the copy is plain, and says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import huref
from huref.attacks import attack
from kit.packed_llamas import save_packed
from kit.packers import LAYOUTS


@pytest.mark.parametrize("layout", ["gptq v1, 8 bits", "mlx, 8 bits"])
def test_a_rearranged_copy_of_a_packed_model_is_plain(layout: str, tmp_path: Path) -> None:
    packed = save_packed(tmp_path / "packed", LAYOUTS[layout])
    attack(packed, tmp_path / "copy", kinds="all")
    config = json.loads((tmp_path / "copy" / "config.json").read_text())
    assert not {"quantization", "quantization_config"} & set(config)
    found = huref.compare(packed, tmp_path / "copy")
    assert found.verdict == "derived"
    assert found.ics_canonical_2 is not None
    assert found.ics_canonical_2 > 0.999
