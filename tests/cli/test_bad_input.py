"""Bad input: each fault ends with its exit code and a message with what, where and what next; nothing half-written.

Every case is a function from an empty folder to a command line. It is run twice, for people and with `--json`.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import huref
from huref.fingerprints.file import SUFFIX, load_fingerprint, save_fingerprint
from kit.bad_input_files import CASES, Booby, Case, case, fingerprinted, tiny, with_tensor
from kit.command_line import Outcome
from kit.tiny_llama import TinyLlama, tokenizer_json

Cli = Callable[..., Outcome]

pytestmark = pytest.mark.usefixtures("dogs")


# Places to write to: the tests may run as root, so permissions prove nothing


@case(2, "OutputError", "cannot make the output folder", "--out")
def an_output_folder_below_a_file(place: Path) -> list[Any]:
    (place / "file").write_text("mine")
    return ["fingerprint", tiny(place), "--out", place / "file" / "out"]


@case(2, "OutputError", "cannot make the output folder")
def an_output_folder_that_is_a_file(place: Path) -> list[Any]:
    (place / "file").write_text("mine")
    return ["fingerprint", tiny(place), "--out", place / "file"]


@case(2, "OutputError", "/proc")
def an_output_folder_in_a_system_that_takes_no_files(place: Path) -> list[Any]:
    return ["fingerprint", tiny(place), "--out", "/proc"]


@case(2, "OutputError", "picture.png")
def a_picture_below_a_file(place: Path) -> list[Any]:
    (place / "file").write_text("mine")
    return ["render", saved(place), "--out", place / "file" / "picture.png"]


@case(2, "OutputError", "ranking.txt")
def a_ranking_below_a_file(place: Path) -> list[Any]:
    (place / "file").write_text("mine")
    (place / "corpus.txt").write_text("bal\n")
    rank = ["tokens", "rank", tiny(place), "--corpus", place / "corpus.txt"]
    return [*rank, "--out", place / "file" / "ranking.txt"]


@case(2, "OutputError", "map.png")
def a_heat_map_below_a_file(place: Path) -> list[Any]:
    (place / "file").write_text("mine")
    path = saved(place)
    return ["matrix", path, path, "--heat-map", place / "file" / "map.png"]


@case(2, "OutputError", "the folder is not there", "mkdir -p", "none")
def an_output_folder_two_folders_deep(place: Path) -> list[Any]:
    return ["fingerprint", tiny(place), "--out", place / "none" / "out"]


@case(2, "OutputError", "root of the disk")
def a_report_in_a_new_folder_at_the_root(place: Path) -> list[Any]:
    return ["compare", tiny(place), tiny(place), "--report", "/no-such-folder/report.html"]


@case(2, "OutputError", "a device or a pipe", "/dev/null")
def a_ranking_in_place_of_a_device(place: Path) -> list[Any]:
    (place / "corpus.txt").write_text("bal\n")
    return ["tokens", "rank", tiny(place), "--corpus", place / "corpus.txt", "--out", "/dev/null"]


@case(2, "UsageError", "a PNG under another name", "--heat-map", "map.jpg")
def a_heat_map_under_the_name_of_another_format(place: Path) -> list[Any]:
    return ["matrix", saved(place), saved(place), "--heat-map", place / "map.jpg"]


# Options


def _option(name: str, code: int, kind: str, parts: tuple[str, ...], *arguments: object) -> None:
    def build(place: Path) -> list[Any]:
        places = {"MODEL": tiny, "SAVED": saved, "HERE": lambda where: where}
        return [places[part](place) if isinstance(part, str) and part in places else part for part in arguments]

    build.__name__ = name
    case(code, kind, *parts)(build)


for _name, _parts, *_arguments in (
    ("an_unknown_recipe", ("--recipe", "got: best", "'canonical', 'paper'"), "--recipe", "best"),
    ("an_unknown_encoder", ("--encoder", "'vgg'", "'sketch'"), "--encoder", "vgg"),
    ("layers_that_are_no_list", ("unreadable layer list", "last2, all, or 0,5,-1"), "--layers", "some"),
    ("a_layer_that_is_not_there", ("no such layer", "-3 to 2"), "--layers", "0,3"),
    ("too_few_tokens_asked_for", ("--n-tokens", "256"), "--n-tokens", 255),
    ("no_tokens", ("--n-tokens", "256"), "--n-tokens", 0),
    ("a_layer_named_twice", ("--layers", "0,1,0 names 0 twice"), "--layers", "0,1,0"),
    ("mean_pooling_of_centred_terms", ("mean pooling is defined for the paper recipe",), "--encoder", "mean"),
    ("a_number_that_is_none", ("--n-tokens", "integer"), "--n-tokens", "many"),
    ("an_unknown_option", ("No such option", "--outt"), "--outt", "x"),
):
    _option(_name, 2, "UsageError", _parts, "fingerprint", "MODEL", *_arguments)

for _name, _parts, *_arguments in (
    ("no_model", ("Missing argument", "MODEL"), "fingerprint"),
    ("an_unknown_command", ("No such command", "fingerprnt"), "fingerprnt", "MODEL"),
    (
        "an_unknown_method",
        ("--method", "'best'", "'all', 'pcs', 'ics'"),
        "compare",
        "MODEL",
        "MODEL",
        "--method",
        "best",
    ),
    ("an_unknown_verdict", ("--expect", "'stolen'", "'derived'"), "compare", "MODEL", "MODEL", "--expect", "stolen"),
    (
        "an_unknown_table",
        ("--format", "'odt'", "'text', 'csv', 'latex'"),
        "matrix",
        "SAVED",
        "SAVED",
        "--format",
        "odt",
    ),
    ("an_unknown_score", ("--score", "'best'", "'pcs'"), "matrix", "SAVED", "SAVED", "--score", "best"),
    (
        "evidence_that_is_checked_and_saved",
        ("--check and --out do not go together",),
        "explain",
        "MODEL",
        "MODEL",
        "--out",
        "y",
        "--check",
        "x",
    ),
    (
        "a_seed_that_nothing_draws",
        ("--seed means something with --check only",),
        "explain",
        "MODEL",
        "MODEL",
        "--seed",
        3,
    ),
    ("a_matrix_of_one", ("a matrix needs two models", "got: 1"), "matrix", "SAVED"),
    ("a_picture_without_size", ("no such picture size", "1 to 4096"), "render", "SAVED", "--size", 0),
    ("a_picture_too_large", ("no such picture size",), "render", "SAVED", "--size", 1 << 20),
    ("other_layers_of_a_saved_one", ("keeps the recipe", "--layers"), "compare", "SAVED", "SAVED", "--layers", "all"),
    (
        "another_recipe_of_a_saved_one",
        ("keeps the recipe", "expected: name canonical-2\n", "got: name paper\n"),
        "fingerprint",
        "SAVED",
        "--recipe",
        "paper",
    ),
    ("training_without_pictures", ("too few pictures",), "train", "generator", "--data", "HERE", "--out", "HERE"),
    (
        "an_unknown_critic",
        ("--critic", "'stern'", "'projected', 'pixel', 'both'"),
        *("train", "generator", "--data", "HERE", "--out", "HERE", "--critic", "stern"),
    ),
    (
        "a_size_that_no_generator_has",
        ("--resolution", "60 is no power of two"),
        *("train", "generator", "--data", "HERE", "--out", "HERE", "--resolution", 60),
    ),
):
    _option(_name, 2, "UsageError", _parts, *_arguments)


# Saved fingerprints


_SAVED: list[huref.Fingerprint] = []


def saved(place: Path, **changes: Any) -> Path:
    """A saved fingerprint; made once."""
    path = place / f"saved{SUFFIX}"
    if not path.exists():
        if not _SAVED:
            _SAVED.append(huref.fingerprint(tiny(place)))
        save_fingerprint(replace(_SAVED[0], **changes), path)
    return path


def edited(place: Path, before: bytes, after: bytes) -> Path:
    """A saved fingerprint with the same number of other bytes in its header."""
    path = saved(place)
    data = path.read_bytes()
    assert data.count(before) == 1 and len(before) == len(after)
    path.write_bytes(data.replace(before, after))
    return path


@case(4, "InputError", "another format version", "huref.fingerprint/1.x", "huref.fingerprint/2.0")
def a_fingerprint_of_another_major_version(place: Path) -> list[Any]:
    return ["render", edited(place, b"huref.fingerprint/1.0", b"huref.fingerprint/2.0"), "--out", place / "p.png"]


@case(4, "InputError", "another format version")
def a_comparison_with_another_major_version(place: Path) -> list[Any]:
    return ["compare", tiny(place), edited(place, b"huref.fingerprint/1.0", b"huref.fingerprint/2.0")]


@case(4, "CorruptFileError", "not a readable fingerprint", "digest")
def a_tampered_number(place: Path) -> list[Any]:
    path = saved(place)
    data = bytearray(path.read_bytes())
    data[-5] ^= 64
    path.write_bytes(data)
    return ["compare", path, path]


@case(4, "CorruptFileError", "not a readable fingerprint", "digest")
def a_tampered_header(place: Path) -> list[Any]:
    return ["compare", edited(place, b"llama", b"gemma"), edited(place, b"gemma", b"qwen2")]


@case(4, "CorruptFileError", "not a readable fingerprint", "no file name")
def a_fingerprint_that_names_another_folder(place: Path) -> list[Any]:
    return ["render", saved(place, model="../evil")]


@case(4, "CorruptFileError", "not a readable fingerprint")
def weights_called_a_fingerprint(place: Path) -> list[Any]:
    path = place / f"m{SUFFIX}"
    path.write_bytes((tiny(place) / "model.safetensors").read_bytes())
    return ["render", path]


@case(4, "MissingFileError", "no such fingerprint", f"*{SUFFIX}", "huref fingerprint MODEL")
def no_such_fingerprint(place: Path) -> list[Any]:
    return ["render", place / f"none{SUFFIX}"]


@case(3, "InconclusiveError", "fingerprints of different recipes do not compare", "again with one recipe")
def fingerprints_of_different_recipes(place: Path) -> list[Any]:
    other = place / f"other{SUFFIX}"
    path = saved(place)
    fingerprint = load_fingerprint(path)
    save_fingerprint(replace(fingerprint, recipe=replace(fingerprint.recipe, n_tokens=300)), other)
    return ["compare", path, other]


@case(2, "UsageError", "made with a token ranking", "--tokens FILE")
def a_ranking_that_is_missing_on_one_side(place: Path) -> list[Any]:
    path = saved(place)
    fingerprint = load_fingerprint(path)
    ranked = replace(fingerprint, recipe=replace(fingerprint.recipe, ranking="00" * 32))
    save_fingerprint(ranked, place / f"ranked{SUFFIX}")
    return ["compare", place / f"ranked{SUFFIX}", tiny(place)]


@pytest.mark.parametrize(("build", "code", "kind", "parts"), CASES)
def test_bad_input(
    cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    build: Case,
    code: int,
    kind: str,
    parts: tuple[str, ...],
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    arguments = build(tmp_path)
    before = _contents(tmp_path)
    monkeypatch.chdir(here)
    for_people, for_programs = cli(*arguments), cli(*arguments, "--json")
    assert (for_people.code, for_programs.code) == (code, code)
    assert for_people.out == ""
    assert for_programs.err == for_people.err
    assert all(part in for_people.err for part in parts), for_people.err
    error = for_programs.document["error"]
    assert for_programs.document["schema_version"] == "huref.error/1.0"
    assert (error["type"], error["exit_code"]) == (kind, code)
    assert error.keys() == {"type", "exit_code", "what", "where", "expected", "got", "next_step"} and error["what"]
    assert _contents(tmp_path) == before, "something was left behind"
    assert not (tmp_path / "owned").exists(), "the pickle was executed"


def _contents(folder: Path) -> dict[str, bytes]:
    """Every file; a folder of the command's own making may stay, if it is empty."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_booby_trap_would_have_worked(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Booby(tmp_path / "owned")))
    assert (tmp_path / "owned").read_text() == "owned"


