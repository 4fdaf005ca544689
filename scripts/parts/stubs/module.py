"""The stub of one public module.

What a type checker finds in its home by itself (a class, a constant, a function with a ``def``) is imported from there,
and so keeps its docstring in editors. A function that is made at run time, from the declaration of an op, is written
out with the signature that it has, and the attribute of a class with its type: once, for its first module and name.
"""

import ast
import importlib
import inspect
import textwrap
import types
from collections.abc import Iterator
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any

from mpqueue.tf1.compat.names import Entry, Namespaces
from parts.stubs.annotations import Annotations

HEAD = "# Printed by scripts/stubs from mpqueue/tf1/compat/surface.py: not to be edited."
_WIDTH = 116  # of the list of names, before its indentation
# Decorators that type checkers know; any other may change the signature.
_TRANSPARENT = {"contextmanager"}


def stub_of(surface: Namespaces, root: str, path: str) -> str:
    """Return the stub of a public module, not formatted yet.

    Args:
        surface: The table of names.
        root: Full name of the root module.
        path: The public module, "" for the root.
    """
    entries, inside = surface.entries(path), surface.inside(path)
    public = {name: _value(entry) for name, entry in entries.items()}
    annotations = Annotations(public | dict.fromkeys(inside))
    imports, made = {f"from {_dotted(root, path)} import {name} as {name}" for name in inside}, []
    for name, entry in entries.items():
        first_path, first_name = _first(surface, entry)
        if _is_visible(entry):
            imports.add(f"from {entry.home} import {entry.own} as {name}")
        elif path != first_path:
            imports.add(f"from {_dotted(root, first_path)} import {first_name} as {name}")
        elif name != first_name:
            made.append(f"{name} = {first_name}")
        else:
            made.append(_definition(name, public[name], annotations))
    names = textwrap.fill(", ".join(f'"{name}"' for name in surface.names(path)), _WIDTH, break_long_words=False)
    listed = f"__all__ = [\n{textwrap.indent(names, '    ')},\n]  # fmt: skip"
    return "\n".join([HEAD, *sorted(imports | annotations.imports, key=_sorted_as), listed, *made]) + "\n"


def _first(surface: Namespaces, entry: Entry) -> tuple[str, str]:
    """Return the module and the name under which something is written out; other modules import it from there."""
    return next(
        (path, name) for path in surface.paths() for name, each in surface.entries(path).items() if each == entry
    )


def _dotted(root: str, path: str) -> str:
    return f"{root}.{path}" if path else root


def _value(entry: Entry) -> Any:
    return attrgetter(entry.own)(importlib.import_module(entry.home))


def _sorted_as(line: str) -> tuple[bool, list[str]]:
    return line.startswith("from"), line.split()


def _definition(name: str, value: Any, annotations: Annotations) -> str:
    return _function(name, value, annotations) if callable(value) else f"{name}: {annotations.text(type(value))}"


def _function(name: str, function: Any, annotations: Annotations) -> str:
    signature = inspect.signature(function, eval_str=True)
    parameters = ", ".join(_parameters(signature, annotations))
    return f"def {name}({parameters}) -> {annotations.text(signature.return_annotation)}: ..."


def _parameters(signature: inspect.Signature, annotations: Annotations) -> Iterator[str]:
    starred = False
    for each in signature.parameters.values():
        if each.kind is each.KEYWORD_ONLY and not starred:
            yield "*"
        starred = starred or each.kind in (each.KEYWORD_ONLY, each.VAR_POSITIONAL)
        stars = {each.VAR_POSITIONAL: "*", each.VAR_KEYWORD: "**"}.get(each.kind, "")
        default = "" if each.default is each.empty else f" = {_default(each.default)}"
        yield f"{stars}{each.name}: {annotations.text(each.annotation)}{default}"


def _default(value: Any) -> str:
    """Return a default as source, where that tells something, else ``...``."""
    return repr(value) if isinstance(value, bool | int | float | str | None) else "..."


def _is_visible(entry: Entry) -> bool:
    """Return whether a type checker finds the name, with its type, in its home."""
    if "." in entry.own:
        return False
    if not isinstance(_value(entry), types.FunctionType):
        return True
    definition = _definitions(entry.home).get(entry.own)
    return definition is not None and all(ast.unparse(each) in _TRANSPARENT for each in definition.decorator_list)


@cache
def _definitions(home: str) -> dict[str, ast.FunctionDef]:
    """Return the functions that a module defines with a ``def`` of its own."""
    module = importlib.import_module(home)
    tree = ast.parse(Path(str(module.__file__)).read_text("utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
