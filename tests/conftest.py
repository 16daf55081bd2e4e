"""Fixtures every test may ask for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from tests_support import Project, add_toy, make_project


@pytest.fixture
def toy(tmp_path: Path) -> Project:
    """The project with no paper but a toy one, added as a user would: a card and a module."""
    return add_toy(make_project(tmp_path, []))
