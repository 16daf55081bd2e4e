"""`stdlib/code`: from the first paragraph of a docstring to the function it describes, as in CodeSearchNet.

The functions are those of the standard library of the Python that runs. Filters follow Husain et al., CodeSearchNet
Challenge, 2019, section 2: functions and methods at the top of a file, no test code, no special methods, docstrings of
three words or more, three lines of code or more, no near-duplicates.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
import sysconfig
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankrepro.benchmarks import splits
from rankrepro.benchmarks.base import Benchmark, Document, Query, Truth, opaque_id
from rankrepro.errors import BenchmarkError

MIN_WORDS = 3
MIN_LINES = 3
NEAR = 0.8  # functions with this Jaccard similarity of token multisets or more are duplicates (Allamanis 2019)
TOKEN = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Function:
    id: str  # module.Class.name
    module: str
    summary: str  # first paragraph of the docstring, on one line
    code: str  # source without decorators and docstring

    @property
    def name(self) -> str:
        return self.id.rpartition(".")[2]


def build(benchmark_id: str, sources: Mapping[str, Path], params: Mapping[str, Any]) -> tuple[Benchmark, Truth]:
    """The benchmark of the running Python; `sources` may point `stdlib` elsewhere. `params`: `shares`."""
    root = sources.get("stdlib", library())
    functions = distinct(f for path in files(root) for f in read_file(path, root))
    # a docstring shared by several functions (posixpath, ntpath) makes no query; the functions stay documents
    uses = Counter(f.summary.lower() for f in functions)
    described = [f for f in functions if uses[f.summary.lower()] == 1]
    if not described:
        raise BenchmarkError(f"{benchmark_id}: no function with a docstring in {root}; install Python with its sources")
    source = dict(sorted((opaque_id(benchmark_id, f.id), f) for f in described))
    modules = {q: f.module for q, f in source.items()}
    split = splits.assign(benchmark_id, modules, params["shares"])
    queries = {q: Query(q, f.summary, split[q]) for q, f in source.items()}
    qrels = {q: {f.id: 1} for q, f in source.items()}
    visible = {q: judged for q, judged in qrels.items() if split[q] != "test"}
    corpus = {f.id: Document(f.id, "", f.code) for f in functions}
    return Benchmark(benchmark_id, queries, corpus, visible), Truth(qrels, modules)


def library() -> Path:
    """Folder of the standard library."""
    return Path(sysconfig.get_path("stdlib"))


def files(root: Path) -> list[Path]:
    """Source files of the library's public and private modules, without tests and without installed packages."""
    tops = [p for name in sys.stdlib_module_names for p in (root / f"{name}.py", root / name)]
    sources = [p for top in tops for p in (top.rglob("*.py") if top.is_dir() else [top]) if p.is_file()]
    return sorted(p for p in sources if "test" not in str(p.relative_to(root)).lower())


def fingerprint() -> str:
    """Python's version with a hash of the library's file names and sizes: distributors patch it."""
    root = library()
    listing = "".join(f"{p.relative_to(root)} {p.stat().st_size}\n" for p in files(root))
    return f"python {sys.version.split()[0]} {hashlib.sha256(listing.encode()).hexdigest()}"


def read_file(path: Path, root: Path) -> Iterator[Function]:
    """Functions and methods at the top of a file that pass the filters."""
    try:
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
    except (SyntaxError, UnicodeDecodeError):  # templates and samples of other versions (lib2to3)
        return
    parts = path.relative_to(root).with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    lines = source.split("\n")
    for scope, node in _definitions(tree):
        docstring = ast.get_docstring(node) or ""
        summary = " ".join(docstring.split("\n\n")[0].split())
        code = without_docstring(node, lines) if docstring else ""
        if _passes(node.name, summary, code):
            yield Function(".".join([module, *scope, node.name]), module, summary, code)


def without_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> str:
    """The source of a function from `def` on, dedented, its docstring cut out. `lines`: those of the whole file."""
    first = node.body[0]
    assert first.end_lineno is not None and node.end_lineno is not None
    head, tail = lines[node.lineno - 1 : first.lineno - 1], lines[first.end_lineno : node.end_lineno]
    # columns count bytes; a docstring that shares its lines with code ("def f(): 'text'; return 1") leaves the code
    before = lines[first.lineno - 1].encode()[: first.col_offset].decode()
    after = lines[first.end_lineno - 1].encode()[first.end_col_offset :].decode().lstrip("; ")
    rest = [before + after] if (before + after).strip() else []
    return dedent([*head, *rest, *tail])


def dedent(lines: list[str]) -> str:
    """Lines moved left by the indent of the first; comments and strings further left stay whole. Indents lose tabs."""
    split = [(line[: len(line) - len(line.lstrip())].expandtabs(), line.strip()) for line in lines]
    by = len(split[0][0])
    return "\n".join(indent[by:] + text if text else "" for indent, text in split).strip("\n")


def distinct(functions: Iterator[Function]) -> list[Function]:
    """Functions by id, without near-duplicates: of two of one name with nearly the same code the first id stays."""
    named = defaultdict(list)
    for f in functions:
        named[f.name].append(f)
    by_id: dict[str, Function] = {}
    for group in named.values():
        chosen: list[Counter[str]] = []
        for f in sorted(group, key=lambda f: f.id):
            tokens = Counter(TOKEN.findall(f.code))
            if f.id not in by_id and all(_similarity(tokens, other) < NEAR for other in chosen):
                chosen.append(tokens)
                by_id[f.id] = f
    return [by_id[i] for i in sorted(by_id)]


def _definitions(tree: ast.Module) -> Iterator[tuple[list[str], ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield [], node
        elif isinstance(node, ast.ClassDef):
            for child in node.body:
                if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield [node.name], child


def _passes(name: str, summary: str, code: str) -> bool:
    special = name.startswith("__") and name.endswith("__")
    lines = sum(1 for line in code.split("\n") if line.strip())
    return not special and "test" not in name.lower() and len(summary.split()) >= MIN_WORDS and lines >= MIN_LINES


def _similarity(a: Counter[str], b: Counter[str]) -> float:
    return (a & b).total() / max((a | b).total(), 1)
