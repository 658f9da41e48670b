"""Verdicts: what p-values promise, what is decided from which facts, and calibrations that lie."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huref.errors import CorruptFileError, MissingFileError
from huref.kinship.record import FRAMES, VERDICTS, LayerMatch
from huref.kinship.verdict import (
    FALSE_ACCUSATION_RATE,
    Background,
    Calibration,
    Decision,
    Facts,
    UnrelatedPair,
    background_of,
    decide,
    load_calibration,
    save_calibration,
)
from huref.kinship.verdict.chance import Count, binomial_tail, count
from huref.kinship.verdict.decision import Side


def pair(score: float, *, same: bool = True, n: int = 0, **others: float | None) -> UnrelatedPair:
    return UnrelatedPair(f"a{n}", f"b{n}", same, True, (f"a{n}", f"b{n}"), {"agreement": score, **others})


def made_of(values: list[float], *, same: bool = True) -> Calibration:
    return Calibration("test", {"command": "by hand"}, tuple(pair(v, same=same, n=i) for i, v in enumerate(values)))


def stands(value: float, values: list[float]) -> Background:
    found = background_of(made_of(values), "agreement", value, same_vocabulary=True)
    assert found is not None
    return found


# Background and p-value


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.floats(0, 1))
def test_the_p_value_counts_this_pair_in(values: list[float], value: float) -> None:
    found = stands(value, values)
    assert found.p_value == (1 + sum(v >= value for v in values)) / (len(values) + 1)
    assert 1 / (len(values) + 1) <= found.p_value <= 1


def test_an_unrelated_pair_is_accused_no_more_often_than_promised() -> None:
    """Exchangeable scores of any distribution, ties included: P(p <= alpha) <= alpha."""
    dice = np.random.default_rng(0)
    for draw in (dice.normal, dice.exponential, lambda size: dice.integers(0, 5, size).astype(float)):
        p_values = []
        for _ in range(3000):
            scores = draw(size=120)
            p_values.append((1 + int((scores[1:] >= scores[0]).sum())) / 120)
        for alpha in (0.01, 0.05, 0.2):
            share = np.mean([p <= alpha for p in p_values])
            assert share <= alpha + 3 * (alpha / 3000) ** 0.5


def test_mean_spread_distance_and_nearest() -> None:
    values = [0.01, 0.05, 0.02, 0.04]
    found = stands(0.9, values)
    assert found.mean == pytest.approx(np.mean(values)) and found.std == pytest.approx(np.std(values, ddof=1))
    assert found.z == pytest.approx((0.9 - np.mean(values)) / np.std(values, ddof=1))
    assert found.nearest == {"a": "a1", "b": "b1", "score": 0.05, "twins": True}
    assert found.values == (0.05, 0.04, 0.02, 0.01) and found.n_bases == 8
    document = found.to_dict()
    assert document["max"] == 0.05 and document["n"] == 4 and json.loads(json.dumps(document)) == document


@pytest.mark.parametrize(("n", "k"), [(100, 0), (299, 0), (50, 3)])
def test_the_rate_has_the_limit_of_clopper_and_pearson(n: int, k: int) -> None:
    """By its definition: at the limit, k or fewer of n happen with probability 5 %."""
    from scipy.stats import binom

    found = stands(0.5, [0.9] * k + [0.1] * (n - k))
    assert binom.cdf(k, n, found.rate_bound) == pytest.approx(0.05, rel=1e-6)


def test_a_pair_of_one_vocabulary_is_held_against_such_pairs_only() -> None:
    many = [pair(0.2, same=True, n=i) for i in range(99)] + [pair(0.01, same=False, n=200 + i) for i in range(99)]
    calibration = Calibration("t", {}, tuple(many))
    same = background_of(calibration, "agreement", 0.5, same_vocabulary=True)
    other = background_of(calibration, "agreement", 0.5, same_vocabulary=False)
    few = background_of(Calibration("t", {}, tuple(many[1:])), "agreement", 0.5, same_vocabulary=True)
    assert same and other and few
    assert (len(same.values), len(other.values), len(few.values)) == (99, 198, 197)
    assert same.matched == "pairs of one vocabulary" and few.matched == other.matched == "all unrelated pairs"


def test_a_score_that_no_pair_has_gets_no_background() -> None:
    calibration = Calibration("t", {}, (pair(0.1, ics=None),))
    assert background_of(calibration, "ics", 0.5, same_vocabulary=True) is None
    assert background_of(calibration, "pcs", 0.5, same_vocabulary=True) is None


# The shipped calibration


def test_no_shipped_unrelated_pair_comes_near_an_accusation() -> None:
    """In no frame: and there are enough pairs for a p-value of one percent, however many frames were tried."""
    shipped = load_calibration()
    frames = [name for name in FRAMES if name != "shared tokens"]
    for frame in frames:
        scores = [p.scores.get(f"agreement/{frame}") for p in shipped.pairs]
        found = [float(score) for score in scores if score is not None]
        assert len(found) >= 399 and max(found) < FRAMES[frame].accused_from / 2.5, frame
        for same in (True, False):
            stood = background_of(shipped, "agreement", 1.0, same_vocabulary=same, frame=frame, n_tried=len(frames))
            assert stood is not None and stood.p_value < FALSE_ACCUSATION_RATE
    alike = [p for p in shipped.pairs if p.same_vocabulary]
    twins = [p for p in shipped.pairs if p.twins]
    assert len(alike) >= 99 and len(twins) >= 30 and len({base for p in shipped.pairs for base in p.bases}) >= 14
    assert "huref lab calibrate" in shipped.made["command"]


def test_no_shipped_pair_is_a_pair_of_kin_or_stands_twice() -> None:
    pairs = [frozenset((p.a, p.b)) for p in load_calibration().pairs]
    assert len(set(pairs)) == len(pairs) and all(len(names) == 2 for names in pairs)
    assert all(p.bases[0] != p.bases[1] for p in load_calibration().pairs)


# Calibration files


def test_a_calibration_survives_the_file(tmp_path: Path) -> None:
    made = made_of([0.1, 0.2, 0.3])
    save_calibration(tmp_path / "c.json", made)
    first = (tmp_path / "c.json").read_bytes()
    assert load_calibration(tmp_path / "c.json") == made
    save_calibration(tmp_path / "d.json", load_calibration(tmp_path / "c.json"))
    assert (tmp_path / "d.json").read_bytes() == first


def _document() -> dict[str, Any]:
    entry = {"a": "x", "b": "y", "bases": ["x", "y"], "same_vocabulary": True, "twins": False, "scores": {"pcs": 0.1}}
    return {"schema_version": "huref.calibration/1.0", "version": "1", "made": {}, "pairs": [entry]}


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": "huref.calibration/2.0"},
        {"pairs": None},
        {"version": 1},
        {"made": []},
        {"pairs": [{}]},
        {"pairs": [{**_document()["pairs"][0], "extra": 1}]},
        {"pairs": [{**_document()["pairs"][0], "scores": {"pcs": 7}}]},
        {"pairs": [{**_document()["pairs"][0], "scores": {"pcs": True}}]},
        {"pairs": [{**_document()["pairs"][0], "scores": {"other": 0.1}}]},
        {"pairs": [{**_document()["pairs"][0], "bases": "xy"}]},
        {"pairs": [{**_document()["pairs"][0], "twins": 1}]},
        {"pairs": [[1, 2]]},
    ],
)
def test_a_calibration_that_contradicts_its_format_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(_document()))
    assert len(load_calibration(good).pairs) == 1
    bad.write_text(json.dumps(_document() | change))
    with pytest.raises(CorruptFileError, match="calibration contradicts its format"):
        load_calibration(bad)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 5000, b'{"pairs": NaN}'])
def test_bytes_that_are_no_calibration_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(content)
    with pytest.raises(CorruptFileError):
        load_calibration(path)


def test_a_missing_or_enormous_calibration_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingFileError, match="huref lab calibrate"):
        load_calibration(tmp_path / "none.json")
    monkeypatch.setattr("huref.kinship.verdict.calibration._LARGEST_FILE", 10)
    (tmp_path / "large.json").write_bytes(b"{}" + b" " * 20)
    with pytest.raises(CorruptFileError, match="at most 10 bytes"):
        load_calibration(tmp_path / "large.json")


# Decisions

NULLS = [0.0002 * i for i in range(80)] * 5
DENSE = Side("base", 12, 64, 256, 8, 1000)


def layers(*agreements: float, in_place: float = 1.0) -> tuple[LayerMatch, ...]:
    return tuple(LayerMatch(i, i, a, 1 / 256, 256, None, in_place, {"qk": 0.9}) for i, a in enumerate(agreements))


def facts(*agreements: float, b: Side | None = None, **others: Any) -> Facts:
    mean = float(np.mean(agreements)) if agreements else 0.0
    usual: dict[str, Any] = {
        "background": stands(mean, NULLS) if agreements else None,
        "aligned": 0.97,
        "is_turned": False,
    }
    return Facts(DENSE, b or replace(DENSE, name="child"), layers=layers(*agreements), **(usual | others))


def test_kin_are_derived_and_strangers_independent_and_what_is_between_stays_open() -> None:
    assert decide(facts(1.0, 0.98, 1.0)).verdict == "derived"
    assert decide(facts(0.004, 0.01)).verdict == "independent"
    between = decide(facts(0.02, 0.05))
    assert between.verdict == "inconclusive" and "less than the 0.05 asked for" in between.reasons[-1]


@pytest.mark.parametrize("frame", FRAMES)
def test_each_frame_asks_for_what_its_strangers_do_not_reach(frame: str) -> None:
    needed = FRAMES[frame].accused_from
    assert decide(facts(needed + 0.001, frame=frame)).verdict == "derived"
    assert decide(facts(needed - 0.001, frame=frame)).verdict == "inconclusive"


def test_what_chance_explains_accuses_nobody() -> None:
    """Few neurons: agreement of a fifth of 32 is luck, of a fifth of 2,048 is not."""
    lucky, sure = (Count(n, n // 5, n / 32, p) for n, p in ((32, 0.02), (2048, 1e-90)))
    assert decide(facts(0.2, 0.2, count=lucky)).verdict == "independent"
    found = decide(facts(0.2, 0.2, count=replace(lucky, p_value=1e-4)))
    assert found.verdict == "inconclusive" and "too few neurons" in found.reasons[-1]
    told = decide(facts(0.2, 0.2, count=sure))
    assert told.verdict == "derived" and "409 of 2,048 neurons have one partner, 64 would by chance" in told.reasons


def test_a_layer_with_partners_leaves_the_question_open() -> None:
    """One of thirty layers copied: the mean says nothing, the layer does; by any witness."""
    some = (*layers(*[0.001] * 29), LayerMatch(29, 29, 0.3, 1 / 256, 256))
    found = decide(facts(*[0.001] * 30, background=stands(0.011, NULLS)))
    assert found.verdict == "independent"
    for last in (some[-1], replace(some[0], witnesses={"up|down": 0.4})):
        opened = decide(replace(facts(0.001), layers=(*some[:29], last), background=stands(0.011, NULLS)))
        assert opened.verdict == "inconclusive" and "part of one may be from the other" in opened.reasons[-1]


def test_what_files_cannot_see_is_no_independence() -> None:
    found = decide(facts(0.001, unseen="a replaced tokenizer would hide kinship"))
    assert found.verdict == "inconclusive" and found.reasons[-1] == "a replaced tokenizer would hide kinship"
    assert decide(facts(1.0, unseen="a replaced tokenizer would hide kinship")).verdict == "derived"


def test_too_small_a_background_accuses_nobody() -> None:
    """Fifty pairs cannot promise one percent."""
    assert decide(facts(1.0, 1.0, background=stands(1.0, [0.01] * 50))).verdict == "inconclusive"
    assert decide(facts(1.0, 1.0, background=stands(1.0, [0.01] * 99))).verdict == "derived"


def test_a_background_that_agrees_as_much_accuses_nobody() -> None:
    assert decide(facts(0.5, 0.5, background=stands(0.5, [0.6] * 300))).verdict != "derived"


def test_strangers_without_a_common_token_stay_open() -> None:
    assert decide(facts(0.002, 0.003, has_alignment=False)).verdict == "inconclusive"
    assert decide(facts(1.0, 0.99, has_alignment=False)).verdict == "derived"


def test_a_pairing_that_was_trained_away_is_no_proof_of_independence() -> None:
    """Weights that resemble each other more than any stranger's leave the question open, and accuse nobody."""
    found = decide(facts(0.005, 0.006, aligned=0.9, most_aligned=0.45))
    assert found.verdict == "inconclusive" and "trained away" in found.reasons[-1]
    assert decide(facts(0.005, 0.006, aligned=0.4, most_aligned=0.45)).verdict == "independent"


