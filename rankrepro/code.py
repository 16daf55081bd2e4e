"""What a result depends on: the syntax trees of a function and of every definition it can reach.

    METHODS.digest("first.train")                # the same after a comment, a docstring, a new neighbour, a move
    METHODS.reach("first.train")                 # {Definition("methods.ranker.first", "train"), ...}

A reference is followed within the packages of a `Code` and no further. Imports are not hashed: a name stands for what
it was imported from, and the module in which one of our own definitions lies does not count. What a module does when it
is imported counts for everybody who imports it. Access by a computed name (`globals()`, a module handed on as a value)
counts as a use of the whole module.

The hash is over our own spelling of the tree, because `ast.dump` differs between versions of Python.
"""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from rankrepro.errors import ConfigError, UnknownName

ROOT = Path(__file__).resolve().parent.parent
WHOLE = "*"  # every definition of a module
DYNAMIC = {"globals", "eval", "exec", "__import__", "import_module"}  # called by these names
DYNAMIC_METHODS = {"import_module", "__subclasses__"}  # or as methods of anything
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITIONS = (*FUNCTIONS, ast.ClassDef)


class Definition(NamedTuple):
    """A name bound at the top level of a module (`methods.parts.language.llm`), or all of them (WHOLE)."""

    module: str
    name: str


@dataclass
class Module:
    """One file: what it defines, what it imports, and what it does when it is imported."""

    name: str
    file: Path
    bindings: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)  # alias -> dotted name
    imported: set[str] = field(default_factory=set)  # dotted names that importing this module imports
    effects: list[ast.stmt] = field(default_factory=list)


