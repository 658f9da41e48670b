"""Python calls: whatever names a model or an option gives the same answer, and answers show themselves."""

from __future__ import annotations

import csv
import inspect
import io
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from itertools import product
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import huref
from huref import progress
from huref.fingerprints.file import SUFFIX
from huref.kinship.record import VERDICTS
from kit.command_line import Outcome
from kit.fingerprints import kin, made
from kit.hostile_files import assert_complete
from kit.references import COMMANDS, reference

HOSTILE = "<b>\x1b[31m\nname</b>" * 9
FORMS: dict[str, Callable[[Path], Any]] = {
    "object": huref.load_fingerprint,
    "file name": str,
    "file path": Path,
}


@pytest.fixture(scope="module")
def saved(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("saved")
    files = {name: folder / f"{name}{SUFFIX}" for name in ("base", "child", "stranger")}
    for name, file in files.items():
        huref.save_fingerprint(huref.fingerprint(models[name], codes=True), str(file))
    return files


@pytest.mark.parametrize(("first", "second"), list(product(FORMS, FORMS)))
def test_every_way_of_naming_two_fingerprints_gives_one_comparison(
    first: str, second: str, saved: dict[str, Path]
) -> None:
    a, b = FORMS[first](saved["base"]), FORMS[second](saved["child"])
    assert huref.compare(a, b).to_dict() == huref.compare(saved["base"], saved["child"]).to_dict()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", [str, Path])
def test_a_model_beside_a_fingerprint_is_what_its_own_fingerprint_would_be(
    form: str, kind: type, saved: dict[str, Path], models: dict[str, Path]
) -> None:
    found = huref.compare(FORMS[form](saved["base"]), kind(models["child"]))
    assert found.read[1]["architecture"] == "llama"
    expected = huref.compare(saved["base"], saved["child"])
    assert str(found) == str(expected)  # files keep sketches of operators in float16: digits after those differ
    assert (found.vectors, found.ics_canonical_2) == (expected.vectors, expected.ics_canonical_2)


def test_a_matrix_takes_all_of_them_at_once(saved: dict[str, Path], models: dict[str, Path]) -> None:
    base, child, stranger = saved.values()
    expected = huref.matrix([base, child, stranger], "ics_canonical_2")
    mixed = huref.matrix((huref.load_fingerprint(base), str(child), models["stranger"]), score="ics_canonical_2")
    assert mixed.names == expected.names and mixed.verdicts == expected.verdicts
    np.testing.assert_array_equal(mixed.values, expected.values)
    objects = huref.matrix(list(map(huref.load_fingerprint, (base, child, stranger))))
    assert (objects.score, objects.clusters) == ("agreement", (("base", "child"),))


def test_a_fingerprint_is_handed_back_and_a_recipe_goes_by_its_name(
    models: dict[str, Path], saved: dict[str, Path]
) -> None:
    base = str(models["base"])
    named = huref.fingerprint(base, "paper", layers="all", n_tokens=512)
    assert named == huref.fingerprint(base, huref.Recipe("paper", layers="all", n_tokens=512))
    assert huref.fingerprint(named) is named and huref.fingerprint(named, "paper", layers="all") is named
    assert huref.fingerprint(str(saved["base"]), "canonical-2") == huref.load_fingerprint(saved["base"])
    with pytest.raises(huref.HurefError, match="keeps the recipe") as caught:
        huref.fingerprint(named, "canonical", n_tokens=512)
    assert (caught.value.expected, caught.value.got) == ("name paper", "name canonical")


def test_pictures_are_drawn_of_all_of_them(saved: dict[str, Path], models: dict[str, Path], dogs: None) -> None:
    file = saved["base"]
    for one in (str(file), file, models["base"], huref.load_fingerprint(file)):
        assert huref.render(one, size=16).tobytes() == huref.render([file], size=16).tobytes()
    pair = [huref.load_fingerprint(file), str(saved["child"])]
    row = huref.render(pair, huref.PictureOptions(layout="row", size=16))
    assert huref.render(pair, layout="row", size=16).tobytes() == row.tobytes()


def test_the_ending_of_a_picture_is_its_format(saved: dict[str, Path], tmp_path: Path, dogs: None) -> None:
    huref.save_picture(saved["base"], str(tmp_path / "a.svg"), base=str(saved["child"]))
    huref.save_picture([str(saved["base"])], tmp_path / "a.png")
    assert (tmp_path / "a.svg").read_text().startswith("<?xml") and (tmp_path / "a.png").read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize("form", FORMS)
def test_what_needs_weights_refuses_fingerprints(form: str, saved: dict[str, Path], models: dict[str, Path]) -> None:
    base, child = models["base"], FORMS[form](saved["child"])
    for call in (
        lambda: huref.explain(base, child),
        lambda: huref.explain(child, base),
        lambda: huref.parents(child, [base]),
        lambda: huref.parents(base, [child]),
        lambda: huref.parents(base, child),
        lambda: huref.parents(base, [models["child"]], base=child),
        lambda: huref.check_evidence("no.evidence.safetensors", base, child),
    ):
        with pytest.raises(huref.HurefError, match="has no weights to") as caught:
            call()
        assert_complete(caught.value)


def test_a_report_of_fingerprints_in_memory_is_written(saved: dict[str, Path], tmp_path: Path, dogs: None) -> None:
    two = huref.load_fingerprint(saved["base"]), huref.load_fingerprint(saved["child"])
    page = str(tmp_path / "report.html")
    huref.save_reports(huref.compare(*two), two, huref.ReportOptions(html=page))  # type: ignore[arg-type]
    assert f"base{SUFFIX}" in Path(page).read_text()


VERBS: dict[str, tuple[type, set[str]]] = {
    "compare": (huref.CompareOptions, {"expect"}),
    "matrix": (huref.CompareOptions, {"expect", "method"}),
    "explain": (huref.ExplainOptions, set()),
    "check_evidence": (huref.CheckOptions, set()),
    "attack": (huref.AttackOptions, set()),
    "render": (huref.PictureOptions, {"base"}),
    "save_picture": (huref.PictureOptions, set()),
}


@pytest.mark.parametrize("name", VERBS)
def test_keywords_are_the_attributes_of_the_options(name: str) -> None:
    kind, without = VERBS[name]
    parameters = inspect.signature(getattr(huref, name)).parameters.values()
    keywords = [
        p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in ("cache", "names", "against_first")
    ]
    assert keywords == [item.name for item in fields(kind) if item.name not in without]
    assert all(p.default is None for p in parameters if p.name in keywords)


def test_keywords_say_what_the_object_says(models: dict[str, Path], tmp_path: Path) -> None:
    a, b = models["base"], str(models["child"])
    (tmp_path / "ids.txt").write_text("\n".join(map(str, range(390, 3, -1))))
    told = {"method": "ics", "layers": "0,1", "n_tokens": 300, "tokens_file": str(tmp_path / "ids.txt")}
    options = huref.CompareOptions(**told | {"tokens_file": tmp_path / "ids.txt"})  # type: ignore[arg-type]
    assert huref.CompareOptions(**told) == options  # type: ignore[arg-type]
    assert huref.compare(a, b, **told).to_dict() == huref.compare(a, b, options).to_dict()  # type: ignore[arg-type]
    few = huref.explain(a, b, layers="0,1").to_dict()
    assert few == huref.explain(a, b, huref.ExplainOptions("0,1")).to_dict() and len(few["layers"]) == 2
    done = huref.attack(a, tmp_path / "one", kinds="permute_neurons,qk_map", seed=3)
    again = huref.attack(a, tmp_path / "two", huref.AttackOptions(("permute_neurons", "qk_map"), 3))
    assert {**done.to_dict(), "out": ""} == {**again.to_dict(), "out": ""}


def test_an_object_and_keywords_are_too_much(models: dict[str, Path]) -> None:
    a, b = models["base"], models["child"]
    for call in (
        lambda: huref.compare(a, b, huref.CompareOptions(), layers="all", n_tokens=300),
        lambda: huref.matrix([a, b], None, huref.CompareOptions(), layers="all", n_tokens=300),
        lambda: huref.fingerprint(a, huref.Recipe(), layers="all", n_tokens=300),
    ):
        with pytest.raises(huref.HurefError, match="as an object and as keywords") as caught:
            call()
        assert caught.value.exit_code == 2 and caught.value.where == "layers, n_tokens"
        assert_complete(caught.value)
    with pytest.raises(TypeError, match="layer"):
        huref.compare(a, b, layer="all")  # type: ignore[call-arg]


def test_a_result_prints_as_on_the_command_line(
    cli: Callable[..., Outcome], models: dict[str, Path], tmp_path: Path, dogs: None
) -> None:
    a, b, c = models["base"], models["child"], models["stranger"]
    assert cli("compare", a, b, "--method", "agreement").out == f"{huref.compare(a, b, method='agreement')}\n"
    assert cli("matrix", a, b, c, "--score", "pcs").out == f"{huref.matrix([a, b, c], 'pcs')}\n"
    assert cli("explain", a, b).out == f"{huref.explain(a, b)}\n"
    assert cli("parents", b, a, c).out == f"{huref.parents(b, [a, c])}\n"
    assert cli("fingerprint", a, "--out", tmp_path).out.startswith(f"{huref.fingerprint(a)}\n")


def shown(models: dict[str, Path]) -> list[Any]:
    """One of each kind of result, of models with the worst of names."""
    print_ = made(HOSTILE, architecture=HOSTILE, notes=(HOSTILE,))
    explained = huref.explain(models["base"], models["child"])
    found = huref.parents(models["child"], [models["base"]])
    return [
        print_,
        huref.compare(print_, kin(0.5, HOSTILE)),
        huref.matrix([print_, kin(0.5, HOSTILE)]),
        replace(explained, a=replace(explained.a, name=HOSTILE), b=replace(explained.b, name=HOSTILE)),
        replace(found, child=HOSTILE, parents=(HOSTILE, HOSTILE)),
    ]


def test_results_are_short_and_harmless_whatever_names_they_have(models: dict[str, Path]) -> None:
    for result in shown(models):
        assert len(repr(result)) < 100 and repr(result).isprintable(), repr(result)
        assert "\x1b" not in str(result) and HOSTILE.encode("unicode_escape").decode()[:10] in str(result)
        if hasattr(result, "_repr_html_"):
            page = result._repr_html_()
            assert "<b>" not in page and "&lt;b&gt;" in page and "\x1b" not in page
    longest = max(VERDICTS, key=len)
    told = replace(shown(models)[1], verdict=longest, agreement=1.0)
    assert len(repr(told)) < 100 and longest in repr(told) and "100.00 %" in repr(told)


def test_a_notebook_shows_the_portrait_or_goes_without(dogs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    picture = made()._repr_png_()
    assert picture is not None
    np.testing.assert_array_equal(Image.open(io.BytesIO(picture)), huref.render(made()))

    def broken(*arguments: object) -> None:
        raise OSError("no generator")

    monkeypatch.setattr("huref.portraits.files.draw", broken)
    assert made()._repr_png_() is None


def test_a_matrix_is_a_csv_and_a_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.array([[1, 0.25, np.nan], [0.25, 1, -0.5], [np.nan, -0.5, 1]])
    table = huref.Matrix(('a, "b"', "c", "d"), "ics", values, ())
    text = table.to_csv(str(tmp_path / "t.csv"))
    assert (tmp_path / "t.csv").read_text() == f"{text}\n"
    head, *rows = csv.reader(io.StringIO(text))
    assert head[1:] == [row[0] for row in rows] == list(table.names)
    read = [[float(cell or "nan") for cell in row[1:]] for row in rows]
    np.testing.assert_array_equal(np.array(read), values)

    pandas = ModuleType("pandas")
    pandas.__file__, pandas.__spec__ = "pandas.py", SimpleNamespace(name="pandas")  # type: ignore[assignment]
    pandas.DataFrame = lambda data, index, columns: (data, index, columns)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    assert table.to_frame() == (values, table.names, table.names)


class Kernel:
    """What IPython is in a notebook, and the bars that were drawn there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, kernel: object = True) -> None:
        self.drawn: list[list[huref.Progress]] = []
        ipython = ModuleType("IPython")
        ipython.get_ipython = lambda: SimpleNamespace(kernel=kernel)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "IPython", ipython)
        monkeypatch.setattr(progress.importlib.util, "find_spec", lambda name: name)
        monkeypatch.setattr(progress, "bars", self.bars)

    @contextmanager
    def bars(self) -> Iterator[Callable[[huref.Progress], None]]:
        self.drawn.append([])
        yield self.drawn[-1].append


def test_a_notebook_draws_one_set_of_bars_by_itself(
    models: dict[str, Path], saved: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, child = models["base"], str(models["child"])
    calls: tuple[Callable[..., Any], ...] = (
        lambda **told: huref.fingerprint(base, **told),
        lambda **told: huref.compare(saved["base"], child, **told),  # fingerprints a model on the way
        lambda **told: huref.compare(base, child, huref.CompareOptions(method="agreement"), **told),
        lambda **told: huref.matrix([saved["base"], child, base], **told),
        lambda **told: huref.explain(base, child, **told),
        lambda **told: huref.parents(child, [base], **told),
    )
    for call in calls:
        with monkeypatch.context() as patched:
            kernel = Kernel(patched)
            call()
            assert len(kernel.drawn) == 1 and all(isinstance(step, huref.Progress) for step in kernel.drawn[0])
            steps: list[huref.Progress] = []
            call(report=steps.append)
            assert steps == kernel.drawn[0] != [] and len(kernel.drawn) == 1
    with pytest.raises(huref.HurefError), monkeypatch.context() as patched:
        kernel = Kernel(patched)
        huref.compare(base, "nowhere")
    assert not progress._is_at_work.locked()


def test_a_script_draws_none(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, kernel=None)  # IPython in a terminal
    huref.fingerprint(models["base"])
    monkeypatch.delitem(sys.modules, "IPython")
    huref.fingerprint(models["base"])
    assert kernel.drawn == []


def test_bars_begin_with_the_first_step_and_names_steer_no_terminal() -> None:
    from rich.console import Console

    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100)
    with progress.bars(console):
        pass
    assert stream.getvalue() == ""
    with progress.bars(console) as report:
        report(huref.Progress("reading \x1b]0;[red]name", 1, 2))
    assert "reading \\x1b]0;[red]name" in stream.getvalue() and " 50%" in stream.getvalue()


def test_a_signature_is_the_verbs_own() -> None:
    assert str(inspect.signature(huref.compare)).startswith("(a: 'Reference', b: 'Reference', options: ")
    assert "method" in inspect.signature(huref.compare).parameters


WRONG: dict[str, Callable[[], object]] = {
    "method": lambda: huref.compare("a", "b", method="guess"),
    "layers": lambda: huref.Recipe(layers="last").layer_indices(3),
    "n_tokens": lambda: huref.compare("a", "b", n_tokens=3),
    "recipe": lambda: huref.fingerprint("a", "papers"),
    "encoder": lambda: huref.fingerprint("a", encoder="mean"),
    "expect": lambda: huref.CompareOptions(expect="guilty"),
    "score": lambda: huref.matrix(["a", "b"], "likeness"),
    "encoder_weights": lambda: huref.compare(made(), kin(0.5, "b"), encoder_weights="w.safetensors"),
    "seed": lambda: huref.CheckOptions(seed=-1),
    "n_neurons": lambda: huref.CheckOptions(n_neurons=0),
    "dtype": lambda: huref.AttackOptions(dtype="float8"),
    "layout": lambda: huref.render(made(), layout="circle"),
    "size": lambda: huref.render(made(), size=0),
    "psi": lambda: huref.render(made(), psi=2.0),
    "label": lambda: huref.render(made(), label=2),
    "style": lambda: huref.save_picture(made(), "a.png", style="gif"),
    "base": lambda: huref.save_picture(made(), "a.png", base=made()),
    "hash_files": lambda: huref.ReportOptions(hash_files=True),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_message_names_the_parameter_and_an_option_that_exists(name: str, dogs: None) -> None:
    with pytest.raises(huref.HurefError) as caught:
        WRONG[name]()
    found = dict(re.findall(r"(\w+) \((--[\w-]+)\)", caught.value.where))
    assert caught.value.exit_code == 2 and name in found, caught.value.where
    written = {option for callback in COMMANDS.values() for _, option, _, _ in reference.parameters(callback)}
    assert any(found[name] in re.split(r"[ ,`]+", option) for option in written), found


def test_what_names_no_model_is_said(models: dict[str, Path]) -> None:
    base = models["base"]
    for call in (
        lambda other: huref.compare(base, other),
        lambda other: huref.compare(other, base),
        lambda other: huref.rank(base, other),
        lambda other: huref.matrix([base, other]),
        lambda other: huref.explain(base, other),
        lambda other: huref.parents(base, [other]),
        lambda other: huref.parents(other, [base]),
        lambda other: huref.attack(other, "nowhere"),
        huref.fingerprint,
        huref.render,
    ):
        for other in (None, 5, b"base", [None]):
            with pytest.raises(huref.HurefError, match="this names no model") as caught:
                call(other)  # type: ignore[arg-type]
            assert_complete(caught.value)
    with pytest.raises(huref.HurefError, match="options of another kind"):
        huref.attack(base, "nowhere", ["all"])  # type: ignore[arg-type]
