"""The documentation can fail: what it says of commands, errors and links is compared with what is there."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from huref import errors
from kit.references import COMMANDS, reference

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.md")])


def test_the_command_reference_is_up_to_date() -> None:
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), (
        "run: python docs/generate_cli_reference.py"
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


def test_commands_in_the_pages_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
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
