"""The Makefile's virtual environment: what is whole is kept, what is not is made again, a wrong Python is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests_support import ROOT

# A Python as far as workflow/venv.sh looks: it tells its version and makes environments of itself, with a pip
PYTHON = """#!/bin/sh
case "$1 $2" in
"-c import sys; print(sys._base_executable)") echo {path} ;;
"-m venv")
    mkdir -p "$4/bin" && rm -rf "$4"/* && mkdir "$4/bin" && touch "$4/pyvenv.cfg" && cp {path} "$4/bin/python" || exit 1
    {pip} || exit 1
    printf "#!/bin/sh\\n# %s\\n" "$PWD/$4/bin/python" >"$4/bin/pip" && chmod +x "$4/bin/pip" ;;
"-c "*) echo {version} ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "a checkout"
    (folder / "workflow").mkdir(parents=True)
    shutil.copy(ROOT / "workflow" / "venv.sh", folder / "workflow")
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "requirements.lock").touch()
    (folder / "pyproject.toml").touch()
    return folder


def python(folder: Path, version: str, name: str = "", pip: bool = True) -> Path:
    """A stand-in on the path; `pip=False` is Debian's without its package venv."""
    file = folder.parent / "tools" / (name or f"python{version}")
    file.parent.mkdir(exist_ok=True)
    file.write_text(PYTHON.format(path=file, version=version, pip="true" if pip else "false"))
    file.chmod(0o755)
    return file


def venv(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    path = f"{folder.parent / 'tools'}:/usr/bin:/bin"
    command = ["workflow/venv.sh", ".venv", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env={"PATH": path}, capture_output=True, text=True)


def made(folder: Path) -> str:
    return subprocess.run([folder / ".venv/bin/python", "-c", ""], capture_output=True, text=True).stdout.strip()


def marked(folder: Path) -> bool:
    """Whether the environment is still the one that was marked: nothing was cleared."""
    return (folder / ".venv" / "mark").exists()


def mark(folder: Path) -> None:
    (folder / ".venv" / "mark").touch()


def test_a_whole_environment_is_kept_and_another_python_makes_another(checkout: Path) -> None:
    twelve = python(checkout, "3.12")
    assert venv(checkout, twelve).returncode == 0 and made(checkout) == "3.12"
    mark(checkout)
    python(checkout, "3.11")
    assert venv(checkout).returncode == 0 and marked(checkout)  # nobody asked for another
    assert venv(checkout, python(checkout, "3.13")).returncode == 0
    assert made(checkout) == "3.13" and not marked(checkout)


def test_one_that_was_left_half_made_is_made_again(checkout: Path) -> None:
    bare = python(checkout, "3.11", pip=False)
    assert venv(checkout, bare).returncode == 1
    assert (checkout / ".venv").exists()
    python(checkout, "3.11")
    assert venv(checkout).returncode == 0
    assert (checkout / ".venv" / "bin" / "pip").exists()


def test_one_that_was_copied_or_moved_is_made_again(checkout: Path) -> None:
    venv(checkout, python(checkout, "3.11"))
    mark(checkout)
    moved = checkout.rename(checkout.with_name("moved"))
    assert venv(moved).returncode == 0 and not marked(moved)
    # make takes the marker of another place for none
    (moved / ".venv" / ".installed").write_text(f"{checkout}\n")
    make = ["make", "--dry-run", ".venv/.installed"]
    assert "venv.sh" in subprocess.run(make, cwd=moved, capture_output=True, text=True, check=True).stdout
    (moved / ".venv" / ".installed").write_text(f"{moved}\n")
    assert "venv.sh" not in subprocess.run(make, cwd=moved, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("version", "message"), [("3.10", "is 3.10"), ("3.14", "is 3.14"), ("", "is not there")])
def test_a_wrong_python_is_refused_in_one_line_before_anything_is_made(
    checkout: Path, version: str, message: str
) -> None:
    name = python(checkout, version, "python-x") if version else "python-x"
    done = venv(checkout, name)
    assert done.returncode == 1 and not (checkout / ".venv").exists()
    assert message in done.stderr and "make PYTHON=python3.12" in done.stderr and done.stderr.count("\n") == 1


def test_a_folder_that_is_something_else_is_not_touched(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "thesis.tex").touch()
    done = venv(checkout, python(checkout, "3.11"))
    assert done.returncode == 1 and "make VENV=" in done.stderr
    assert (checkout / ".venv" / "thesis.tex").exists()


def test_pyproject_says_the_same_versions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["requires-python"] == ">=3.11,<3.14"
    assert "3.11 | 3.12 | 3.13)" in (ROOT / "workflow" / "venv.sh").read_text()
    assert (3, 11) <= sys.version_info[:2] < (3, 14)
