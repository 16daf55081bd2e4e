"""The floor plan holds: imports go down only, methods see the cell alone, nothing unsafe is called."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests_support import ROOT

FLOORS = {
    "errors": 1, "files": 1,
    "artifacts": 2, "card_form": 2, "cards": 2, "code": 2, "signatures": 2, "parameters": 3, "claims": 2,
    "measure_names": 2, "sizes": 2, "store": 2, "runs": 2, "wall": 3, "lock": 2, "phases": 2,
    "passes": 2, "benchmarks": 3, "models": 3, "plan": 3, "rehearsal": 3,
    "judge": 4, "cell": 4, "processes": 4,
    "report": 5, "tracking": 5, "runner": 5, "status": 5,
    "away": 5, "budget": 5, "clean": 5, "downloads": 4, "evaluate": 5, "inspection": 5, "outlook": 5, "scaffold": 5,
    "seconds": 5,
    "cli": 6, "__main__": 7,
}  # fmt: skip
HARNESS = sorted((ROOT / "rankrepro").rglob("*.py"))
METHODS = sorted((ROOT / "methods").rglob("*.py"))


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports are not seen by the digest"
            yield node.module or ""
            yield from (f"{node.module}.{a.name}" for a in node.names)


def room(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "rankrepro" and len(parts) > 1 and parts[1] in FLOORS else None


@pytest.mark.parametrize("file", HARNESS, ids=lambda f: f.relative_to(ROOT).as_posix())
def test_no_import_goes_up(file: Path) -> None:
    own = file.relative_to(ROOT / "rankrepro").parts[0].removesuffix(".py")
    if own == "__init__":
        return
    assert own in FLOORS, f"{own} has no floor in the plan"
    for other in filter(None, map(room, imports(file))):
        assert FLOORS[other] <= FLOORS[own], f"{own} imports {other} from above"


def test_no_circle_of_modules() -> None:
    """Imports inside functions count: what is circular there is circular."""
    files = {_name(file): file for file in (*HARNESS, *METHODS)}
    below = {name: {m for m in imports(file) if m in files and m != name} for name, file in files.items()}
    for name in below:  # a package imports its own modules to offer what they have; they do not import it
        below[name] -= {parent for parent in _parents(name) if parent in files}
    assert not list(TopologicalSorter(below).static_order())[len(files) :]


def _name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


@pytest.mark.parametrize("file", METHODS, ids=lambda f: f.relative_to(ROOT).as_posix())
def test_methods_see_the_cell_and_parts_alone(file: Path) -> None:
    for module in imports(file):
        if module.startswith("rankrepro"):
            assert module == "rankrepro" or module.startswith(("rankrepro.cell", "rankrepro.errors")), module
        assert module.split(".")[0] not in ("snakemake", "mlflow", "ir_measures", "ir_datasets", "ranx"), module
    text = file.read_text().lower()
    for word in ("qrels", "load_truth", "read_truth", "open(", "read_text", "pickle"):
        assert word not in text, f"{file.name} mentions '{word}': methods read no files and know no judgments"


@pytest.mark.parametrize("file", [*HARNESS, *METHODS], ids=lambda f: f.relative_to(ROOT).as_posix())
def test_nothing_unsafe_is_called(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        assert name not in ("eval", "exec", "pickle.load", "pickle.loads", "yaml.unsafe_load", "os.system"), name
        if name == "torch.load":
            assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords)
        if name.startswith("subprocess."):
            assert not any(k.arg == "shell" for k in node.keywords)


LAZY = {"registered.py", "efficientnet.py"}  # imported by benchmarks.register() and models.load() alone


def test_heavy_packages_are_imported_inside_functions() -> None:
    for file in (f for f in HARNESS if f.name not in LAZY):
        top = [n for n in ast.parse(file.read_text()).body if isinstance(n, ast.Import | ast.ImportFrom)]
        names = {a.name.split(".")[0] for n in top if isinstance(n, ast.Import) for a in n.names}
        names |= {(n.module or "").split(".")[0] for n in top if isinstance(n, ast.ImportFrom)}
        heavy = names & {"torch", "transformers", "ranx", "mlflow", "pandas", "ir_datasets", "sentence_transformers"}
        assert not heavy, f"{file}: {heavy}"