# Not refused, but said


def test_a_small_vocabulary_is_used_whole_and_said_so(cli: Cli, tmp_path: Path) -> None:
    document = cli(*fingerprinted(tiny(tmp_path, n_tokens=300), tmp_path), "--json").document
    assert document["tokens"]["used"] == 298 and document["tokens"]["requested"] == 4096
    assert document["notes"] == ["298 tokens used of 4096 asked for: the vocabulary has no more"]


def test_nan_in_a_tensor_that_is_not_used_is_no_matter(cli: Cli, tmp_path: Path) -> None:
    model = with_tensor(tmp_path, "model.layers.0.mlp.up_proj.weight", float("nan"))
    assert cli(*fingerprinted(model, tmp_path)).code == 0
    assert cli(*fingerprinted(model, tmp_path, "--layers", "all", "--recipe", "paper")).code == 4


@pytest.mark.parametrize("style", [(), ("--json",)])
def test_two_models_with_nothing_in_common_are_inconclusive(cli: Cli, tmp_path: Path, style: tuple[str, ...]) -> None:
    models = []
    for letter, width in (("a", 32), ("b", 48)):
        model = TinyLlama(width=width, n_layers=2).save(tmp_path / letter)
        tokenizer = json.loads(tokenizer_json(400))
        tokenizer["model"] = {"type": "WordLevel", "vocab": {f"{letter}{i}": i for i in range(400)}, "unk_token": "?"}
        tokenizer["added_tokens"] = []
        (model / "tokenizer.json").write_text(json.dumps(tokenizer))
        models.append(model)
    done = cli("compare", *models, *style)
    assert done.code == 3 and done.err == ""
    assert "nothing comparable" in done.out and "share too few tokens" in done.out
    if style:
        document = done.document
        assert document["pcs"] is document["ics"] is document["ics_canonical_2"] is None
        assert document["verdict"] == "inconclusive"


# Interrupted, or the disk is full


def test_an_interrupt_ends_with_130(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "huref.fingerprints.references.fingerprint", lambda *_, **__: os.kill(os.getpid(), signal.SIGINT)
    )
    assert cli(*fingerprinted(tmp_path, tmp_path), "--json") == Outcome(130, "", "huref: interrupted\n")


@pytest.mark.parametrize("moment", ["write", "rename"])
def test_a_full_disk_leaves_the_old_files(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    model = tiny(tmp_path)
    assert cli(*fingerprinted(model, tmp_path)).code == 0
    before = _contents(tmp_path)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if moment == "write":
        monkeypatch.setattr(Path, "write_bytes", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
        monkeypatch.setattr(os, "replace", fail)
    done = cli(*fingerprinted(model, tmp_path, "--layers", "all"))
    assert done.code == 2 and "No space left on device" in done.err
    assert _contents(tmp_path) == before


def test_a_picture_carries_no_more_than_its_fingerprint_says(cli: Cli, tmp_path: Path) -> None:
    """No path of this machine in what is published."""
    cli(*fingerprinted(tiny(tmp_path), tmp_path))
    for path in (tmp_path / "out").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()
