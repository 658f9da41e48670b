"""Language models whose kinship is known: `huref lab zoo`.

build_zoo(folder, ZooOptions())    -> Zoo    trains what is missing
load_zoo(folder)                   -> Zoo    what is there, with how each model was made
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from huref.face import face

if TYPE_CHECKING:
    from huref_lab.zoo.construction import ZooOptions, build_zoo
    from huref_lab.zoo.record import Zoo, ZooModel, load_zoo

__all__ = ["Zoo", "ZooModel", "ZooOptions", "build_zoo", "load_zoo"]

_HOMES = {
    "Zoo": "huref_lab.zoo.record",
    "ZooModel": "huref_lab.zoo.record",
    "ZooOptions": "huref_lab.zoo.construction",
    "build_zoo": "huref_lab.zoo.construction",
    "load_zoo": "huref_lab.zoo.record",
}

if not TYPE_CHECKING:  # so that a type checker sees the names above, and a misspelt one
    __getattr__, __dir__ = face(__name__, _HOMES)
