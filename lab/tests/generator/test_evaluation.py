"""Laws of the evaluation of a generator: it tells good from bad, finds what was learnt by heart, refuses nonsense.

The extractor is a coarse thumbnail here: what the real ones do is tested in test_image_measures.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from huref.errors import CorruptFileError, InputError, OutputError, UsageError
from huref.portraits.generator.config import StyleGAN2Config
from huref.portraits.generator.file import load_generator, save_generator
from huref.portraits.generator.stylegan2 import PAPER_PSI
from huref.portraits.image.pixels import Pixels
from huref.portraits.image.rendering import render
from huref_lab.generator import evaluation
from huref_lab.generator.curve import ExportScore, curve_svg, read_log, score_files, ticks
from huref_lab.generator.evaluation import GeneratorEvaluation, draw_vectors, evaluate_generator
from huref_lab.generator.figures import Photographs, coarse, diversity, judge, memorisation, nearest_sheet
from huref_lab.generator.network import TrainableGenerator
from huref_lab.pictures.embedding import Embedding
from huref_lab.pictures.sample_distances import Estimate
from kit.command_line import Outcome

pytestmark = pytest.mark.training

SIDE = 16
CONFIG = StyleGAN2Config(resolution=SIDE, z_dim=24, w_dim=16, mapping_layers=2, channel_base=128, channel_max=12)


class Thumbnail(nn.Module):
    """A picture reduced to 4 x 4 colours: 48 numbers."""

    def forward(self, levels: Tensor) -> Tensor:
        return functional.adaptive_avg_pool2d(levels, 4).flatten(1) / 127.5 - 1


@pytest.fixture(autouse=True)
def thumbnails(monkeypatch: pytest.MonkeyPatch) -> Embedding:
    embedding = Embedding("thumbnail", Thumbnail(), SIDE)
    monkeypatch.setattr(evaluation, "load_embedding", lambda name: embedding)
    return embedding


def write_generator(path: Path, seed: int, images: int | None = None, side: int = SIDE) -> Path:
    torch.manual_seed(seed)
    generator = TrainableGenerator(StyleGAN2Config(side, 24, 16, 2, 128, 12)).requires_grad_(False)
    for parameter in generator.parameters():
        parameter += 0.3 * torch.randn_like(parameter)
    save_generator(generator.drawing(), path, {} if images is None else {"images": images})
    return path


def save_pictures(folder: Path, pixels: Pixels) -> Path:
    folder.mkdir()
    for k, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / f"{k:03d}.png")
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator; photographs, seen and unseen, which are its own pictures of other vectors; another generator."""
    folder = tmp_path_factory.mktemp("evaluation")
    own = load_generator(write_generator(folder / "own.safetensors", 1, images=4000))
    write_generator(folder / "other.safetensors", 2, images=8000)
    pixels = render(draw_vectors(180, CONFIG.z_dim, 99), own, psi=1.0)
    save_pictures(folder / "train", pixels[:120])
    save_pictures(folder / "held-out", pixels[120:])
    return folder


def settings(place: Path, out: Path, **changes: Any) -> GeneratorEvaluation:
    base = {"weights": place / "own.safetensors", "data": place / "train", "held_out": place / "held-out"}
    return GeneratorEvaluation(**(base | {"out": out, "samples": 100, "export_samples": 60} | changes))


def test_the_generator_that_drew_the_photographs_is_at_the_floor_and_another_is_not(
    place: Path, tmp_path: Path
) -> None:
    path = evaluate_generator(settings(place, tmp_path / "out", baseline=place / "other.safetensors"))
    found = json.loads(path.read_text())
    assert found["schema_version"] == "huref.generator-evaluation/1.0"
    assert found["photographs"] == {"training": 120, "held_out": 60}
    assert found["weights"]["images"] == 4000 and found["weights"]["resolution"] == SIDE
    full, shown = found["generator"]
    assert (full["psi"], shown["psi"]) == (1.0, PAPER_PSI)
    for which in ("kernel_distance_held_out", "kernel_distance_training"):
        assert abs(full[which]["value"]) < 3 * full[which]["error"]
        bad = found["baseline"]["generator"][0][which]
        assert bad["value"] > 5 * bad["error"]
    assert abs(found["floor"]["kernel_distance"]["value"]) < 3 * found["floor"]["kernel_distance"]["error"]
    half = found["floor"]["kernel_distance_half_size"]
    assert half["value"] > found["floor"]["kernel_distance"]["value"]
    assert full["precision"] > 0.6 and full["recall"] > 0.6
    assert found["baseline"]["generator"][0]["precision"] < 0.4
    assert shown["diversity"] < full["diversity"]  # truncation draws pictures together
    assert found["memorisation"]["features"]["share_nearer"] < 0.1
    assert not (tmp_path / "out" / "curve.svg").exists()
    with Image.open(tmp_path / "out" / "nearest.png") as sheet:
        assert sheet.size[0] > 8 * 128