class Code:
    """The definitions of some packages below a folder."""

    def __init__(self, packages: Sequence[str] = ("methods",), root: Path = ROOT) -> None:
        """packages: dotted names of packages or modules, as `rankrepro.judge`, found below `root`."""
        self.packages, self.root = tuple(packages), root
        self._modules: dict[str, Module] = {}
        self._closures: dict[Definition, tuple[frozenset[Definition], frozenset[str]]] = {}
        self._digests: dict[Definition, str] = {}
        # by `id` of a statement: modules keep them alive
        self._used: dict[int, frozenset[Definition]] = {}
        self._imports: dict[int, list[Any]] = {}
        self._inside: dict[int, frozenset[int]] = {}
        self._texts: dict[tuple[Definition, frozenset[str]], str] = {}
        self.signatures: dict[Definition, Any] = {}  # read by rankrepro.signatures
        self.taken: dict[Definition, Any] = {}  # likewise

    # --- where definitions are ---

    @cached_property
    def files(self) -> dict[str, Path]:
        """Dotted name -> file, of every module of the packages."""
        by_module = {}
        for package in self.packages:
            folder = self.root.joinpath(*package.split("."))
            files = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
            for file in files:
                parts = file.relative_to(self.root).with_suffix("").parts
                by_module[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
        return by_module

    @cached_property
    def doors(self) -> dict[str, str]:
        """Last part of a module's name -> its dotted name: how cards name a module. Those of `parts` cannot be named.

        Raises ConfigError if two modules have the same name.
        """
        doors: dict[str, str] = {}
        for module, file in self.files.items():
            stem = module.rpartition(".")[2]
            if file.name == "__init__.py" or ".parts." in f"{module}.":
                continue
            if stem in doors:
                raise ConfigError(
                    f"{file} and {self.files[doors[stem]]} have the same name: rename one of the two modules"
                )
            doors[stem] = module
        return doors

    def find(self, fn: str, where: str = "") -> Definition:
        """`<module>.<function>`, the module by its door. Raises UnknownName with the nearest name."""
        stem, _, name = fn.rpartition(".")
        if stem not in self.doors:
            raise UnknownName("method module", stem, self.doors, where=where)
        module = self.module(self.doors[stem])
        functions = [n for n, nodes in module.bindings.items() if isinstance(nodes[-1], FUNCTIONS)]
        if name not in functions:
            raise UnknownName("function", name, [n for n in functions if not n.startswith("_")], where=where)
        return Definition(module.name, name)

    def node(self, definition: Definition) -> ast.stmt:
        """The statement that binds a definition (the last of several)."""
        return self.module(definition.module).bindings[definition.name][-1]

    def module(self, name: str) -> Module:
        if name not in self._modules:
            self._modules[name] = self._read(name)
        return self._modules[name]

    # --- identity ---

    def digest(self, fn: str | Definition) -> str:
        """Hash of a function and of all it can reach."""
        start = self.find(fn) if isinstance(fn, str) else fn
        if start not in self._digests:
            definitions, modules = self._closure(start)
            shared = Counter(d.name for d in definitions if d.name != WHOLE)
            ambiguous = frozenset(name for name, n in shared.items() if n > 1)
            texts = [f"{d.name}={self._text(d, ambiguous)}" for d in definitions if d.name != WHOLE]
            for module in map(self.module, modules):
                texts += [self._spelled(module, effect, ambiguous) for effect in module.effects]
            self._digests[start] = hashlib.sha256("\n".join([start.name, *sorted(texts)]).encode()).hexdigest()
        return self._digests[start]

    def reach(self, fn: str | Definition) -> frozenset[Definition]:
        """A function and every definition that it, or the import of its modules, can use."""
        return self._closure(self.find(fn) if isinstance(fn, str) else fn)[0]

    def _closure(self, start: Definition) -> tuple[frozenset[Definition], frozenset[str]]:
        """All that a definition reaches, and the modules that using it imports."""
        if start not in self._closures:
            todo, seen, loaded = [start], set[Definition](), set[str]()
            while todo:
                definition = todo.pop()
                if definition in seen:
                    continue
                seen.add(definition)
                module = self.module(definition.module)
                if definition.name == WHOLE:
                    todo += [Definition(module.name, name) for name in module.bindings]
                nodes = module.bindings.get(definition.name, [])
                todo += [use for node in nodes for use in self._uses(module, node)]
                for name in self._loaded({module.name, *self._imported_inside(module, nodes)} - loaded) - loaded:
                    loaded.add(name)
                    other = self.module(name)
                    todo += [use for effect in other.effects for use in self._uses(other, effect)]
            self._closures[start] = frozenset(seen), frozenset(loaded)
        return self._closures[start]

    def _loaded(self, modules: set[str]) -> set[str]:
        """The modules and all of ours that importing them imports."""
        todo, seen = list(modules), set[str]()
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo += [m for dotted in self.module(name).imported if (m := self._module_of(dotted)[0])]
        return seen

    def _imported_inside(self, module: Module, nodes: Sequence[ast.AST]) -> set[str]:
        """Our modules that definitions import inside their bodies."""
        dotted = [name for node in nodes for n in self._imports_in(node) for name in _imported(n, module)[1]]
        return {m for name in dotted if (m := self._module_of(name)[0])}

    # --- one file ---

    def _read(self, name: str) -> Module:
        file = self.files[name]
        module = Module(name, file)
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"))
        except SyntaxError as error:
            raise ConfigError(f"{file}: line {error.lineno}: not valid Python: {error.msg}") from None
        for statement in tree.body:
            self._bind(module, statement)
        return module

    def _bind(self, module: Module, node: ast.stmt) -> None:
        if isinstance(node, _IMPORT):
            aliases, dotted = _imported(node, module)
            module.imports |= aliases
            module.imported |= dotted
        elif isinstance(node, DEFINITIONS):
            module.bindings.setdefault(node.name, []).append(node)
            if any(self._ours(module, d) for d in node.decorator_list):  # it may register what it decorates
                module.effects.append(node)
        elif (names := _assigned(node)) is not None:
            for n in names:
                module.bindings.setdefault(n, []).append(node)
        elif _type_checking(node):
            for inner in node.body:  # type: ignore[attr-defined]
                if isinstance(inner, _IMPORT):
                    module.imports |= _imported(inner, module)[0]
        elif not _text_alone(node):
            module.effects.append(node)
            for inner in ast.walk(node):
                if isinstance(inner, _IMPORT):
                    aliases, dotted = _imported(inner, module)
                    module.imports |= aliases
                    module.imported |= dotted
                elif isinstance(inner, DEFINITIONS):
                    module.bindings.setdefault(inner.name, []).append(node)
                elif isinstance(inner, ast.Assign | ast.AnnAssign):
                    for n in _assigned(inner) or []:
                        module.bindings.setdefault(n, []).append(node)

    def _ours(self, module: Module, decorator: ast.expr) -> bool:
        return any(
            isinstance(n, ast.Name)
            and (n.id in module.bindings or self._module_of(module.imports.get(n.id, ""))[0] is not None)
            for n in ast.walk(decorator)
        )

    # --- references ---

    def _module_of(self, dotted: str) -> tuple[str | None, list[str]]:
        """The longest leading part of a dotted name that is a module of ours, and what follows it."""
        parts = dotted.split(".")
        for i in range(len(parts), 0, -1):
            if ".".join(parts[:i]) in self.files:
                return ".".join(parts[:i]), parts[i:]
        return None, parts

    def resolve(self, dotted: str) -> Definition | None:
        """The definition that a dotted name stands for, through re-exports; None if it is not ours."""
        module, rest = self._module_of(dotted)
        if module is None:
            return None
        if not rest:
            return Definition(module, WHOLE)
        if rest[0] in self.module(module).bindings:
            return Definition(module, rest[0])
        if rest[0] in self.module(module).imports:
            return self.resolve(".".join([self.module(module).imports[rest[0]], *rest[1:]]))
        return Definition(module, WHOLE)

    def _uses(self, module: Module, node: ast.AST) -> frozenset[Definition]:
        """Definitions of ours that a statement names."""
        if id(node) not in self._used:
            self._used[id(node)] = frozenset(self._references(module, node))
        return self._used[id(node)]

    def _references(self, module: Module, node: ast.AST) -> Iterator[Definition]:
        aliases = self._aliases(module, node)
        inside = set(self._locals_in(node))  # and names that are the beginning of a dotted one
        for n in ast.walk(node):
            if isinstance(n, ast.Attribute) and id(n) not in inside and (chain := _chain(n)):
                begins_local = id(_first(n)) in inside
                inside |= {id(part) for part in ast.walk(n)}
                yield from () if begins_local else self._named(module, aliases, chain)
            elif isinstance(n, ast.Name) and id(n) not in inside:
                yield from self._named(module, aliases, [n.id])
            name = n.id if isinstance(n, ast.Name) else ""
            method = n.attr if isinstance(n, ast.Attribute) else ""
            if name in DYNAMIC or method in DYNAMIC_METHODS:
                yield Definition(module.name, WHOLE)

    def _named(self, module: Module, aliases: dict[str, str], chain: list[str]) -> Iterator[Definition]:
        if chain[0] in module.bindings:
            yield Definition(module.name, chain[0])
        if chain[0] in aliases and (target := self.resolve(".".join([aliases[chain[0]], *chain[1:]]))):
            yield target

    def _aliases(self, module: Module, node: ast.AST) -> dict[str, str]:
        aliases = dict(module.imports)
        for n in self._imports_in(node):
            aliases |= _imported(n, module)[0]
        return aliases

    def _imports_in(self, node: ast.AST) -> list[Any]:
        """The import statements of a tree."""
        if id(node) not in self._imports:
            self._imports[id(node)] = [n for n in ast.walk(node) if isinstance(n, _IMPORT)]
        return self._imports[id(node)]

    def _locals_in(self, node: ast.AST) -> frozenset[int]:
        """`_locals` of a tree."""
        if id(node) not in self._inside:
            self._inside[id(node)] = frozenset(_locals(node))
        return self._inside[id(node)]

    # --- spelling ---

    def _text(self, definition: Definition, ambiguous: frozenset[str]) -> str:
        key = (definition, ambiguous)
        if key not in self._texts:
            module = self.module(definition.module)
            nodes = module.bindings.get(definition.name, [])
            self._texts[key] = ";".join(self._spelled(module, node, ambiguous) for node in nodes)
        return self._texts[key]

    def _spelled(self, module: Module, node: ast.AST, ambiguous: frozenset[str]) -> str:
        """A tree as text, references by what they stand for."""
        aliases, local = self._aliases(module, node), self._locals_in(node)

        def reference(name: ast.Attribute | ast.Name) -> str | None:
            chain = _chain(name)
            if chain is None or id(_first(name)) in local:
                return None
            binding = (
                Definition(module.name, chain[0]) if chain[0] in module.bindings and chain[0] not in aliases else None
            )
            if binding is None and chain[0] not in aliases:
                return None
            dotted = "" if binding else ".".join([aliases[chain[0]], *chain[1:]])
            target = binding or self.resolve(dotted)
            if target is None:  # of another package; the harness may move what it offers
                return dotted.rpartition(".")[2] if dotted.startswith("rankrepro.") else dotted
            if target.name == WHOLE:
                return chain[-1]
            after = chain[1:] if binding else _after(dotted, target.name)
            mark = "#" + _hash(_plain(self.node(target))) if target.name in ambiguous else ""
            return ".".join([target.name + mark, *after])

        return _spell(node, reference)


_IMPORT = (ast.Import, ast.ImportFrom)
SKIPPED = {"kind", "type_comment", "ctx"}


def _spell(node: Any, reference: Any) -> str:
    if isinstance(node, ast.Attribute | ast.Name) and (name := reference(node)):
        return f"<{name}>"
    if isinstance(node, ast.AST):
        fields = [
            f"{name}={_spell(value, reference)}"
            for name, value in ast.iter_fields(node)
            if (name not in SKIPPED and value not in ([], None)) or (isinstance(node, ast.Constant) and name == "value")
        ]
        return f"{type(node).__name__}({', '.join(fields)})"
    if isinstance(node, list):
        statements = [n for n in node if not (isinstance(n, _IMPORT) or _text_alone(n))]
        return f"[{', '.join(_spell(n, reference) for n in statements)}]"
    return repr(node)


def _plain(node: ast.AST) -> str:
    return _spell(node, lambda name: None)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _after(dotted: str, name: str) -> list[str]:
    """What follows the definition's name in a dotted one: `x` in `methods.parts.language.llm.CACHE.x`."""
    parts = dotted.split(".")
    return parts[parts.index(name) + 1 :] if name in parts else []


def _chain(node: ast.AST) -> list[str] | None:
    """`a.b.c` as its parts; None where it does not begin with a name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) else None


def _first(node: ast.expr) -> ast.expr:
    """`a` in `a.b.c`."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node


# --- scopes ----------------------------------------------------------------------------------------------------------

_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def _locals(node: ast.AST) -> set[int]:
    """`id` of the names in a tree that stand for a parameter or a variable of a function, and for nothing outside.

    What a function imports is left out: it stands for what was imported. Names of a class body count as outside ones.
    """
    ids: set[int] = set()

    def visit(n: ast.AST, scopes: tuple[set[str], ...]) -> None:
        if isinstance(n, (*FUNCTIONS, ast.Lambda)):
            body = n.body if isinstance(n.body, list) else [n.body]
            a = n.args
            parameters = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, [a.vararg, a.kwarg])]
            inner = (*scopes, {p.arg for p in parameters} | _bound(body))
            for child in ast.iter_child_nodes(n):
                visit(child, inner if child in body else scopes)
        elif isinstance(n, _COMPREHENSIONS):
            names = {t.id for g in n.generators for t in ast.walk(g.target) if isinstance(t, ast.Name)}
            first = n.generators[0].iter
            visit(first, scopes)
            for child in [c for c in ast.iter_child_nodes(n) if not isinstance(c, ast.comprehension)]:
                visit(child, (*scopes, names))
            for g in n.generators:
                for child in ast.iter_child_nodes(g):
                    if child is not first:
                        visit(child, (*scopes, names))
        else:
            if isinstance(n, ast.Name) and any(n.id in scope for scope in scopes):
                ids.add(id(n))
            for child in ast.iter_child_nodes(n):
                visit(child, scopes)

    visit(node, ())
    return ids


