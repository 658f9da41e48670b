"""A study of models that are only vectors."""

from __future__ import annotations

import numpy as np

from huref_lab.encoder_study.record import Study, StudyModel
from huref_lab.reading.line_ups import kin


def real_study(bases: int = 20, children: int = 2, nearness: float = 0.9) -> Study:
    """Vectors without models behind them."""
    dice = np.random.default_rng(1)
    models, rows = [], []
    for k in range(bases):
        base = dice.standard_normal(512)
        models.append(StudyModel(f"base{k}", f"base{k}", "base", 1.0, 1.0))
        rows.append(base)
        for child in range(children):
            models.append(StudyModel(f"child{k}-{child}", f"base{k}", "fine-tune", nearness, nearness))
            rows.append(kin(base, nearness, dice))
    vectors = np.stack(rows).astype(np.float32)
    table = np.eye(len(models))
    return Study(tuple(models), {"sketch": vectors}, table, table)
