"""The bench: which pairs, what is true of them, how answers become figures, and the command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from huref.errors import CorruptFileError, UsageError
from huref_lab.bench.benchmark import BenchOptions, run_bench, write_report
from huref_lab.bench.cost import measure_costs
from huref_lab.bench.figures import Column, columns_of, figures, held_out, identification, score_figures
from huref_lab.bench.methods import find_methods, open_method
from huref_lab.bench.pairs import ATTACKS, are_twins, choose_pairs, with_attacks
from huref_lab.bench.report import as_text, goals
from huref_lab.bench.trials import Answer, MethodRun, run_methods
from huref_lab.zoo.record import Zoo
from kit.command_line import Outcome
from lab_kit.bench_zoo import FAR, ONE, TWO, listed, write_zoo

pytestmark = pytest.mark.training

PEER = """
NAME, SOURCE = "size", "nowhere"
def prepare(path):
    if "two-light" in str(path):
        raise ValueError("cannot read it\\nmore")
    return path.name
def compare(a, b):
    if a == b:
        raise AssertionError("the same model twice")
    return float(a.split("-")[0] == b.split("-")[0])
"""


@pytest.fixture(scope="module")
def zoo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_zoo(tmp_path_factory.mktemp("zoo")).folder


@pytest.fixture
def peers(tmp_path: Path) -> Path:
    folder = tmp_path / "peers"
    folder.mkdir()
    (folder / "size.py").write_text(PEER)
    (folder / "_helper.py").write_text("raise RuntimeError('no peer')")
    return folder


# --- Pairs -------------------------------------------------------------------------------------------------


def test_every_pair_stands_once_with_the_truth_of_the_zoo() -> None:
    zoo = listed()
    pairs = choose_pairs(zoo)
    assert len({frozenset((p.a, p.b)) for p in pairs}) == len(pairs)
    assert all(p.a != p.b and p.truth == zoo.truth(p.a, p.b) for p in pairs)
    of = {(p.a, p.b): p.group for p in pairs}
    assert of[("one", "two")] == "twins"
    assert of[("one", "one-order")] == "same-init"
    assert of[("one", "far")] == "bases"
    assert of[("one/light", "one")] == "kin"
    assert of[("one/light", "two")] == "base's twin"
    assert of[("one/light", "one-order")] == "same-init"
    assert of[("one/light", "far")] == "other"
    assert of[("one/light", "two/light")] == "twin's offspring"
    assert of[("student", "one")] == "student"
    assert {b for (a, b), group in of.items() if a == "one+far" and group == "kin"} == {"one", "far"}
    assert of[("one+far", "two")] == "base's twin"


def test_every_offspring_meets_every_base_unless_a_sample_is_asked_for() -> None:
    zoo = listed()
    met = {(p.a, p.b) for p in choose_pairs(zoo)}
    assert all((m.name, base) in met for m in zoo.models if m.kind != "base" for base in ("one", "two", "far"))
    few, again, others = (choose_pairs(zoo, 3, seed) for seed in (0, 0, 1))
    assert few == again != others
    assert sum(p.group == "other" for p in few) == 3
    assert set(few) < set(choose_pairs(zoo, 5, 0))
    assert [p for p in few if p.group != "other"] == [p for p in choose_pairs(zoo) if p.group != "other"]


def test_clusters_are_the_bases_behind_a_pair() -> None:
    of = {(p.a, p.b): p.clusters for p in choose_pairs(listed())}
    assert of[("one+far", "far")] == ("far",)
    assert of[("one/light", "two")] == ("one", "two")
    assert of[("student", "one")] == ("one", "student")


def test_twins_differ_by_their_seed_alone() -> None:
    assert are_twins(ONE, TWO)
    assert not are_twins(ONE, ONE)
    assert not are_twins(ONE, FAR)


def test_attacked_copies_are_offspring_of_what_they_were_made_from(tmp_path: Path) -> None:
    entry = {"name": "one@rotate", "path": "rotate/one", "of": "one", "attack": "rotate", "made": "seed 1"}
    lost = {**entry, "name": "x@rotate", "of": "nobody"}
    third = replace(TWO, name="three", init="seed4", roots=("three",))
    start = Zoo(listed().folder, (*listed().models, third))
    (tmp_path / ATTACKS).write_text(json.dumps({"schema_version": "huref.attacked/1.0", "models": [entry, lost]}))
    zoo = with_attacks(start, tmp_path)
    assert zoo.models[:-1] == start.models
    assert zoo.path("one@rotate") == tmp_path / "rotate/one"
    assert zoo.truth("one@rotate", "one") == "kin"
    of = {(p.a, p.b): (p.group, p.kind) for p in choose_pairs(zoo)}
    assert of[("one@rotate", "one")] == ("kin", "attack:rotate")
    assert of[("one@rotate", "two")] == ("base's twin", "attack:rotate")
    near = [pair for pair, (group, _) in of.items() if group == "base's twin"]
    assert ("one/light", "three") in near
    assert ("one@rotate", "three") not in near  # it would say the same again


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{",
        '{"schema_version": "huref.attacked/2.0", "models": []}',
        '{"schema_version": "huref.attacked/1.0", "models": {}}',
        '{"schema_version": "huref.attacked/1.0", "models": [{"name": "x"}]}',
        '{"schema_version": "huref.attacked/1.0", "models": [{"name":"x","path":"../x","of":"one","attack":"y"}]}',
        '{"schema_version": "huref.attacked/1.0", "models": [{"name":"x","path":"/x","of":"one","attack":"y"}]}',
    ],
)
def test_a_list_of_attacks_that_contradicts_its_format_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / ATTACKS).write_text(content)
    with pytest.raises(CorruptFileError):
        with_attacks(listed(), tmp_path)


# --- Methods and running them ------------------------------------------------------------------------------


def test_faults_are_written_down_and_end_nothing(peers: Path, tmp_path: Path) -> None:
    paths = {name: tmp_path / name for name in ("one-a", "one-b", "two-light", "other")}
    asked = [
        ("one-a", "one-b"),
        ("one-a", "two-light"),
        ("other", "two-light"),
        ("one-a", "one-a"),
        ("one-a", "other"),
    ]
    (run,) = run_methods([str(peers / "size.py")], [(paths[a], paths[b]) for a, b in asked])
    assert [answer.scores["size"] for answer in run.answers] == [1.0, None, None, None, 0.0]
    assert [answer.fault for answer in run.answers] == [
        "",
        "ValueError: cannot read it",
        "ValueError: cannot read it",
        "AssertionError: the same model twice",
        "",
    ]


def test_each_model_is_prepared_once_and_processes_change_nothing(peers: Path, tmp_path: Path) -> None:
    pairs = [(tmp_path / a, tmp_path / b) for a, b in [("one-a", "one-b"), ("one-a", "two"), ("one-b", "two")] * 20]
    (here,) = run_methods([str(peers / "size.py")], pairs)
    assert len(here.prepared) == 3
    (there,) = run_methods([str(peers / "size.py")], pairs, jobs=2)
    assert [a.scores for a in there.answers] == [a.scores for a in here.answers]


def test_a_method_that_cannot_run_here_is_named_with_its_reason(tmp_path: Path) -> None:
    file = tmp_path / "absent.py"
    file.write_text(PEER + "\ndef unavailable():\n    return 'not installed'\n")
    (run,) = run_methods([str(file)], [(tmp_path, tmp_path)])
    assert (run.unavailable, run.answers) == ("not installed", [])
    assert "did not run: not installed" in as_text({**figures(choose_pairs(listed()), [run]), "machine": ""})


def test_unknown_methods_and_files_that_are_no_peers_are_refused(peers: Path, tmp_path: Path) -> None:
    assert list(find_methods(peers)) == ["huref", "size"]
    assert list(find_methods(peers, ("size",))) == ["size"]
    assert find_methods(peers, ("huref:pcs",)) == {"huref:pcs": "huref:pcs"}
    with pytest.raises(UsageError, match="no such method"):
        find_methods(peers, ("sise",))
    with pytest.raises(UsageError, match="no such folder"):
        find_methods(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="cannot be loaded"):
        open_method(str(peers / "_helper.py"))
    (peers / "half.py").write_text("NAME = 'half'")
    with pytest.raises(UsageError, match="no SOURCE, prepare, compare"):
        open_method(str(peers / "half.py"))


def test_costs_are_those_of_a_process_of_its_own(peers: Path, tmp_path: Path) -> None:
    """A process inherits `ru_maxrss` from the one that starts it: the large array here must not be counted there."""
    (peers / "broken.py").write_text(PEER.replace('"size"', '"broken"') + "\ndef prepare(path):\n    1 / 0\n")
    large = np.ones(400 << 17)  # 400 MiB
    keys = [str(peers / "size.py"), str(peers / "broken.py")]
    found, broken = measure_costs(keys, (tmp_path / "one-a", tmp_path / "one-b"))
    assert found["scores"] == {"size": 1.0}
    assert 5 < found["peak_mib"] < large.nbytes / 2**20
    assert 0 <= found["seconds"] < found["seconds_of_the_process"]
    assert 0 <= found["cpu_seconds"] < 1
    assert (broken["method"], broken["fault"]) == ("broken", "ZeroDivisionError: division by zero")
    text = as_text({**figures(choose_pairs(listed()), []), "costs": [found, broken]})
    assert "ZeroDivisionError: division by zero" in text


# --- Figures -----------------------------------------------------------------------------------------------


def scored(**known: float) -> Column:
    """A column over the list's pairs: 0 but where a pair is named `a|b`."""
    pairs = choose_pairs(listed())
    values = np.array([known.get(f"{p.a}|{p.b}", 0.0) for p in pairs])
    return Column("score", "method", values, tuple("" if v == v else "no score" for v in values))


