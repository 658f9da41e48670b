"""Answers from the cache: equal to fresh ones, and never of another question."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import huref
from huref.files.cache import Cache
from huref.kinship.record import CompareOptions, Comparison
from huref.model import identity, kept
from kit.command_line import Outcome
from kit.tiny_llama import TinyLlama

Cli = Callable[..., Outcome]


@pytest.fixture
def pair(models: dict[str, Path], tmp_path: Path, cache_home: Path) -> tuple[Path, Path]:
    """Models that may be changed."""
    found = tuple(shutil.copytree(models[name], tmp_path / name) for name in ("base", "child"))
    time.sleep(0.02)  # a tick of the file system's clock
    return found[0], found[1]


def text(found: Any) -> str:
    return json.dumps(found.to_dict()) + str(found)


def ask(pair: tuple[Path, Path], **options: Any) -> tuple[str, bool]:
    """What a comparison says, and whether it came from the cache."""
    cache = Cache()
    found = huref.compare(*pair, cache=cache, **options)
    assert cache.n_kept + cache.n_made == 1 and not cache.trouble
    assert text(found) == text(huref.compare(*pair, **options)), "another answer than a fresh one"
    return text(found), bool(cache.n_kept)


def test_a_kept_answer_is_the_fresh_one(pair: tuple[Path, Path]) -> None:
    first, again = ask(pair), ask(pair)
    assert first == (again[0], False) and again[1]
    assert ask((pair[1], pair[0])) != again  # the other way round is another question


def _byte(model: Path) -> None:
    data = bytearray((model / "model.safetensors").read_bytes())
    data[-40_002] ^= 0x40
    (model / "model.safetensors").write_bytes(data)


def _tokenizer(model: Path) -> None:
    content = (model / "tokenizer.json").read_text()
    assert '"bal"' in content
    (model / "tokenizer.json").write_text(content.replace('"bal"', '"xal"'))


def _config(model: Path) -> None:
    content = (model / "config.json").read_text()
    (model / "config.json").write_text(content.replace('"llama"', '"qwen2"').replace("LlamaFor", "Qwen2For"))


@pytest.mark.parametrize("change", [_byte, _tokenizer, _config])
@pytest.mark.parametrize("side", [0, 1])
def test_a_changed_model_is_asked_afresh(pair: tuple[Path, Path], side: int, change: Callable[[Path], None]) -> None:
    before = ask(pair)[0]
    times = {path: path.stat() for path in pair[side].iterdir()}
    change(pair[side])
    for path, seen in times.items():
        assert path.stat().st_size == seen.st_size or change is _config
        os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    try:
        after, was_kept = ask(pair)
    except huref.HurefError:  # the other family is not of this shape: refused, whatever is kept
        assert change is _config
        return
    assert not was_kept and after != before


OTHER_OPTIONS: dict[str, Any] = {
    "method": "pcs",
    "layers": "all",
    "n_tokens": 300,
    "is_exact": True,
    "recipe": "canonical",
}


@pytest.mark.parametrize("name", OTHER_OPTIONS)
def test_other_options_are_another_question(pair: tuple[Path, Path], name: str) -> None:
    ask(pair)
    assert ask(pair, **{name: OTHER_OPTIONS[name]})[1] is False
    assert ask(pair, **{name: OTHER_OPTIONS[name]})[1] is True


def test_every_option_is_part_of_the_question() -> None:
    named = set(kept.options_of(CompareOptions(), "expect"))
    assert named >= {*OTHER_OPTIONS, "tokens_file", "arch_file", "encoder_weights"}
    assert named == {*CompareOptions.__dataclass_fields__} - {"expect"}


def test_a_file_of_tokens_counts_by_its_contents(pair: tuple[Path, Path], tmp_path: Path) -> None:
    ranking = tmp_path / "ranking.txt"
    ranking.write_text("\n".join(map(str, range(2, 400))))
    ask(pair, tokens_file=ranking)
    assert ask(pair, tokens_file=ranking)[1]
    ranking.write_text("\n".join(map(str, range(399, 1, -1))))
    assert not ask(pair, tokens_file=ranking)[1]


def test_another_huref_is_asked_afresh(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    ask(pair)
    program = dict(kept._program())
    for part in program:
        monkeypatch.setattr(kept, "_program", lambda part=part: {**program, part: "another"})
        assert not ask(pair)[1], part
    monkeypatch.setattr(kept, "_program", lambda: program)
    assert ask(pair)[1]


def test_the_program_is_known_by_its_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = kept._program.__wrapped__()
    (tmp_path / "version.py").write_text("")
    monkeypatch.setattr("huref.version.__file__", str(tmp_path / "version.py"))
    assert kept._program.__wrapped__()["program"] != before["program"]
    assert before["huref"] == huref.__version__ and before["libraries"]["numpy"]


def test_hostile_entries_are_made_afresh(pair: tuple[Path, Path], cache_home: Path) -> None:
    right = ask(pair)[0]
    (entry,) = (cache_home / "results").iterdir()
    head, key, payload = entry.read_bytes().split(b"\n", 2)
    record = json.loads(payload)
    lies = [b"", b"[]", b"not json", b"[" * 10**5, json.dumps({**record, "verdict": 5}).encode()]
    lies += [json.dumps({k: v for k, v in record.items() if k != drop}).encode() for drop in ("pcs", "layers")]
    for lie in lies:
        Cache().put(key.decode(), lie)  # a right digest over wrong words
        assert ask(pair) == (right, False)
        assert ask(pair) == (right, True)
    for broken in (head, head + b"\n" + key, entry.read_bytes()[:-1], b""):
        entry.write_bytes(broken)
        assert ask(pair) == (right, False)
    entry.rename(cache_home / "moved")
    entry.symlink_to(cache_home / "moved")
    assert ask(pair) == (right, False)


def test_what_changes_while_it_is_compared_is_not_kept(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = huref.compare(*pair)

    def slow(*_: object) -> Comparison:
        _byte(pair[1])
        return right

    monkeypatch.setattr("huref.kinship.references.compare_references", slow)
    huref.compare(*pair, cache=True)
    assert Cache().usage().entries == 0


def test_what_changed_just_before_is_not_kept(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "SETTLED", 10**12)
    huref.compare(*pair, cache=True)
    assert Cache().usage().entries == 0


def test_what_is_published_rests_on_contents(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system whose times and ends tell nothing, a confirmed answer is still the right one."""
    monkeypatch.setattr(identity, "_stamp", lambda found: (found.st_size, 0, 0, 0))
    confirmed = [huref.compare(*pair, cache=Cache(is_confirmed=True)) for _ in range(2)]
    assert text(confirmed[0]) == text(confirmed[1])
    _byte(pair[1])
    cache = Cache(is_confirmed=True)
    again = huref.compare(*pair, cache=cache)
    assert cache.n_made == 1 and text(again) == text(huref.compare(*pair)) != text(confirmed[0])
    other = Cache(is_confirmed=True)
    huref.compare(*pair, cache=other)
    assert other.n_kept == 1