def test_the_same_settings_give_the_same_file(place: Path, tmp_path: Path) -> None:
    first, second = (evaluate_generator(settings(place, tmp_path / name)).read_bytes() for name in "ab")
    assert first == second
    third = evaluate_generator(settings(place, tmp_path / "c", seed=1)).read_bytes()
    assert third != first


def photographs(place: Path, embed: Embedding) -> Photographs:
    return Photographs.load(place / "train", place / "held-out", SIDE, embed)


def test_what_was_learnt_by_heart_is_found_also_when_mirrored(place: Path, thumbnails: Embedding) -> None:
    known = photographs(place, thumbnails)
    copies = known.training[:40].copy()
    copies[0] = copies[0] // 2 + 10
    found = memorisation(copies, thumbnails(copies), known)
    assert found["features"]["share_nearer"] >= 39 / 40 and found["pixels"]["share_nearer"] >= 39 / 40
    mirrored = np.ascontiguousarray(copies[:, :, ::-1])
    assert memorisation(mirrored, thumbnails(mirrored), known)["pixels"]["share_nearer"] >= 39 / 40
    unseen = memorisation(known.held_out, known.held_out_features, known)
    for figures in unseen.values():
        assert figures["share_nearer"] <= 1 / 60 + 1e-9
        assert figures["made_to_training"] == figures["held_out_to_training"]


def test_a_generator_with_one_picture_has_no_diversity_and_no_recall(place: Path, thumbnails: Embedding) -> None:
    known = photographs(place, thumbnails)
    one = np.repeat(known.training_features[1:2], 60, axis=0)
    assert diversity(one) == pytest.approx(0, abs=1e-6)
    figures = judge(one, known)
    assert figures["precision"] == 1.0 and figures["recall"] <= 0.02
    assert figures["kernel_distance_training"]["value"] > 5 * figures["kernel_distance_training"]["error"] > 0


def test_diversity_is_the_mean_over_pairs() -> None:
    rows = np.random.default_rng(0).standard_normal((5, 3))
    pairs = [(x, y) for i, x in enumerate(rows) for y in rows[i + 1 :]]
    plain = np.mean([1 - x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in pairs])
    assert diversity(rows) == pytest.approx(plain)


def test_coarse_distances_are_in_levels() -> None:
    dark, light = np.full((1, 64, 64, 3), 10, np.uint8), np.full((1, 64, 64, 3), 60, np.uint8)
    assert np.linalg.norm(coarse(dark) - coarse(light)) == pytest.approx(50, abs=1e-3)


def test_the_sheet_shows_each_made_picture_before_its_nearest_photographs(place: Path, thumbnails: Embedding) -> None:
    known = photographs(place, thumbnails)
    made = known.training[[5, 9, *range(20, 34)]]
    sheet = nearest_sheet(made, thumbnails(made), known)
    first, second = sheet[16 : 16 + 128, 16 : 16 + 128], sheet[16 : 16 + 128, 16 + 142 : 16 + 142 + 128]
    assert np.array_equal(first, second)  # a copy's nearest photograph is what it copies


