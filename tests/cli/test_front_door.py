"""The front door: few names, all documented, and nothing heavy behind a mere import."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import huref
from huref import api, errors
from kit.references import python_reference
from kit.tiny_llama import TinyLlama


def test_names_are_sorted_and_complete() -> None:
    assert huref.__all__ == sorted(huref.__all__)
    assert dir(huref) == huref.__all__
    assert all(getattr(huref, name) is not None for name in huref.__all__)
    assert set(huref._HOMES) | {"__version__"} == set(huref.__all__)


def test_every_verb_has_its_options_and_its_result_beside_it() -> None:
    """Whatever a signature names of huref's own, but what only proofs are made of."""
    verbs = [getattr(huref, name) for name in huref.__all__ if isinstance(getattr(huref, name), FunctionType)]
    said = " ".join(str(value) for verb in verbs for value in inspect.get_annotations(verb).values())
    named = set(re.findall(r"[A-Z]\w+", said)) - {"Path", "Sequence", "None", "Image", "Reference", "Report"}
    assert named - set(huref.__all__) == {"Commitment", "SketchProof", "InferenceProof", "OpenedRows"}
    assert all(issubclass(getattr(huref, name), object) for name in named & set(huref.__all__))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = huref.no_such_thing


@pytest.mark.parametrize("name", [name for name in huref.__all__ if name != "__version__"])
def test_everything_public_says_what_it_does(name: str) -> None:
    thing = getattr(huref, name)
    assert inspect.getdoc(thing), name
    if inspect.isclass(thing):
        members = [
            v for k, v in vars(thing).items() if isinstance(v, FunctionType | property) and not k.startswith("_")
        ]
        assert all(inspect.getdoc(member) for member in members), name
    else:
        assert set(inspect.signature(thing).parameters) and inspect.signature(thing).return_annotation, name


ROOMS = [importlib.import_module(name) for name in python_reference.ROOMS]


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.__name__)
def test_every_room_has_a_face_of_which_every_name_leads_home(room: ModuleType) -> None:
    assert room.__doc__ and list(room._HOMES) == [name for name in room.__all__ if name != "__version__"]
    assert sorted(dir(room)) == sorted(room.__all__)
    submodules = {module.name for module in pkgutil.iter_modules(room.__path__)}
    assert not submodules & set(room.__all__), "a module of that name would hide it"
    for name, home in room._HOMES.items():
        thing = getattr(room, name)
        assert thing is vars(importlib.import_module(home))[name]
        assert not callable(thing) or (thing.__module__ == home and inspect.getdoc(thing)), (
            f"{name} is at home elsewhere"
        )


def test_every_room_is_public_or_said_to_be_internal() -> None:
    rooms = {f"huref.{module.name}" for module in pkgutil.iter_modules(huref.__path__) if module.ispkg}
    assert rooms == {
        name for name in (*python_reference.ROOMS, *python_reference.INTERNAL) if name.startswith("huref.")
    }


def test_importing_every_room_loads_neither_torch_nor_numpy() -> None:
    assert not _loaded(f"import {', '.join(python_reference.ROOMS)}") & {"torch", "numpy"}


def test_the_reference_of_python_is_up_to_date() -> None:
    found = python_reference.PAGE.read_text(encoding="utf-8")
    assert found == python_reference.page(), "run: python docs/generate_python_reference.py"


@pytest.mark.parametrize("name", api.__all__)
def test_every_verb_of_the_commands_is_on_the_face_of_a_room(name: str) -> None:
    assert any(name in room.__all__ for room in ROOMS) or name in ("convert_encoder", "convert_generator")
    assert getattr(api, name) is vars(importlib.import_module(api._HOMES[name]))[name]


