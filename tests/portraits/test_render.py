"""`huref render` and what it calls: what the pictures show, what they say of themselves, what they refuse."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import huref
from huref import api
from huref.errors import HurefError, InconclusiveError, UsageError
from huref.fingerprints.file import SUFFIX, fingerprint_digest, load_fingerprint, save_fingerprint
from huref.portraits.drawing import PictureOptions, draw, draw_badge
from huref.portraits.generator.file import SHIPPED_SHA256
from huref.portraits.image import read_png_metadata, read_svg_metadata, render, resize
from huref.portraits.image.page import PAPER
from kit.command_line import Outcome
from kit.fingerprints import kin, made
from kit.threads import threads
from kit.tiny_generator import generator_file

Cli = Callable[..., Outcome]

pytestmark = pytest.mark.usefixtures("dogs")

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def prints(tmp_path: Path) -> list[Path]:
    """A base, a stranger, a child, a cousin: not in the order of their likeness."""
    items = (made(), kin(0.03, "stranger", 2), kin(0.97, "child", 3), kin(0.6, "cousin", 4))
    paths = [tmp_path / f"{item.model}{SUFFIX}" for item in items]
    for item, path in zip(items, paths, strict=True):
        save_fingerprint(item, path)
    return paths


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def said(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The two documents inside a picture."""
    text = read_svg_metadata(path) if path.suffix == ".svg" else read_png_metadata(path)
    assert text.keys() == {"huref", "huref:picture"}
    return json.loads(text["huref"]), json.loads(text["huref:picture"])


# What the layouts show


def test_a_portrait_is_large_by_default_and_native_when_asked(cli: Cli, prints: list[Path], tmp_path: Path) -> None:
    own = render(load_fingerprint(prints[0]).vector)[0]
    for asked, side in (((), 512), (("--size", "native"), 16), (("--size", 40), 40)):
        out = tmp_path / "p.png"
        assert cli("render", prints[0], *asked, "--out", out).code == 0
        assert np.array_equal(pixels(out), resize(own, side)) and pixels(out).shape == (side, side, 3)