def test_without_agreement_the_reason_is_given() -> None:
    found = decide(facts(missing="fewer than 32 feed-forward neurons in a layer"))
    assert found == Decision("inconclusive", reasons=("fewer than 32 feed-forward neurons in a layer",))


def test_stored_weights_that_say_so_themselves_need_no_background() -> None:
    assert decide(facts(parameters="identical")).verdict == "identical"
    assert decide(facts(0.01, parameters="requantised")).verdict == "requantised"


@pytest.mark.parametrize(
    ("b", "kind", "direction"),
    [
        (replace(DENSE, n_experts=4, d_ff=1024), "experts-changed", "unknown"),
        (replace(DENSE, d_ff=128), "width-changed", "unknown"),
        (replace(DENSE, d_ff=512), "width-changed", "unknown"),
        (replace(DENSE, n_heads=4), "width-changed", "unknown"),
        (replace(DENSE, n_layers=9), "depth-changed", "unknown"),
        (DENSE, "fine-tuned", "unknown"),
    ],
)
def test_the_class_follows_from_what_differs(b: Side, kind: str, direction: str) -> None:
    found = decide(facts(1.0, 1.0, b=b))
    assert (found.verdict, found.kind, found.direction) == ("derived", kind, direction)


def test_doubled_layers_tell_which_model_is_the_child() -> None:
    table = np.zeros((2, 3))
    table[0, 0] = table[0, 1] = table[1, 2] = 1.0
    deeper = replace(DENSE, n_layers=14, name="deep")
    found = decide(facts(1.0, 1.0, b=deeper, table=table))
    assert found.kind == "depth-changed" and found.direction == "b from a"
    back = decide(replace(facts(1.0, 1.0), a=deeper, b=DENSE, table=table.T))
    assert back.direction == "a from b"


