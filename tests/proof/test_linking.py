"""One model, two commitments and their link: the model that answers is the model in the portrait."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from huref import api
from huref.errors import CorruptFileError, OutputError, RejectedError, UsageError
from huref.fingerprints.recipe import Recipe
from huref.numerics.cosine import cosine
from huref.proof.arithmetic.curve import blinding_generator, encode_points, scalar
from huref.proof.arithmetic.field import ORDER
from huref.proof.files.commitment import read_commitment
from huref.proof.files.opening import find_opening
from huref.proof.inference import answers as answering
from huref.proof.inference.answers import Prompt, read_inference
from huref.proof.inference.link import LinkProof, linked_rows, parse_link, verify_link
from huref.proof.sketch.committer import CommitOptions
from kit.llamas import that_answers

ONE = CommitOptions(jobs=1)
RECIPE = Recipe("canonical", n_tokens=256, layers="-1")


@pytest.fixture(scope="module")
def llamas(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny models with what an answer needs."""
    home = tmp_path_factory.mktemp("llamas")
    return {name: that_answers(models[name], home / name) for name in ("base", "stranger")}


@pytest.fixture(scope="module")
def sealed(llamas: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("link") / "sealed"
    api.commit(llamas["base"], folder, RECIPE, ONE, "inference")
    return folder


@pytest.fixture(scope="module")
def stranger(llamas: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("link") / "stranger"
    api.commit(llamas["stranger"], folder, RECIPE, ONE, "inference")
    return folder


def link_of(folder: Path) -> LinkProof:
    return parse_link((folder / "link").read_bytes(), "link")


def refused(folder: Path, link: LinkProof, match: str = "") -> None:
    with pytest.raises(RejectedError, match=match):
        verify_link(read_commitment(folder), read_inference(folder), link)


def test_the_link_holds_and_the_fingerprint_is_the_models(sealed: Path, llamas: dict[str, Path]) -> None:
    verify_link(read_commitment(sealed), read_inference(sealed), link_of(sealed))
    api.prove_fingerprint(sealed, sealed / "proof")
    found = api.verify(sealed / "proof", sealed)
    assert found.vector is not None
    assert cosine(found.vector, api.fingerprint(llamas["base"], RECIPE).vector) > 0.99999


def test_an_answer_names_the_portrait(sealed: Path, llamas: dict[str, Path], cli: Callable[..., Any]) -> None:
    answer = sealed / "answer"
    places = ("--commitment", sealed, "-o", answer)
    made = cli("prove", "inference", llamas["base"], *places, "--ids", "5,7", "--precision", "small", "--json")
    assert made.code == 0, made.err
    found = cli("verify", answer, "--commitment", sealed, "--json")
    assert found.code == 0, found.err
    document = json.loads(found.out)
    assert document["kind"] == "inference" and document["tokens"] == [5, 7]
    assert document["answer"] == json.loads(made.out)["answer"] == int(np.argmax(document["logits"]))
    assert document["fingerprint_root"] == read_commitment(sealed).root.hex()
    assert cli("verify", answer, "--commitment", sealed / "inference-commitment").code == 0
    assert cli("verify", answer, "--commitment", sealed, "--nonce", "00").code == 2


def test_an_answer_does_not_hold_for_another_commitment(
    sealed: Path, stranger: Path, llamas: dict[str, Path], cli: Callable[..., Any], tmp_path: Path
) -> None:
    api.prove_inference(llamas["base"], sealed, tmp_path / "answer", Prompt(tokens=(5,), precision="small"))
    assert cli("verify", tmp_path / "answer", "--commitment", stranger).code == 1


def test_another_model_is_not_proved_for(sealed: Path, llamas: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not the committed one"):
        api.prove_inference(llamas["stranger"], sealed, tmp_path / "answer", Prompt(tokens=(5,), precision="small"))


@pytest.mark.parametrize(
    "prompt", [Prompt(), Prompt("a", (5,)), Prompt(tokens=(10**8,)), Prompt(tokens=(5,), precision="x")]
)
def test_prompts_that_cannot_be_proved_are_refused(
    prompt: Prompt, sealed: Path, llamas: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(UsageError):
        api.prove_inference(llamas["base"], sealed, tmp_path / "answer", prompt)
    assert not (tmp_path / "answer").exists()


def test_rows_of_another_model_are_not_linked(sealed: Path, stranger: Path) -> None:
    """The cheat proves with the blindings of both sides at hand; only the rows differ."""
    ours, theirs = read_commitment(sealed), read_inference(stranger)
    openings = [answering.read_own(folder)[1] for folder in (sealed, stranger)]
    shapes = [read_inference(folder).shape for folder in (sealed, stranger)]
    layout = replace(
        ours.layout,
        matrices=tuple(replace(m, exponent=shapes[1].exponents[m.name]) for m in ours.layout.matrices),
    )
    liar = replace(ours, layout=layout)
    tokens = link_of(sealed).tokens
    seed = answering._blindings(openings[1], _shaped(shapes[1]))
    made = answering.prove_link(liar, theirs, tokens, (openings[0].blindings(), seed))
    with pytest.raises(RejectedError, match="same rows"):
        verify_link(liar, theirs, made)


def _shaped(shape: Any) -> Any:
    class OnlyShape:
        pass

    found = OnlyShape()
    found.shape = shape  # type: ignore[attr-defined]
    return found


def test_tokens_cannot_be_exchanged(sealed: Path) -> None:
    link = link_of(sealed)
    first, second, *rest = link.tokens
    refused(sealed, replace(link, tokens=(second, first, *rest)), "same rows")
    refused(sealed, replace(link, tokens=(first, first, *rest)), "do not fit")
    refused(sealed, replace(link, tokens=link.tokens[1:]), "do not fit")
    refused(sealed, replace(link, tokens=(10**6, second, *rest)), "do not fit")


def test_altered_links_are_refused(sealed: Path, stranger: Path) -> None:
    link = link_of(sealed)
    refused(sealed, replace(link, response=(link.response + 1) % ORDER), "same rows")
    refused(sealed, replace(link, point=encode_points([blinding_generator() * scalar(3)])), "same rows")
    refused(sealed, link_of(stranger), "other commitments")
    refused(sealed, replace(link, inference=bytes(32)), "other commitments")


def test_every_byte_of_a_link_counts(sealed: Path) -> None:
    data = (sealed / "link").read_bytes()
    commitment, inference = read_commitment(sealed), read_inference(sealed)
    for place in [*range(0, 200, 7), *range(len(data) - 80, len(data), 3)]:
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises((RejectedError, CorruptFileError)):
            verify_link(commitment, inference, parse_link(changed, "link"))
    for changed in (data[:-1], data + b"\0", b""):
        with pytest.raises(CorruptFileError):
            parse_link(changed, "link")


def test_terms_and_exponents_must_be_the_models(sealed: Path) -> None:
    commitment, shape, tokens = read_commitment(sealed), read_inference(sealed).shape, link_of(sealed).tokens
    layout = commitment.layout
    qk, *others = layout.terms
    crossed = replace(qk, left=qk.right, right=qk.right, groups=(1, 1), head_dim=0)
    first, *rest = layout.matrices
    for changed in (
        replace(layout, terms=(crossed, *others)),
        replace(layout, terms=tuple(others)),
        replace(layout, matrices=(replace(first, exponent=first.exponent + 1), *rest)),
    ):
        with pytest.raises(ValueError, match=r"terms|exponents"):
            linked_rows(changed, shape, tokens)


def test_an_interrupted_run_goes_on_and_a_finished_one_is_kept(
    llamas: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(answering, "require_committed", stop)
        with pytest.raises(KeyboardInterrupt):
            api.commit(llamas["base"], tmp_path / "x", RECIPE, ONE, "inference")
    root = read_commitment(tmp_path / "x").root
    points = (tmp_path / "x" / answering.PARTIAL).read_bytes()
    with pytest.raises(UsageError, match="other weights"):
        api.commit(llamas["stranger"], tmp_path / "x", RECIPE, ONE, "inference")
    assert api.commit(llamas["base"], tmp_path / "x", RECIPE, ONE, "inference").root == root
    assert read_inference(tmp_path / "x").points == points
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == [
        "commitment",
        "inference-commitment",
        "link",
    ]
    with pytest.raises(OutputError, match="already"):
        api.commit(llamas["base"], tmp_path / "x", RECIPE, ONE, "inference")


def test_unknown_purposes_are_refused(llamas: dict[str, Path], cli: Callable[..., Any], tmp_path: Path) -> None:
    assert cli("commit", llamas["base"], "-o", tmp_path / "x", "--for", "fun").code == 2
    assert cli("commit", llamas["base"], "-o", tmp_path / "x", "--for", "inference", "--recipe", "paper").code == 2
    assert not find_opening(tmp_path / "x").exists()
