"""One rule of truncation: it belongs to the weights, however they are named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from huref.portraits.drawing import PictureOptions, draw, metadata
from huref.portraits.generator.file import SHIPPED, load_generator
from huref.portraits.image import render
from kit.fingerprints import made
from kit.tiny_generator import generator_file


def test_the_shipped_weights_have_one_truncation_however_they_are_named(tmp_path: Path) -> None:
    """By default, by path, as a network: the same pixels, and files that say the same psi."""
    shutil.copy(SHIPPED, tmp_path / "mine.safetensors")
    copied = load_generator(tmp_path / "mine.safetensors")
    plain, vector = render(made().vector), made().vector
    assert copied.usual_psi == 1.0
    np.testing.assert_array_equal(render(vector, copied), plain)
    np.testing.assert_array_equal(render(vector, copied, psi=1.0), plain)
    named = PictureOptions(size="native", generator=tmp_path / "mine.safetensors")
    np.testing.assert_array_equal(draw([made()], named), draw([made()], PictureOptions(size="native")))
    assert metadata([made()], named, "portrait") == metadata([made()], PictureOptions(size="native"), "portrait")


def test_other_weights_are_truncated_as_in_the_paper(tmp_path: Path) -> None:
    path = generator_file(tmp_path / "g.safetensors", z_dim=512)
    network, vector = load_generator(path), made().vector
    assert network.usual_psi == 0.5
    np.testing.assert_array_equal(render(vector, network), render(vector, network, psi=0.5))
    assert json.loads(metadata([made()], PictureOptions(generator=path), "portrait")["huref:picture"])["psi"] == 0.5