def test_exports_are_measured_once_and_drawn_in_order(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports, run = tmp_path / "exports", tmp_path / "run"
    exports.mkdir()
    run.mkdir()
    (exports / "b.safetensors").write_bytes((place / "own.safetensors").read_bytes())
    (exports / "a.safetensors").write_bytes((place / "other.safetensors").read_bytes())
    lines = [{"images": k * 1000, "seconds": k, "critic": 2 - k / 10, "a<b": float(k)} for k in range(1, 6)]
    (run / "log.jsonl").write_text(
        "\n".join(json.dumps(line) for line in lines) + '\n{"images": 9000, "critic": NaN}\n'
    )
    chosen = settings(place, tmp_path / "out", exports=exports, run=run)
    found = json.loads(evaluate_generator(chosen).read_text())
    assert [(score["file"], score["images"]) for score in found["exports"]] == [
        ("b.safetensors", 4000),
        ("a.safetensors", 8000),
    ]
    assert found["exports"][0]["held_out"]["value"] < found["exports"][1]["held_out"]["value"]
    tree = ElementTree.fromstring((tmp_path / "out" / "curve.svg").read_text())
    texts = [element.text for element in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert {"critic", "a<b", "to held-out photographs", "to training photographs"} <= set(texts)
    assert len(list(tree.iter("{http://www.w3.org/2000/svg}circle"))) == 2 * 5 + 2 * 2
    measured: list[Path] = []
    original = evaluation._score
    monkeypatch.setattr(evaluation, "_score", lambda path, *rest: measured.append(path) or original(path, *rest))
    assert json.loads(evaluate_generator(chosen).read_text()) == found
    assert measured == []
    evaluate_generator(settings(place, tmp_path / "out", exports=exports, export_samples=61))
    assert len(measured) == 2


def test_points_of_the_curve_lie_where_their_numbers_say() -> None:
    scores = [ExportScore(f"{k}", 1000 * k, Estimate(0.4 / k, 0.01), Estimate(0.5 / k, 0.0)) for k in (1, 2, 4)]
    tree = ElementTree.fromstring(curve_svg([], scores, Estimate(0.0, 0.0)))
    circles = [
        (float(c.get("cx", 0)), float(c.get("cy", 0))) for c in tree.iter("{http://www.w3.org/2000/svg}circle")
    ]
    held_out, training = np.array(circles[:3]), np.array(circles[3:])
    values = np.array([0.4, 0.2, 0.1, 0.5, 0.25, 0.125])
    slope = np.polyfit(values, np.r_[held_out[:, 1], training[:, 1]], 1)
    np.testing.assert_allclose(np.polyval(slope, values), np.r_[held_out[:, 1], training[:, 1]], atol=0.1)
    assert slope[0] < 0  # more is higher up
    np.testing.assert_allclose(np.diff(held_out[:, 0]), np.diff(held_out[:, 0])[0] * np.array([1, 2]), atol=0.2)


@pytest.mark.parametrize("span", [(0.0, 1.0), (-0.0157, 0.287), (0.0, 24000.0), (0.0, 1e-7), (-3.0, 1e6), (0.0, 6.9)])
def test_ticks_are_few_round_and_within(span: tuple[float, float]) -> None:
    found = ticks(*span)
    assert 3 <= len(found) <= 7 and found == sorted(set(found))
    assert span[0] - 1e-9 <= found[0] and found[-1] <= span[1] + 1e-9 * abs(span[1])
    step = found[1] - found[0]
    assert f"{step / 10 ** math.floor(math.log10(step) + 1e-9):.3g}" in ("1", "2", "5", "10")


def test_an_empty_curve_is_still_a_document() -> None:
    ElementTree.fromstring(curve_svg([], [], Estimate(0.0, 0.0)))
    ElementTree.fromstring(curve_svg([{"images": 0.0, "loss": 0.0}], [], Estimate(0.0, 0.0)))


@pytest.mark.parametrize("text", ["{", '{"seconds": 1}', '{"images": "many"}', "[1]"])
def test_a_log_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(text)
    with pytest.raises(CorruptFileError, match="not the log of a training run"):
        read_log(tmp_path)
    with pytest.raises(CorruptFileError, match="not the log of a training run"):
        read_log(tmp_path / "nowhere")


def test_kept_scores_that_cannot_be_read_are_measured_again(tmp_path: Path) -> None:
    file, kept = tmp_path / "x", tmp_path / "kept.json"
    file.write_bytes(b"weights")
    kept.write_text("{")
    score = ExportScore("x", 5, Estimate(1.0, 0.1), Estimate(2.0, 0.2))
    assert score_files(kept, [file], "s", lambda path: score) == [score]
    assert score_files(kept, [file], "s", lambda path: pytest.fail("measured twice")) == [score]


def test_bad_input_is_refused_with_its_place(place: Path, tmp_path: Path) -> None:
    def run(**changes: Any) -> None:
        evaluate_generator(settings(place, tmp_path / "out", **changes))

    with pytest.raises(UsageError, match="too few samples"):
        run(samples=5)
    few = save_pictures(tmp_path / "few", np.zeros((3, 8, 8, 3), np.uint8))
    with pytest.raises(UsageError, match="3 pictures"):
        run(held_out=few)
    with pytest.raises(UsageError, match="no such folder"):
        run(data=tmp_path / "nowhere")
    for number in range(20):
        (few / f"x{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(CorruptFileError, match=r"x0\.png"):
        run(held_out=few)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes((place / "own.safetensors").read_bytes()[:-100])
    for name in ("weights", "baseline"):
        with pytest.raises(InputError, match=r"broken\.safetensors"):
            run(**{name: broken})
    with pytest.raises(UsageError, match="no exports"):
        run(exports=few)
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(OutputError):
        evaluate_generator(settings(place, file / "out"))


def test_pictures_of_another_size_are_brought_to_the_generators(place: Path, tmp_path: Path) -> None:
    large = write_generator(tmp_path / "large.safetensors", 3, side=32)
    found = json.loads(evaluate_generator(settings(place, tmp_path / "out", baseline=large)).read_text())
    assert found["baseline"]["weights"]["resolution"] == 32 and found["baseline"]["weights"]["images"] is None


def test_the_command_prints_what_it_wrote(place: Path, tmp_path: Path, cli: Callable[..., Outcome]) -> None:
    command = ["generator", "evaluate", place / "own.safetensors", "--data", place / "train"]
    command += ["--held-out", place / "held-out", "--out", tmp_path, "--samples", 60]
    command += ["--baseline", place / "other.safetensors"]
    done = cli(*command)
    assert done.code == 0 and done.out.splitlines()[-1] == str(tmp_path / "evaluation.json")
    assert "held-out photographs" in done.out and "baseline psi 1.0" in done.out and "no FID" in done.out
    done = cli(*command, "--json")
    assert done.code == 0
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert {**written, "evaluation_file": str(tmp_path / "evaluation.json")} == done.document
    done = cli(*command[:-1], tmp_path / "none.safetensors", "--json")
    assert done.code == 4 and "none.safetensors" in done.document["error"]["where"]
