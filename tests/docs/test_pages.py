"""The documentation can fail: what it says of commands, errors and links is compared with what is there."""

from __future__ import annotations

import importlib
import inspect
import re
import tomllib
from pathlib import Path

import pytest

from huref import errors
from kit.references import COMMANDS, architectures, python_reference, reference

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(page for folder in ("docs", "src", "verifier") for page in (ROOT / folder).rglob("*.md")),
        *(ROOT / "tests").rglob("README.md"),
        *(ROOT / "lab").glob("*.md"),
        *(ROOT / "lab" / "benchmarks").glob("*.md"),
    ]
)


def test_the_command_reference_is_up_to_date() -> None:
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), (
        "run: python docs/generate_cli_reference.py"
    )


def test_the_list_of_architectures_is_up_to_date() -> None:
    assert architectures.PAGE.read_text(encoding="utf-8") == architectures.page(), (
        "run: python docs/generate_architectures.py"
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help(name: str) -> None:
    callback = COMMANDS[name]
    assert inspect.getdoc(callback)
    for _, written, _, text in reference.parameters(callback):
        assert text.strip() and text.strip().endswith("."), f"{name} {written}"
    assert any(written == "--json" for _, written, _, _ in reference.parameters(callback)), name


def test_every_command_of_the_design_that_is_here_is_in_the_reference() -> None:
    names = ("fingerprint", "compare", "matrix", "render", "tokens rank", "demo", "train generator")
    assert set(COMMANDS) >= {f"huref {name}" for name in names}


def _error_classes() -> list[type[errors.HurefError]]:
    return [v for v in vars(errors).values() if inspect.isclass(v) and issubclass(v, errors.HurefError)]


@pytest.mark.parametrize("kind", _error_classes())
def test_every_error_class_is_documented_with_its_exit_code(kind: type[errors.HurefError]) -> None:
    text = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in text.splitlines() if line.startswith(f"| `{kind.__name__}` |")]
    assert len(rows) == 1
    assert int(rows[0][2]) == kind.exit_code
    assert all(cell.strip() for cell in rows[0][3:5])


def test_no_error_class_is_documented_that_does_not_exist() -> None:
    text = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    names = set(re.findall(r"^\| `(\w+)` \|", text, re.M))
    assert names == {kind.__name__ for kind in _error_classes()}
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.M)}
    assert codes == {0, 1, 130} | {kind.exit_code for kind in _error_classes()}


def _prose(page: Path) -> str:
    """Text without code, where brackets mean something else."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^    .*$", "", text, flags=re.M))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_resolve(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)[^)]*\)|<img[^>]+src=\"([^\"]+)\"", _prose(page))
    for target in (a or b for a, b in targets):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            found = page.parent / path if path else page
            assert found.exists(), target
            assert not anchor or anchor in _anchors(found), target


def test_every_document_is_in_the_index() -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", _prose(DOCS / "README.md"))
    linked = {(DOCS / target).resolve() for target in targets if not re.match(r"[a-z]+:", target)}
    pages = {page.resolve() for page in DOCS.rglob("*.md")} - {(DOCS / "README.md").resolve()}
    assert pages and sorted(pages - linked) == []


def test_every_document_is_of_a_kind() -> None:
    kinds = {"tutorial", "how-to", "reference", "explanation", "formats", "decisions"}
    assert {page.relative_to(DOCS).parts[0] for page in DOCS.rglob("*.md")} == {*kinds, "README.md"}


def _is_there(name: str) -> bool:
    """Whether a dotted name is a module, or leads to something in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part, None)
        return found is not None
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_modules_and_files_named_in_the_pages_exist(page: Path) -> None:
    if page.name == "CHANGELOG.md":
        return  # it tells of names that are gone
    text = page.read_text(encoding="utf-8")
    named, files = set(), set()
    for code in re.findall(r"`([^`\n]+)`", text):
        named |= set(re.findall(r"(?<![\w./-])huref(?:_lab)?(?:\.[A-Za-z_]\w*)+(?![\w./-])", code))
        files |= set(re.findall(r"(?<![\w./])(?:src|lab|tests|docs|verifier)/[\w./*-]+", code))
    for module, names in re.findall(r"^ *from (huref[\w.]*) import ([\w, ]+)$", text, re.M):
        named |= {f"{module}.{name.strip()}" for name in names.split(",")}
    groups = tomllib.loads((ROOT / "lab" / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    assert [name for name in sorted(named - set(groups)) if not _is_there(name)] == []
    assert [path for path in sorted(files) if not any(ROOT.glob(path.rstrip("/.")))] == []


@pytest.mark.parametrize(("package", "home"), [("huref", "src/huref"), ("huref_lab", "lab/src/huref_lab")])
def test_the_map_has_every_room(package: str, home: str) -> None:
    """The tree in CONTRIBUTING.md: rooms with a slash behind them, and lone modules of the lowest layer."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (tree,) = re.findall(rf"^{home}/.*?\n(.*?)(?:^\S|^```)", text, re.M | re.S)
    rooms = {init.parent.name for init in (ROOT / home).glob("*/__init__.py")}
    assert set(re.findall(r"^(?: \d| {2}) +(\w+)/", tree, re.M)) == rooms


def _anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ +(.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _shell_lines() -> list[tuple[str, str]]:
    """Commands of huref and make in the pages, with the page: lines of code, and code within a sentence."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        fenced = re.findall(r"^```.*?\n(.*?)^```", text, re.M | re.S)
        blocks = [*"".join(fenced).splitlines(), *re.findall(r"^    (.*)$", text, re.M)]
        code = [line.strip().removeprefix("$ ") for line in blocks] + re.findall(r"`([^`\n]+)`", text)
        found += [(page.name, line) for line in code if re.match(r"(huref|make) [a-z]", line)]
    return found


def test_pages_for_users_import_only_from_public_faces() -> None:
    pages = [ROOT / "README.md", ROOT / "lab" / "README.md"]
    pages += [
        page for kind in ("tutorial", "how-to", "reference", "explanation") for page in (DOCS / kind).glob("*.md")
    ]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    found = re.findall(r"^ *from (huref[\w.]*) import ([\w, ]+)$", text, re.M)
    assert found
    for room, names in found:
        assert room in python_reference.ROOMS
        assert set(names.replace(" ", "").split(",")) <= set(importlib.import_module(room).__all__), room


def test_commands_in_the_pages_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    groups = {name.rsplit(" ", 1)[0] for name in COMMANDS}
    for page, line in _shell_lines():
        words = re.split(r"\s+", re.split(r"\s+[#|>]|\s*->", line)[0])
        if words[0] == "make":
            assert words[1].strip(".,:;") in targets, f"{page}: {line}"
            continue
        name = next((n for n in (" ".join(words[:3]), " ".join(words[:2])) if n in COMMANDS or n in groups), None)
        assert name, f"{page}: {line}"
        known = {
            written.split()[0]
            for command, callback in COMMANDS.items()
            if command.startswith(name)
            for _, written, _, _ in reference.parameters(callback)
        } | {"--help"}
        for option in (word.split("=")[0].strip("[]`,") for word in words if word.startswith(("--", "[--"))):
            assert option in known, f"{page}: {line}"


def test_pages_named_in_messages_and_docstrings_exist() -> None:
    named = set()
    for path in (ROOT / "src").rglob("*.py"):
        named |= set(re.findall(r"docs/[\w/.-]+\.md(?! of)", path.read_text(encoding="utf-8")))
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
