"""What a method asks for: its parameters, models and inputs, read from its syntax tree. Nothing is imported.

of("first.train").parameters["tokens"]      # Parameter(name="tokens", required=True, work=1, rehearsal=1000, ...)
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rankrepro.code import FUNCTIONS, METHODS, Code, Definition
from rankrepro.errors import ConfigError, UnknownName

SIMPLE: Mapping[str, Callable[[Any], bool]] = {
    "int": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "float": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "str": lambda v: isinstance(v, str),
    "bool": lambda v: isinstance(v, bool),
    "list": lambda v: isinstance(v, list),
    "tuple": lambda v: isinstance(v, list),
    "Sequence": lambda v: isinstance(v, list),
    "dict": lambda v: isinstance(v, dict),
    "Mapping": lambda v: isinstance(v, dict),
    "None": lambda v: v is None,
}
READABLE = ("train", "validation")  # splits whose judgments a benchmark shows to methods
SEQUENCES = ("list", "tuple", "Sequence")
OUTPUTS = ("Ranking", "Retrieval", "Predictions", "Likelihoods", "Text", "Facts", "Output")  # of rankrepro.cell


@dataclass(frozen=True)
class Parameter:
    """A keyword-only parameter, or a field of a dataclass that is one. `work`, `rehearsal`: see `cell.Size`."""

    name: str
    annotation: ast.expr
    required: bool
    work: float = 0
    rehearsal: int | None = None

    def check(self, value: Any, where: str) -> None:
        """Raise UnknownName for a value that is none of the choices, ConfigError for one of another type."""
        choices = sorted({str(c) for c in _choices(self.annotation)})
        for item in value if isinstance(value, list) and _of_choices(self.annotation) else [value]:
            if choices and isinstance(item, str) and item not in choices:
                raise UnknownName("value", item, choices, where=where)
        if not _fits(self.annotation, value):
            raise ConfigError(f"{where}: {value!r} is not of the type that the method declares: {self.type}")

    @property
    def type(self) -> str:
        return ast.unparse(_bare(self.annotation))


@dataclass(frozen=True)
class Taken:
    """What the statements of a definition take from a cell."""

    models: frozenset[str] = frozenset()
    judgments: frozenset[str] = frozenset()  # splits
    seed: bool = False


@dataclass(frozen=True)
class Signature:
    """A method's keyword-only parameters, flat, and what its code takes from the cell."""

    definition: Definition
    code: Code

    @cached_property
    def node(self) -> ast.FunctionDef:
        node = self.code.node(self.definition)
        assert isinstance(node, ast.FunctionDef)
        return node

    @cached_property
    def parameters(self) -> dict[str, Parameter]:
        args = self.node.args
        parameters: dict[str, Parameter] = {}
        for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
            assert arg.annotation is not None, f"{self.definition}: parameter {arg.arg} has no annotation"
            if bundle := self._dataclass(self.definition.module, arg.annotation):
                parameters |= self._fields(bundle)
            else:
                parameters[arg.arg] = _parameter(arg.arg, self._spelled_out(arg.annotation), default)
        return parameters

    @cached_property
    def trains(self) -> bool:
        """Whether it is marked with `cell.trains`."""
        return any(isinstance(d, ast.Name) and d.id == "trains" for d in self.node.decorator_list)

    @cached_property
    def models(self) -> set[str]:
        """Names of the models that its code takes: x of `cell.models["x"]`."""
        return set[str]().union(*(taken.models for taken in self._taken))

    @cached_property
    def inputs(self) -> set[str]:
        """Names of the inputs that its own body takes: x of `cell.inputs["x"]`."""
        return set(_items(self.node, "inputs"))

    @cached_property
    def judgments(self) -> frozenset[str]:
        """Splits whose judgments its code reads: those named beside `.judgments`, or all that can be read."""
        return frozenset[str]().union(*(taken.judgments for taken in self._taken))

    @cached_property
    def seeded(self) -> bool:
        """Whether its code uses the seed of its cell: `cell.seed`, or that of `self.cell`."""
        return any(taken.seed for taken in self._taken)

    @cached_property
    def variants(self) -> frozenset[str] | None:
        """Keys of what it returns, `main` for a single result; None where its code does not spell them out."""
        returned = [n.value for n in _own(self.node) if isinstance(n, ast.Return)]
        if returned and all(isinstance(value, ast.Dict) for value in returned):
            keys = [key for value in returned for key in value.keys]  # type: ignore[union-attr]
            literal = all(isinstance(key, ast.Constant) for key in keys)
            return frozenset(str(key.value) for key in keys if isinstance(key, ast.Constant)) if literal else None
        return frozenset({"main"}) if ast.unparse(self.node.returns or ast.Constant(None)) in OUTPUTS else None

    @property
    def _taken(self) -> Iterator[Taken]:
        """What every definition takes that it reaches; each is read once for all functions."""
        for definition in self.code.reach(self.definition):
            if definition not in self.code.taken:
                nodes = self.code.module(definition.module).bindings.get(definition.name, [])
                self.code.taken[definition] = _taken_by(nodes)
            yield self.code.taken[definition]

    def _spelled_out(self, annotation: ast.expr) -> ast.expr:
        """What an alias such as `Mode = Literal["a", "b"]` stands for; any other annotation as it is."""
        name = annotation.id if isinstance(annotation, ast.Name) else ""
        target = self.code.resolve(f"{self.definition.module}.{name}") if name else None
        if target is None or target.name not in self.code.module(target.module).bindings:
            return annotation
        node = self.code.node(target)
        return node.value if isinstance(node, ast.Assign) else annotation

    def _dataclass(self, module: str, annotation: ast.expr) -> Definition | None:
        """The dataclass of ours that an annotation names."""
        if not isinstance(annotation, ast.Name):
            return None
        target = self.code.resolve(f"{module}.{annotation.id}")
        if target is None or target.name not in self.code.module(target.module).bindings:
            return None
        node = self.code.node(target)
        named = [ast.unparse(d) for d in node.decorator_list] if isinstance(node, ast.ClassDef) else []
        return target if any("dataclass" in name for name in named) else None

    def _fields(self, bundle: Definition) -> dict[str, Parameter]:
        node = self.code.node(bundle)
        assert isinstance(node, ast.ClassDef)
        parameters: dict[str, Parameter] = {}
        for base in node.bases:
            if parent := self._dataclass(bundle.module, base):
                parameters |= self._fields(parent)
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                name = statement.target.id
                parameters[name] = _parameter(name, statement.annotation, statement.value)
        return parameters


