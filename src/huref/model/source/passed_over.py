"""What a folder holds beside the weights that were read: said, so that nobody takes one for the other."""

from __future__ import annotations

import re
from collections.abc import Sequence

from huref.model.source.checkpoint import Checkpoint

_FINGERPRINT = ".huref.safetensors"
_NO_MODEL = re.compile(
    r"(optimizer|.*optim_states|optim|scheduler|scaler|training|trainer|rng|random_states|adapter_model|(.*[-_.])?(mmproj|imatrix))"
)
_SHOWN = 4


def notes_about(checkpoint: Checkpoint, endings: Sequence[str]) -> tuple[str, ...]:
    """Notes about the weight files of a folder that are not read: other weights, an adapter, and what is no model."""
    folder, read = checkpoint.folder, set(checkpoint.files)
    beside = [
        path.name
        for path in sorted(folder.iterdir())
        if path.name not in read
        and path.name.endswith((*endings, ".dat", ".imatrix"))
        and not path.name.endswith((_FINGERPRINT, ".json"))
        and path.is_file()
    ]
    weights = [name for name in beside if not _NO_MODEL.match(name) and not name.endswith((".dat", ".imatrix"))]
    notes = []
    if weights:
        notes.append(
            f"read: {_listed(sorted(read))}; passed over in the same folder, name it to have it read: "
            f"{_listed(weights)}"
        )
    rest = [name for name in beside if name not in weights and not name.startswith("adapter_model")]
    if rest:
        notes.append(f"no weights of the model, and not read: {_listed(rest)}")
    return tuple(notes)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
