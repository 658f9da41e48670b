"""Fixtures of both suites: no network, tiny models, a tiny generator, the command line in-process."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from kit.command_line import Outcome
from kit.tiny_generator import tiny_generator
from kit.tiny_llama import TinyLlama

os.environ.pop("HUREF_HOME", None)
os.environ["HUREF_NO_CACHE"] = "1"  # tests of the cache have one of their own
os.environ.update(
    HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false"
)

# A shell ignores interrupts for what it starts in the background (`make test &`), and tests interrupt themselves.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A slow or shared machine fails no test: properties are about answers, not about seconds.
settings.register_profile("huref", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("huref")


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run `huref ARGUMENTS...` as the console script does, without a new process."""
    from huref.cli.app import main

    monkeypatch.setattr("huref.cli.waiting.EVERY", 1e6)  # a slow machine says no more than a fast one

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["huref", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Outcome(int(ended.value.code or 0), out, err)

    return run


@pytest.fixture(scope="session")
def tiny_llama() -> type[TinyLlama]:
    """`tiny_llama(seed=1).save(folder)` writes a model; see `TinyLlama`."""
    return TinyLlama


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base, an equal copy, the base in bfloat16, one a little trained, a deeper one, and a stranger. Read-only."""
    home = tmp_path_factory.mktemp("models")
    family = {
        "base": TinyLlama(),
        "copy": TinyLlama(),
        "rounded": TinyLlama(dtype="bfloat16"),
        "child": TinyLlama(noise=0.05),
        "deeper": TinyLlama(n_layers=5),
        "stranger": TinyLlama(seed=1),
    }
    return {name: model.save(home / name) for name, model in family.items()}


@pytest.fixture
def cache_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A place of its own for results that are kept; files count as settled at once."""
    monkeypatch.delenv("HUREF_NO_CACHE")
    monkeypatch.setenv("HUREF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huref.model.identity.SETTLED", 0)
    return tmp_path / "home"


@pytest.fixture
def dogs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random 16-pixel generator in place of the shipped one: these tests are about files, not dogs."""
    monkeypatch.setattr("huref.portraits.generator.file.shipped_generator", tiny_generator)
