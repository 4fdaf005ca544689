"""Parameters that the body of a public function does not read."""

import ast
import functools
import inspect
from pathlib import Path

from helpers.docstrings import MODULES, documented


def unread_parameters(modules=MODULES):
    """Return the parameters of public functions, methods and constructors that their code does not read, by name."""
    found = []
    for name, value in documented(modules).items():
        function = inspect.unwrap(vars(value).get("__init__") if inspect.isclass(value) else value)
        if inspect.isfunction(function):
            found += [f"{name}: {parameter}" for parameter in _unread_by(function)]
    return found


def _unread_by(function):
    if function.__code__.co_filename.startswith("<"):  # generated, such as the constructor of a dataclass
        return []
    named, *rest = inspect.getargs(function.__code__)
    return [each for each in [*named, *filter(None, rest)] if each not in names_read_by(function)]


@functools.cache
def _functions_of(file):
    """Return the functions of a file, by the number of their first line; of several in a line, the outer one."""
    functions = {}
    for node in ast.walk(ast.parse(Path(file).read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            decorators = getattr(node, "decorator_list", [])
            functions.setdefault((decorators or [node])[0].lineno, node)
    return functions


def body_of(function):
    """Return the statements of a function, without its docstring."""
    body = _functions_of(function.__code__.co_filename)[function.__code__.co_firstlineno].body
    body = body if isinstance(body, list) else [body]
    return [each for each in body if not (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))]


@functools.cache
def names_read_by(function):
    """Return ``self``, ``cls`` and the names that the body of a function reads; ``del name`` does not count."""
    if isinstance(function, functools.partial):
        function = function.func
    nodes = [node for statement in body_of(inspect.unwrap(function)) for node in ast.walk(statement)]
    return {
        "self",
        "cls",
        *(node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)),
    }
