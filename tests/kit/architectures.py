"""The description of a family as one YAML document, with everything that it extends written out."""

from __future__ import annotations

import yaml

from huref.model.arch import families


def written_out(name: str) -> str:
    """What a family is put together to, as YAML that `--arch-file` takes."""
    path, document = families._known()[name]
    whole = families._without_nothing(families._put_together(document, path, ()))
    return yaml.dump(whole, default_flow_style=None, width=1000, sort_keys=False)
