"""Write `docs/reference/architectures.md` from the families themselves: `python docs/generate_architectures.py`.

A test compares the page with what this makes, so they cannot part.
"""

from __future__ import annotations

from pathlib import Path

from huref.model.arch.families import known_families
from huref.model.arch.schema import Family

PAGE = Path(__file__).parent / "reference" / "architectures.md"

_HEAD = """# Architectures

Made from the descriptions by `python docs/generate_architectures.py`; do not edit. How to add one:
[add an architecture](../how-to/add-an-architecture.md).

A checkpoint is recognised by `model_type` in config.json, or in the section of it that describes the decoder:
wrappers for pictures and sound are read by their text stack, whatever stands around it. GGUF files are recognised by
`general.architecture`. Of encoder-decoders the decoder is read, of encoders the encoder.

**Not read**: parts of a model that huref has no invariant for. They are named in a note of every result, and no score
rests on them. **Logits**: whether huref has a forward pass of its own; without one `huref attack` asks transformers.

"""


def page() -> str:
    """The whole page."""
    rows = [_row(family) for family in known_families()]
    table = ["| family | model_type | GGUF | not read | logits |", "|---|---|---|---|---|", *rows]
    return _HEAD + f"{len(rows)} descriptions:\n\n" + "\n".join(table) + "\n"


def _row(family: Family) -> str:
    beside = family.huggingface.beside if family.huggingface else family.gguf.beside if family.gguf else ()
    return (
        f"| {family.name} | {_listed(family.model_types)} | {_listed(family.gguf_names)} | {_listed(beside)} "
        f"| {'yes' if family.has_logits else ''} |"
    )


def _listed(names: tuple[str, ...]) -> str:
    return " ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    PAGE.write_text(page())
