"""What an owner does with private weights: commit to them, and prove things about them."""

from __future__ import annotations

from pathlib import Path

from huref.errors import UsageError
from huref.files.atomic import require_place, write_atomically
from huref.fingerprints.recipe import Recipe
from huref.model.tokens import read_ranking
from huref.progress import Report
from huref.proof.files.commitment import Commitment, read_commitment
from huref.proof.files.proof import FRAME as SKETCHES
from huref.proof.files.proof import SketchProof
from huref.proof.inference.answers import Prompt, commit_for_inference, prove_answer
from huref.proof.inference.proof_file import FRAME as ANSWER
from huref.proof.inference.proof_file import InferenceProof
from huref.proof.sketch import prover
from huref.proof.sketch.committer import CommitOptions, commit_model
from huref.proof.sketch.opened_rows import FRAME as ROWS
from huref.proof.sketch.opened_rows import OpenedRows


def commit(
    model: str | Path,
    folder: str | Path,
    recipe: Recipe | None = None,
    options: CommitOptions | None = None,
    purpose: str = "fingerprint",
    *,
    tokens_file: Path | None = None,
    arch_file: Path | None = None,
    tokenizer: Path | None = None,
    report: Report | None = None,
) -> Commitment:
    """Commit to a model's weights: writes `commitment` (public) into a folder, and `opening` (secret) elsewhere.

    Args:
        recipe: of the fingerprint that can be proved; None for `canonical-2`, or for inference `canonical`.
        purpose: `fingerprint`, or `inference`: then also `inference-commitment` to all weights, and `link`.

    Raises:
        HurefError: see `huref.errors`.
    """
    folder = Path(folder)
    chosen = options or CommitOptions()
    recipe = recipe or Recipe("canonical" if purpose == "inference" else "canonical-2")
    if purpose == "inference" and tokens_file is None:
        return commit_for_inference(
            model, folder, recipe, chosen, arch_file=arch_file, tokenizer=tokenizer, report=report
        )[0]
    if purpose != "fingerprint":
        raise UsageError(
            "no such commitment",
            where="--for",
            expected="fingerprint, or inference without --tokens",
            got=purpose if tokens_file is None else f"{purpose} with --tokens",
        )
    ranking = read_ranking(tokens_file) if tokens_file else None
    return commit_model(
        model, folder, recipe, chosen, ranking=ranking, arch_file=arch_file, tokenizer=tokenizer, report=report
    )


def prove_fingerprint(
    folder: str | Path,
    out: str | Path,
    model: str | Path | None = None,
    passphrase: str | None = None,
    *,
    arch_file: Path | None = None,
    tokenizer: Path | None = None,
    secret: Path | None = None,
    report: Report | None = None,
) -> SketchProof:
    """Prove that a fingerprint comes from committed weights; written to `out`.

    Args:
        model: refused unless its integers are the committed ones.
        secret: folder of the opening; None for `FOLDER.secret`, or the folder itself if it has one.

    Raises:
        HurefError: see `huref.errors`.
    """
    folder, out = Path(folder), Path(out)
    require_place(out, SKETCHES.magic)
    for name, path in (("--arch-file", arch_file), ("--tokenizer", tokenizer)):
        if path is not None and model is None:
            raise UsageError("a file without use", where=name, expected="a MODEL to check", got="none")
    if model is not None:
        prover.require_model(model, folder, passphrase, arch_file, tokenizer=tokenizer, secret=secret)
    made = prover.prove_fingerprint(folder, passphrase, report, secret=secret)
    write_atomically(out, made.to_bytes())
    return made


def prove_compare(
    folder: str | Path,
    peer: str | Path,
    out: str | Path,
    rows: int = 64,
    passphrase: str | None = None,
    report: Report | None = None,
    *,
    secret: Path | None = None,
) -> SketchProof:
    """Prove one side of a comparison of two commitments; written to `out`.

    Raises:
        HurefError: see `huref.errors`.
    """
    folder, peer, out = Path(folder), Path(peer), Path(out)
    require_place(out, SKETCHES.magic)
    made = prover.prove_compare(folder, read_commitment(peer), rows, passphrase, report, secret=secret)
    write_atomically(out, made.to_bytes())
    return made


def prove_inference(
    model: str | Path,
    folder: str | Path,
    out: str | Path,
    prompt: Prompt,
    passphrase: str | None = None,
    *,
    arch_file: Path | None = None,
    tokenizer: Path | None = None,
    secret: Path | None = None,
    report: Report | None = None,
) -> InferenceProof:
    """Prove which logits a committed model answers after a prompt, through all layers; written to `out`.

    Raises:
        HurefError: see `huref.errors`.
    """
    folder, out = Path(folder), Path(out)
    require_place(out, ANSWER.magic)
    made = prove_answer(
        model, folder, prompt, passphrase, arch_file=arch_file, tokenizer=tokenizer, secret=secret, report=report
    )
    write_atomically(out, made.to_bytes())
    return made


def prove_rows(
    folder: str | Path,
    out: str | Path,
    nonce: bytes,
    count: int,
    passphrase: str | None = None,
    *,
    secret: Path | None = None,
) -> OpenedRows:
    """Open the rows of a commitment that an auditor's nonce picks; written to `out`, and public from then on.

    Raises:
        HurefError: see `huref.errors`.
    """
    folder, out = Path(folder), Path(out)
    require_place(out, ROWS.magic)
    made = prover.prove_rows(folder, nonce, count, passphrase, secret=secret)
    write_atomically(out, made.to_bytes())
    return made
