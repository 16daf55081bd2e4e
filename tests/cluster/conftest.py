"""One Slurm for all tests of this folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from slurm_cluster import CannotStart, Cluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    running = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        running.__enter__()
    except (CannotStart, TimeoutError) as error:
        if os.environ.get("CI"):  # there a cluster that does not start is an error, not a circumstance
            raise
        pytest.skip(f"no Slurm here: {error}")
    yield running
    running.__exit__()
