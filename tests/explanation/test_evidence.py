"""Evidence: the same bytes, read back whole; every claim that is bent is caught; hostile files do no harm."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from huref.errors import CorruptFileError, InputError, MissingFileError, UnsafeFileError, UsageError
from huref.explanation import CheckOptions, ExplainOptions, load_evidence, save_evidence
from huref.explanation.checking import check_opened
from huref.explanation.evidence_file import evidence_bytes
from huref.explanation.recovering import explain_opened
from huref.explanation.transform import Checked, Explanation, Share
from huref.kinship.recovery.transform import LayerTransform
from huref.model.model import Model
from kit.command_line import Outcome
from kit.explanations import attacked, family, opened, saved, upcycled

KINDS = "flip_residual+scale_residual+permute_neurons+scale_neurons+qk_map+vo_map+permute_heads+permute_vocabulary"


@pytest.fixture(scope="module")
def models() -> tuple[Model, Model]:
    return opened("llama"), opened("llama", attacked("llama", KINDS), "b")


@pytest.fixture(scope="module")
def found(models: tuple[Model, Model]) -> Explanation:
    return explain_opened(*models, ExplainOptions())


def check(found: Explanation, models: tuple[Model, Model], path: Path, **options: Any) -> Checked:
    """Save, read back and check."""
    save_evidence(found, path)
    return check_opened(load_evidence(path), *models, CheckOptions(**options))


def arrays(found: Explanation) -> list[np.ndarray]:
    """Everything that is no scalar."""
    values = [value for layer in found.layers for value in vars(layer).values()] + list(vars(found.residual).values())
    return [value for value in values if isinstance(value, np.ndarray)]


def with_layer(found: Explanation, **changes: Any) -> Explanation:
    """The first layer changed."""
    return replace(found, layers=(replace(found.layers[0], **changes), *found.layers[1:]))


def swapped(values: np.ndarray, i: int = 0, j: int = 1) -> np.ndarray:
    out = values.copy()
    out[[i, j]] = out[[j, i]]
    return out


def test_evidence_is_read_back_whole(found: Explanation, tmp_path: Path) -> None:
    save_evidence(found, tmp_path / "x.evidence.safetensors")
    again = load_evidence(tmp_path / "x.evidence.safetensors")
    assert again.to_dict() == found.to_dict()
    assert all(np.array_equal(left, right) for left, right in zip(arrays(again), arrays(found), strict=True))
    assert [left.dtype for left in arrays(again)] == [right.dtype for right in arrays(found)]
    assert dict(again.shares) == dict(found.shares)


def test_equal_explanations_give_equal_bytes(models: tuple[Model, Model], found: Explanation) -> None:
    assert evidence_bytes(explain_opened(*models, ExplainOptions())) == evidence_bytes(found)


@pytest.mark.parametrize("name", ["gemma3", "gpt2", "qwen2-moe", "olmo2"])
def test_the_evidence_of_every_structure_holds(name: str, tmp_path: Path) -> None:
    models = opened(name), opened(name, attacked(name, "all"), "b")
    checked = check(explain_opened(*models, ExplainOptions()), models, tmp_path / "x", seed=5)
    assert checked.holds, [claim for claim in checked.claims if not claim.holds]
    assert len(checked.claims) > 10


def test_the_evidence_of_an_upcycled_mixture_holds(tmp_path: Path) -> None:
    models = upcycled()
    checked = check(explain_opened(*models, ExplainOptions()), models, tmp_path / "x")
    assert checked.holds
    assert sum("experts" in claim.name for claim in checked.claims) == 2


def test_evidence_holds_in_either_order_and_of_some_layers(
    found: Explanation, models: tuple[Model, Model], tmp_path: Path
) -> None:
    assert check(found, models, tmp_path / "x").holds
    assert check(found, (models[1], models[0]), tmp_path / "x").holds
    some = check(found, models, tmp_path / "x", layers="1", n_neurons=8)
    assert some.holds
    assert not any("layer 0" in claim.name for claim in some.claims)
    assert any("1 of 2 layers" in what for what in some.unchecked)


def doubled(share: Share) -> Share:
    return replace(share, n=share.n * 2, n_equal=share.n_equal * 2, n_rounded=share.n_rounded * 2)


BENT: dict[str, tuple[Callable[[Explanation], Explanation], str]] = {
    "two neurons change places": (
        lambda f: with_layer(
            f,
            **{name: swapped(getattr(f.layers[0], name)) for name in ("neurons", "first", "second", "scales")},
        ),
        "layer 0, partners of neurons",
    ),
    "all neurons are shifted": (
        lambda f: with_layer(
            f, **{name: np.roll(getattr(f.layers[0], name), 1) for name in ("neurons", "first", "second")}
        ),
        "layer 0, partners of neurons",
    ),
    "another layer": (
        lambda f: with_layer(f, feed_forward=1),
        "layer 0, partners of neurons",
    ),
    "a scale": (
        lambda f: with_layer(f, scales=(f.layers[0].scales * 1.5).astype("<f4")),
        "layer 0, weights after undoing",
    ),
    "heads change places": (
        lambda f: with_layer(
            f, **{name: swapped(getattr(f.layers[0], name)) for name in ("heads", "heads_first", "heads_second")}
        ),
        "layer 0, partners of heads",
    ),
    "KV heads change places": (
        lambda f: with_layer(f, groups=f.layers[0].groups[::-1].copy()),
        "layer 0, partners of heads",
    ),
    "a map of queries": (
        lambda f: with_layer(f, qk=(f.layers[0].qk * 2).astype("<f4")),
        "layer 0, weights after undoing",
    ),
    "a map of values": (lambda f: with_layer(f, vo=None), "layer 0, weights after undoing"),
    "a map without inverse": (
        lambda f: with_layer(f, vo=np.zeros_like(f.layers[0].vo)),
        "layer 0, weights after undoing",
    ),
    "a sign of the stream": (
        lambda f: replace(f, residual=replace(f.residual, sign=-f.residual.sign)),
        "embeddings after undoing",
    ),
    "the scale of the stream": (
        lambda f: replace(f, residual=replace(f.residual, scale=1.0)),
        "embeddings after undoing",
    ),
    "a share": (
        lambda f: replace(f, shares={**f.shares, "layers.1.up": replace(f.shares["layers.1.up"], n_equal=0)}),
        "layer 1, weights after undoing",
    ),
    "a count": (
        lambda f: replace(f, shares={**f.shares, "layers.1.up": doubled(f.shares["layers.1.up"])}),
        "layer 1, weights after undoing",
    ),
    "a kind that was not compared": (
        lambda f: replace(f, shares={**f.shares, "layers.1.router": Share(9, 9, 9, 1.0, 1.0, 1.0)}),
        "layer 1, weights after undoing",
    ),
    "the share of the embedding": (
        lambda f: replace(f, shares={**f.shares, "embedding": replace(f.shares["embedding"], n_equal=0)}),
        "embeddings after undoing",
    ),
    "likeness before undoing": (
        lambda f: replace(f, before={**f.before, "layers.0.q": replace(f.before["layers.0.q"], dot=0.5)}),
        "layer 0, weights before undoing",
    ),
    "the vocabulary": (
        lambda f: replace(f, vocabulary={**f.vocabulary, "renumbered": 0}),
        "vocabularies",
    ),
    "the gains": (lambda f: replace(f, gains={"absorbed": 5}), "norm gains"),
    "experts": (
        lambda f: with_layer(f, experts=np.array([-1], "<i4")),
        "layer 0, experts",
    ),
}


@pytest.mark.parametrize("what", BENT)
def test_a_bent_claim_is_caught_by_name(
    what: str, found: Explanation, models: tuple[Model, Model], tmp_path: Path
) -> None:
    bend, name = BENT[what]
    checked = check(bend(found), models, tmp_path / "x", n_neurons=1000)
    assert not checked.holds
    assert name in {claim.name for claim in checked.claims if not claim.holds}


def test_a_rotation_that_is_none_is_caught(tmp_path: Path) -> None:
    models = opened("llama"), opened("llama", attacked("llama", "rotate_residual"), "b")
    found = explain_opened(*models, ExplainOptions())
    assert check(found, models, tmp_path / "x").holds
    stretched = replace(found.residual, rotation=(found.residual.rotation * 1.1).astype("<f4"))
    checked = check(replace(found, residual=stretched), models, tmp_path / "x")
    assert "residual map" in {claim.name for claim in checked.claims if not claim.holds}


def test_evidence_about_other_models_is_refused(
    found: Explanation, models: tuple[Model, Model], tmp_path: Path
) -> None:
    other = opened("llama", family("llama", seed=1)[1], "c")
    with pytest.raises(InputError, match="other models") as fault:
        check(found, (models[0], other), tmp_path / "x")
    assert fault.value.where == "c"
    claimed = replace(found, b=replace(found.b, digest=_digest(other)))  # a liar gives the right digest
    assert not check(claimed, (models[0], other), tmp_path / "x").holds


def test_maps_of_other_sizes_are_refused(found: Explanation, models: tuple[Model, Model], tmp_path: Path) -> None:
    other = opened("qwen3", title="c")  # another size of heads
    claimed = replace(found, b=replace(found.b, digest=_digest(other)))
    with pytest.raises(InputError, match="other sizes"):
        check(claimed, (models[0], other), tmp_path / "x")
    outside = found.layers[0].neurons.copy()
    outside[3] = 48
    with pytest.raises(InputError, match="other sizes"):
        check(with_layer(found, neurons=outside), models, tmp_path / "x")


def _digest(model: Model) -> str:
    from huref.explanation.digests import model_digest

    return model_digest(model)


CONTRADICTIONS: dict[str, Callable[[Explanation], Explanation]] = {
    "a partner taken twice": lambda f: with_layer(f, neurons=np.zeros(48, "<i4")),
    "a partner below -1": lambda f: with_layer(f, neurons=np.full(48, -2, "<i4")),
    "an axis taken twice": lambda f: replace(f, residual=replace(f.residual, axis=np.zeros(32, "<i4"))),
    "an axis outside": lambda f: replace(f, residual=replace(f.residual, axis=np.arange(1, 33, dtype="<i4"))),
    "a sign of 2": lambda f: replace(f, residual=replace(f.residual, sign=np.full(32, 2, "i1"))),
    "arrays of two lengths": lambda f: with_layer(f, scales=f.layers[0].scales[:-1]),
    "wide integers": lambda f: with_layer(f, first=f.layers[0].first.astype("<i8")),
    "a scale that is infinite": lambda f: with_layer(f, scales=np.full(48, np.inf, "<f4")),
    "a scale of zero": lambda f: with_layer(f, scales=np.zeros(48, "<f4")),
    "maps of another number": lambda f: with_layer(f, qk=f.layers[0].qk[:1]),
    "maps that are not square": lambda f: with_layer(f, qk=f.layers[0].qk[:, :1]),
    "maps that are not finite": lambda f: with_layer(f, vo=np.full_like(f.layers[0].vo, np.nan)),
    "a layer of A that is none": lambda f: with_layer(f, feed_forward=2),
    "a layer twice": lambda f: replace(f, layers=(f.layers[0], f.layers[0])),
    "no layers": lambda f: replace(f, layers=()),
    "a stream without length": lambda f: replace(f, residual=replace(f.residual, scale=0.0)),
    "an absurd width": lambda f: replace(f, residual=replace(f.residual, d_a=1 << 40)),
    "an unknown map": lambda f: replace(f, residual=replace(f.residual, kind="magic")),
    "more equal than there are": lambda f: replace(f, shares={"layers.0.q": Share(1, 2, 2, 0.0, 1.0, 1.0)}),
    "negative counts": lambda f: replace(f, shares={"layers.0.q": Share(-1, -2, -1, 0.0, 1.0, 1.0)}),
    "heads without a layer": lambda f: with_layer(f, attention=-1),
}


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_what_cannot_be_a_transform_is_refused_when_read(what: str, found: Explanation, tmp_path: Path) -> None:
    path = tmp_path / "x.evidence.safetensors"
    save_evidence(CONTRADICTIONS[what](found), path)
    with pytest.raises(CorruptFileError, match="no readable evidence"):
        load_evidence(path)


LAYERS = {"layers": np.zeros((1, 3), "<i4")}


def rewritten(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The file with another document and the old digest."""
    (length,) = struct.unpack("<Q", data[:8])
    document = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["huref"])
    change(document)
    return bytes(save(load(data), metadata={"huref": json.dumps(document)}))