def of(fn: str, code: Code = METHODS, where: str = "") -> Signature:
    """The signature of `<module>.<function>`. Raises UnknownName with the nearest name."""
    definition = code.find(fn, where)
    if definition not in code.signatures:
        code.signatures[definition] = Signature(definition, code)
    return code.signatures[definition]


def _parameter(name: str, annotation: ast.expr, default: ast.expr | None) -> Parameter:
    size = _size(annotation)
    return Parameter(name, annotation, default is None, size.get("work", 0), size.get("rehearsal"))


def _size(annotation: ast.expr) -> dict[str, Any]:
    """The keywords of `Size(...)` in an annotation."""
    calls = [n for n in ast.walk(annotation) if isinstance(n, ast.Call) and ast.unparse(n.func) == "Size"]
    return {k.arg: ast.literal_eval(k.value) for call in calls for k in call.keywords if k.arg}


def _taken_by(nodes: Sequence[ast.AST]) -> Taken:
    attributes = {n.attr for node in nodes for n in ast.walk(node) if isinstance(n, ast.Attribute)}
    models = _items(nodes[-1], "models") if "models" in attributes else ()
    judged = [node for node in nodes if "judgments" in attributes and _reads(node, "judgments")]
    return Taken(
        frozenset(models),
        frozenset[str]().union(*map(_named_splits, judged)),
        "seed" in attributes and any(_of_cell(node, "seed") for node in nodes),
    )


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function's body, without those of functions defined in it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (*FUNCTIONS, ast.Lambda)):
            yield child
            yield from _own(child)


def _reads(node: ast.AST, attribute: str) -> bool:
    return any(isinstance(n, ast.Attribute) and n.attr == attribute for n in ast.walk(node))


def _of_cell(node: ast.AST, attribute: str) -> bool:
    """Whether a tree has `cell.<attribute>` or `<something>.cell.<attribute>`."""
    found = (n.value for n in ast.walk(node) if isinstance(n, ast.Attribute) and n.attr == attribute)
    return any(ast.unparse(value).rpartition(".")[2] == "cell" for value in found)


def _items(node: ast.AST, attribute: str) -> Iterator[str]:
    """x of every `cell.<attribute>["x"]` in a tree."""
    for n in ast.walk(node):
        match n:
            case ast.Subscript(
                value=ast.Attribute(value=ast.Name(id="cell"), attr=name), slice=ast.Constant(value=str(key))
            ) if name == attribute:
                yield key


def _named_splits(node: ast.AST) -> set[str]:
    """Literal splits of the calls of `of_split` in a tree; all but the test split where a call's are computed."""
    calls = [n for n in ast.walk(node) if isinstance(n, ast.Call) and ast.unparse(n.func).endswith(".of_split")]
    arguments = [a for call in calls for a in call.args]
    literal = all(isinstance(a, ast.Constant) for a in arguments)
    return {str(a.value) for a in arguments if isinstance(a, ast.Constant)} if arguments and literal else set(READABLE)


# --- annotations -----------------------------------------------------------------------------------------------------


def _bare(annotation: ast.expr) -> ast.expr:
    """Without what `Annotated` adds."""
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value).endswith("Annotated"):
        assert isinstance(annotation.slice, ast.Tuple)
        return annotation.slice.elts[0]
    return annotation


def _choices(annotation: ast.expr) -> list[Any]:
    """Values of every `Literal` in an annotation."""
    literals = [
        n.slice for n in ast.walk(annotation) if isinstance(n, ast.Subscript) and ast.unparse(n.value) == "Literal"
    ]
    elements = [e for s in literals for e in (s.elts if isinstance(s, ast.Tuple) else [s])]
    return [e.value for e in elements if isinstance(e, ast.Constant)]


def _of_choices(annotation: ast.expr) -> bool:
    """Whether it is a sequence of choices."""
    kind = _bare(annotation)
    return isinstance(kind, ast.Subscript) and ast.unparse(kind.value) in SEQUENCES and bool(_choices(kind))


def _fits(annotation: ast.expr, value: Any) -> bool:
    """Whether a value of YAML is of the annotated type; true for an annotation that we do not know."""
    kind = _bare(annotation)
    if isinstance(kind, ast.BinOp):
        return _fits(kind.left, value) or _fits(kind.right, value)
    if isinstance(kind, ast.Subscript):
        outer = ast.unparse(kind.value)
        if outer == "Literal":
            return value in _choices(kind)
        if outer in SEQUENCES and isinstance(value, list) and not isinstance(kind.slice, ast.Tuple):
            return all(_fits(kind.slice, item) for item in value)
        kind = kind.value
    return SIMPLE.get(ast.unparse(kind), lambda v: True)(value)