def test_python_keeps_nothing_unless_asked(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    huref.compare(*pair)
    huref.matrix(pair)
    huref.rank(pair[0], [pair[1]])
    assert Cache().usage().entries == 0
    monkeypatch.setenv("HUREF_NO_CACHE", "1")
    huref.compare(*pair, cache=True)
    assert Cache().usage().entries == 0


# Many models


def _interrupted(monkeypatch: pytest.MonkeyPatch, after: int) -> list[tuple[str, str]]:
    """Let only so many pairs be compared; which were."""
    from huref.kinship import comparison

    done, real = list[tuple[str, str]](), comparison.compare_prepared

    def compare(a: Any, b: Any, *rest: Any) -> Comparison:
        if len(done) >= after:
            raise KeyboardInterrupt
        done.append((a.model.name, b.model.name))
        return real(a, b, *rest)

    monkeypatch.setattr(comparison, "compare_prepared", compare)
    return done


def test_an_interrupted_matrix_goes_on(
    models: dict[str, Path], cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    four = [models[name] for name in ("base", "child", "deeper", "stranger")]
    fresh = huref.matrix(four)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        _interrupted(patched, 4)
        huref.matrix(four, cache=True)
    assert Cache().usage().entries == 4
    with monkeypatch.context() as patched:
        done = _interrupted(patched, 99)
        whole = huref.matrix(four, cache=True)
        assert len(done) == 2 and str(whole) == str(fresh) and whole.values.tobytes() == fresh.values.tobytes()
        assert whole.notes == fresh.notes and whole.verdicts == fresh.verdicts
        del done[:]
        more = huref.matrix([*four, models["rounded"]], cache=True)
        assert len(done) == 4 and all("rounded" in pair for pair in done)
        huref.matrix([*four, models["rounded"]], score="pcs", cache=True)
        assert len(done) == 14, "another score is another question"
    assert str(more) == str(huref.matrix([*four, models["rounded"]]))


def test_a_kept_matrix_opens_no_model(
    models: dict[str, Path], cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three = [models[name] for name in ("base", "child", "stranger")]
    fresh = huref.matrix(three, cache=True)
    monkeypatch.setattr("huref.kinship.prepared.open_model", lambda *_: pytest.fail("a model was opened"))
    assert str(huref.matrix(three, cache=True)) == str(fresh)


def test_a_model_beside_a_saved_fingerprint_is_kept(pair: tuple[Path, Path], tmp_path: Path) -> None:
    saved = tmp_path / "base.huref.safetensors"
    huref.save_fingerprint(huref.fingerprint(pair[0]), saved)
    mixed = (saved, pair[1])
    assert ask(mixed)[1] is False and ask(mixed)[1] is True
    huref.save_fingerprint(huref.fingerprint(pair[1]), saved)
    assert ask(mixed)[1] is False
    _byte(pair[1])
    assert ask(mixed)[1] is False
    assert huref.compare(saved, saved, cache=True) and huref.compare(
        huref.load_fingerprint(saved), pair[1], cache=True
    )
    assert Cache().usage().entries == 3, "quick ones, and those of what is in memory, are not kept"


def test_a_ranking_keeps_each_candidate(
    models: dict[str, Path], cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = [models["base"], models["stranger"]]
    first = huref.rank(models["child"], two, cache=True)
    assert text(huref.rank(models["child"], two, cache=True)) == text(first)
    cache = Cache()
    more = huref.rank(models["child"], [*two, models["deeper"]], cache=cache)
    assert (cache.n_kept, cache.n_made) == (2, 1) and len(more.candidates) == 3
    (broken := cache_home / "broken").mkdir(parents=True)
    (broken / "config.json").write_text("{}")
    for _ in range(2):  # what cannot be read is no result
        cache = Cache()
        found = huref.rank(models["child"], [*two, broken], cache=cache)
        assert (cache.n_kept, cache.n_made) == (2, 0) and found.candidates[-1].error


def test_parents_and_explanations_are_kept(pair: tuple[Path, Path], tmp_path: Path) -> None:
    def results() -> list[Any]:
        return [
            huref.parents(pair[1], [pair[0]], cache=True),
            huref.parents(pair[1], [pair[0]], base=pair[0], cache=True),
            huref.explain(*pair, cache=True),
            huref.explain(*pair, layers="0", cache=True),
        ]

    first = results()
    assert Cache().usage().entries == 4
    assert [text(found) for found in results()] == [text(found) for found in first]
    huref.explain(*pair, cache=True, out=tmp_path / "kept.evidence.safetensors")
    huref.explain(*pair, out=tmp_path / "fresh.evidence.safetensors")
    assert (tmp_path / "kept.evidence.safetensors").read_bytes() == (
        tmp_path / "fresh.evidence.safetensors"
    ).read_bytes()
    _byte(pair[0])
    results()
    assert Cache().usage().entries == 8


# The command line


def test_commands_take_and_say_what_is_kept(cli: Cli, pair: tuple[Path, Path], tiny_llama: type[TinyLlama]) -> None:
    a, b = pair
    third = tiny_llama(seed=1).save(a.parent / "third")
    for command, said in {
        ("compare", a, b, "--json"): "huref: result from cache",
        ("compare", a, b, third, "--json"): "huref: 2 of 2 results from cache",
        ("matrix", a, b, third, "--json"): "huref: 3 of 3 results from cache",
        ("parents", b, a, "--json"): "huref: result from cache",
        ("explain", a, b, "--json"): "huref: result from cache",
    }.items():
        first, again = cli(*command), cli(*command)
        assert first.err == "" and again.err.startswith(said) and again.err.count("\n") == 1
        assert (again.code, again.out) == (first.code, first.out)
        assert cli(*command, "--no-cache").err == "" and cli(*command, "--progress", "none").err == ""
        lines = cli(*command, "--progress", "json").err.splitlines()
        assert json.loads(lines[-1])["stage"] == "cache"
    assert cli("compare", a, b, "--expect", "derived").err.startswith("huref: result from cache")
    assert cli("cache", "--json").document["entries"] == 8
    assert "8 results" in cli("cache").out and "8 results" in cli("cache", "clear").out
    assert cli("cache", "clear", "--json").document["cleared"] == 0
    assert cli("compare", a, b).err == ""


def test_a_report_is_of_confirmed_contents(cli: Cli, pair: tuple[Path, Path], tmp_path: Path, dogs: None) -> None:
    cli("compare", *pair)
    reported = ("compare", *pair, "--sarif", tmp_path / "x.sarif")
    assert cli(*reported).err == ""  # what was kept had no contents to go by
    assert cli(*reported).err.startswith("huref: result from cache")
    assert cli("compare", *pair).err.startswith("huref: result from cache")


def test_a_place_that_cannot_be_used_is_one_note(
    cli: Cli, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HUREF_HOME", str(tmp_path / "file"))
    done = cli("matrix", *pair, "--score", "pcs")
    assert done.code == 0 and done.out and done.err.count("\n") == 1
    assert done.err.startswith("huref: nothing is kept for next time (")
