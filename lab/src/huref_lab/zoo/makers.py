"""The makers by name, and one model from plan to entry."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from huref.files.atomic import write_atomically
from huref_lab.zoo import real, surgery, training, tuning
from huref_lab.zoo.plan import Plan, Scale
from huref_lab.zoo.record import ZooModel
from huref_lab.zoo.task import Made, Task

MAKERS: Mapping[str, Callable[[Task], Made]] = {
    "base": training.make_base,
    "tune": training.make_tuned,
    "lora": tuning.make_lora,
    "dpo": tuning.make_preferred,
    "student": tuning.make_student,
    "cut": surgery.make_cut,
    "merge": surgery.make_merge,
    "stack": surgery.make_stack,
    "extended": surgery.make_extended,
    "swapped": surgery.make_swapped,
    "gguf": surgery.make_gguf,
    "wrapped": real.make_wrapped,
    "real": real.make_real,
    "real-tuned": real.make_real_tuned,
    "real-lora": real.make_real_lora,
    "real-cut": real.make_real_cut,
    "real-gguf": real.make_real_gguf,
}


def make_model(zoo: Path, plan: Plan, scale: Scale, parents: tuple[ZooModel, ...], digest: str) -> ZooModel:
    """Make a model and note what it was made by.

    Raises:
        HurefError: no text, a loss that diverged, a folder that cannot be written.
    """
    began = time.process_time()
    made = MAKERS[plan.maker](Task(zoo, plan, scale, parents))
    model = replace(_entry(plan, parents), made=made.made, losses=dict(made.losses), **made.changes)  # type: ignore[arg-type]
    record = {"digest": digest, "cpu_seconds": round(time.process_time() - began, 2), "model": asdict(model)}
    write_atomically(_record(zoo, plan), json.dumps(record, indent=1).encode())
    return model


def find_model(zoo: Path, plan: Plan, digest: str) -> ZooModel | None:
    """What an earlier build made by the same plan, or None."""
    try:
        record = json.loads(_record(zoo, plan).read_text(encoding="utf-8"))
        stored = record["model"].items()
        entry: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in stored}
        model = ZooModel(**entry)
        is_it = record["digest"] == digest and (model.name, model.path) == (plan.name, plan.path)
        return model if is_it and (zoo / plan.path).exists() else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _entry(plan: Plan, parents: tuple[ZooModel, ...]) -> ZooModel:
    """The model's entry as it follows from its plan and its parents."""
    settings = plan.settings
    if not parents:
        own = {key: settings[key] for key in ("init", "architecture", "text", "tokenizer")}
        return ZooModel(plan.name, plan.path, plan.kind, (), (plan.name,), strength=plan.strength, **own)
    first = parents[0]
    roots = tuple(dict.fromkeys(root for parent in parents for root in parent.roots))
    inits = "+".join(dict.fromkeys(parent.init for parent in parents))
    return ZooModel(
        plan.name,
        plan.path,
        plan.kind,
        plan.parents,
        roots,
        inits,
        first.architecture,
        first.text,
        first.tokenizer,
        plan.strength,
    )


def _record(zoo: Path, plan: Plan) -> Path:
    return zoo / "records" / f"{plan.name}.json"
