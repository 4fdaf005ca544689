"""Parameters that the body of a public function does not read."""

import ast
import inspect
import textwrap

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
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    except (OSError, SyntaxError):  # generated, such as the constructor of a dataclass
        return []
    own = tree.args
    parameters = [*own.posonlyargs, *own.args, *own.kwonlyargs, *filter(None, [own.vararg, own.kwarg])]
    read = {
        node.id
        for statement in tree.body
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    return [each.arg for each in parameters if each.arg not in {*read, "self", "cls"}]
