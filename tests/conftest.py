"""Fixtures every test may ask for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Two workers with two threads each would wait for each other: a small training costs five times the CPU time. Jobs and
# loaded models set the number of threads that they were asked for.
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent))

from tests_support import Project, add_toy, make_project


@pytest.fixture
def toy(tmp_path: Path) -> Project:
    """The project with no paper but a toy one, added as a user would: a card and a module."""
    return add_toy(make_project(tmp_path, []))


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, subprocess.CompletedProcess[str]]:
    """The toy paper, run at scale quick, and what that printed: to look at. To change it, take `finished`."""
    project = add_toy(make_project(tmp_path_factory.mktemp("first-run"), []))
    return project, project.run()


@pytest.fixture
def finished(first_run: tuple[Project, subprocess.CompletedProcess[str]], tmp_path: Path) -> Project:
    """A copy of the project in which the toy paper has run at scale quick."""
    shutil.copytree(first_run[0].folder, tmp_path / "finished")
    return Project(tmp_path / "finished")
