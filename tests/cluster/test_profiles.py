"""Profiles name options that exist: Snakemake passes over a misspelt one in silence. Needs no cluster."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from tests_support import ROOT

PROFILES = sorted((ROOT / "profiles").glob("*/profile.yaml"))


@pytest.mark.parametrize("file", PROFILES, ids=lambda f: f.parent.name)
def test_every_key_is_an_option(file: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "snakemake", "--help"], capture_output=True, text=True, check=True)
    options = set(re.findall(r"--([a-z][a-z-]+)", done.stdout))
    keys = set(yaml.safe_load(file.read_text()))
    if not find_spec("snakemake_executor_plugin_kubernetes"):  # the one plugin that requirements.lock does not have
        keys = {k for k in keys if not k.startswith("kubernetes-")}
    assert keys <= options, keys - options
