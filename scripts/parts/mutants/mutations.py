"""The small changes to a module, as edits of its source.

An edit replaces bytes of the source, so that a mutant differs from the module only in the change, and its diff is
readable. Not changed are docstrings, annotations, decorators, assertions, strings in ``raise`` and f-strings
(messages), and ``strict=`` (an assertion).
"""

import ast
import difflib
from typing import NamedTuple

_OPERATORS = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "//"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "//"),
    ast.Pow: ("**", "*"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.BitXor: ("^", "&"),
}
_COMPARISONS = {
    ast.Lt: ("<", ["<=", ">="]),
    ast.LtE: ("<=", ["<", ">"]),
    ast.Gt: (">", [">=", "<="]),
    ast.GtE: (">=", [">", "<"]),
    ast.Eq: ("==", ["!="]),
    ast.NotEq: ("!=", ["=="]),
    ast.Is: ("is", ["is not"]),
    ast.IsNot: ("is not", ["is"]),
    ast.In: ("in", ["not in"]),
    ast.NotIn: ("not in", ["in"]),
}
_SWAPPED_CALLS = {"min": "max", "max": "min", "any": "all", "all": "any"}
_TYPES_ONLY = {"TypeVar", "cast", "NewType", "ParamSpec", "Literal"}

Edit = tuple[int, int, bytes]  # first byte, byte after the last, replacement


class Change(NamedTuple):
    """A possible change: its first line, counted from 1, and its edits."""

    line: int
    edits: tuple[Edit, ...]


class Mutant(NamedTuple):
    """One change of a module.

    Attributes:
        line: First line of the change, counted from 1.
        source: The module with the change.
        old: The first line that differs, stripped,
        new: and its replacement.
        difference: All lines that differ.
    """

    line: int
    source: bytes
    old: str
    new: str
    difference: str


