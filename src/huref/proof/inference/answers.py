"""One integer model, two commitments and a link: `huref commit --for inference`, `huref prove inference`.

The folder then holds `commitment` as for any fingerprint, `inference-commitment` to all weights, and `link`, which
shows that the first holds rows of the second. All blindings follow from the one secret opening, which lies elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from huref.errors import InputError, OutputError, UsageError
from huref.extras import require
from huref.files.atomic import write_atomically
from huref.fingerprints.recipe import Recipe
from huref.model.model import open_model
from huref.model.source.checkpoint import Checkpoint
from huref.model.tokens import load_encoder
from huref.model.tokens.encoders import open_encoder
from huref.progress import Progress, Report
from huref.proof.files.commitment import NAME as COMMITMENT
from huref.proof.files.commitment import Commitment
from huref.proof.files.container import read_file
from huref.proof.files.opening import Opening
from huref.proof.inference.commitment import NAME as INFERENCE
from huref.proof.inference.commitment import InferenceCommitment, InferenceOpening, parse_commitment, weights_digest
from huref.proof.inference.fingerprint_part import fingerprint_part
from huref.proof.inference.link import NAME as LINK
from huref.proof.inference.link import prove_link
from huref.proof.inference.model import IntegerModel
from huref.proof.inference.proof_file import InferenceProof
from huref.proof.inference.prover import prove_inference
from huref.proof.inference.weights import integer_model
from huref.proof.sketch.committer import CommitOptions, RowsToCommit, commit_points, commit_rows, require_plain_layers
from huref.proof.sketch.opening_check import opens
from huref.proof.sketch.prover import read_own
from huref.proof.sketch.quantisation import Quantised

PARTIAL = "inference-points.partial"
_SEED_DOMAIN = b"huref/inference-seed/1"


def commit_for_inference(
    reference: str | Path,
    folder: Path,
    recipe: Recipe,
    options: CommitOptions,
    *,
    arch_file: Path | None = None,
    tokenizer: Path | None = None,
    report: Report | None = None,
) -> tuple[Commitment, InferenceCommitment]:
    """Commit to all weights of a plain Llama, and to the part that its fingerprint is made of; resumable.

    Raises:
        OutputError: the folder is finished already, or cannot be written.
        UsageError: the opening is of other weights, or of another passphrase; or it would lie in the folder.
        InputError: no plain Llama; see `huref.model.model.open_model`.
    """
    if (folder / LINK).exists():
        raise OutputError(
            "the folder has commitments already",
            where=str(folder),
            expected="a new folder, or one with an interrupted run",
            got=LINK,
            next_step="choose another folder: an opening that is lost cannot be made again",
        )
    require_plain_layers(recipe)
    made, tokens, integer, name = _read(reference, recipe, (arch_file, tokenizer), report)
    commitment = _fingerprint(made, folder, options, report)
    _, opening = read_own(folder, options.passphrase, options.secret)
    work = RowsToCommit(list(integer.matrices.values()), _blindings(opening, integer), 16)
    points = commit_points(work, folder / PARTIAL, options.workers, report)
    inference = InferenceCommitment(name, integer.shape, points)
    require_committed(integer, inference, opening)
    write_atomically(folder / INFERENCE, inference.to_bytes())
    link = prove_link(commitment, inference, tokens, (opening.blindings(), work.blindings))
    write_atomically(folder / LINK, link.to_bytes())
    (folder / PARTIAL).unlink(missing_ok=True)
    return commitment, inference


@dataclass(frozen=True)
class Prompt:
    """What a model is asked.

    Attributes:
        text: encoded by the model's own tokenizer, or None.
        tokens: ids, where there is no text.
        precision: of the integer model, a name of `PRECISIONS`.
    """

    text: str | None = None
    tokens: tuple[int, ...] = ()
    precision: str = "standard"

    def ids(self, checkpoint: Checkpoint) -> tuple[int, ...]:
        """The token ids.

        Raises:
            UsageError: neither text nor tokens, or both.
            InputError: a tokenizer that cannot encode.
        """
        if (self.text is None) == (not self.tokens):
            raise UsageError(
                "a prompt is a text or token ids",
                where="--text, --ids",
                expected="one of the two",
                got="neither" if self.text is None else "both",
            )
        return self.tokens if self.text is None else _encoded(checkpoint, self.text)


def prove_answer(
    reference: str | Path,
    folder: Path,
    prompt: Prompt,
    passphrase: str | None = None,
    *,
    arch_file: Path | None = None,
    tokenizer: Path | None = None,
    secret: Path | None = None,
    report: Report | None = None,
) -> InferenceProof:
    """Prove which logits the committed weights answer after a prompt.

    Raises:
        UsageError: another model than the committed one, or a prompt that cannot be proved.
        InputError: no commitment for inference in the folder.
        InconclusiveError: an activation leaves the range of the integer model.
    """
    inference = read_inference(folder)
    _, opening = read_own(folder, passphrase, secret)
    model = open_model(reference, arch_file, tokenizer)
    with model.weights.checkpoint as checkpoint:
        tokens = prompt.ids(checkpoint)
        integer = integer_model(model.weights, _step(report, "reading the model"))
    require_committed(integer, inference, opening)
    opened = _inference_opening(opening, inference, integer)
    return prove_inference(integer, inference, opened, tokens, prompt.precision, report)


def read_inference(folder: Path) -> InferenceCommitment:
    """The inference commitment in a folder, or a file of that kind itself.

    Raises:
        InputError: none, or not one that can be read.
    """
    path = folder / INFERENCE if folder.is_dir() else folder
    return parse_commitment(read_file(path), str(path))


def require_committed(integer: IntegerModel, inference: InferenceCommitment, opening: Opening) -> None:
    """Refuse a model whose integers are not the committed ones: one random combination of all rows.

    Raises:
        UsageError: they are not.
    """
    if integer.shape == inference.shape:
        blocks = list(integer.matrices.values())
        if opens(inference.points, blocks, _blindings(opening, integer)):
            return
    raise UsageError(
        "the model is not the committed one, or points of an interrupted run were spoilt",
        where=inference.model,
        expected=f"the integers behind root {inference.root.hex()}",
        got="other integers",
        next_step="name the model that was committed; after an interrupted run, commit into a new folder",
    )


def _encoded(checkpoint: Checkpoint, text: str) -> tuple[int, ...]:
    spec = load_encoder(checkpoint)
    require(spec.library, "huref prove inference")
    encode = open_encoder(spec)
    return tuple(int(token) for token in next(iter(encode([text]))))


def _read(
    reference: str | Path, recipe: Recipe, files: tuple[Path | None, Path | None], report: Report | None
) -> tuple[Quantised, tuple[int, ...], IntegerModel, str]:
    """The fingerprint's part, its token ids, the whole integer model, and its name."""
    model = open_model(reference, *files)
    with model.weights.checkpoint:
        integer = integer_model(model.weights, _step(report, "reading the model"))
        made, tokens = fingerprint_part(model, integer, recipe)
    if not made.layout.is_free_of_wraps():
        raise InputError(
            "the model is too large for this proof",
            where=str(reference),
            expected="inequality (4) of proof-v1 to hold with 16 bits",
            got=f"width {made.layout.width}, {made.layout.n_tokens} tokens",
            next_step="--n-tokens 1024 leaves more room",
        )
    return made, tokens, integer, model.name