def _bound(body: Sequence[ast.AST]) -> set[str]:
    """Names that the statements of a function bind in it, imports aside."""
    names, elsewhere = set[str](), set[str]()
    todo = list(body)
    while todo:
        n = todo.pop()
        if isinstance(n, DEFINITIONS):
            names.add(n.name)
            continue
        if isinstance(n, ast.Lambda):
            continue
        if isinstance(n, _COMPREHENSIONS):  # only names that `:=` binds in it belong to the function
            names |= {w.target.id for w in ast.walk(n) if isinstance(w, ast.NamedExpr)}
            continue
        if isinstance(n, ast.Global):
            elsewhere |= set(n.names)
        elif isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load):
            names.add(n.id)
        elif isinstance(n, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and n.name:
            names.add(n.name)
        elif isinstance(n, ast.MatchMapping) and n.rest:
            names.add(n.rest)
        todo += ast.iter_child_nodes(n)
    return names - elsewhere


def _imported(node: ast.stmt, module: Module) -> tuple[dict[str, str], set[str]]:
    """alias -> dotted name, and the dotted names that the statement imports."""
    if isinstance(node, ast.Import):
        modules = {a.name for a in node.names}
        return {a.asname or a.name.partition(".")[0]: a.name if a.asname else a.name.partition(".")[0]
                for a in node.names}, modules  # fmt: skip
    assert isinstance(node, ast.ImportFrom)
    base = node.module or ""
    if node.level:
        package = module.name.split(".")
        package = package if module.file.name == "__init__.py" else package[:-1]
        base = ".".join([*package[: len(package) - node.level + 1], *([base] if base else [])])
    dotted = {a.asname or a.name: f"{base}.{a.name}" for a in node.names}
    return dotted, {base, *dotted.values()}


def _assigned(node: ast.AST) -> list[str] | None:
    """Names that an assignment at the top level binds; None if it is something else, or sets an item or attribute."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    names = [n for t in targets for n in _names(t)]
    return names if targets and all(names) else None


def _names(target: ast.expr) -> Iterator[str]:
    if isinstance(target, ast.Tuple | ast.List):
        for element in target.elts:
            yield from _names(element)
    else:
        yield target.id if isinstance(target, ast.Name) else ""


def _type_checking(node: ast.stmt) -> bool:
    chain = _chain(node.test) if isinstance(node, ast.If) and isinstance(node.test, ast.Name | ast.Attribute) else None
    return chain is not None and chain[-1] == "TYPE_CHECKING"


def _text_alone(node: Any) -> bool:
    """A string without effect: a docstring, or a note below an attribute."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


METHODS = Code()