class _Finder(ast.NodeVisitor):
    """A visitor that collects the edits of one module."""

    def __init__(self, source: bytes) -> None:
        self._source = source
        self._starts = [0]
        for line in source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self.found: list[Change] = []
        self._bound: list[set[str]] = [set()]
        self._in_message = 0

    # Positions

    def _begin(self, node: ast.AST) -> int:
        return self._starts[node.lineno - 1] + node.col_offset

    def _end(self, node: ast.AST) -> int:
        return self._starts[node.end_lineno - 1] + node.end_col_offset

    def _text(self, node: ast.AST) -> str:
        return self._source[self._begin(node) : self._end(node)].decode()

    def _add(self, node: ast.AST, *edits: Edit) -> None:
        self.found.append(Change(node.lineno, edits))

    def _replace(self, node: ast.AST, text: str) -> None:
        self._add(node, (self._begin(node), self._end(node), text.encode()))

    def _between(self, left: ast.AST, right: ast.AST, old: str, new: str) -> Edit:
        """Return the edit of an operator, which is located between its operands."""
        start, stop = self._end(left), self._begin(right)
        first, *others = old.encode().split()  # "not in" may contain several spaces
        at = self._source.index(first, start, stop)
        end = at + len(first)
        for word in others:
            end = self._source.index(word, end, stop) + len(word)
        return at, end, new.encode()

    # Expressions

    def visit_BinOp(self, node: ast.BinOp) -> None:
        is_type = isinstance(node.op, ast.BitOr) and isinstance(node.right, ast.Constant) and node.right.value is None
        if type(node.op) in _OPERATORS and not is_type and not isinstance(node.left, ast.JoinedStr):
            self._add(node, self._between(node.left, node.right, *_OPERATORS[type(node.op)]))
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        words = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        pairs = zip(node.values, node.values[1:], strict=False)
        self._add(node, *[self._between(left, right, *words) for left, right in pairs])
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        operands = [node.left, *node.comparators]
        for op, left, right in zip(node.ops, operands, operands[1:], strict=False):
            old, others = _COMPARISONS[type(op)]
            for new in others:
                self._add(left, self._between(left, right, old, new))
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not | ast.USub | ast.Invert):
            self._add(node, (self._begin(node), self._begin(node.operand), b""))
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self._replace(node, str(not value))
        elif isinstance(value, int | float):
            self._replace(node, str(value + 1))
        elif isinstance(value, str) and not self._in_message:
            self._replace(node, repr(f"XX{value}XX"))
        elif isinstance(value, bytes):
            self._replace(node, repr(b"XX" + value + b"XX"))

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in _TYPES_ONLY:
            return
        if name in _SWAPPED_CALLS and not node.keywords:
            self._replace(node.func, _SWAPPED_CALLS[name])
        if name == "range" and node.args:
            self._one_off(node.args[0 if len(node.args) == 1 else 1])
        self.visit(node.func)
        for argument in node.args:
            self.visit(argument)
        for keyword in node.keywords:
            if keyword.arg != "strict":
                self.visit(keyword.value)

    def visit_Slice(self, node: ast.Slice) -> None:
        for bound in (node.lower, node.upper):
            self._one_off(bound)
        self.generic_visit(node)

    def _one_off(self, bound: ast.expr | None) -> None:
        if bound is not None and not isinstance(bound, ast.Constant):
            self._add(bound, (self._begin(bound), self._end(bound), f"({self._text(bound)}) + 1".encode()))

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self._negate(test)
        self.generic_visit(node)

    def _negate(self, test: ast.expr) -> None:
        if not isinstance(test, ast.Compare | ast.BoolOp | ast.Constant | ast.UnaryOp):
            self._replace(test, f"(not ({self._text(test)}))")

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Skip f-strings, because their parts have no positions in Python 3.11."""

    # Statements

    def _body(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):  # a docstring
                self.visit(statement)

    def visit_Module(self, node: ast.Module) -> None:
        self._body(node.body)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._body(node.body)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for default in [*node.args.defaults, *node.args.kw_defaults]:
            if default is not None:
                self.visit(default)
        self._bound.append({argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg)})
        self._body(node.body)
        self._bound.pop()

    def visit_Return(self, node: ast.Return) -> None:
        value = node.value
        # None and False mean the same to the caller of a function that returns bools.
        if value is not None and not (
            isinstance(value, ast.Constant) and (value.value is None or value.value is False)
        ):
            self._replace(value, "None")
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            self._replace(node, "pass")
        self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        self._replace(node, "pass")
        self._in_message += 1
        self.generic_visit(node)
        self._in_message -= 1

    def visit_Delete(self, node: ast.Delete) -> None:
        self._replace(node, "pass")

    def visit_Break(self, node: ast.Break) -> None:
        self._replace(node, "continue")

    def visit_Continue(self, node: ast.Continue) -> None:
        self._replace(node, "break")

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if type(node.op) in _OPERATORS:
            old, new = _OPERATORS[type(node.op)]
            self._add(node, self._between(node.target, node.value, f"{old}=", f"{new}="))
        self._replace(node, "pass")
        self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        names = {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)
                 and isinstance(name.ctx, ast.Store)}  # fmt: skip
        is_export = names <= {"__all__", "__slots__"} and bool(names)
        # Removing the first binding of a name only causes a NameError.
        if names <= self._bound[-1] and len(self._bound) > 1:
            self._replace(node, "pass")
        self._bound[-1] |= names
        if not is_export:
            self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if isinstance(node.annotation, ast.Name) and node.annotation.id == "TypeAlias":
            return
        if node.value is not None:
            if isinstance(node.target, ast.Attribute):
                self._replace(node, "pass")
            self.visit(node.value)

    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        self._negate(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self._negate(node.test)
        if not isinstance(node.test, ast.Constant):
            self.visit(node.test)
        for statement in [*node.body, *node.orelse]:
            self.visit(statement)

    def visit_Assert(self, node: ast.Assert) -> None:
        """Skip assertions, which are for the type checker."""

    def visit_Import(self, node: ast.Import) -> None:
        """Skip imports."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """Skip imports."""


def changes_of(source: bytes) -> list[Change]:
    """Return all changes of a module in the order of their lines."""
    finder = _Finder(source)
    finder.visit(ast.parse(source))
    return sorted(set(finder.found))


def mutants_of(source: bytes) -> list[Mutant]:
    """Return all mutants of a module in the order of their lines."""
    return [mutant for change in changes_of(source) if (mutant := made(source, change)) is not None]


def made(source: bytes, change: Change) -> Mutant | None:
    """Return the mutant of a change, or None if it is not valid Python."""
    changed = source
    for start, stop, text in sorted(change.edits, reverse=True):
        changed = changed[:start] + text + changed[stop:]
    try:
        compile(changed, "mutant", "exec")
    except SyntaxError:
        return None
    before, after = source.decode().splitlines(), changed.decode().splitlines()
    lines = list(difflib.unified_diff(before, after, n=0, lineterm=""))[3:]
    old, new = (next((text[1:].strip() for text in lines if text[0] == mark), "") for mark in "-+")
    return Mutant(change.line, changed, old, new, "\n".join(lines))
