"""What an edit of the code makes stale: exactly the results of the functions that can reach it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rankrepro.cards import load_cards
from rankrepro.code import ROOT, Code
from rankrepro.errors import ConfigError, UnknownName

TABLE = """
def soft(x):
    return x + 1

def hard(x):
    return x - 1

LOSSES = {"soft": soft}
"""
METHOD = '''
"""A method."""
import numpy as np
from methods.parts import tools
from methods.parts.losses import LOSSES, hard as strict
from methods.parts.registry import register

LIMIT = 3


def first(cell):
    """One."""
    return tools.cut(cell, LIMIT) + np.mean(cell)


def second(cell, depth=2):
    return LOSSES["soft"](cell) + depth


def third(cell):
    from methods.parts.late import answer

    return answer() + strict(cell)


def shadow(cell, cut, LIMIT):
    return [tools for tools in cut(LIMIT)]


def dynamic(cell):
    return globals()[cell]


def aside(cell):
    return cell
'''
FILES = {
    "methods/__init__.py": "",
    "methods/parts/__init__.py": "",
    "methods/parts/losses.py": TABLE,
    "methods/parts/tools.py": "WIDTH = 2\n\ndef cut(x, n):\n    return x[: n * WIDTH]\n\ndef unused():\n    return 1\n",
    "methods/parts/late.py": "def answer():\n    return 42\n",
    "methods/parts/registry.py": "ALL = []\n\n\ndef register(f):\n    ALL.append(f)\n    return f\n",
    "methods/family/toy.py": METHOD,
}
FUNCTIONS = ("first", "second", "third", "shadow", "dynamic", "aside")


@pytest.fixture
def house(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def digests(house: Path) -> dict[str, str]:
    code = Code(root=house)
    return {name: code.digest(f"toy.{name}") for name in FUNCTIONS}


def changed(house: Path, file: str, old: str, new: str) -> set[str]:
    """Functions whose digest an edit changes."""
    before, path = digests(house), house / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    after = digests(house)
    return {name for name in FUNCTIONS if after[name] != before[name]}


TOY = "methods/family/toy.py"
EVERYBODY = set(FUNCTIONS)


@pytest.mark.parametrize(
    ("file", "old", "new", "readers"),
    [
        (TOY, '"""One."""', '"""Two."""', set()),
        (TOY, "LIMIT = 3", "LIMIT = 3  # of lines", set()),
        (TOY, "def aside", "def another(cell):\n    return 1\n\n\ndef aside", {"dynamic"}),
        (TOY, "LIMIT = 3", "LIMIT = 4", {"first", "dynamic"}),
        (TOY, "depth=2", "depth=3", {"second", "dynamic"}),
        (TOY, "import numpy as np", "import scipy as np", {"first", "dynamic"}),
        (TOY, "LIMIT = 3", "LIMIT = 3\nprint(LIMIT)", EVERYBODY),
        (TOY, "LIMIT = 3", "LIMIT = 3\nLOSSES['hard'] = strict", EVERYBODY),
        (TOY, "def aside", "@register\ndef aside", EVERYBODY),
        ("methods/parts/losses.py", "x + 1", "x + 2", {"second", "dynamic"}),
        ("methods/parts/losses.py", "x - 1", "x - 2", {"third", "dynamic"}),
        ("methods/parts/losses.py", '{"soft": soft}', '{"soft": soft, "hard": hard}', {"second", "dynamic"}),
        ("methods/parts/tools.py", "WIDTH = 2", "WIDTH = 5", {"first", "dynamic"}),
        ("methods/parts/tools.py", "return 1", "return 2", set()),
        ("methods/parts/late.py", "42", "43", {"third", "dynamic"}),
        ("methods/parts/late.py", "def answer", "import os\nos.umask(0)\n\n\ndef answer", {"third", "dynamic"}),
        ("methods/parts/registry.py", "ALL = []", "ALL = []\nALL.append(1)", EVERYBODY),
    ],
)
def test_an_edit_reaches_exactly_its_readers(house: Path, file: str, old: str, new: str, readers: set[str]) -> None:
    assert changed(house, file, old, new) == readers


def move(house: Path) -> None:
    """`cut` moves into a module of its own, `tools` hands it on, and the method into another folder."""
    tools = house / "methods/parts/tools.py"
    text = tools.read_text()
    start, end = text.index("WIDTH"), text.index("def unused")
    (house / "methods/parts/scissors.py").write_text(text[start:end])
    tools.write_text("from methods.parts.scissors import cut\n\n\n" + text[end:])
    (house / "methods/elsewhere").mkdir()
    (house / TOY).rename(house / "methods/elsewhere/toy.py")


def call_it_otherwise(house: Path) -> None:
    """The same functions under other names of the caller."""
    text = (house / TOY).read_text().replace("hard as strict", "hard").replace("strict(cell)", "hard(cell)")
    text = text.replace("from methods.parts import tools", "from methods.parts.tools import cut")
    text = text.replace("tools.cut(", "cut(").replace("import numpy as np", "import numpy").replace("np.", "numpy.")
    (house / TOY).write_text(text)


@pytest.mark.parametrize("edit", [move, call_it_otherwise])
def test_where_a_definition_lies_and_what_a_caller_names_it_do_not_count(
    house: Path, edit: Callable[[Path], None]
) -> None:
    before = digests(house)
    edit(house)
    assert digests(house) == before


def test_two_definitions_of_one_name_are_told_apart(house: Path) -> None:
    """Swapped, the set of texts is the same and the function is another."""
    for name, body in (("one", "1"), ("two", "2")):
        (house / f"methods/parts/{name}.py").write_text(f"def value():\n    return {body}\n")
    toy = house / "methods/family/pair.py"
    text = "from methods.parts import one, two\n\n\ndef pair(cell):\n    return one.value() - two.value()\n"
    toy.write_text(text)
    before = Code(root=house).digest("pair.pair")
    toy.write_text(text.replace("one.value() - two.value()", "two.value() - one.value()"))
    assert Code(root=house).digest("pair.pair") != before


def test_names_are_answered_with_the_nearest(house: Path) -> None:
    code = Code(root=house)
    with pytest.raises(UnknownName, match="did you mean 'toy'"):
        code.find("tyo.first")
    with pytest.raises(UnknownName, match="did you mean 'first'"):
        code.find("toy.frist")
    (house / "methods/other").mkdir()
    (house / "methods/other/toy.py").write_text("")
    with pytest.raises(ConfigError, match="have the same name"):
        Code(root=house).find("toy.first")


GOLDEN = "5fb19512"


def test_the_digest_is_the_same_under_every_interpreter(house: Path) -> None:
    """Written down: Python 3.11 to 3.13 read `ast` differently and must agree."""
    (house / "methods/family/wide.py").write_text(WIDE)
    assert Code(root=house).digest("wide.wide")[:8] == GOLDEN


WIDE = '''
import dataclasses
from methods.parts.losses import LOSSES


@dataclasses.dataclass(frozen=True)
class Shape:
    """A shape."""

    rows: int = 3
    name: str | None = None


def wide(cell, /, a, *rest, b: int = 1, c=None, **more):
    """Everything that the grammar has and versions of `ast` spell in their own ways."""
    global COUNT
    text = f"{a!r:>{b}} and {b=} of {more['x']:.3f}" "joined" rf"\\d{a}"
    match a:
        case Shape(rows=3, name=None) | [1, *_]:
            return None
        case {"k": v, **others} if v:
            return others
    async def later():
        async with a as b:
            yield [x async for x in b]
    try:
        value = (lambda y=2: y ** -1)(1) if a else {**more, "k": [*rest]}
    except* (ValueError, TypeError) as error:
        raise RuntimeError from error
    else:
        del value
    finally:
        assert (n := 3) > 2.5e3, ...
    while True and not None:
        for i, in rest[1:, ::2, ...]:
            continue
        else:
            break
    return LOSSES["soft"](Shape()), 1_000, 2j, b"bytes", "u", text


COUNT = 0
'''


# --- on the project's own methods ------------------------------------------------------------------------------------


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "methods", tmp_path / "methods", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def all_digests(folder: Path) -> dict[str, str]:
    code = Code(root=folder)
    specs = [spec for card in load_cards().values() for spec in [*card.arms.values(), *card.stages.values()]]
    return {fn: code.digest(fn) for fn in sorted({spec["fn"] for spec in specs})}


def test_a_comment_a_helper_and_a_new_control_make_nothing_stale(ours: Path) -> None:
    before = all_digests(ours)
    for file in (ours / "methods").rglob("*.py"):
        file.write_text(file.read_text() + "\n\n# the end\ndef a_new_helper_that_nobody_calls():\n    return 1\n")
    assert all_digests(ours) == before


def test_an_import_for_types_is_followed_too(house: Path) -> None:
    """A dataclass that only an annotation names decides how parameters are read."""
    (house / "methods/family/typed.py").write_text(
        "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from methods.parts.recipe import Recipe\n\n\n"
        "def typed(cell, *, recipe: Recipe):\n    return recipe\n"
    )
    recipe = house / "methods/parts/recipe.py"
    recipe.write_text("class Recipe:\n    rate: float = 1.0\n")
    before = Code(root=house).digest("typed.typed")
    recipe.write_text("class Recipe:\n    rate: float = 2.0\n")
    assert Code(root=house).digest("typed.typed") != before