def test_figures_of_a_score_name_the_pairs_at_its_ends() -> None:
    pairs = choose_pairs(listed())
    right = {f"{p.a}|{p.b}": 0.9 for p in pairs if p.truth == "kin"}
    found = score_figures(pairs, scored(**{**right, "one|two": 0.5, "one/light|one": 0.4, "one|one-order": 1.0}))
    assert found["kin"]["lowest"] == ["one/light", "one"]
    assert found["strangers"]["highest"] == ["one", "two"]
    n_kin = len(right)
    assert found["tpr_at_no_false_alarm"] == pytest.approx((n_kin - 1) / n_kin)
    n_strangers = sum(p.truth == "independent" for p in pairs)
    assert found["auc"] == pytest.approx(1 - 1 / (n_kin * n_strangers), abs=1e-6)
    assert found["by_kind"]["fine-tune light"]["n"] == 2
    assert found["by_kind"]["fine-tune light"]["min"] == 0.4
    assert found["by_group"]["same-init"]["max"] == 1.0  # counted on neither side
    assert found["auc_hard"] < found["auc"]


def test_the_base_is_identified_only_by_a_score_above_every_other_base() -> None:
    pairs = choose_pairs(listed())
    right = {f"{p.a}|{p.b}": 0.9 for p in pairs if p.truth == "kin"}
    assert identification(pairs, scored(**right))["missed"] == []
    tie = identification(pairs, scored(**{**right, "one/light|two": 0.9}))
    assert tie["missed"] == [["one/light", "two"]]
    silent = identification(pairs, scored(**{**right, "one/light|one": float("nan")}))
    assert [suspect for suspect, _ in silent["missed"]] == ["one/light"]
    assert silent["asked"] == 4  # the student descends from nobody
    merged = identification(pairs, scored(**{**right, "one+far|one": 0.0}))
    assert merged["missed"] == []  # either parent is right
    same_init = identification(pairs, scored(**{**right, "one/light|one-order": 1.0}))
    assert same_init["missed"] == []


