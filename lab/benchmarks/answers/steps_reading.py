"""Steps that read models: rankings, fingerprints, pictures, explanations, comparisons, families."""

from __future__ import annotations

from collections.abc import Sequence

from step import ATTACKED, Step, m, saved

TINY = (
    "llama", "gpt2", "gemma", "mixtral", "gpt-neox", "qwen2", "bloom", "stranger", "pickled", "tiny.gguf",
    "llama-unigram", "mistral-sentencepiece", "llama-tuned", "gpt2-tuned", "llama-far", "llama-attacked",
    "gpt2-attacked", "gemma-attacked", "mixtral-attacked", "gpt-neox-attacked", "llama-tuned-attacked",
)  # fmt: skip
PAIRS = (
    ("llama", "llama"),
    ("llama", "llama-attacked"),
    ("llama", "llama-tuned"),
    ("llama", "llama-tuned-attacked"),
    ("llama", "llama-far"),
    ("llama", "stranger"),
    ("stranger", "pickled"),
    ("llama", "gpt2"),
    ("llama", "qwen2"),
    ("llama", "tiny.gguf"),
    ("llama", "mixtral"),
    ("gpt2", "gpt2-attacked"),
    ("gpt2", "gpt2-tuned"),
    ("gemma", "gemma-attacked"),
    ("mixtral", "mixtral-attacked"),
    ("gpt-neox", "gpt-neox-attacked"),
    ("bloom", "gpt2"),
    ("llama-unigram", "llama"),
    ("llama-unigram", "mistral-sentencepiece"),
    ("smollm2.gguf", "stranger"),
)


def rankings() -> list[Step]:
    """`tokens rank` with tokenizers of every kind."""
    steps = []
    for name in ("llama", "llama-unigram", "mistral-sentencepiece", "tiny.gguf", "smollm2.gguf"):
        out = f"ranking/{name}.txt"
        steps.append(
            Step(f"tokens.{name}", ("tokens", "rank", *m(name), "--corpus", "models/corpus.txt", "--out", out))
        )
    rank = ("tokens", "rank", *m("llama"), "--corpus", "models/corpus.txt")
    steps.append(Step("tokens.json", (*rank, "--corpus", "models/compat/proof-v1/README.md", "--json")))
    steps.append(Step("tokens.stdout", rank))
    return steps


def fingerprints() -> list[Step]:
    """Every recipe and encoder of every tiny model; the big one."""
    steps = []

    def add(name: str, models: Sequence[str], *options: str) -> None:
        out = f"fingerprints/{name}"
        steps.append(Step(f"fingerprint.{name}", ("fingerprint", *m(*models), "--out", out, *options)))

    for recipe in ("canonical", "paper"):
        for encoder in ("sketch", "mean"):
            add(f"{recipe}-{encoder}", TINY, "--recipe", recipe, "--encoder", encoder, "--json")
    cnn = ("--encoder", "cnn", "--encoder-weights", "models/encoder.safetensors")
    add("canonical-cnn", ("llama", "gpt2", "mixtral"), *cnn, "--json")
    add("paper-cnn", ("llama", "gpt2", "mixtral"), *cnn, "--recipe", "paper", "--json")
    add("all-layers", ("llama", "gpt2-tuned", "gemma"), "--layers", "all", "--json")
    add("some-layers-and-tokens", ("llama", "mixtral"), "--layers", "0,-1", "--n-tokens", "256", "--json")
    add("too-few-tokens", ("llama",), "--n-tokens", "128", "--json")
    add("ranked", ("llama-unigram", "smollm2.gguf"), "--tokens", "ranking/llama-unigram.txt", "--json")
    add("text", ("llama",))
    add("smollm2-canonical", ("smollm2.gguf",), "--json")
    add("smollm2-paper-mean", ("smollm2.gguf",), "--recipe", "paper", "--encoder", "mean", "--json")
    add("smollm2-attacked", ("smollm2-attacked",), "--json")
    add("twice", ("llama", "family/../llama"), "--json")
    add("nowhere", ("nowhere",), "--json")
    return steps