def test_a_direction_is_told_only_where_the_weights_show_it() -> None:
    """A shape alone says nothing: what is smaller may be cut, or what is larger padded, extended, built around it."""
    mixture, wider = replace(DENSE, n_experts=4, d_ff=1024, name="moe"), replace(DENSE, d_ff=320, name="wide")
    for copies, kind, direction in ((3.9, "up-cycled", "b from a"), (1.03, "experts-changed", "unknown")):
        found = decide(facts(1.0, 1.0, b=mixture, copies=copies))
        assert (found.kind, found.direction) == (kind, direction)
    back = decide(replace(facts(1.0, 1.0, copies=4.0), a=mixture, b=DENSE))
    assert (back.kind, back.direction) == ("up-cycled", "a from b")
    padded = decide(facts(1.0, 1.0, b=wider, silent=(0.0, 0.2)))
    assert (padded.kind, padded.direction) == ("padded", "b from a")
    for silent in ((0.0, 0.1), (0.2, 0.0)):  # too few; of the smaller one
        assert decide(facts(1.0, 1.0, b=wider, silent=silent)).kind == "width-changed"
    for rows, direction in (("zero", "b from a"), ("average", "b from a"), ("", "unknown")):
        found = decide(facts(1.0, 1.0, shares_vocabulary="extended", added_rows=rows))
        assert (found.kind, found.direction) == ("fine-tuned", direction)
    assert decide(facts(1.0, 1.0, shares_vocabulary="reduced", added_rows="zero")).direction == "a from b"
    for unknown in (decide(facts(1.0, 1.0, b=each)) for each in (mixture, wider)):
        assert "either" in " ".join(unknown.reasons) and " or " in " ".join(unknown.reasons)


