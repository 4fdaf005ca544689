"""The structure of the package and its scripts, read from their source: modules, imports and maps.

No module is imported. All imports count: at module level, inside functions, and under ``TYPE_CHECKING``.
"""

import ast
import functools
import graphlib
import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Module:
    """A Python file: its import name and its content."""

    def __init__(self, name, path):
        self.name, self.path = name, path

    @functools.cached_property
    def tree(self):
        return ast.parse(self.path.read_text("utf-8"))

    @property
    def is_package(self):
        return self.path.name == "__init__.py"


def read(folder, prefix=""):
    """Return all modules below a folder, by name."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        name = ".".join([*([prefix] if prefix else []), *(part for part in parts if part != "__init__")])
        found[name] = Module(name, path)
    return found


def imported(module, names):
    """Return the modules of ``names`` that a module imports anywhere."""
    targets = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.name.split(".") if module.is_package else module.name.split(".")[:-1]
                package = package[: len(package) - (node.level - 1)]
                base = ".".join([*package, *([base] if base else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                targets.add(inner if inner in names else base)
    return {target for target in targets if target in names and target != module.name}


def graph(modules):
    """Return the modules that each module imports, by name."""
    return {name: imported(module, modules) for name, module in modules.items()}


def cycle(edges):
    """Return the names of modules with cyclic imports, in the order of the imports, or an empty list."""
    try:
        graphlib.TopologicalSorter(edges).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


_LINE = re.compile(r"^ {4}((?:\w+(?:\.py|/)(?:\s+|$))+)")


def printed_map(package):
    """Return the map in a package's docstring: for each file or folder, the number of its line.

    A line of the map has one or more names that end in ``.py`` or ``/``, followed by a description. Lines with a deeper
    indentation continue the description.
    """
    layers = {}
    for index, line in enumerate((ast.get_docstring(package.tree, clean=True) or "").splitlines()):
        match = _LINE.match(line)
        if match is None:
            continue
        for name in match[1].split():
            assert name not in layers, f"the map of {package.name} names {name} twice"
            layers[name] = index
    return layers


def on_disk(package):
    """Return the names that a package's map must contain."""
    folder = package.path.parent
    files = {path.name for path in folder.glob("*.py")} - {"__init__.py"}
    return files | {f"{path.name}/" for path in folder.iterdir() if (path / "__init__.py").exists()}


def entry(module, package):
    """Return the name of a module in a package's map: its file, or the folder that contains it."""
    inner = module.path.relative_to(package.path.parent).parts
    return inner[0] if len(inner) == 1 else f"{inner[0]}/"


class Step(NamedTuple):
    """A step of a walk through the code: a file, and its names that take part."""

    file: str
    names: tuple[str, ...]


def walk(page, heading):
    """Return the steps under a heading of a page: each line with a file name, and the names after it."""
    text = page.read_text("utf-8")
    section = re.split(rf"^#+ {re.escape(heading)}\s*$", text, flags=re.M)
    assert len(section) == 2, f"{page.name} has no single section {heading!r}"
    body = re.split(r"^#+ ", section[1], flags=re.M)[0]
    steps = []
    for line in body.splitlines():
        named = re.match(r"^\s*\d+\. `([\w/]+\.py)` (.*)$", line)
        if named:
            steps.append(Step(named[1], tuple(re.findall(r"`([A-Za-z_][\w.]*)`", re.split(r" [-–—:] ", named[2])[0]))))
    return steps


def is_defined(module, dotted):
    """Return whether a module defines a function, a class, or a member of a class with this dotted name."""
    scope = module.tree.body
    for part in dotted.split("."):
        for node in scope:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == part:
                scope = node.body
                break
        else:
            return False
    return True
