"""A site of made-up results, built once by the workflow's own entry point."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic import build_site

KEYS = ["icr", "anyloss", "lost"]  # two with methods (current), one without (stale); all others were not run


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_site(tmp_path_factory.mktemp("site"), KEYS)