def test_layers_from_elsewhere() -> None:
    assert decide(facts(1.0, 1.0, 0.01, 0.02)).kind == "partly replaced"


def test_what_first_weights_in_common_would_explain_is_called_no_fine_tune() -> None:
    found = decide(facts(0.8, 0.7, 0.85, aligned=0.3))
    assert (found.verdict, found.kind, found.direction) == ("derived", "common origin", "unknown")
    assert decide(facts(1.0, 0.99, frame="rows")).kind == "common origin"  # by whole rows it cannot be excluded
    assert any("first weights in common would explain it" in reason for reason in found.reasons)


@pytest.mark.parametrize(("aligned", "strength"), [(0.99, "light"), (0.6, "moderate"), (0.3, "heavy"), (None, "")])
def test_strength_is_how_far_the_weights_moved(aligned: float | None, strength: str) -> None:
    assert decide(facts(1.0, 1.0, aligned=aligned)).strength == strength


def test_rearrangement_is_told() -> None:
    plain = decide(facts(1.0, 1.0))
    moved = decide(replace(facts(1.0, 1.0), is_turned=True, layers=layers(1.0, 1.0, in_place=0.0)))
    assert not any("another order" in reason or "rotated" in reason for reason in plain.reasons)
    assert any("another order" in r for r in moved.reasons) and any("rotated or permuted" in r for r in moved.reasons)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=12),
    st.sampled_from(["", "identical", "requantised"]),
    st.booleans(),
)
def test_nothing_below_the_threshold_is_ever_accused(agreements: list[float], parameters: str, aligned: bool) -> None:
    found = decide(facts(*agreements, parameters=parameters, has_alignment=aligned))
    assert found.verdict in VERDICTS and found.reasons
    if not parameters and float(np.mean(agreements)) < FRAMES["tokens"].accused_from:
        assert found.verdict in ("independent", "inconclusive")
    assert all("stolen" not in reason for reason in found.reasons)


