"""Whether anything is where a reference points: seen before numpy or a format is loaded."""

from __future__ import annotations

from pathlib import Path

from huref.model.source.byte_source import missing_file
from huref.model.source.hub_cache import snapshot_of
from huref.model.source.ollama import stored
from huref.model.source.remote.naming import is_stand_in, remote_name

ON = "::"
"""Between an adapter and its base, in one reference."""


def split_reference(reference: str | Path) -> tuple[str, str | None]:
    """An adapter and its base, of a reference `ADAPTER::BASE`; any other reference and None."""
    text = str(reference)
    adapter, mark, base = text.partition(ON)
    is_pair = bool(mark and adapter and base) and not adapter.endswith("://[")  # an address of IPv6
    return (adapter, base) if is_pair and not Path(text).exists() else (text, None)


def require_there(*references: str | Path) -> None:
    """Refuse what is no path of this machine and no model elsewhere that can be found.

    Raises:
        UsageError: what names no model.
        MissingFileError: nothing there.
        AccessError, NetworkError: of a model elsewhere.
    """
    for reference in (part for whole in references for part in _parts(whole)):
        path = Path(reference)
        if path.exists() or stored(reference) is not None:
            continue
        if remote_name(reference) is None:
            raise missing_file(path)
        from huref.model.source.remote.mirror import found

        found(reference)


def path_of(reference: str | Path) -> Path:
    """The path that a reference means; of a model elsewhere, which is then found, that of what stands for it here.

    Raises:
        HurefError: it cannot be found, see `huref.model.source.remote.mirror`.
    """
    if Path(reference).exists() and not is_stand_in(reference):
        return snapshot_of(Path(reference)) or Path(reference)
    if (blob := stored(str(reference))) is not None:
        return blob
    if remote_name(reference) is None and not is_stand_in(reference):
        return Path(reference)
    from huref.model.source.remote.mirror import found

    return found(reference)


def _parts(reference: str | Path) -> list[str]:
    first, base = split_reference(reference)
    return [first] if base is None else [first, *_parts(base)]
