"""Making a commitment: rows in several processes, resumable, with the bounds and a check of itself at the end."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from huref.errors import HurefError, InputError, OutputError, UsageError
from huref.files.atomic import make_folder, write_atomically
from huref.fingerprints.recipe import Recipe
from huref.model.tokens import Ranking
from huref.progress import Progress, Report
from huref.proof.arithmetic.curve import POINT_BYTES, ShortCommitter
from huref.proof.arithmetic.workers import COMMIT, available_cores, commit_chunk, commit_task, run_tasks
from huref.proof.files.commitment import NAME as COMMITMENT
from huref.proof.files.commitment import Commitment, commitment_root
from huref.proof.files.layout import is_plain
from huref.proof.files.opening import Opening, find_opening, make_secret_folder, read_opening, write_opening
from huref.proof.sketch.no_wrap import prove_no_wrap
from huref.proof.sketch.quantisation import Quantised, quantise_model
from huref.proof.sketch.verifier import verify_commitment

PARTIAL = "points.partial"
_CHUNK = 64


@dataclass(frozen=True)
class CommitOptions:
    """How to commit.

    Attributes:
        jobs: processes; 0 for as many as the machine has cores.
        passphrase: encrypts the opening; None leaves it plain, readable by its owner only.
        secret: folder of the opening; None for the one beside the commitment's, `FOLDER.secret`.
    """

    jobs: int = 0
    passphrase: str | None = field(default=None, repr=False)
    secret: Path | None = None

    @property
    def workers(self) -> int:
        """Processes to use."""
        return self.jobs or available_cores()


def commit_model(
    reference: str | Path,
    folder: Path,
    recipe: Recipe,
    options: CommitOptions,
    *,
    ranking: Ranking | None = None,
    arch_file: Path | None = None,
    tokenizer: Path | None = None,
    report: Report | None = None,
) -> Commitment:
    """Quantise a model and commit to it; see `quantise_model` and `commit_rows`.

    Raises:
        HurefError: see `huref.errors`.
    """
    require_free(folder, options.secret)
    require_plain_layers(recipe)
    files = {"arch_file": arch_file, "tokenizer": tokenizer}
    made = quantise_model(reference, recipe, ranking=ranking, **files, report=report)
    return commit_rows(made, folder, options, report)


def commit_rows(made: Quantised, folder: Path, options: CommitOptions, report: Report | None = None) -> Commitment:
    """Commit to quantised weights: writes `commitment` (public) into a folder and `opening` (secret) elsewhere.

    An opening whose folder has no commitment is of an interrupted run, which goes on where it stopped.

    Raises:
        OutputError: the folder has a commitment already, or cannot be written.
        UsageError: the opening is of other weights, or of another passphrase; or it would lie in the folder.
        InputError: points of an interrupted run that are not those of its opening; they are removed.
    """
    require_free(folder, options.secret)
    opening = _opening(made, folder, options)
    blindings = opening.blindings()
    work = RowsToCommit([opening.rows], blindings, opening.layout.bits)
    points = commit_points(work, folder / PARTIAL, options.workers, report)
    root = commitment_root(opening.layout, opening.strings, points)
    attempts = 0

    def attempted() -> None:
        nonlocal attempts
        attempts += 1
        if report:
            report(Progress("bounding the integers", min(attempts, 7), 8, "attempt"))

    no_wrap = prove_no_wrap(opening.layout, root, opening.rows, blindings, attempted)
    commitment = Commitment(opening.layout, opening.strings, points, no_wrap)
    try:
        verify_commitment(commitment)
    except HurefError as error:
        (folder / PARTIAL).unlink(missing_ok=True)
        raise _spoilt(folder, error) from None
    write_atomically(folder / COMMITMENT, commitment.to_bytes())
    (folder / PARTIAL).unlink(missing_ok=True)
    return commitment


def _spoilt(folder: Path, error: HurefError) -> InputError:
    return InputError(
        "the points of the interrupted run were spoilt",
        where=str(folder / PARTIAL),
        expected="what that run had written",
        got=error.what,
        next_step="run the same command again: it makes all points anew, the opening is kept",
    )


def require_plain_layers(recipe: Recipe) -> None:
    """Refuse, before long work, a list of layers that no verifier would accept.

    Raises:
        UsageError: it has spaces, say.
    """
    if not is_plain(recipe.layers):
        raise UsageError(
            "a list of layers that verifiers do not read",
            where="--layers",
            expected="last2, all, or numbers with commas and nothing else between them, such as 0,5,-1",
            got=recipe.layers,
        )


def require_free(folder: Path, secret: Path | None = None) -> None:
    """Refuse, before long work, a folder that holds a commitment, or places that cannot be written.

    Raises:
        OutputError: either.
        UsageError: a secret folder within the public one.
    """
    if (folder / COMMITMENT).exists():
        raise OutputError(
            "the folder has a commitment already",
            where=str(folder),
            expected="a new folder, or one with an interrupted run",
            got=COMMITMENT,
            next_step="choose another folder: an opening that is lost cannot be made again",
        )
    make_folder(folder)
    path = find_opening(folder, secret)
    if not path.exists():
        make_secret_folder(path, folder)


def _opening(made: Quantised, folder: Path, options: CommitOptions) -> Opening:
    """A new opening, or the one of an interrupted run."""
    path = find_opening(folder, options.secret)
    if not path.exists():
        opening = Opening(secrets.token_bytes(32), made.layout, made.strings, made.rows)
        (folder / PARTIAL).unlink(missing_ok=True)
        write_opening(opening, path, options.passphrase)
        return opening
    found = read_opening(path, options.passphrase)
    if found.layout != made.layout or found.strings != made.strings or not np.array_equal(found.rows, made.rows):
        raise UsageError(
            "the folder has the opening of other weights",
            where=str(path),
            expected="the model and the recipe that the interrupted run was given",
            got="another model, another recipe, or weights that changed since",
            next_step="run with the same model, or choose another folder",
        )
    return found


@dataclass(frozen=True)
class RowsToCommit:
    """Matrices of one width, one after the other, and a blinding for each of their rows.

    Attributes:
        blocks: int16 (n_i, d) each.
        blindings: (N,) objects.
        bits: no entry needs more, signed.
    """

    blocks: Sequence[np.ndarray] = field(repr=False)
    blindings: np.ndarray = field(repr=False)
    bits: int

    def chunks(self, done: int) -> Iterator[tuple[np.ndarray, list[int]]]:
        """Rows and blindings from row `done` on, `_CHUNK` at a time, the last one shorter."""
        ends = np.cumsum([len(block) for block in self.blocks])
        for start in range(done, int(ends[-1]), _CHUNK):
            stop = min(start + _CHUNK, int(ends[-1]))
            parts = [
                block[max(start - int(end) + len(block), 0) : max(stop - int(end) + len(block), 0)]
                for block, end in zip(self.blocks, ends, strict=True)
            ]
            yield np.concatenate([part for part in parts if len(part)]), self.blindings[start:stop].tolist()


def commit_points(work: RowsToCommit, partial: Path, workers: int, report: Report | None) -> bytes:
    """All points, encoded; what `partial` has is kept, what is new is appended to it."""
    done = partial.stat().st_size // POINT_BYTES // _CHUNK * _CHUNK if partial.exists() else 0
    with partial.open("r+b" if partial.exists() else "w+b") as file:
        known = file.read(done * POINT_BYTES)
        file.truncate(len(known))
        file.seek(len(known))
        made = [known]
        for piece in _new_points(work, done, workers):
            made.append(piece)
            file.write(piece)
            file.flush()
            done += len(piece) // POINT_BYTES
            if report:
                report(Progress("committing", done, len(work.blindings), "row"))
    return b"".join(made)


def _new_points(work: RowsToCommit, done: int, workers: int) -> Iterator[bytes]:
    """Encoded points of the rows from `done` on, a chunk at a time, in order."""
    sizes = (work.blocks[0].shape[1], 2 ** (work.bits - 1))
    tasks = (commit_task(rows, z) for rows, z in work.chunks(done))
    if workers == 1 or len(work.blindings) - done <= _CHUNK:
        committer = ShortCommitter(*sizes)
        return (commit_chunk(task, committer) for task in tasks)
    return run_tasks(COMMIT, sizes, tasks, workers)
