"""Laws of enlarging, of the graded row and of two pictures side by side."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from huref.errors import UsageError
from huref.portraits.image import difference, graded_row, mean_difference, resize, save_png, side_by_side
from huref.portraits.image.page import INK, MARGIN, PAPER, Page, drawable

GOLDEN = Path(__file__).parent / "golden" / "enlarged.png"
COLOURS = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (9, 99, 9)]


def flat(colour: tuple[int, int, int], side: int = 16) -> np.ndarray:
    return np.full((side, side, 3), colour, np.uint8)


def smooth(seed: int, side: int = 32) -> np.ndarray:
    """Blobs of colour with edges, as pictures have."""
    small = np.random.default_rng(seed).integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)).copy()


# Enlarging


@settings(max_examples=20)
@given(seed=st.integers(0, 999), side=st.integers(33, 150))
def test_enlarging_commutes_with_mirrors_and_turns(seed: int, side: int) -> None:
    picture = smooth(seed)
    for turned in (np.fliplr, np.flipud, np.rot90):
        one, two = resize(turned(picture), side), turned(resize(picture, side))
        assert np.abs(one.astype(int) - two.astype(int)).max() <= 1


@settings(max_examples=20)
@given(seed=st.integers(0, 999))
def test_enlarging_makes_no_halos(seed: int) -> None:
    picture = np.random.default_rng(seed).integers(0, 2, (16, 16, 3), dtype=np.uint8) * 155 + 50
    large = resize(picture, 64)
    assert large.min() >= 50 and large.max() <= 205
    lanczos = np.asarray(Image.fromarray(picture).resize((64, 64), Image.Resampling.LANCZOS))
    assert lanczos.min() < 50 and lanczos.max() > 205, "the test would not notice a halo"


@settings(max_examples=20)
@given(seed=st.integers(0, 999), factor=st.integers(2, 4))
def test_what_is_enlarged_and_reduced_is_nearer_to_itself_than_by_lanczos(seed: int, factor: int) -> None:
    picture = smooth(seed)
    kernel, side = Image.Resampling.LANCZOS, 32 * factor

    def error(large: np.ndarray) -> float:
        back = np.asarray(Image.fromarray(large).resize((32, 32), kernel))
        return float(np.square(back.astype(float) - picture).mean())

    assert error(resize(picture, side)) < error(np.asarray(Image.fromarray(picture).resize((side, side), kernel)))


def test_equal_pictures_enlarge_to_equal_bytes() -> None:
    assert np.array_equal(resize(smooth(1), 100), resize(np.asfortranarray(smooth(1)), 100))


def test_the_golden_enlargement() -> None:
    """After another way of enlarging: `HUREF_UPDATE_GOLDEN=1 pytest tests/portraits -k golden`."""
    large = resize(smooth(2024, 24), 96)
    if os.environ.get("HUREF_UPDATE_GOLDEN"):
        save_png(GOLDEN, large, {})
    with Image.open(GOLDEN) as golden:
        assert np.abs(large.astype(int) - np.asarray(golden)).max() <= 1


# The graded row


def test_a_row_stands_in_the_order_of_the_scores() -> None:
    page = graded_row([flat(c) for c in COLOURS], ["a", "b", "c", "d"], [1.0, 0.1, 0.9, 0.5], side=40)
    line = page[MARGIN + 20]
    places = [int(np.flatnonzero((line == colour).all(axis=1)).mean()) for colour in COLOURS]
    assert places[0] < places[2] < places[3] < places[1]


def dots(page: np.ndarray) -> list[int]:
    """Where the scale has its dots: columns with much ink in the last quarter of the page."""
    dark = (page[-45:].astype(int).sum(axis=2) < sum(INK) + 30).sum(axis=0)
    columns = np.flatnonzero(dark >= 5)
    groups = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
    return [round(group.mean()) for group in groups]


def test_dots_stand_where_the_scores_say() -> None:
    pictures = [flat(c, 64) for c in COLOURS]
    places = dots(graded_row(pictures, [""] * 4, [1.0, 0.75, 0.5, 0.0], side=120))
    assert len(places) == 4
    start, end = places[0], places[-1]
    assert np.allclose(places, [start, start + (end - start) / 4, start + (end - start) / 2, end], atol=2)


def test_a_negative_score_lengthens_the_scale() -> None:
    pictures = [flat(c, 64) for c in COLOURS[:3]]
    zero, negative = (dots(graded_row(pictures, [""] * 3, [1.0, 0.5, last], side=120)) for last in (0.0, -0.3))
    assert negative[1] < zero[1]


@pytest.mark.parametrize("scores", [[1.0], [1.0, 2.0], [1.0, float("nan")], [1.0, -1.1]])
def test_a_row_needs_one_sensible_score_a_picture(scores: list[float]) -> None:
    with pytest.raises(UsageError, match="score"):
        graded_row([flat(COLOURS[0])] * 2, ["a", "b"], scores)


def test_a_row_needs_labels() -> None:
    with pytest.raises(UsageError, match="one label"):
        graded_row([flat(COLOURS[0])] * 2, ["a"], [1.0, 0.5])


# Differences


@settings(max_examples=20)
@given(seed=st.integers(0, 999), gain=st.floats(0.5, 20))
def test_a_difference_is_symmetric_and_paper_where_there_is_none(seed: int, gain: float) -> None:
    a, b = smooth(seed), smooth(seed + 1)
    b[:8] = a[:8]
    drawn = difference(a, b, gain)
    assert np.array_equal(drawn, difference(b, a, gain))
    assert (drawn[:8] == PAPER).all() and not (drawn[8:] == PAPER).all()
    assert mean_difference(a, b) == mean_difference(b, a) > 0 == mean_difference(a, a)


def test_the_gain_is_the_slope_until_all_is_ink() -> None:
    a, b = flat((100, 100, 100)), flat((110, 110, 110))
    assert mean_difference(a, b) == 10
    shares = [(PAPER[0] - int(difference(a, b, gain)[0, 0, 0])) / (PAPER[0] - INK[0]) for gain in (2, 4, 8)]
    assert np.allclose(shares, [20 / 255, 40 / 255, 80 / 255], atol=0.005)
    assert (difference(a, b, 100) == INK).all()


def test_side_by_side_places_both_and_their_difference() -> None:
    a, b = flat(COLOURS[0]), flat(COLOURS[1])
    page = side_by_side(a, b, ("a", "b"), note="cosine 1.0 %", side=64)
    line = page[MARGIN + 30]
    left, right = (np.flatnonzero((line == colour).all(axis=1)) for colour in COLOURS[:2])
    assert len(left) == len(right) == 64 and left.max() + 64 < right.min()
    middle = line[left.max() + 40]
    assert (middle == difference(a, b)[0, 0]).all()


def test_pictures_of_two_sizes_have_no_difference() -> None:
    with pytest.raises(UsageError, match="different sizes"):
        side_by_side(flat(COLOURS[0]), flat(COLOURS[1], 32), ("a", "b"))


# Captions


@settings(max_examples=40)
@given(st.text())
def test_every_name_can_be_drawn(text: str) -> None:
    shown = drawable(text)
    assert shown.isascii() and (shown.isprintable() or not shown)


@given(st.text(st.characters(codec="ascii", categories=("L", "N", "P")), min_size=4), st.integers(30, 200))
def test_a_name_cut_short_keeps_its_ends_and_fits(text: str, width: int) -> None:
    page = Page(10, 10, 12.0)
    shown = page.fit(text, width)
    assert page.draw.textlength(shown, page.font) <= width
    assert shown == text or ("…" in shown and shown[0] in (text[0], "…") and shown[-1] in (text[-1], "…"))


def test_names_do_not_run_into_each_other() -> None:
    pages = [graded_row([flat(c, 64) for c in COLOURS], [text] * 4, [1, 0.9, 0.8, 0.7]) for text in ("", "W" * 200)]
    differs = (pages[0] != pages[1]).any(axis=(0, 2))
    between = [MARGIN + k * 174 + 160 + 7 for k in range(3)]
    assert differs.any() and not differs[between].any()
