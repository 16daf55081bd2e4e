"""stdlib/code: the protocol of CodeSearchNet on a small library, and the real one."""

from __future__ import annotations

import ast
import textwrap

import pytest

from rankrepro.benchmarks import stdlib_code
from rankrepro.benchmarks.base import opaque_id
from rankrepro.errors import BenchmarkError

PARAMS = {"shares": {"train": 0.6, "validation": 0.2, "test": 0.2}}

LIBRARY = {
    "json/__init__.py": '''
        import os

        @decorated
        def dump(obj, fp):
            """Write an object
            to a file.

            The rest is not the query.
            """
            text = str(obj)
            fp.write(text)

        def short(): "Too few lines here."; return 1

        def wordless(a):
            """Two words."""
            b = a
            return b

        def test_dump():
            """Checks that dump dumps."""
            a = 1
            return a

        class Encoder:
            def __init__(self):
                """Create a new encoder."""
                self.a = 1
                self.b = 2

            async def encode(self, o):
                """Encode an object as text."""
                if o:
                    return str(o)

                return ""

            def outer(self):
                """Return the inner function."""
                def inner(x):
                    """This one is nested deeply."""
                    y = x
                    return y
                return inner
        ''',
    "ntpath.py": '''
        def isabs(path):
            """Test whether a path is absolute"""
            drive, rest = path[:2], path[2:]
            return rest.startswith("slash")
        ''',
    "posixpath.py": '''
        def isabs(p):
            """Test whether a path is absolute"""
            sep = "/"
            return p[:1] == sep
        ''',
    "_pyio.py": '''
        def encode(self, o):
            """Encode an object once more."""
            if o:
                return str(o)
            return ""
        ''',
    "site-packages/foreign.py": '''
        def foreign(a):
            """This function is not of the library."""
            b = a
            return b
        ''',
    "json/tests/helper.py": '''
        def helper(a):
            """This function helps the tests only."""
            b = a
            return b
        ''',
    "lib2to3.py": "print 'Python 2'\n",
}


@pytest.fixture
def library(tmp_path):
    for name, source in LIBRARY.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(source).lstrip("\n"))
    return tmp_path


def test_the_protocol_on_a_small_library(library):
    benchmark, truth = stdlib_code.build("stdlib/code", {"stdlib": library}, PARAMS)
    # json.Encoder.encode is nearly _pyio.encode, which comes first
    assert list(benchmark.corpus) == [
        "_pyio.encode",
        "json.Encoder.outer",
        "json.dump",
        "ntpath.isabs",
        "posixpath.isabs",
    ]
    # both isabs have the same docstring: documents, no queries
    queries = {next(iter(judged)): benchmark.queries[q].text for q, judged in truth.qrels.items()}
    assert queries == {
        "_pyio.encode": "Encode an object once more.",
        "json.Encoder.outer": "Return the inner function.",
        "json.dump": "Write an object to a file.",
    }
    assert benchmark.corpus["json.dump"].text == "def dump(obj, fp):\n    text = str(obj)\n    fp.write(text)"
    assert benchmark.corpus["json.dump"].content == benchmark.corpus["json.dump"].text
    assert truth.clusters[opaque_id("stdlib/code", "json.dump")] == "json"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('def f(a):\n    """Doc."""\n    return a', "def f(a):\n    return a"),
        ('def f(a):\n    """Doc\n\n    more."""\n\n    return a', "def f(a):\n\n    return a"),
        ("def f(a): 'Doc.'; return a", "def f(a): return a"),
        ('class C:\n    def f(a):\n        "Döc."; b = a\n        return b', "def f(a):\n    b = a\n    return b"),
        (
            'class C:\n\tdef f(a):\n\t\t"Doc."\n# left\n\t\tb = a\n\t\treturn b',
            "def f(a):\n# left\n        b = a\n        return b",
        ),
        ('def f(\n    a,\n):\n    """Doc."""  # why\n    return a', "def f(\n    a,\n):\n    # why\n    return a"),
    ],
)
def test_without_docstring(source, expected):
    tree = ast.parse(source)
    node = next(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef))
    assert stdlib_code.without_docstring(node, source.split("\n")) == expected


def test_the_real_library(built):
    benchmark, truth, _ = built("stdlib/code")
    relevant = {next(iter(judged)): q for q, judged in truth.qrels.items()}
    query = benchmark.queries[relevant["textwrap.shorten"]]
    assert query.text == "Collapse and truncate the given text to fit in the given width."
    code = benchmark.corpus["textwrap.shorten"].text
    assert code.startswith(
        "def shorten(text, width, **kwargs):\n    w = TextWrapper(width=width, max_lines=1, **kwargs)"
    )
    assert next(iter(benchmark.corpus)).startswith("_") and list(benchmark.corpus) == sorted(benchmark.corpus)


def test_a_docstring_is_not_in_its_document_and_the_code_still_parses(built):
    benchmark, truth, _ = built("stdlib/code")
    for query, judged in truth.qrels.items():
        (doc,) = judged
        code = benchmark.corpus[doc].text
        assert benchmark.queries[query].text not in " ".join(code.split()), doc
        (function,) = ast.parse(code).body
        assert function.name == doc.rpartition(".")[2] and ast.get_docstring(function) is None, doc


def test_each_module_is_on_one_side(built):
    benchmark, truth, _ = built("stdlib/code")
    split = {}
    for query in benchmark.queries.values():
        assert split.setdefault(truth.clusters[query.id], query.split) == query.split
    assert set(split.values()) == {"train", "validation", "test"}


def test_the_fingerprint_names_version_and_files():
    assert stdlib_code.fingerprint().startswith("python 3.11.")
    assert stdlib_code.fingerprint() == stdlib_code.fingerprint()


def test_a_library_without_sources(tmp_path):
    with pytest.raises(BenchmarkError, match=r"no function with a docstring in .*; install Python with its sources"):
        stdlib_code.build("stdlib/code", {"stdlib": tmp_path}, PARAMS)
