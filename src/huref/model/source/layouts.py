"""Folders that trainers leave: which of their files are the weights, and the command that makes weights of others."""

from __future__ import annotations

import re
from pathlib import Path

from huref.errors import InputError
from huref.model.source.file_set import FileSet
from huref.model.source.ollama import names_in

_NAMED_STEP = 256  # bytes of the file `latest`
_RANK = re.compile(r"mp_rank_(\d+)_model_states\.pt")
_JOIN_ZERO = "python zero_to_fp32.py . OUT (the script lies beside `latest`), then name OUT"
_JOIN_DCP = "python -m torch.distributed.checkpoint.format_utils dcp_to_torch {} model.pt, then name model.pt"
_FEW = 3
"""Empty tensors that any file may have."""

_OTHER = {
    ".msgpack": "Flax: load it with from_flax=True in transformers 4, and save_pretrained",
    ".h5": "TensorFlow: load it with from_tf=True in transformers 4, and save_pretrained",
    ".npz": "numpy: save the arrays with safetensors.numpy.save_file, under the names of the family's PyTorch model",
    ".onnx": "ONNX: name the model that it was exported from",
    ".nemo": "NeMo: unpack the archive and convert it with NeMo's own script to the Hugging Face layout",
}


def inner_weights(folder: Path) -> FileSet | None:
    """DeepSpeed's `global_stepN/mp_rank_00_model_states.pt`, of the step that `latest` names or else of the last one.

    Raises:
        InputError: split over several ranks, or sharded by ZeRO-3.
    """
    step = _step(folder)
    if step is None:
        return None
    ranks = sorted(path.name for path in step.iterdir() if _RANK.fullmatch(path.name))
    if len(ranks) == 1:
        return FileSet(folder, (f"{step.name}/{ranks[0]}" if step != folder else ranks[0],))
    if ranks:
        raise _in_parts(
            step, f"{len(ranks)} tensor-parallel parts of DeepSpeed", "merge them with Megatron-DeepSpeed's tools"
        )
    if any(re.match(r"(bf16_)?zero_pp_rank_", path.name) for path in step.iterdir()):
        raise _in_parts(step, "shards of DeepSpeed's ZeRO", _JOIN_ZERO)
    return None


def refuse_known(folder: Path) -> None:
    """Refuse a folder without weights that is of a known kind, with the command that makes weights of it.

    Raises:
        InputError: it is one.
    """
    if (names := names_in(folder)) is not None:
        raise _in_parts(
            folder, "the store of Ollama", f"name one of its models: {', '.join(names[:8]) or 'it has none'}"
        )
    for place in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        names = [path.name for path in place.iterdir()]
        if any(name.endswith(".distcp") for name in names):
            raise _in_parts(place, "shards of torch.distributed (FSDP)", _JOIN_DCP.format(place))
        if any(re.fullmatch(r"mp_rank_\d+(_\d+)?", name) for name in names) or place.name.startswith("mp_rank_"):
            raise _in_parts(
                place,
                "a checkpoint of Megatron-LM",
                "convert it with Megatron-LM's tools/checkpoint/convert.py to the Hugging Face layout",
            )
    for path in sorted(folder.iterdir()):
        if path.suffix in _OTHER:
            raise _in_parts(folder, path.name, _OTHER[path.suffix])


def refuse_shells(sizes: list[tuple[int, ...]], reference: str) -> None:
    """Refuse a file whose matrices were left out when it was saved, as ZeRO-3 does.

    Raises:
        InputError: half of its tensors or more, and not just a few, have no element.
    """
    empty = sum(0 in shape for shape in sizes)
    if empty > _FEW and 2 * empty >= len(sizes):
        raise InputError(
            "the weights were left out when this file was saved",
            where=reference,
            expected="tensors with their elements",
            got=f"{empty} of {len(sizes)} tensors have shape [0], as DeepSpeed ZeRO-3 leaves them on each rank",
            next_step=f"gather the weights: {_JOIN_ZERO}; or save with stage3_gather_16bit_weights_on_model_save",
        )


def _step(folder: Path) -> Path | None:
    if any(_RANK.fullmatch(path.name) for path in folder.iterdir()):
        return folder
    latest = folder / "latest"
    if latest.is_file() and latest.stat().st_size < _NAMED_STEP:
        named = latest.read_text("utf-8", "replace").strip()
        if re.fullmatch(r"[\w-]+", named) and (folder / named).is_dir():
            return folder / named
    steps = [path for path in folder.iterdir() if re.fullmatch(r"global_step\d{1,9}", path.name) and path.is_dir()]
    return max(steps, key=lambda path: int(path.name.removeprefix("global_step")), default=None)


def _in_parts(place: Path, got: str, cure: str) -> InputError:
    return InputError(
        "weights in a form that huref does not read",
        where=str(place),
        expected="a state dictionary, or safetensors",
        got=got,
        next_step=cure,
    )