def test_damaged_and_hostile_files_are_refused(found: Explanation, tmp_path: Path) -> None:
    data, path = evidence_bytes(found), tmp_path / "x.evidence.safetensors"
    for hostile in (
        b"",
        b"PK\x03\x04",
        data[:100],
        data[:-1],
        data[:-1] + bytes([data[-1] ^ 1]),
        struct.pack("<Q", 1 << 62) + data[8:],
        bytes(save(LAYERS)),
        bytes(save(LAYERS, metadata={"huref": "[" * 100_000})),
        bytes(
            save({"layers": np.zeros((1, 3), "<i4")}, metadata={"huref": '{"schema_version": "huref.evidence/1.0"}'})
        ),
        rewritten(data, lambda document: document.update(agreement=0.5)),
        rewritten(data, lambda document: document.update(sha256="")),
    ):
        path.write_bytes(hostile)
        with pytest.raises(CorruptFileError):
            load_evidence(path)
    path.write_bytes(rewritten(data, lambda document: document.update(schema_version="huref.evidence/2.0")))
    with pytest.raises(InputError, match="another format version, newer than this huref reads"):
        load_evidence(path)
    with pytest.raises(MissingFileError):
        load_evidence(tmp_path / "none")


def test_the_digest_is_the_documented_one(found: Explanation) -> None:
    """Written again from `docs/formats/evidence-v1.md`, so that the page and the code cannot part."""
    data = evidence_bytes(found)
    (length,) = struct.unpack("<Q", data[:8])
    document = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["huref"])
    expected, tensors = document.pop("sha256"), load(data)
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    kinds = {name: f"{name}:{array.dtype.str}:{list(array.shape)}" for name, array in tensors.items()}
    hashed = b"huref/evidence/1"
    for part in [text, *(kinds[name] for name in sorted(tensors))]:
        hashed += struct.pack("<Q", len(part.encode())) + part.encode()
    for name in sorted(tensors):
        hashed += tensors[name].tobytes()
    assert hashlib.sha256(hashed).hexdigest() == expected


