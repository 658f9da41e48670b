"""Laws of rendering, PNG files and contact sheets; the golden picture of the shipped generator."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from huref.errors import CorruptFileError, NotFiniteError, OutputError, UsageError
from huref.portraits.generator.config import StyleGAN2Config
from huref.portraits.generator.stylegan2 import Generator
from huref.portraits.image import contact_sheet, read_png_metadata, render, resize, save_png
from kit.threads import threads
from kit.tiny_generator import random_generator

GOLDEN = Path(__file__).parent / "golden" / "dogs128.png"


@pytest.fixture(scope="module")
def network() -> Generator:
    config = StyleGAN2Config(resolution=16, mapping_layers=2, w_dim=16, channel_base=128, channel_max=12)
    return random_generator(config)


def vectors(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 512)).astype(np.float32)


def far(a: np.ndarray, b: np.ndarray) -> int:
    """Largest difference in levels of 255."""
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, huref.portraits.image; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, env={**os.environ}).returncode == 0


def test_pictures_have_the_promised_type(network: Generator) -> None:
    pictures = render(vectors(3), network)
    assert pictures.shape == (3, 16, 16, 3)
    assert pictures.dtype == np.uint8
    assert render(vectors(1)[0], network).shape == (1, 16, 16, 3)


def test_a_vector_has_one_picture(network: Generator) -> None:
    rows = vectors(20)
    whole = render(rows, network)
    with threads(1):
        one = render(rows, network)
    with threads(2):
        two = render(rows, network)
    assert far(one, two) <= 1
    assert far(whole, np.concatenate([render(row, network) for row in rows])) <= 1
    assert far(whole, render(rows * 1000, network)) <= 1
    assert far(whole, render(rows.astype(np.float64), network)) <= 1


def test_truncation_reaches_the_picture(network: Generator) -> None:
    mean = render(vectors(2), network, psi=0.0, cutoff=99)
    assert far(mean[0], mean[1]) <= 1
    full = render(vectors(2), network, psi=1.0)
    assert far(full[0], full[1]) > 10


@pytest.mark.parametrize("shape", [(2, 511), (0, 512), (1, 2, 512)])
def test_vectors_of_another_size_are_refused(network: Generator, shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="512"):
        render(np.zeros(shape), network)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_vectors_without_direction_are_refused(network: Generator, value: float) -> None:
    rows = vectors(2)
    rows[1] = value
    with pytest.raises(NotFiniteError, match="row 1"):
        render(rows, network)


def test_png_keeps_pixels_and_text(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    text = {"huref:model": "tiny", "huref:vector": "0.1 " * 5000, "note": "ein Hund, 犬\nzweite Zeile"}
    path = tmp_path / "dog.png"
    save_png(path, array, text)
    save_png(path, array, text)
    assert read_png_metadata(path) == text
    assert np.array_equal(np.asarray(Image.open(path)), array)
    assert [p.name for p in tmp_path.iterdir()] == ["dog.png"]


def test_png_that_cannot_be_written(tmp_path: Path) -> None:
    array = np.zeros((4, 4, 3), np.uint8)
    folder = tmp_path / "dog.png"
    folder.mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        save_png(folder, array, {})
    (folder / "file").write_text("")
    with pytest.raises(OutputError):
        save_png(folder / "file" / "dog.png", array, {})
    assert [p.name for p in tmp_path.iterdir()] == ["dog.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_png_into_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(OutputError):
        save_png(tmp_path / "dog.png", np.zeros((4, 4, 3), np.uint8), {})


def test_files_that_are_no_png(tmp_path: Path) -> None:
    path = tmp_path / "dog.png"
    path.write_bytes(b"not a picture")
    with pytest.raises(CorruptFileError):
        read_png_metadata(path)
    save_png(path, np.zeros((64, 64, 3), np.uint8), {"a": "b"})
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(CorruptFileError):
        read_png_metadata(path)
    with pytest.raises(CorruptFileError):
        read_png_metadata(tmp_path / "missing.png")


def test_resize_keeps_flat_colours_and_refuses_absurd_sizes() -> None:
    flat = np.full((8, 8, 3), 77, np.uint8)
    assert np.array_equal(resize(flat, 50), np.full((50, 50, 3), 77, np.uint8))
    assert resize(flat, 8) is flat
    for side in (0, -1, 10**6):
        with pytest.raises(UsageError):
            resize(flat, side)


def test_contact_sheet_places_every_picture_and_caption() -> None:
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (9, 9, 9), (90, 9, 90)]
    pictures = [np.full((16, 16, 3), colour, np.uint8) for colour in colours]
    page = contact_sheet(pictures, ["a", "b" * 200, "c\nd", "", "ok"], columns=3, side=64)
    for colour in colours:
        assert (page == np.array(colour)).all(axis=2).sum() >= 64 * 64
    blank = contact_sheet(pictures, [""] * 5, columns=3, side=64)
    assert page.shape == blank.shape
    assert far(page, blank) > 100


def test_contact_sheet_needs_one_label_a_picture() -> None:
    with pytest.raises(UsageError):
        contact_sheet([], [])
    with pytest.raises(UsageError):
        contact_sheet([np.zeros((8, 8, 3), np.uint8)], ["a", "b"])


def test_golden_picture_of_the_shipped_generator(request: pytest.FixtureRequest) -> None:
    """Regenerate after a new export: `HUREF_UPDATE_GOLDEN=1 pytest tests/portraits/test_image.py -k golden`."""
    pictures = render(vectors(4, seed=2024))
    row = np.concatenate(list(pictures), axis=1)
    if os.environ.get("HUREF_UPDATE_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        save_png(GOLDEN, row, {})
    assert far(row, np.asarray(Image.open(GOLDEN))) <= 1


def test_independent_vectors_have_different_dogs_and_near_ones_alike() -> None:
    a, b = vectors(2, seed=5)
    near = 0.98 * a + 0.2 * b
    first, second, third = (p.astype(float) for p in render(np.stack([a, near, b])))
    assert np.abs(first - second).mean() * 2 < np.abs(first - third).mean()
    assert np.abs(first - third).mean() > 10