def test_a_threshold_from_other_bases_is_tried_on_each() -> None:
    """One pair of strangers scores above all kin: it is an alarm, and raises the threshold of the base without it."""
    pairs = choose_pairs(listed())
    right = {f"{p.a}|{p.b}": 0.4 for p in pairs if p.truth == "kin"}
    assert held_out(pairs, scored(**right)) == {
        "found": len(right),
        "kin": len(right),
        "accused": 0,
        "strangers": sum(p.truth == "independent" and bool({"one", "two", "far"} & {*p.clusters}) for p in pairs),
    }
    found = held_out(pairs, scored(**right, **{"one|far": 0.5}))
    assert found["accused"] == 1
    # Of `two` the threshold is 0.5 now, and its offspring is missed; `one` and `far` do not see their own pair.
    assert found["found"] == len(right) - sum(p.truth == "kin" and p.clusters == ("two",) for p in pairs) < len(right)


def verdicts(*said: str) -> MethodRun:
    pairs = choose_pairs(listed())
    words = dict(zip(("kin", "independent", "same-init"), said, strict=True))
    value = {"kin": 1.0, "independent": 0.0, "same-init": 0.5}
    answers = [Answer({"agreement": value[p.truth]}, words[p.truth]) for p in pairs]
    return MethodRun("huref", "this", ("agreement",), answers=answers)