def _loaded(statement: str, exit_code: int = 0) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after a statement, which may end with an exit code."""
    run = f"code = 0\ntry:\n    {statement}\nexcept SystemExit as ended:\n    code = ended.code or 0\n"
    tell = "print('\\n' + ' '.join(sys.modules))\nsys.exit(code)"
    command = [sys.executable, "-c", f"import sys\n{run}{tell}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == exit_code, done.stderr
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("import huref; huref.__version__", {"torch", "numpy", "safetensors", "PIL", "rich", "typer"}),
        ("import huref; huref.HurefError", {"torch", "numpy"}),
        (
            "from huref.cli.app import main; sys.argv = ['huref', '--help']; main()",
            {"torch", "numpy", "transformers"},
        ),
        ("from huref.cli.app import main; sys.argv = ['huref', '--version']; main()", {"torch", "numpy"}),
        ("from huref.cli.app import main; sys.argv = ['huref', 'train', 'generator', '--help']; main()", {"torch"}),
        ("import huref; huref.load_fingerprint, huref.save_fingerprint", {"torch"}),
        ("import huref.api, huref.kinship.saved, huref.report.tables", {"torch"}),
    ],
)
def test_imports_stay_light(statement: str, forbidden: set[str]) -> None:
    assert not _loaded(statement) & forbidden


@pytest.mark.parametrize("recipe", ["", "name='paper'", "name='paper', encoder='mean', n_tokens=256"])
def test_a_fingerprint_is_made_without_torch_or_scipy(recipe: str, models: dict[str, Path]) -> None:
    """Of a model in bfloat16, which numpy does not know by itself."""
    statement = f"import huref; print(huref.fingerprint({str(models['rounded'])!r}, huref.Recipe({recipe})).vector)"
    assert not _loaded(statement) & {"torch", "scipy", "transformers", "PIL"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_is_attacked_and_its_logits_checked_without_torch_or_scipy(dtype: str, tmp_path: Path) -> None:
    arguments = ["huref", "attack", "all", str(TinyLlama().save(tmp_path / "base")), str(tmp_path / "out")]
    statement = f"from huref.cli.app import main; sys.argv = {[*arguments, '--dtype', dtype]}; main()"
    assert not _loaded(statement) & {"torch", "scipy", "transformers", "PIL"}
    assert json.loads((tmp_path / "out" / "huref_attack.json").read_text())["dtype"] == dtype


@pytest.mark.parametrize(
    ("name", "options", "code"),
    [("nowhere", [], 4), ("unknown", [], 4), ("base", ["--layers", "99"], 2), ("base", ["--encoder", "cnn"], 2)],
)
def test_fingerprint_refuses_before_it_loads_torch(name: str, options: list[str], code: int, tmp_path: Path) -> None:
    base = TinyLlama()
    base.save(tmp_path / "base")
    config = base.save(tmp_path / "unknown") / "config.json"
    config.write_text(json.dumps({**base.config, "model_type": "strange", "architectures": ["StrangeForCausalLM"]}))
    arguments = ["huref", "fingerprint", str(tmp_path / name), *options, "--out", str(tmp_path)]
    loaded = _loaded(f"from huref.cli.app import main; sys.argv = {arguments}; main()", code)
    assert not loaded & {"torch", "scipy", "transformers", "PIL"}


def test_the_error_tree_in_the_docstring_is_the_real_one() -> None:
    drawn = {
        match["name"]: (len(match["lines"]), int(match["code"]))
        for match in re.finditer(
            r"^    (?P<lines>[│├└─ ]*)(?P<name>\w+Error)  +(?P<code>\d)", errors.__doc__ or "", re.M
        )
    }
    classes = [v for v in vars(errors).values() if inspect.isclass(v) and issubclass(v, errors.HurefError)]
    real = {
        kind.__name__: (4 * (len(kind.__mro__) - len(errors.HurefError.__mro__)), kind.exit_code) for kind in classes
    }
    assert drawn == real


def test_a_message_has_its_parts_and_keeps_them_apart() -> None:
    error = errors.CorruptFileError("broken", where="a.bin", expected="1", got="2", next_step="again")
    assert str(error).splitlines() == ["broken", "  where: a.bin", "  expected: 1", "  got: 2", "  next step: again"]
    assert (error.what, error.where, error.expected, error.got, error.next_step) == (
        "broken",
        "a.bin",
        "1",
        "2",
        "again",
    )
    assert error.args == (str(error),)


def test_the_front_doors_own_example_runs(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dogs: None
) -> None:
    """What `help(huref)` shows, word for word, with tiny models in the place of the user's."""
    example = "\n".join(
        line.removeprefix("    ") for line in (huref.__doc__ or "").splitlines() if line.startswith("    ")
    )
    for name, model in {"my-model": "base", "other": "child", "a": "base", "b": "child", "c": "stranger"}.items():
        (tmp_path / name).symlink_to(models[model])
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(example.replace("my-model.huref", "saved.huref"), names)
    assert names["quick"].verdict == "derived" and names["family"].parents == ("other",)
    assert (tmp_path / "saved.huref.safetensors").is_file()
    assert names["found"].verdict == "derived" and names["table"].values.shape == (3, 3)


def test_paths_may_be_texts(models: dict[str, Path], tmp_path: Path, dogs: None) -> None:
    found = huref.fingerprint(str(models["base"]))
    file, picture = api.write(found, str(tmp_path / "out"))
    api.save_picture(found, str(tmp_path / "one.png"))
    assert picture.is_file() and huref.load_fingerprint(str(file)) is not None
    (tmp_path / "corpus.txt").write_text("bal bel bil")
    ids = huref.rank_tokens(str(models["base"]), str(tmp_path / "corpus.txt"), str(tmp_path / "ids.txt"))
    assert len(ids) and (tmp_path / "ids.txt").is_file()