def test_a_file_larger_than_any_evidence_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.evidence.safetensors"
    with path.open("wb") as file:
        file.truncate((1 << 31) + 1)
    with pytest.raises(UnsafeFileError, match="larger than any evidence"):
        load_evidence(path)


@pytest.mark.parametrize("options", [{"n_neurons": 0}, {"seed": -1}, {"layers": "first"}])
def test_a_sample_that_cannot_be_drawn_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        CheckOptions(**options)


def test_absent_layers_are_named() -> None:
    with pytest.raises(UsageError, match="no such layer"):
        ExplainOptions("7").layer_indices(3)
    assert ExplainOptions("few").layer_indices(30) == (3, 11, 18, 26)
    assert len(CheckOptions("few").layer_indices(30)) == 4
    assert CheckOptions("few", seed=1).layer_indices(30) != CheckOptions("few", seed=2).layer_indices(30)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    root = tmp_path_factory.mktemp("explain")
    models = {"base": family("llama")[1], "suspect": attacked("llama", "all"), "stranger": family("llama", 1)[1]}
    base, suspect, stranger = (saved(root / name, "llama", decoder) for name, decoder in models.items())
    return base, suspect, stranger


def test_the_command_explains_saves_and_checks(
    cli: Callable[..., Outcome], folders: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    base, suspect, stranger = folders
    file = tmp_path / "x.evidence.safetensors"
    told = cli("explain", base, suspect, "--out", file)
    assert told.code == 0
    assert "orthogonal matrix" in told.out
    assert "100.00 %" in told.out
    copies = [Path(shutil.copytree(folder, tmp_path / f"copy-of-{folder.name}")) for folder in (base, suspect)]
    checked = cli("explain", *copies, "--check", file, "--json", "--seed", 9)
    assert checked.code == 0
    assert checked.document["holds"] is True
    assert cli("explain", base, stranger, "--check", file).code == 4
    found = load_evidence(file)
    lie = found.layers[0]
    save_evidence(with_layer(found, scales=-lie.scales), file)
    caught = cli("explain", *copies, "--check", file)
    assert caught.code == 1
    assert "FAILS  layer 0, weights after undoing" in caught.out


def test_the_command_prints_documents_and_tables(
    cli: Callable[..., Outcome], folders: tuple[Path, Path, Path]
) -> None:
    base, suspect, _ = folders
    document = cli("explain", base, suspect, "--json").document
    assert document["schema_version"] == "huref.explanation/1.1"
    assert document["total"]["equal"] > 0.999
    assert document["pcs_before"] < 0.2 < 0.999 < document["pcs_after"]
    table = cli("explain", base, suspect, "--csv", "--layers", "0").out
    assert table.startswith("layer_b,layer_a,kind")
    assert "\n0,0,gate," in table


def test_the_command_says_when_there_is_nothing(
    cli: Callable[..., Outcome], folders: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    base, _, stranger = folders
    told = cli("explain", base, stranger, "--out", tmp_path / "x.evidence.safetensors", "--json")
    assert told.code == 3
    assert "nothing to explain" in told.document["error"]["what"]
    assert not (tmp_path / "x.evidence.safetensors").exists()
    (tmp_path / "bad").write_bytes(b"no")
    assert cli("explain", base, stranger, "--check", tmp_path / "bad").code == 4
    assert cli("explain", base, base, "--layers", "9").code == 2
    assert cli("explain", base, tmp_path / "none").code == 4


def test_layers_are_transforms() -> None:
    layer = LayerTransform(0)
    assert layer.to_dict()["scales"] is None
    assert not layer.is_agreed.size
