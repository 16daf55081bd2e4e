"""Which installed packages the jobs of a pack import beyond those that torch and transformers bring along."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from rankrepro.away.run import NEEDED
from rankrepro.cards import ROOT
from rankrepro.errors import PackError

OURS = ("rankrepro", "methods")
ON_DEMAND = ("rankrepro.benchmarks", "rankrepro.artifacts")  # their imports inside functions fetch and build, at home


def carried(modules: Iterable[str]) -> list[metadata.Distribution]:
    """The distributions that `modules` (rankrepro.*, methods.*) import, directly or not, and a bare machine lacks.

    Raises PackError for an import that no installed distribution provides.
    """
    given = _closure(NEEDED)
    provided = metadata.packages_distributions()
    wanted: list[str] = []
    for name in sorted(set(_imported(modules))):
        if name not in provided:
            raise PackError(f"the jobs import {name}, which no installed package provides: install it")
        wanted += [_canonical(d) for d in provided[name] if not {_canonical(d)} & {*given, "rankrepro"}]
    return [metadata.distribution(name) for name in sorted(_closure(wanted) - given)]


def files(distribution: metadata.Distribution) -> Iterator[tuple[Path, str]]:
    """(path, path in a folder of packages) of what a distribution installed there: no scripts, no byte code."""
    for file in distribution.files or ():
        path = Path(str(distribution.locate_file(file)))
        if ".." not in file.parts and "__pycache__" not in file.parts and path.is_file():
            yield path, file.as_posix()


def compiled(distribution: metadata.Distribution) -> bool:
    """Whether it fits one version of Python on one kind of machine alone."""
    return any(file.suffix in (".so", ".pyd", ".dylib") for file in distribution.files or ())


def _closure(names: Iterable[str]) -> set[str]:
    """Distributions by name, and all that they require here."""
    todo, found = [_canonical(name) for name in names], set()
    while todo:
        name = todo.pop()
        if name in found:
            continue
        try:
            required = metadata.requires(name) or ()
        except metadata.PackageNotFoundError:
            continue  # a requirement for another platform, or of an extra
        found.add(name)
        each = map(Requirement, required)
        todo += [_canonical(r.name) for r in each if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _imported(modules: Iterable[str]) -> Iterator[str]:
    """Top-level names of foreign packages that modules, and those of ours that they import, ask for."""
    import sys

    todo, seen = list(modules), set()
    while todo:
        module = todo.pop()
        file = _file(module)
        if module in seen or file is None:
            continue
        seen.add(module)
        todo.append(module.rpartition(".")[0])  # its package
        for name in _names(ast.parse(file.read_text(encoding="utf-8")), deep=not module.startswith(ON_DEMAND)):
            top = name.partition(".")[0]
            if top in OURS:
                todo += [name, name.rpartition(".")[0]]
            elif top not in sys.stdlib_module_names:
                yield top


def _names(tree: ast.Module, deep: bool) -> Iterator[str]:
    """What a module imports: `a.b` for `import a.b` and for `from a import b`. deep: inside functions, too."""
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif not _skipped(node, deep):
            todo += ast.iter_child_nodes(node)


def _skipped(node: ast.AST, deep: bool) -> bool:
    typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    return typing_only or (not deep and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _file(module: str) -> Path | None:
    """The file of a module of ours; None for what is none (a name in a module)."""
    stem = ROOT.joinpath(*module.split("."))
    known: Collection[Path] = (stem.with_suffix(".py"), stem / "__init__.py")
    return next((file for file in known if module and file.is_file()), None)
