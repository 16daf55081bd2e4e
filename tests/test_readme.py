"""The README, taken literally: the code blocks of two sections are run in a copy of the project, in their order."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests_support import ROOT, Project, make_project

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def section(title: str) -> str:
    return (ROOT / "README.md").read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """The project as a reader has it after the installation: `make` finds its environment ready."""
    project = make_project(tmp_path, ["baselines", "icr"])
    for name in ("Makefile", "requirements.lock", "tests/conftest.py", "tests/tests_support.py", "tests/cells.py",
                 "tests/methods/conftest.py"):  # fmt: skip
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    tools = tmp_path / ".venv" / "bin"
    tools.mkdir(parents=True)
    for name, module in (("python", ""), ("snakemake", "-m snakemake"), ("rankrepro", "-m rankrepro")):
        tool = tools / name
        tool.write_text(f'#!/bin/sh\nexec {sys.executable} {module} "$@"\n')
        tool.chmod(0o755)
    (tmp_path / ".venv" / ".installed").write_text(f"{tmp_path}\n")
    return project


def masked(text: str) -> str:
    """Digits, which may differ in the last place between processors, as zeros; blanks as one."""
    return re.sub(r"\d", "0", " ".join(text.split()))


def follow(project: Project, text: str) -> str:
    """Run the blocks of a section: shell as it is, Python into the file named before it, text against the output."""
    env = project.env() | {"PATH": f"{project.folder / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    output, end = "", 0
    for block in BLOCK.finditer(text):
        language, code, before = block[1], block[2], text[end : block.start()]
        end = block.end()
        if language == "python":
            name = re.findall(r"`([\w/]+\.py)`", before)[-1]
            (project.folder / name).write_text(code)
        elif language == "text":
            for line in code.splitlines():
                assert masked(line) in masked(output), f"README shows '{line}', but:\n{output}"
        else:
            done = subprocess.run(
                ["bash", "-euc", code], cwd=project.folder, env=env, capture_output=True, text=True, timeout=300
            )
            assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
            output = done.stdout
    return output


def test_the_reader_plugs_in_a_method_and_judges_a_run(project: Project) -> None:
    follow(project, section("Plug in your own method"))
    shown = project.python("-m", "rankrepro", "show", "mine").stdout
    assert re.search(r"mine-placebo \(placebo\) +placebo failed as it must", shown)

    evaluated = follow(project, section("Judge a run file"))
    assert "854 of 854 queries" in evaluated and "215 queries are of other splits" in evaluated
    for measure in ("nDCG@10", "RR"):
        table = evaluated.split(f"\n{measure}, our rows")[1].split("\n\n")[0]
        places = re.findall(r"^ *(\d)( >)? +(my|mine\.rerank|baselines\.random) +0\.\d", table, re.MULTILINE)
        assert [name for _, _, name in places] == ["mine.rerank", "my", "baselines.random"], evaluated
        assert [name for _, mark, name in places if mark] == ["my"]


def test_every_command_of_the_table_exists() -> None:
    named = re.findall(r"^\| `rankrepro (\w+)", section("The command line"), re.MULTILINE)
    text = subprocess.run(
        [sys.executable, "-m", "rankrepro", "--help"], capture_output=True, text=True, cwd=ROOT
    ).stdout
    listed = re.findall(r"^  (\w+)  ", text.split("Commands:")[1], re.MULTILINE)
    assert sorted(named) == sorted(listed)


def test_the_verdicts_it_tells_are_the_published_ones() -> None:
    lines = re.findall(
        r"^\| \[(\w+)\]\(reports/desk/\w+/tables\.md\).*\| (.*) \|$", (ROOT / "README.md").read_text(), re.M
    )
    published = {f.parent.name for f in (ROOT / "reports" / "desk").glob("*/results.json")}
    assert lines and {key for key, _ in lines} <= published  # more may be published than README tells of
    for key, words in lines:
        page = json.loads((ROOT / "reports" / "desk" / key / "results.json").read_text())["papers"][key]
        verdicts = [c["verdict"] for c in page["claims"] if c["role"] == "claim"]
        assert words == ", ".join(f"{verdicts.count(v)} {v}" for v in dict.fromkeys(verdicts))