def test_an_accused_stranger_is_counted_named_and_misses_the_goal() -> None:
    pairs = choose_pairs(listed())
    run = verdicts("derived", "independent", "merged")
    good = figures(pairs, [run])
    assert good["verdicts"][0]["false_accusations"] == []
    assert all(is_met for _, is_met, _ in goals(good))
    wrong = next(i for i, p in enumerate(pairs) if p.group == "twins")
    run.answers[wrong] = Answer({"agreement": 1.0}, "requantised")
    bad = figures(pairs, [run])
    assert bad["verdicts"][0]["false_accusations"] == [["one", "two", "requantised"]]
    assert "FALSE: one and two: requantised" in as_text(bad)
    assert {goal: is_met for goal, is_met, _ in goals(bad)}["huref: no false accusation"] is False


def test_abstentions_are_neither_found_nor_denied() -> None:
    found = figures(choose_pairs(listed()), [verdicts("inconclusive", "inconclusive", "inconclusive")])["verdicts"][0]
    assert found["kin_found"] == found["kin_denied"] == 0
    assert found["abstentions"]["kin"] == found["kin"] > 0
    assert found["abstentions"]["strangers"] == found["strangers"] > 0


def test_a_rival_that_does_better_on_one_kind_misses_the_goal() -> None:
    pairs = choose_pairs(listed())
    noise = np.random.default_rng(0).normal(0, 0.1, len(pairs))

    def run(title: str, kin: float, heavy: float) -> MethodRun:
        of_kin = {"fine-tune heavy": heavy}
        level = [of_kin.get(p.kind, kin) if p.truth == "kin" else 0.0 for p in pairs]
        return MethodRun(
            title, "", (title,), answers=[Answer({title: v + e}) for v, e in zip(level, noise, strict=True)]
        )

    ours = run("agreement", 1.0, 0.4)
    for rival, is_met in ((run("AWM", 0.9, 0.3), True), (run("AWM", 0.9, 0.5), False)):
        reached = {goal: met for goal, met, _ in goals(figures(pairs, [ours, rival]))}
        assert reached["|z| above AWM's on every kind"] is is_met


def test_columns_that_a_version_leaves_empty_are_left_out_and_silence_of_a_peer_is_not() -> None:
    empty = [Answer({"a": 0.5, "b": None})]
    assert [c.title for c in columns_of(MethodRun("huref", "", ("a", "b"), answers=empty))] == ["a"]
    silent = MethodRun("peer", "", ("c",), answers=[Answer({"c": None}, fault="cannot")])
    assert [c.faults for c in columns_of(silent)] == [("cannot",)]


# --- The command -------------------------------------------------------------------------------------------


