"""Small faults in a source file: mutmut's operators, and some of ours that leave something out.

Of mutmut only the operators are used. Its runner forks processes in which jax already has threads, hides
the signatures that this program reads, and passes over decorated functions: here the compiled ones.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import (
    mutation_operators,
    operator_arg_removal,
    operator_assignment,
    operator_string,
)

Operator = Callable[[Any], Iterable[cst.CSTNode]]
# Texts are for people, and `x = None` is noticed by whatever comes next: neither tells much about tests.
TOO_EASY = (operator_string, operator_assignment, operator_arg_removal)


class Fault(NamedTuple):
    """One change of a source file."""

    line: int
    source: str  # the whole file with it
    removed: tuple[str, ...]  # lines, without their indentation
    added: tuple[str, ...]


SAME = ("float", "asarray", "device_put", "device_get")  # another type or place of the same numbers


def left_out_argument(call: cst.Call) -> Iterator[cst.CSTNode]:
    """f(a, b, c=d) becomes f(a, b), a default, f(a, c=d), and a, which is what f was to change."""
    if getattr(getattr(call.func, "attr", call.func), "value", None) in SAME:
        return
    plain = [i for i, argument in enumerate(call.args) if argument.keyword is None]
    named = [i for i, argument in enumerate(call.args) if argument.keyword is not None]
    for i in [*plain[1:][-1:], *named]:
        yield call.with_changes(args=[*call.args[:i], *call.args[i + 1 :]])
    if plain and not call.args[0].star:
        yield call.args[0].value


def left_out_term(operation: cst.BinaryOperation) -> Iterator[cst.CSTNode]:
    """a + b becomes a, and b."""
    yield operation.left
    yield operation.right


def left_out_statement(line: cst.SimpleStatementLine) -> Iterator[cst.CSTNode]:
    """A call whose result nobody wants, a `raise` or an augmented assignment becomes `pass`."""
    if len(line.body) == 1 and isinstance(line.body[0], cst.Expr | cst.Raise | cst.AugAssign):
        yield line.with_changes(body=[cst.Pass()])


def settled_condition(statement: cst.If) -> Iterator[cst.CSTNode]:
    """`if a` becomes `if False`, and `if True`."""
    yield statement.with_changes(test=cst.Name("False"))
    yield statement.with_changes(test=cst.Name("True"))


OPERATORS: list[tuple[type, Operator]] = [
    *((kind, operator) for kind, operator in mutation_operators if operator not in TOO_EASY),
    (cst.Call, left_out_argument),
    (cst.BinaryOperation, left_out_term),
    (cst.SimpleStatementLine, left_out_statement),
    (cst.If, settled_condition),
]


class _Nodes(cst.CSTVisitor):
    """Collects what may be changed: not types, imports, decorators, texts nor what is only logged."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[int, cst.CSTNode]] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        text = (cst.Annotation, cst.Import, cst.ImportFrom, cst.Decorator, cst.FormattedString)
        if isinstance(node, text) or _is_docstring(node) or _is_log(node) or _is_check(node):
            return False
        line = self.get_metadata(PositionProvider, node, None)
        if line is not None:
            self.found.append((line.start.line, node))
        return not isinstance(node, cst.Raise)  # the text of an error, though it may be left out


def _is_check(node: cst.CSTNode) -> bool:
    """`assert`, for the type checker, and zip's `strict`, for whoever changes the code."""
    if isinstance(node, cst.Call):
        return any(
            argument.keyword and argument.keyword.value == "strict" for argument in node.args
        )
    return isinstance(node, cst.Assert)


def _is_docstring(node: cst.CSTNode) -> bool:
    return (
        isinstance(node, cst.SimpleStatementLine)
        and isinstance(node.body[0], cst.Expr)
        and isinstance(node.body[0].value, cst.BaseString)
    )


def _is_log(node: cst.CSTNode) -> bool:
    if isinstance(node, cst.SimpleStatementLine) and isinstance(node.body[0], cst.Expr):
        node = node.body[0].value
    func = node.func if isinstance(node, cst.Call) else None
    return isinstance(func, cst.Attribute) and getattr(func.value, "value", None) == "log"


class Place(NamedTuple):
    """Where a fault could be: made only when it is drawn, since each costs a copy of the file."""

    line: int
    node: cst.CSTNode
    operator: Operator
    index: int  # which of the operator's changes


def places(module: cst.Module) -> tuple[cst.Module, list[Place]]:
    """All places of a file, and the module whose nodes they are."""
    wrapper, nodes = MetadataWrapper(module), _Nodes()
    wrapper.visit(nodes)
    return wrapper.module, [
        Place(line, node, operator, index)
        for line, node in nodes.found
        for kind, operator in OPERATORS
        if isinstance(node, kind)
        for index, _ in enumerate(operator(node))
    ]


def make(module: cst.Module, place: Place) -> Fault | None:
    """The file with the fault; None where it changes nothing or is no Python."""
    changed = list(place.operator(place.node))[place.index]
    source = module.deep_replace(place.node, changed).code  # type: ignore[arg-type,union-attr]
    try:
        compile(source, "fault", "exec")
    except SyntaxError:
        return None
    before, after = module.code.splitlines(), source.splitlines()
    lines = [line for line in difflib.ndiff(before, after) if line[0] in "-+"]
    removed, added = (tuple(line[1:].strip() for line in lines if line[0] == sign) for sign in "-+")
    return Fault(place.line, source, removed, added) if lines else None