def _fingerprint(made: Quantised, folder: Path, options: CommitOptions, report: Report | None) -> Commitment:
    """The fingerprint's commitment: made now, or by the interrupted run."""
    if not (folder / COMMITMENT).exists():
        return commit_rows(made, folder, options, report)
    commitment, opening = read_own(folder, options.passphrase, options.secret)
    if opening.layout != made.layout or not np.array_equal(opening.rows, made.rows):
        raise UsageError(
            "the folder has the commitment of other weights, or of a fingerprint alone",
            where=str(folder),
            expected="an interrupted `huref commit --for inference` of this model",
            got=f"root {commitment.root.hex()}",
            next_step="choose another folder",
        )
    return commitment


def _inference_opening(opening: Opening, inference: InferenceCommitment, integer: IntegerModel) -> InferenceOpening:
    return InferenceOpening(inference.root, _seed(opening), weights_digest(integer))


def _seed(opening: Opening) -> bytes:
    """Of the inference commitment's blindings: proof-inference-v1, 9.2."""
    return hashlib.shake_256(_SEED_DOMAIN + opening.seed).digest(32)


def _blindings(opening: Opening, integer: IntegerModel) -> np.ndarray:
    """Of every row of the inference commitment, in order: (rows,) objects."""
    by_matrix = InferenceOpening(b"", _seed(opening), b"").blindings(integer.shape)
    return np.concatenate(list(by_matrix.values()))


def _step(report: Report | None, stage: str) -> Callable[[int, int], None]:
    def step(done: int, total: int) -> None:
        if report:
            report(Progress(stage, done, total))

    return step