def test_the_command_compares_writes_and_prints(
    cli: Callable[..., Outcome], zoo_folder: Path, peers: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out" / "bench.txt"
    done = cli("lab", "bench", "--zoo", zoo_folder, "--peers", peers, "--jobs", 1, "--out", out, "--json")
    assert done.code == 0, done.err
    document = done.document
    assert document == json.loads(out.with_suffix(".json").read_text())
    assert [m["name"] for m in document["methods"]] == ["huref", "size"]
    assert document["groups"]["kin"] == 2
    assert document["groups"]["student"] == 1
    pcs = next(score for score in document["scores"] if score["title"] == "PCS")
    assert pcs["auc"] == 1.0
    assert pcs["identification"]["right"] == 2
    size = next(score for score in document["scores"] if score["title"] == "size")
    assert sum(size["faults"].values()) == sum("two/light" in pair[:2] for pair in document["pairs"])
    text = out.read_text()
    assert "ValueError: cannot read it" in text
    assert str(zoo_folder) not in text + done.out


def test_only_the_methods_asked_for_run(cli: Callable[..., Outcome], zoo_folder: Path, peers: Path) -> None:
    done = cli("lab", "bench", "--zoo", zoo_folder, "--peers", peers, "--jobs", 1, "--methods", "size", "--pairs", 0)
    assert done.code == 0, done.err
    assert "PCS" not in done.out
    assert "size" in done.out
    assert "an offspring and a base of other data or shape" not in done.out


def test_answers_on_the_same_files_by_the_same_code_are_taken_over(
    zoo_folder: Path, peers: Path, tmp_path: Path
) -> None:
    """The peer counts its calls in a file: a second bench asks it only about what has changed."""
    log = tmp_path / "calls"
    peer = peers / "size.py"
    peer.write_text(
        PEER.replace(
            "def compare(a, b):",
            f"def compare(a, b):\n    with open({str(log)!r}, 'a') as log:\n        log.write('x')",
        )
    )
    zoo = shutil.copytree(zoo_folder, tmp_path / "zoo")
    options = BenchOptions(zoo, peers=peers, methods=("size",))
    first = run_bench(options)
    asked = len(log.read_text())
    _, saved = write_report(first, tmp_path / "first.txt")
    again = run_bench(replace(options, reuse=(saved,)))
    assert len(log.read_text()) == asked > 0
    assert again["reused"] == {"size": len(first["pairs"])}
    assert again["scores"] == first["scores"]
    assert "taken over" in as_text(again)
    (zoo / "one-light" / "config.json").write_text((zoo / "one-light" / "config.json").read_text() + " ")
    partly = run_bench(replace(options, reuse=(saved,)))
    n_changed = sum("one/light" in pair[:2] for pair in first["pairs"])
    assert partly["reused"] == {"size": len(first["pairs"]) - n_changed}
    assert partly["scores"] == first["scores"]
    peer.write_text(peer.read_text() + "# changed\n")
    assert run_bench(replace(options, reuse=(saved,)))["reused"] == {}


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"schema_version": "huref.bench/1.0", "models": []}'])
def test_a_document_that_is_no_bench_is_not_reused(zoo_folder: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "old.json").write_text(content)
    with pytest.raises(CorruptFileError, match="not the document of an earlier bench"):
        run_bench(BenchOptions(zoo_folder, reuse=(tmp_path / "old.json",)))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--zoo", "nowhere"), 4, "a zoo's list cannot be read"),
        (("--zoo", "ZOO", "--attacks", "nowhere"), 4, "no list of attacked copies"),
        (("--zoo", "ZOO", "--methods", "awm"), 2, "no such method"),
        (("--zoo", "ZOO", "--reuse", "nowhere"), 4, "an earlier bench cannot be read"),
        (("--zoo", "ZOO", "--peers", "nowhere"), 2, "no such folder of peers"),
        (("--zoo", "ZOO", "--jobs", "0"), 2, "Invalid value for"),
        (("--zoo", "ZOO", "--pairs", "-2"), 2, "Invalid value for"),
    ],
)
def test_bad_input_is_refused(
    cli: Callable[..., Outcome], zoo_folder: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    done = cli("lab", "bench", *(str(zoo_folder) if part == "ZOO" else part for part in arguments))
    assert done.code == code
    assert message in done.err


def test_the_report_is_a_pair_of_files(zoo_folder: Path, peers: Path, tmp_path: Path) -> None:
    document = run_bench(BenchOptions(zoo_folder, peers=peers, methods=("size",)))
    text, beside = write_report(document, tmp_path / "bench.json")
    assert (text.name, beside.name) == ("bench.txt", "bench.json")
    assert text.read_text() == as_text(json.loads(beside.read_text())) + "\n"
