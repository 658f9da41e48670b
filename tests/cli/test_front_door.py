"""The front door: few names, all documented, and nothing heavy behind a mere import."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from types import FunctionType

import pytest

import huref
from huref import errors


def test_names_are_few_sorted_and_complete() -> None:
    assert len(huref.__all__) <= 15
    assert huref.__all__ == sorted(huref.__all__)
    assert dir(huref) == huref.__all__
    assert all(getattr(huref, name) is not None for name in huref.__all__)
    assert set(huref._HOMES) | {"__version__"} == set(huref.__all__)


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


def _loaded(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after a statement."""
    code = f"import sys\ntry:\n    {statement}\nexcept SystemExit:\n    pass\nprint('\\n' + ' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
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