def test_the_default_names_follow_the_layout(
    cli: Cli, prints: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for arguments, name in (
        ((prints[0],), "base.png"),
        (prints, "sheet.png"),
        ((*prints, "--layout", "row"), "row.png"),
        ((*prints[:2], "--layout", "difference"), "difference.png"),
        ((prints[0], "--layout", "sheet"), "sheet.png"),
        ((prints[0], "--format", "svg"), "base.svg"),
    ):
        assert cli("render", *arguments).out.strip() == name
        (here / name).unlink()


def test_a_row_is_ordered_by_likeness_and_says_both_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def spy(images: Any, labels: Any, scores: Any, **options: Any) -> np.ndarray:
        seen.update(labels=labels, scores=scores)
        return images[0]

    monkeypatch.setattr("huref.portraits.drawing.graded_row", spy)
    draw([made(), kin(0.03, "stranger"), kin(0.97, "child")], PictureOptions(layout="row"))
    assert seen["labels"] == ["base", "stranger\nICS 3.0 %\nvector 3.0 %", "child\nICS 97.0 %\nvector 97.0 %"]
    assert np.allclose(seen["scores"], [1.0, 0.03, 0.97], atol=1e-6)


def test_without_sketches_the_row_grades_by_the_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr(
        "huref.portraits.drawing.graded_row", lambda images, labels, scores, **_: seen.update(labels=labels)
    )
    bare = [replace(item, sketches={}) for item in (made(), kin(0.5, "child"))]
    draw(bare, PictureOptions(layout="row"))
    assert seen["labels"] == ["base", "child\nvector 50.0 %"]


def test_a_difference_of_twins_is_blank_and_of_strangers_is_not() -> None:
    twins = draw([made(), made("copy")], PictureOptions(layout="difference"))
    strangers = draw([made(), kin(0.0, "other")], PictureOptions(layout="difference"))
    middle = np.s_[20:260, 300:530]
    assert (twins[middle] == PAPER).all()
    assert strangers[middle].std() > 5


def test_recipes_that_do_not_compare_get_no_number() -> None:
    other = replace(kin(0.9, "other"), recipe=replace(made().recipe, n_tokens=300))
    for layout in ("row", "difference"):
        with pytest.raises(InconclusiveError, match="different recipes"):
            draw([made(), other], PictureOptions(layout=layout))
    with pytest.raises(InconclusiveError, match="different recipes"):
        draw_badge(other, PictureOptions(base=made()))
    same = draw([made(), kin(0.9, "other")], PictureOptions())
    assert not np.array_equal(draw([made(), other], PictureOptions()), same)


# What the pictures say of themselves


@pytest.mark.parametrize(("count", "layout"), [(1, "portrait"), (4, "sheet"), (4, "row"), (2, "difference")])
def test_every_layout_carries_the_headers_and_how_it_was_drawn(
    cli: Cli, prints: list[Path], tmp_path: Path, count: int, layout: str
) -> None:
    items = [load_fingerprint(path) for path in prints[:count]]
    out = tmp_path / "p.png"
    assert cli("render", *prints[:count], "--layout", layout, "--psi", 0.7, "--size", 64, "--out", out).code == 0
    headers, drawn = said(out)
    assert (headers if count == 1 else headers["fingerprints"]) == (
        items[0].header() if count == 1 else [item.header() for item in items]
    )
    assert drawn == {
        "schema_version": "huref.picture/1.0",
        "layout": layout,
        "fingerprints": [{"model": item.model, "sha256": fingerprint_digest(item)} for item in items],
        "generator_sha256": SHIPPED_SHA256,
        "psi": 0.7,
        "cutoff": 8,
        "class": None,
        "size": 64,
    }


def test_a_picture_can_be_drawn_again_from_what_it_says(cli: Cli, prints: list[Path], tmp_path: Path) -> None:
    weights = generator_file(tmp_path / "g.safetensors")
    out = tmp_path / "p.png"
    options = ("--generator", weights, "--psi", 0.3, "--layout", "sheet", "--out", out)
    assert cli("render", *prints, *options).code == 0
    _, drawn = said(out)
    assert drawn["generator_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    by_digest = {fingerprint_digest(item): item for item in map(load_fingerprint, prints)}
    again = draw(
        [by_digest[item["sha256"]] for item in drawn["fingerprints"]],
        PictureOptions(drawn["layout"], drawn["size"], drawn["psi"], weights, drawn["class"]),
    )
    assert np.array_equal(pixels(out), again)


def test_the_digest_is_the_files_own(prints: list[Path]) -> None:
    data = prints[0].read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    document = json.loads(header["__metadata__"]["huref"])
    assert fingerprint_digest(load_fingerprint(prints[0])) == document["sha256"]


# Generators


def test_another_generator_and_its_classes(cli: Cli, prints: list[Path], tmp_path: Path) -> None:
    plain = generator_file(tmp_path / "plain.safetensors")
    classes = generator_file(tmp_path / "classes.bin", label_dim=3)
    pictures = {}
    for name, options in {
        "shipped": (),
        "plain": ("--generator", plain),
        "first": ("--generator", classes),
        "0": ("--generator", classes, "--class", 0),
        "2": ("--generator", classes, "--class", 2),
    }.items():
        assert cli("render", prints[0], *options, "--size", "native", "--out", tmp_path / f"{name}.png").code == 0
        pictures[name] = pixels(tmp_path / f"{name}.png")
    assert np.array_equal(pictures["first"], pictures["0"])
    different = [pictures[name] for name in ("shipped", "plain", "0", "2")]
    assert len({picture.tobytes() for picture in different}) == 4


def test_enlarged_pictures_do_not_depend_on_the_number_of_threads() -> None:
    found = []
    for count in (1, 2, 3):
        with threads(count):
            found.append(draw([made()], PictureOptions(generator=None, size=512)).astype(int))
    assert all(np.abs(found[0] - other).max() <= 1 for other in found[1:])


# The badge


@pytest.mark.parametrize(
    "name",
    [
        "SmolLM2-135M",
        "<script>alert(1)<!--script> & \"friends\" 'too' ]]>",
        "x" * 400,
        "W" * 80,
        "模型-犬" * 20,
        "evil\u202egnp.exe\x00\x1b[31m\ufffe\n",
        "{title} %s {0}",
        "e\u0301" * 30,
    ],
)
def test_a_badge_is_valid_xml_that_says_the_name_and_runs_nothing(name: str, tmp_path: Path) -> None:
    path = tmp_path / "badge.svg"
    api.save_picture([made(name)], path, PictureOptions(base=kin(0.8, name)), "svg")
    root = ElementTree.fromstring(path.read_bytes())
    tags = [element.tag.removeprefix(SVG) for element in root.iter()]
    assert set(tags) <= {"svg", "title", "desc", "metadata", "style", "clipPath", "rect", "image", "text"}
    shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
    assert root.findtext(f"{SVG}title") == f"huref: {shown}"
    assert root.get("role") == "img" and shown in (root.findtext(f"{SVG}desc") or "")
    assert "ICS 80.0 %" in "".join(root.itertext())
    assert said(path)[0]["model"] == name
    assert [k for e in root.iter() for k in e.attrib if "href" in k or k.startswith("on")] == ["href"]
    assert next(root.iter(f"{SVG}image")).get("href", "").startswith("data:image/png;base64,")


def test_the_badges_lines_fit_the_card() -> None:
    for name in ("m", "W" * 80, "x" * 400, "模型" * 40, "a-b" * 20, "SmolLM2-135M-Instruct"):
        root = ElementTree.fromstring(draw_badge(made(name), PictureOptions()))
        lines = [element for element in root.iter(f"{SVG}text") if element.get("class") == "name"]
        assert 1 <= len(lines) <= 2
        for line in lines:
            letters = float((line.get("style") or "").removeprefix("font-size: ").removesuffix("px"))
            wide = sum(1.5 if c in "W" or ord(c) > 0x2E80 else 1.0 for c in line.text or "")
            assert 12 <= letters <= 18 and 0.68 * letters * wide <= 293
        whole = "".join(line.text or "" for line in lines)
        assert whole == name or ("…" in whole and whole[:8] == name[:8] and whole[-8:] == name[-8:])


def test_a_badge_holds_the_picture_the_score_and_the_hash(cli: Cli, prints: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "badge.svg"
    done = cli("render", prints[2], "--base", prints[0], "--out", out, "--size", 100, "--json")
    assert done.document["image_file"] == str(out)
    root = ElementTree.fromstring(out.read_bytes())
    text = "\n".join(root.itertext())
    item = load_fingerprint(prints[2])
    assert f"sha256 {fingerprint_digest(item)[:12]}" in text and "ICS 97.0 %" in text and "to base" in text
    assert "canonical-2 recipe, sketch, layers last2, 400 tokens" in text
    href = next(root.iter(f"{SVG}image")).get("href") or ""
    with Image.open(io.BytesIO(base64.b64decode(href.partition(",")[2]))) as picture:
        assert np.array_equal(np.asarray(picture), resize(render(item.vector)[0], 100))
    headers, drawn = said(out)
    assert headers == item.header() and drawn["layout"] == "badge"
    assert drawn["base"] == {"model": "base", "sha256": fingerprint_digest(load_fingerprint(prints[0]))}


def test_a_badge_without_a_base_has_no_score(cli: Cli, prints: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "badge.svg"
    assert cli("render", prints[2], "--out", out).code == 0
    root = ElementTree.fromstring(out.read_bytes())
    assert "ICS" not in "".join(root.itertext()) and "base" not in said(out)[1]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<svg",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<svg xmlns='http://www.w3.org/2000/svg'><metadata>[1]</metadata></svg>",
        b"<!DOCTYPE svg [<!ENTITY a 'b'>]><svg xmlns='http://www.w3.org/2000/svg'><metadata>{}</metadata></svg>",
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_files_that_are_no_badge(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "badge.svg"
    path.write_bytes(data)
    with pytest.raises(HurefError, match="not a badge"):
        read_svg_metadata(path)
    with pytest.raises(HurefError, match="cannot be read"):
        read_svg_metadata(tmp_path / "none.svg")


def test_equal_calls_write_equal_bytes(prints: list[Path], tmp_path: Path) -> None:
    items = [load_fingerprint(path) for path in prints]
    for style, chosen in (("png", items), ("svg", items[:1])):
        for run in ("a", "b"):
            api.save_picture(chosen, tmp_path / f"{run}.{style}", PictureOptions(), style)
        assert (tmp_path / f"a.{style}").read_bytes() == (tmp_path / f"b.{style}").read_bytes()


# The front door


def test_the_front_door_draws_what_the_command_draws(cli: Cli, prints: list[Path], tmp_path: Path) -> None:
    assert cli("render", *prints, "--layout", "row", "--out", tmp_path / "p.png").code == 0
    row = huref.render([load_fingerprint(path) for path in prints], PictureOptions(layout="row"))
    assert np.array_equal(np.asarray(row), pixels(tmp_path / "p.png"))
    assert huref.render(made()).size == (512, 512)
    assert huref.render(made(), PictureOptions(size="native")).size == (16, 16)
    with pytest.raises(UsageError, match="another number"):
        huref.render([])