def comparisons() -> list[Step]:
    """Models, saved fingerprints, methods, reports."""
    steps = [
        Step(f"compare.{a}~{b}", ("compare", *m(a, b), "--json"))
        for a, b in (*PAIRS, ("smollm2.gguf", "smollm2-tuned"))
    ]
    for method in ("pcs", "ics", "aligned", "agreement"):
        arguments = ("compare", *m("llama", "llama-tuned"), "--method", method, "--json")
        steps.append(Step(f"compare.method-{method}", arguments))
    for name, options in {
        "text": (),
        "all-layers": ("--layers", "all", "--json"),
        "some-tokens": ("--n-tokens", "256", "--json"),
        "too-few-ranked": ("--tokens", "ranking/llama.txt", "--json"),
        "cnn-without-use": ("--encoder-weights", "models/encoder.safetensors", "--json"),
        "expected": ("--expect", "derived", "--json"),
        "not-expected": ("--expect", "independent"),
        "no-such-verdict": ("--expect", "unrelated"),
    }.items():
        steps.append(Step(f"compare.{name}", ("compare", *m("llama", "llama-tuned"), *options)))
    for a, b in (
        ("llama", "llama-attacked"), ("llama", "llama-tuned"), ("llama", "stranger"), ("gpt2", "gpt2-attacked"),
        ("gpt2", "llama"), ("mixtral", "mixtral-attacked"), ("gemma", "gemma-attacked"),
        ("llama-unigram", "mistral-sentencepiece"),
    ):  # fmt: skip
        for kind in ("canonical-sketch", "paper-sketch", "paper-mean"):
            arguments = ("compare", saved(a, kind), saved(b, kind), "--json")
            steps.append(Step(f"compare-saved.{kind}.{a}~{b}", arguments))
    ranked = ("--tokens", "ranking/llama-unigram.txt", "--json")
    steps.append(Step("compare.ranked-tokens", ("compare", *m("llama-unigram", "mistral-sentencepiece"), *ranked)))
    cnn = ("--encoder-weights", "models/encoder.safetensors", "--json")
    old = "models/saved/llama.huref.safetensors"
    steps += [
        Step("compare-saved.cnn", ("compare", saved("llama", "canonical-cnn"), *m("llama-tuned"), *cnn)),
        Step("compare-saved.smollm2", (
            "compare", saved("smollm2", "smollm2-canonical"), saved("smollm2-attacked", "smollm2-attacked"), "--json",
        )),
        Step("compare-saved.recipes", ("compare", saved("llama"), saved("llama", "paper-mean"), "--json")),
        Step("compare-saved.and-model", ("compare", saved("llama"), *m("llama-attacked"), "--json")),
        Step("compare-saved.text", ("compare", saved("llama"), saved("llama-tuned"))),
        Step("compare-saved.made-before", ("compare", old, saved("llama"), "--json")),
    ]  # fmt: skip
    return steps


def reports() -> list[Step]:
    """HTML and SARIF, of models and of saved fingerprints."""
    steps = []

    def add(name: str, a: str, b: str, *options: str) -> None:
        files = ("--report", f"reports/{name}.html", "--sarif", f"reports/{name}.sarif")
        steps.append(Step(f"report.{name}", ("compare", a, b, *files, *options)))

    evidence = ("--evidence", "evidence/llama.evidence.safetensors")
    add("attacked", *m("llama", "llama-attacked"), *evidence, "--hash", "--json")
    add("stranger", *m("llama", "stranger"))
    add("tuned-expected", *m("gpt2", "gpt2-tuned"), "--expect", "independent", "--json")
    add("experts", *m("mixtral", "mixtral-attacked"), "--layers", "0,-1", "--json")
    add("saved", saved("llama"), saved("llama-attacked"), "--json")
    add("smollm2-attacked", *m("smollm2.gguf", "smollm2-attacked"), "--json")
    return steps


