"""Steps of owners: commitments, proofs of every kind, their verification, damage, a private comparison."""

from __future__ import annotations

from typing import Any

from step import Step, m, saved

RECIPE = ("--layers", "2", "--n-tokens", "256")
ONE = ("--jobs", "1")
SECRET = {"HUREF_PASSPHRASE": "correct horse"}
NONCE, OTHER_NONCE = "00ff" * 16, "11ff" * 16

A, B = ("--commitment", "sealed/proved"), ("--commitment", "sealed/proved-child")
INFERRED = ("--commitment", "sealed/inferred")
PAPER, EXPERTS, ENCRYPTED = (("--commitment", f"sealed/{name}") for name in ("paper", "experts", "secret"))


def of(name: str, command: str, *arguments: str, **more: Any) -> Step:
    """A step: command and first arguments in one string."""
    return Step(name, (*command.split(), *arguments), **more)


def proofs() -> list[Step]:
    """In an order in which everything that is proved was committed to, and what is verified was proved."""
    return [*commitments(), *proving(), *verifying(), *damaged(), *from_before(), *private()]


def commitments() -> list[Step]:
    """Of every kind; encrypted; over one that is there."""
    names = ("proved", "proved-child", "proved-stranger")
    return [
        *(of(f"commit.{name}", f"commit models/{name} -o sealed/{name}", *RECIPE, *ONE, "--json") for name in names),
        of("commit.two-processes", "commit models/proved -o sealed/two", *RECIPE, "--jobs", "2", "--json"),
        of("commit.paper", "commit models/gpt2 -o sealed/paper --recipe paper", *ONE),
        of("commit.experts", "commit models/mixtral -o sealed/experts --layers -1", *ONE, "--json"),
        of(
            "commit.encrypted",
            "commit models/proved -o sealed/secret",
            *RECIPE,
            *ONE,
            "--encrypt",
            "--json",
            environment=SECRET,
        ),
        of("commit.again", "commit models/proved -o sealed/proved", *RECIPE, *ONE, "--json"),
        of("commit.inference", "commit models/inferred -o sealed/inferred", *ONE, "--for", "inference", "--json"),
    ]


def proving() -> list[Step]:
    """A fingerprint, half a comparison, rows, an answer."""
    steps = [
        of("prove.fingerprint", "prove fingerprint", *A, "-o", "proofs/proved", "--json"),
        of("prove.fingerprint-of-model", "prove fingerprint models/proved", *A, "-o", "proofs/of-model"),
        of("prove.fingerprint-of-other", "prove fingerprint models/proved-child", *A, "-o", "proofs/no", "--json"),
        of("prove.fingerprint-paper", "prove fingerprint", *PAPER, "-o", "proofs/paper"),
        of("prove.fingerprint-experts", "prove fingerprint", *EXPERTS, "-o", "proofs/experts"),
        of(
            "prove.fingerprint-encrypted",
            "prove fingerprint",
            *ENCRYPTED,
            "-o",
            "proofs/secret",
            "--json",
            environment=SECRET,
        ),
    ]
    compare, infer = "prove compare", ("prove inference models/inferred", *INFERRED)
    steps += [
        of("prove.compare-a", compare, *A, "--peer", "sealed/proved-child", "-o", "proofs/a~b", "--json"),
        of("prove.compare-b", compare, *B, "--peer", "sealed/proved", "-o", "proofs/b~a"),
        of("prove.compare-16", compare, *A, "--peer", "sealed/proved-child", "-o", "proofs/16", "--rows", "16"),
        of("prove.rows", "prove rows", *A, "-o", "proofs/rows", "--nonce", NONCE, "--count", "20", "--json"),
    ]
    small = ("--precision", "small", "--json")
    steps += [
        of("prove.inference", *infer, "-o", "proofs/small", "--ids", "5,7,5", *small),
        of("prove.inference-standard", *infer, "-o", "proofs/standard", "--ids", "9,4"),
        of("prove.inference-text", *infer, "-o", "proofs/text", "--text", "ban", *small),
    ]
    return steps


def verifying() -> list[Step]:
    """Every proof; a published fingerprint and picture beside it."""
    own = "fingerprints/proved/proved"
    published = ("--fingerprint", f"{own}.huref.safetensors", "--image", f"{own}.png")
    return [
        of("fingerprint.proved", "fingerprint models/proved", *RECIPE, "--out", "fingerprints/proved", "--json"),
        of("verify.fingerprint", "verify proofs/proved", *A, "--json"),
        of("verify.fingerprint-text", "verify proofs/proved", *A),
        of("verify.fingerprint-published", "verify proofs/proved", *A, *published, "--json"),
        of("verify.fingerprint-of-other", "verify proofs/proved", *A, "--json", "--fingerprint", saved("llama")),
        of("verify.fingerprint-paper", "verify proofs/paper", *PAPER, "--json"),
        of("verify.fingerprint-experts", "verify proofs/experts", *EXPERTS, "--json"),
        of("verify.fingerprint-encrypted", "verify proofs/secret", *ENCRYPTED, "--json"),
        of("verify.compare-a", "verify proofs/a~b", *A, "--json"),
        of("verify.compare-b", "verify proofs/b~a", *B, "--json"),
        of("verify.rows", "verify proofs/rows", *A, "--nonce", NONCE, "--json"),
        of("verify.rows-of-model", "verify proofs/rows", *A, "--nonce", NONCE, "--model", *m("proved")),
        of("verify.rows-other-nonce", "verify proofs/rows", *A, "--nonce", OTHER_NONCE, "--json"),
        of("verify.commitment", "verify sealed/proved/commitment", "--json"),
        of("verify.inference", "verify proofs/small", *INFERRED, "--json"),
        of("verify.inference-standard", "verify proofs/standard", *INFERRED),
        of("verify.inference-text", "verify proofs/text", *INFERRED, "--json"),
    ]


def damaged() -> list[Step]:
    """What must be refused."""
    spoilt = {"spoilt/proved": ("proofs/proved", -1), "spoilt/small": ("proofs/small", -1)}
    return [
        of("verify.another-commitment", "verify proofs/proved", *B, "--json"),
        of("verify.damaged", "verify spoilt/proved", *A, "--json", spoil=spoilt),
        of("verify.damaged-inference", "verify spoilt/small", *INFERRED, "--json"),
    ]


def from_before() -> list[Step]:
    """Proofs of the first versions."""
    steps = []
    for name, proof, commitment in (
        ("fingerprint", "proof-v1/a.fingerprint.proof", "proof-v1/a.commitment"),
        ("compare", "proof-v1/b.compare.proof", "proof-v1/b.commitment"),
        ("inference", "proof-inference-v1/tiny.proof", "proof-inference-v1/tiny.commitment"),
    ):
        arguments = ("--commitment", f"models/compat/{commitment}", "--json")
        steps.append(of(f"verify.old-{name}", f"verify models/compat/{proof}", *arguments))
    return steps


def private() -> list[Step]:
    """A comparison without weights, twice: once as JSON."""
    steps = []
    for other in ("proved-child", "proved-stranger"):
        compare = f"compare sealed/proved sealed/{other} --private"
        steps += [of(f"private.{other}", compare, "--json"), of(f"private.{other}-again", compare)]
    return steps
