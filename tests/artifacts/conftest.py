"""Pip, pointed at wheels that a test made, and an empty cache."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from artifacts_support import Index, make_wheel


@pytest.fixture
def pip_env(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replace the whole configuration of pip by the given options."""

    def set_to(**options: str) -> None:
        for key in [k for k in os.environ if k.startswith("PIP_")]:
            monkeypatch.delenv(key)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_RETRIES", "0")
        for key, value in options.items():
            monkeypatch.setenv(f"PIP_{key}", value)

    return set_to


@pytest.fixture
def wheels(tmp_path: Path, pip_env: Callable[..., None]) -> Path:
    """An empty folder that is all that pip sees."""
    pip_env(NO_INDEX="1", FIND_LINKS=str(tmp_path / "wheels"))
    return tmp_path / "wheels"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def index(tmp_path: Path, pip_env: Callable[..., None]) -> Iterator[Index]:
    make_wheel(tmp_path / "served", {"toy_data/a.bin": os.urandom(400_000)})
    with Index(next((tmp_path / "served").iterdir())) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        pip_env(INDEX_URL=server.url)
        yield server
        server.go.set()
        server.shutdown()