def pictures() -> list[Step]:
    """Every layout and style."""
    one, two, three, four = (saved(name) for name in ("llama", "llama-tuned", "llama-attacked", "stranger"))
    chosen = {
        "portrait": (one,),
        "native": (one, "--size", "native"),
        "portrait-200-psi-1": (one, "--size", "200", "--psi", "1"),
        "psi-0": (one, "--psi", "0"),
        "json": (two, "--json"),
        "badge": (one, "--format", "svg"),
        "badge-base": (two, "--format", "svg", "--base", one),
        "sheet": (one, two, three, four),
        "sheet-64": (one, two, three, four, "--layout", "sheet", "--size", "64"),
        "row": (one, two, three, four, "--layout", "row"),
        "difference": (one, two, "--layout", "difference"),
        "difference-recipes": (one, saved("llama", "paper-mean"), "--layout", "difference"),
        "row-of-paper": (saved("llama", "paper-mean"), saved("llama-tuned", "paper-mean"), "--layout", "row"),
        "smollm2": (saved("smollm2", "smollm2-canonical"),),
    }
    steps = []
    for name, arguments in chosen.items():
        ending = "svg" if "svg" in arguments else "png"
        steps.append(Step(f"render.{name}", ("render", *arguments, "--out", f"pictures/{name}.{ending}")))
    steps.append(Step("render.own-name", ("render", one, "--size", "32")))
    steps.append(Step("render.no-layout", ("render", one, "--layout", "circle", "--json")))
    return steps


def explanations() -> list[Step]:
    """Text, JSON, table, evidence, its check."""
    steps = []
    for name in ATTACKED:
        file = f"evidence/{name}.evidence.safetensors"
        steps += [
            Step(f"explain.{name}", ("explain", *m(name, f"{name}-attacked"), "--out", file)),
            Step(f"explain.{name}-check", ("explain", *m(name, f"{name}-attacked"), "--check", file, "--json")),
        ]
    own = m("llama", "llama-attacked")
    old = "models/saved/llama.evidence.safetensors"
    steps += [
        Step("explain.json", ("explain", *own, "--json")),
        Step("explain.csv", ("explain", *own, "--csv")),
        Step("explain.few", ("explain", *own, "--layers", "few", "--json")),
        Step("explain.tuned", ("explain", *m("llama", "llama-tuned-attacked"), "--json")),
        Step("explain.only-tuned", ("explain", *m("gpt2", "gpt2-tuned"))),
        Step("explain.stranger", ("explain", *m("llama", "stranger"), "--json")),
        Step("explain.check-text", ("explain", *own, "--check", old, "--neurons", "8", "--seed", "3")),
        Step("explain.check-fails", ("explain", *m("llama", "stranger"), "--check", old, "--json")),
        Step("explain.smollm2", (
            "explain", *m("smollm2.gguf", "smollm2-attacked"), "--layers", "-1,20",
            "--out", "evidence/smollm2.evidence.safetensors", "--json",
        )),
    ]  # fmt: skip
    return steps


def families() -> list[Step]:
    """`parents` and `matrix`."""
    kin = m(*(f"family/{name}" for name in ("base", "one", "two", "other")))
    steps = [
        Step(f"parents.{child}", ("parents", *m(f"family/{child}"), *kin, "--json"))
        for child in ("linear", "slerp", "ties", "franken", "tuned")
    ]
    some, base = m("family/linear", "family/one", "family/two"), m("family/base")
    steps += [
        Step("parents.text", ("parents", *m("family/franken"), *kin)),
        Step("parents.base-given", ("parents", *some, "--base", *base, "--json")),
        Step("parents.inconclusive", ("parents", *m("family/other"), *kin[:3], "--json")),
        Step("parents.expected", ("parents", *some, "--expect", "derived", "--json")),
        Step("parents.experts", ("parents", *m("mixtral-attacked", "mixtral"), "--json")),
    ]
    models = m("llama", "llama-attacked", "llama-tuned", "stranger")
    scores = ("pcs", "ics", "ics_canonical", "aligned", "agreement", "vectors")
    steps += [Step(f"matrix.{score}", ("matrix", *models, "--score", score, "--json")) for score in scores]
    saved_ones = tuple(saved(name) for name in ("llama", "llama-attacked", "gpt2", "mixtral", "stranger"))
    for style in ("text", "csv", "latex"):
        heat = ("--heat-map", f"tables/{style}.png")
        steps.append(Step(f"matrix.saved-{style}", ("matrix", *saved_ones, "--format", style, *heat)))
    steps.append(Step("matrix.latex", ("matrix", *models, "--format", "latex")))
    steps.append(Step("matrix.saved-vectors", ("matrix", *saved_ones, "--score", "vectors", "--json")))
    return steps
