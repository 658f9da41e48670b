"""Steps that write attacked models."""

from __future__ import annotations

from step import Step, m

KINDS = (
    "identity",
    "absorb_gains",
    "rotate_residual",
    "permute_residual",
    "flip_residual",
    "scale_residual",
    "permute_neurons",
    "scale_neurons",
    "flip_neurons",
    "qk_map",
    "vo_map",
    "permute_heads",
    "insert_layers",
    "split_layers",
    "permute_vocabulary",
    "rotate_residual+permute_neurons+qk_map",
)


def attacks() -> list[Step]:
    """Every kind; every family once with all."""
    steps = [Step(f"attack.{kind}", ("attack", kind, *m("llama"), f"attacked/{kind}", "--json")) for kind in KINDS]
    steps += [
        Step("attack.list", ("attack", "--list", "--json")),
        Step("attack.list-text", ("attack", "--list")),
        Step("attack.text", ("attack", "rotate_residual", *m("llama"), "attacked/text")),
        Step("attack.shift_mean", ("attack", "shift_mean", *m("gpt2"), "attacked/shift_mean", "--json")),
        Step("attack.permute_experts", ("attack", "permute_experts", *m("mixtral"), "attacked/experts", "--json")),
        Step("attack.merge_layers", ("attack", "merge_layers", "attacked/split_layers", "attacked/merged", "--json")),
        Step("attack.not-allowed", ("attack", "shift_mean", *m("llama"), "attacked/not", "--json")),
        Step("attack.unknown", ("attack", "paint", *m("llama"), "attacked/paint", "--json")),
    ]
    for name in ("llama", "gpt2", "gemma", "mixtral", "gpt-neox", "qwen2", "bloom", "llama-unigram", "tiny.gguf"):
        options = ("--seed", "9", "--dtype", "bfloat16" if name == "llama" else "float32", "--json")
        steps.append(Step(f"attack.all-{name}", ("attack", "all", *m(name), f"attacked/all-{name}", *options)))
    steps.append(Step("attack.smollm2", (
        "attack", "permute_neurons", *m("smollm2.gguf"), "attacked/smollm2", "--dtype", "float16", "--json",
    )))  # fmt: skip
    return steps
