"""Files appear whole or not at all, and what is no file is never replaced by one."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from huref.errors import OutputError
from huref.files.atomic import require_place, write_atomically


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two" and [item.name for item in tmp_path.iterdir()] == ["a"]


def test_a_pipe_is_refused_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for refused in (require_place, lambda path: write_atomically(path, b"x")):
        with pytest.raises(OutputError):
            refused(pipe)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
