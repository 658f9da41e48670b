"""Laws of the cache on disk: what comes out is what went in, or nothing; whoever else touches the place, too."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huref.errors import UsageError
from huref.files import cache as home
from huref.files.cache import Cache

KEY = '{"about":"compare"}'


def entry_of(cache: Cache, key: str = KEY) -> Path:
    return cache._path(key)


@given(
    st.dictionaries(
        st.text(st.characters(codec="ascii", exclude_characters="\n")), st.binary(max_size=200), max_size=5
    )
)
def test_what_comes_out_is_what_went_in(tmp_path_factory: pytest.TempPathFactory, kept: dict[str, bytes]) -> None:
    cache = Cache(tmp_path_factory.mktemp("home"))
    for key, payload in kept.items():
        assert cache.get(key) is None
        cache.put(key, payload)
    assert {key: Cache(cache.place).get(key) for key in kept} == kept
    usage = cache.usage()
    assert usage.entries == len(kept) and usage.size == sum(map(len, kept.values())) + sum(
        len(key) + len("huref-kept/1 \n\n") + 64 for key in kept
    )
    assert cache.trouble == "" and cache.clear() == usage and cache.usage().entries == 0


@pytest.mark.parametrize("cut", [0, 1, 20, 90, -1])
def test_a_truncated_entry_is_none(tmp_path: Path, cut: int) -> None:
    cache = Cache(tmp_path)
    cache.put(KEY, b"payload")
    entry_of(cache).write_bytes(entry_of(cache).read_bytes()[:cut])
    assert cache.get(KEY) is None and not entry_of(cache).exists()
    cache.put(KEY, b"payload")
    assert cache.get(KEY) == b"payload"


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_changed_byte_anywhere_makes_it_none(
    tmp_path_factory: pytest.TempPathFactory, place: int, change: int
) -> None:
    cache = Cache(tmp_path_factory.mktemp("home"))
    cache.put(KEY, b"payload")
    data = bytearray(entry_of(cache).read_bytes())
    data[place % len(data)] ^= change
    entry_of(cache).write_bytes(data)
    assert cache.get(KEY) is None


def test_an_entry_under_the_name_of_another_key_is_none(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("other", b"another's answer")
    entry_of(cache, "other").rename(entry_of(cache))
    assert cache.get(KEY) is None


def test_links_folders_and_pipes_are_no_entries(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "home")
    cache.put(KEY, b"payload")
    kept, elsewhere = entry_of(cache), tmp_path / "elsewhere"
    kept.rename(elsewhere)
    kept.symlink_to(elsewhere)
    assert cache.get(KEY) is None and not kept.is_symlink() and elsewhere.exists()
    os.mkfifo(kept)
    assert cache.get(KEY) is None
    kept.mkdir()
    assert cache.get(KEY) is None
    cache.put(KEY, b"payload")
    assert str(kept) in cache.trouble


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_that_others_may_write_to_is_not_used(tmp_path: Path, mode: int) -> None:
    cache = Cache(tmp_path)
    cache.put(KEY, b"payload")
    (tmp_path / "results").chmod(mode)
    assert cache.get(KEY) is None and cache.usage().entries == 0
    cache.put("more", b"payload")
    assert "others may write there" in cache.trouble and not entry_of(cache, "more").exists()


def test_a_folder_that_is_a_link_is_not_used(tmp_path: Path) -> None:
    real = Cache(tmp_path / "real")
    real.put(KEY, b"payload")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "results").symlink_to(tmp_path / "real" / "results")
    cache = Cache(tmp_path / "home")
    assert cache.get(KEY) is None and cache.clear().entries == 0 and real.get(KEY) == b"payload"


def test_a_place_that_cannot_be_made_is_said_and_no_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a photograph")
    cache = Cache(tmp_path / "file" / "home")
    cache.put(KEY, b"payload")
    assert cache.get(KEY) is None and cache.trouble and cache.usage().entries == cache.clear().entries == 0


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    cache = Cache(tmp_path)
    cache.put(KEY, b"payload")
    assert "No space left" in cache.trouble and list((tmp_path / "results").iterdir()) == []


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=4000)
    for k in range(6):
        cache.put(f"key {k}", bytes(500))
        os.utime(entry_of(cache, f"key {k}"), (k, k))
    assert cache.get("key 0") is not None  # used just now
    cache.put("key 6", bytes(500))
    cache.put("key 7", bytes(500))
    assert cache.usage().size <= 4000
    left = [k for k in range(8) if entry_of(cache, f"key {k}").exists()]
    assert left[0] == 0 and left[-2:] == [6, 7] and left[1:] == list(range(8 - len(left) + 1, 8))
    cache.put("large", bytes(5000))
    assert cache.get("large") is None and cache.trouble == ""


def test_files_of_others_stay_and_leftovers_go(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put(KEY, b"payload")
    mine, old = tmp_path / "results" / "mine.txt", tmp_path / "results" / f".{entry_of(cache).name}.abc"
    mine.write_text("a letter")
    old.write_text("half of an entry")
    assert cache.clear().entries == 1 and mine.exists() and old.exists()
    os.utime(old, (time.time() - 7200,) * 2)
    assert cache.clear().entries == 0 and mine.exists() and not old.exists()


@pytest.mark.parametrize(
    ("asked", "size"), [("", home.USUAL_LIMIT), ("1234", 1234), ("500M", 5 * 10**8), ("2gb", 2 * 10**9)]
)
def test_the_limit_is_a_number_of_bytes(monkeypatch: pytest.MonkeyPatch, asked: str, size: int) -> None:
    monkeypatch.setenv(home.LIMIT, asked)
    assert Cache("x").limit == size


@pytest.mark.parametrize("asked", ["-1", "much", "1e9", "2X"])
def test_another_limit_is_refused(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    monkeypatch.setenv(home.LIMIT, asked)
    with pytest.raises(UsageError, match="HUREF_CACHE_LIMIT"):
        Cache("x")


def test_the_usual_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the standard has it ignored
    assert home.usual_place() == Path("/home/me/.cache/huref")
    monkeypatch.setenv("XDG_CACHE_HOME", "/scratch")
    assert home.usual_place() == Path("/scratch/huref")
    monkeypatch.setenv("HUREF_HOME", str(tmp_path))
    assert home.usual_place() == tmp_path


_WORKER = """
import sys
from huref.files.cache import Cache
cache = Cache(sys.argv[1], limit=20000)
for k in range(150):
    key = f"key {k * 7 % 40}"
    found = cache.get(key)
    assert found in (None, key.encode() * 100), found
    cache.put(key, key.encode() * 100)
    if k % 50 == 49:
        cache.clear()
assert not cache.trouble, cache.trouble
"""


def test_processes_share_a_place(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    started = [
        subprocess.Popen([sys.executable, "-c", _WORKER, str(tmp_path)], env=environment, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for worker in started:
        _, err = worker.communicate()
        assert worker.returncode == 0, err
    assert all(path.name.endswith(".kept") for path in (tmp_path / "results").iterdir())
