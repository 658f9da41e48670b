"""Fixtures: a hub for a test, and this process pointed at it as a user's would be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub
import pytest

from huref.model.source.byte_source import STAND_INS
from huref.model.source.remote import http, mirror
from kit.hub_server import Hub, hub_running


def point_at(hub: Hub, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Set what a user sets: the endpoint, no token, folders of one's own. Waits are short."""
    from huggingface_hub import constants

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN", "HUREF_NO_CACHE", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.setenv("HUREF_HOME", str(home / "huref"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the hub of the tests has no store of that kind
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(http, "backoff", lambda failures: 0.01)


def forget() -> None:
    """As a new process would begin: nothing is known of any model elsewhere."""
    mirror._mirrored.cache_clear()
    STAND_INS.clear()
    mirror._ORIGINS.clear()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub of no models yet, with its store on another host."""
    with hub_running(Hub()) as running:
        point_at(running, monkeypatch, tmp_path)
        forget()
        yield running
    forget()
    http.client().close()
    huggingface_hub.close_session()
    http._client.cache_clear()


@pytest.fixture
def again(hub: Hub) -> Callable[[], None]:
    """Forget everything that this process knows, and what the hub was asked."""

    def begin() -> None:
        forget()
        hub.requests.clear()

    return begin
