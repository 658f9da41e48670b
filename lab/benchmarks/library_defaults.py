"""Write the sizes that `transformers` takes where config.json is silent, for every family that huref reads.

    python lab/benchmarks/library_defaults.py

writes src/huref/model/arch/data/library/sizes.yaml; tests/model/test_arch_library.py holds the two together.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from huref.model.arch.families import known_families

TABLE = Path(__file__).parents[2] / "src/huref/model/arch/data/library/sizes.yaml"
KEYS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
)


def library_sizes() -> dict[str, dict[str, int]]:
    """Plain defaults of configuration classes by model type; those worked out from other sizes are left out."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    found = {}
    for model_type in sorted({name for family in known_families() for name in family.model_types}):
        if model_type in CONFIG_MAPPING:
            kind = CONFIG_MAPPING[model_type]
            sizes = {key: value for key in KEYS if type(value := getattr(kind, key, None)) is int}
            if "hidden_size" in sizes:
                found[model_type] = sizes
    return found


def written(sizes: dict[str, dict[str, int]]) -> str:
    """The table as text."""
    head = "# Written by lab/benchmarks/library_defaults.py from transformers: sizes where config.json is silent.\n"
    rows = {
        name: yaml.safe_dump(row, default_flow_style=True, width=1000, sort_keys=False) for name, row in sizes.items()
    }
    return head + "".join(f"{name}: {row}" for name, row in rows.items())


if __name__ == "__main__":
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(written(library_sizes()), "utf-8")