# Chance


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 300), st.integers(1, 300), st.floats(1e-6, 1))
def test_the_binomial_tail_is_scipys(k: int, n: int, rate: float) -> None:
    from scipy.stats import binom

    assert binomial_tail(k, n, rate) == pytest.approx(float(binom.sf(k - 1, n, rate)), rel=1e-4, abs=1e-300)


def test_a_tail_too_small_for_a_float_is_zero() -> None:
    assert binomial_tail(8000, 8192, 0.005) == 0.0 and binomial_tail(0, 10, 0.1) == 1.0
    assert binomial_tail(11, 10, 0.1) == 0.0 == binomial_tail(1, 10, 0.0) and binomial_tail(3, 10, 1.0) == 1.0


def test_neurons_of_all_layers_are_counted_together() -> None:
    found = count(layers(0.5, 0.25), 8.0, 4)
    assert (found.neurons, found.agreeing, found.by_chance) == (512, 192, 2.0)
    assert found.p_value == min(1.0, 8 * binomial_tail(192, 512, 8 * 2 / 512))
    assert count((), 8.0, 0).p_value == 1.0


def test_the_first_calibration_is_still_read() -> None:
    """It knew no frames: its agreement stands for that of any."""
    old = load_calibration(Path(__file__).parents[1] / "compat" / "calibration-1.json")
    assert old.version == "1" and len(old.pairs) == 547
    found = background_of(old, "agreement", 1.0, same_vocabulary=True, frame="rows", n_tried=2)
    assert found is not None and max(found.values) == pytest.approx(0.0835, abs=1e-4)
    assert found.p_value == 2 / (len(found.values) + 1)


def test_unrelated_pairs_are_taken_in_the_frame_of_the_pair() -> None:
    scores = {"agreement/tokens": 0.01, "agreement/rows": 0.04}
    pairs = tuple(replace(pair(0.0, n=i), scores=scores) for i in range(120))
    for frame, expected in (("tokens", 0.01), ("shared tokens", 0.01), ("rows", 0.04)):
        found = background_of(Calibration("t", {}, pairs), "agreement", 0.5, same_vocabulary=True, frame=frame)
        assert found is not None and set(found.values) == {expected}
    assert background_of(Calibration("t", {}, pairs), "agreement", 0.5, same_vocabulary=True, frame="weights") is None
