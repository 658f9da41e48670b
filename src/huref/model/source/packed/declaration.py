"""What a checkpoint says of its own quantisation, wherever the tools write it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from huref.errors import CorruptFileError
from huref.model.source.byte_source import FETCH_AGAIN
from huref.model.source.checkpoint import Checkpoint
from huref.model.source.json_file import CONFIG_LIMIT, read_object

_FILES = (
    ("quantize_config.json", "gptq"),
    ("quant_config.json", "awq"),
    ("hf_quant_config.json", "modelopt"),
)
"""Beside the weights, and the method that each is of where it names none."""


DECLARATIONS = ("quantization_config", "compression_config", "quantization")
"""Keys of config.json, or of a section of it."""


@dataclass(frozen=True)
class Declaration:
    """A quantisation as declared.

    Attributes:
        method: `gptq`, `awq`, ... in small letters; empty where nothing is declared.
        settings: the declaration itself.
        where: the file it is in.
    """

    method: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""

    def text(self, key: str) -> str:
        """A setting in small letters; empty where it is absent."""
        return str(self.get(key) or "").lower()

    def integer(self, key: str) -> int | None:
        """A whole number, or None where it is absent.

        Raises:
            CorruptFileError: something else.
        """
        value = self.get(key)
        if value is not None and (type(value) is not int or abs(value) > 1 << 31):
            raise CorruptFileError(
                "the quantisation is declared with a value that makes no sense",
                where=self.where,
                expected=f"a whole number as {key}",
                got=repr(value)[:80],
                next_step=FETCH_AGAIN,
            )
        return value

    def get(self, key: str) -> Any:
        """A setting, or None."""
        return self.settings.get(key)


def read_declaration(checkpoint: Checkpoint) -> Declaration:
    """The first that is there: in config.json, then in the tools' own files."""
    for key, section in _sections(checkpoint.config):
        return Declaration(_method(key, section), section, f"{checkpoint.reference}, config.json, {key}")
    for name, method in _FILES:
        path = checkpoint.folder / name
        if path.is_file():
            settings = read_object(path, CONFIG_LIMIT)
            inner = settings.get("quantization")
            settings = {**settings, **inner} if isinstance(inner, dict) else settings
            return Declaration(_method(method, settings), settings, str(path))
    return Declaration(where=checkpoint.reference)


def _sections(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    inner = [section for key, section in config.items() if key.endswith("_config") and isinstance(section, Mapping)]
    for place in (config, *inner):
        for key in DECLARATIONS:
            if isinstance(place.get(key), Mapping):
                yield key, place[key]


def _method(key: str, settings: Mapping[str, Any]) -> str:
    """A declaration's method; some tools' files imply theirs."""
    said = settings.get("quant_method")
    if isinstance(said, str):
        return said.lower().replace("_", "-")
    if key in ("gptq", "awq", "modelopt"):
        return key
    if key == "compression_config":
        return "compressed-tensors"
    if "load_in_4bit" in settings or "load_in_8bit" in settings:
        return "bitsandbytes"
    if "quant_algo" in settings:
        return "modelopt"
    return "mlx" if "group_size" in settings and "bits" in settings else ""
