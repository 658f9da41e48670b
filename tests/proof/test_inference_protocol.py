"""Proofs of an answer: honest ones are accepted, every forgery that we could think of is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from py_arkworks_bls12381 import G1Point

from huref.errors import CorruptFileError, HurefError, RejectedError, UsageError
from huref.model.arch.canonical import Geometry
from huref.progress import Progress
from huref.proof.arithmetic.curve import decode_scalars
from huref.proof.arithmetic.field import ORDER, integers
from huref.proof.arithmetic.transcript import Transcript
from huref.proof.inference import prover
from huref.proof.inference.challenges import inverses
from huref.proof.inference.claims import build_claim
from huref.proof.inference.closing import early_challenges, late_challenges, opened_transcript
from huref.proof.inference.commitment import commit_model, parse_commitment, parse_opening
from huref.proof.inference.inventory import GROUPS
from huref.proof.inference.model import IntegerModel, Run, run_model
from huref.proof.inference.precision import PRECISIONS
from huref.proof.inference.proof_file import InferenceProof, Statement, term_rows
from huref.proof.inference.prover import prove_inference, prove_run
from huref.proof.inference.verifier import verify_inference
from huref.proof.inference.weights import integer_model
from kit.llamas import as_weights, tiny_llama

SIZES = Geometry(n_layers=1, d_model=8, n_heads=2, n_kv_heads=1, head_dim=4, d_ff=64, vocab_size=20)
TOKENS = (5, 7, 9)
SMALL = PRECISIONS["small"]

MODEL = integer_model(as_weights(tiny_llama(1, sizes=SIZES)))
COMMITMENT, OPENING = commit_model(MODEL, "tiny")
STATEMENT = Statement.of(COMMITMENT.root, "small", TOKENS)
INVENTORY = STATEMENT.inventory(MODEL.shape)


@pytest.fixture(scope="module")
def proof() -> InferenceProof:
    return prove_inference(MODEL, COMMITMENT, OPENING, TOKENS, "small")


@pytest.fixture(scope="module")
def honest() -> Run:
    return run_model(MODEL, TOKENS, SMALL)


def refuse(data: bytes, error: type[HurefError] = RejectedError) -> None:
    with pytest.raises(error):
        verify_inference(COMMITMENT, data)


def test_an_honest_proof_is_accepted(proof, honest):
    answer = verify_inference(COMMITMENT, proof.to_bytes())
    assert (answer.tokens, answer.layers, answer.precision.name) == (TOKENS, 1, "small")
    assert (answer.logits == honest.logits).all()
    assert answer.top == honest.logits.argmax()


def test_an_untied_model_of_grouped_heads_is_accepted():
    sizes = Geometry(n_layers=2, d_model=12, n_heads=6, n_kv_heads=3, head_dim=2, d_ff=10, vocab_size=15)
    model = integer_model(as_weights(tiny_llama(2, is_tied=False, sizes=sizes)))
    commitment, opening = commit_model(model, "untied")
    told: list[Progress] = []
    made = prove_inference(model, commitment, opening, [3, 3], "small", told.append)
    assert (verify_inference(commitment, made.to_bytes()).logits == made.logits).all()
    assert {"run the integer model", "commit to activations", "sumchecks"} <= {item.stage for item in told}


def test_files_come_back(proof):
    assert parse_commitment(COMMITMENT.to_bytes(), "c") == COMMITMENT
    assert parse_opening(OPENING.to_bytes(), "o") == OPENING
    assert OPENING.seed.hex() not in repr(OPENING)
    assert "[" not in repr(MODEL)
    for data in (COMMITMENT.to_bytes()[:-1], COMMITMENT.to_bytes() + b"\0", proof.to_bytes()):
        with pytest.raises(CorruptFileError):
            parse_commitment(data, "c")


def test_two_proofs_share_no_randomness(proof):
    other = prove_inference(MODEL, COMMITMENT, OPENING, TOKENS, "small")
    pieces = [{p.activations[i : i + 48] for i in range(0, len(p.activations), 48)} for p in (proof, other)]
    assert not pieces[0] & pieces[1]


def with_logit(run: Run, change: int, rest: int) -> Run:
    logits, rests = run.logits.copy(), run.logit_rest.copy()
    logits[4] += change
    rests[4] += rest
    return replace(run, logits=logits, logit_rest=rests)


def test_a_changed_logit_is_refused(proof, honest):
    changed = proof.logits.copy()
    changed[4] += 1
    refuse(replace(proof, logits=changed).to_bytes())
    refuse(forged(with_logit(honest, 1, 0)))
    refuse(forged(with_logit(honest, 1, -(1 << INVENTORY.scales.logit_shift))))


def forged(run: Run, statement: Statement = STATEMENT, model: IntegerModel = MODEL) -> bytes:
    """A proof by a prover who runs the protocol as written on another run, or for another statement."""
    return prove_run(model, OPENING, statement, (statement.inventory(MODEL.shape), run)).to_bytes()


def test_another_token_is_refused(proof, honest):
    swapped = replace(STATEMENT, tokens=(5, 8, 9))
    refuse(replace(proof, statement=swapped).to_bytes())
    refuse(forged(honest, swapped))
    refuse(replace(proof, statement=replace(STATEMENT, tokens=(7, 5, 9))).to_bytes())
    refuse(replace(proof, statement=replace(STATEMENT, tokens=(5, 7))).to_bytes(), HurefError)
    refuse(replace(proof, statement=replace(STATEMENT, tokens=(5, 7, 20))).to_bytes())


@pytest.mark.parametrize("name", ["embedding", "layers.0.down"])
def test_one_changed_weight_is_refused(name):
    """Everything is recomputed with the changed weight, against the old commitment."""
    changed = {key: matrix.copy() for key, matrix in MODEL.matrices.items()}
    changed[name][5 if name == "embedding" else 0, 1] += 900
    other = IntegerModel(MODEL.shape, changed)
    refuse(forged(run_model(other, TOKENS, SMALL), model=other))


def test_a_run_that_goes_astray_midway_is_refused(monkeypatch, honest):
    """A feed-forward block answers something else; whatever depends on it is computed honestly."""
    from huref.proof.inference import model as module

    original = module._Engine.feed_forward

    def astray(self, layer, x):
        block = original(self, layer, x)
        update = block.update.copy()
        update[-1, 2] += 4000
        return replace(block, update=update)

    monkeypatch.setattr(module._Engine, "feed_forward", astray)
    run = run_model(MODEL, TOKENS, SMALL)
    assert (run.logits != honest.logits).any()
    refuse(forged(run))


@pytest.mark.parametrize("block", ["exp", "mixed", "counts"])
def test_one_changed_activation_is_refused(monkeypatch, block):
    def change(rows: dict[str, np.ndarray]) -> None:
        rows[block] = rows[block].copy()
        rows[block][-1, 1] += 1 if rows[block][-1, 1] <= 0 else -1

    refuse(cheated(monkeypatch, change))


def cheated(
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[dict[str, np.ndarray]], None],
    lie: Callable[[dict[str, np.ndarray], object], list[str]] = lambda rows, early: [],
) -> bytes:
    """A proof with other activations, and other auxiliary rows in the blocks that `lie` names."""
    activations, auxiliaries = prover.activation_rows, prover.auxiliary_rows

    def changed_activations(run, inventory):
        rows = activations(run, inventory)
        change(rows)
        return rows

    def changed_auxiliaries(inventory, rows, committer, early):
        made = {name: values.copy() for name, values in auxiliaries(inventory, rows, committer, early).items()}
        for name in lie(made, early):
            committer.places.pop(name, None)
        return made

    monkeypatch.setattr(prover, "activation_rows", changed_activations)
    monkeypatch.setattr(prover, "auxiliary_rows", changed_auxiliaries)
    return forged(run_model(MODEL, TOKENS, SMALL))


def test_a_remainder_out_of_range_is_refused(monkeypatch):
    """update - 1 and remainder + 2^shift satisfy the equation; only the table of the top limb says no."""
    item = INVENTORY.limbs["down.r"]
    top = item.count - 1
    name, bits = item.block(top), int(item.tags(top)[0])
    seen = {}

    def change(rows):
        row, column = next(zip(*np.nonzero(rows["down.y.0"] > 0), strict=True))
        rows["down.y.0"][row, column] -= 1
        rows[name][row, column] += 1 << bits
        seen["at"], seen["value"] = (row, column), int(rows[name][row, column])

    def lie(made, early):
        denominator = (early.alpha + early.beta * bits + seen["value"]) % ORDER
        made[f"1/{name}"][seen["at"]] = pow(denominator, -1, ORDER)
        return [f"1/{name}"]

    refuse(cheated(monkeypatch, change, lie))


@pytest.mark.parametrize("block", ["1/gate.y", "down.u"])
def test_a_changed_auxiliary_row_is_refused(monkeypatch, block):
    def lie(made, early):
        made[block][0, 0] = (made[block][0, 0] + 1) % ORDER
        made[block][0, 1] = (made[block][0, 1] - pow(early.omega, -1, ORDER)) % ORDER  # unseen by omega
        return [block]

    refuse(cheated(monkeypatch, lambda rows: None, lie))


def test_every_section_is_checked(proof):
    """Exchanged points, everywhere; the first response, blinding and mask."""
    for name in ("activations", "auxiliaries", "sums", "rounds", "ends"):
        data = getattr(proof, name)
        swapped = data[48:96] + data[:48] + data[96:]
        refuse(replace(proof, **{name: swapped}).to_bytes())
    q = proof.quadratic
    masks = q.masks[48:96] + q.masks[:48] + q.masks[96:]
    responses = ((q.responses[0] + 1) % ORDER, *q.responses[1:])
    for change in ({"masks": masks}, {"responses": responses}, {"tau": (q.tau + 1) % ORDER}):
        refuse(replace(proof, quadratic=replace(q, **change)).to_bytes())
    blindings = ((q.blindings[0] + 1) % ORDER, *q.blindings[1:])
    refuse(replace(proof, quadratic=replace(q, blindings=blindings)).to_bytes())


def test_a_proof_for_another_root_is_refused(proof):
    other, _ = commit_model(MODEL, "tiny")
    with pytest.raises(RejectedError):
        verify_inference(other, proof.to_bytes())
    renamed = replace(proof, statement=replace(proof.statement, root=other.root))
    with pytest.raises(RejectedError):
        verify_inference(other, renamed.to_bytes())
    swapped = COMMITMENT.points[48:96] + COMMITMENT.points[:48] + COMMITMENT.points[96:]
    moved = replace(COMMITMENT, points=swapped)
    with pytest.raises(RejectedError):
        verify_inference(moved, replace(proof, statement=replace(proof.statement, root=moved.root)).to_bytes())


def test_another_precision_or_version_is_refused(proof):
    refuse(replace(proof, statement=replace(proof.statement, precision="standard")).to_bytes(), HurefError)
    refuse(replace(proof, statement=replace(proof.statement, version="9")).to_bytes())


def test_damaged_bytes_are_refused(proof):
    data = proof.to_bytes()
    for bad in (data[:-1], data + b"\0", data[:40], b"", data[:7] + b"9" + data[8:]):
        refuse(bad, CorruptFileError)
    tau = int(decode_scalars(data[-32:], "tau")[0]) + ORDER
    refuse(data[:-32] + tau.to_bytes(32, "little"), CorruptFileError)
    at = len(data) - len(data[data.index(proof.activations) :])
    for point in (b"\xc0" + bytes(47), outside_the_subgroup(), bytes(48), b"\xff" * 48):
        refuse(data[:at] + point + data[at + 48 :], CorruptFileError)


def outside_the_subgroup() -> bytes:
    """A point of the curve that is not in the group of prime order."""
    for x in range(1, 100):
        encoded = bytes([0x80]) + x.to_bytes(47, "big")
        try:
            point = G1Point.from_compressed_bytes_unchecked(encoded)
        except ValueError:
            continue
        if not point.is_in_subgroup():
            return encoded
    raise AssertionError("none found")


def test_challenges_depend_on_everything_before_them(proof):
    """Fiat and Shamir: statement, logits, activations and auxiliary rows all move the later challenges."""

    def challenges(statement, logits, activations, auxiliaries):
        transcript = opened_transcript(statement, logits)
        return early_challenges(transcript, activations), late_challenges(transcript, auxiliaries)

    given = (proof.statement, proof.logits, proof.activations, proof.auxiliaries)
    early, late = challenges(*given)
    others = [replace(proof.statement, **change) for change in ({"root": bytes(32)}, {"tokens": (5, 7)})]
    others += [replace(proof.statement, precision="standard"), replace(proof.statement, version="2")]
    for other in others:
        assert challenges(other, *given[1:])[0] != early
    assert challenges(given[0], proof.logits + 1, *given[2:])[0] != early
    assert challenges(*given[:2], b"x" + given[2][1:], given[3])[0] != early
    moved = challenges(*given[:3], b"x" + given[3][1:])
    assert moved[0] == early
    assert moved[1] != late


def test_the_verifier_absorbs_every_message_before_the_challenges_that_answer_it(proof, monkeypatch):
    """All bytes but the last responses go into the transcript, in the order of section 6 to 8."""
    script: list[tuple[str, bytes]] = []
    original = Transcript.absorb

    def recorded(self, label, data):
        script.append((label, data))
        original(self, label, data)

    monkeypatch.setattr(Transcript, "absorb", recorded)
    verify_inference(COMMITMENT, proof.to_bytes())
    data = proof.to_bytes()
    end = 12 + int.from_bytes(data[8:12], "little")
    count = len(proof.rounds) // 96
    expected = [("protocol", b"huref/inference/1"), ("header", data[12:end])]
    expected += [("logits", data[end : end + 4 * SIZES.vocab_size]), ("activations", proof.activations)]
    expected += [(name, b"") for name in ("alpha", "beta", "gamma", "omega", "tau")]
    expected += [("auxiliaries", proof.auxiliaries), ("kappa", b""), ("theta", b""), ("sums", proof.sums)]
    for index in range(count):
        expected += [("round", proof.rounds[96 * index : 96 * index + 96]), ("round", b"")]
    expected += [("ends", proof.ends), ("xi", b""), ("zeta", b""), ("masks", proof.quadratic.masks), ("e", b"")]
    assert script == expected


def test_the_claim_has_as_many_rows_as_the_format_says(proof):
    transcript = opened_transcript(proof.statement, proof.logits)
    early, late = early_challenges(transcript, proof.activations), late_challenges(transcript, proof.auxiliaries)
    claim = build_claim(INVENTORY, proof.logits, early, late)
    assert {group: sum(term.count for term in claim.terms[group]) for group in GROUPS} == term_rows(INVENTORY)


def test_a_zero_has_no_inverse():
    assert (inverses(integers([2, 3])) * integers([2, 3]) % ORDER == 1).all()
    with pytest.raises(ValueError, match="invertible"):
        inverses(integers([2, 0, 3]))


def test_things_that_do_not_belong_together_are_refused():
    other, _ = commit_model(MODEL, "tiny")
    with pytest.raises(UsageError, match="belong together"):
        prove_inference(MODEL, other, OPENING, TOKENS, "small")
    for tokens, precision in (((), "small"), ((20,), "small"), (TOKENS, "unheard of")):
        with pytest.raises(UsageError, match="cannot be proved"):
            prove_inference(MODEL, COMMITMENT, OPENING, tokens, precision)


def test_verifying_does_not_load_torch():
    code = "import sys, huref.proof.inference.verifier; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
