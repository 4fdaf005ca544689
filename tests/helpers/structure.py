"""Read the structure of the package and of its scripts out of their source: modules, imports, maps, sizes.

Nothing of what is read is imported. An import counts wherever it stands: at the top, inside a function, under
``TYPE_CHECKING``.
"""

import ast
import functools
import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Module:
    """One file of Python, its name as it would be imported, and what it contains."""

    def __init__(self, name, path):
        self.name, self.path = name, path

    @functools.cached_property
    def tree(self):
        return ast.parse(self.path.read_text("utf-8"))

    @property
    def num_lines(self):
        return len(self.path.read_text("utf-8").splitlines())

    @property
    def is_package(self):
        return self.path.name == "__init__.py"


def read(folder, prefix=""):
    """All modules under a folder, by name; those without a suffix are scripts that name Python in their first line."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        name = ".".join([*([prefix] if prefix else []), *(part for part in parts if part != "__init__")])
        found[name] = Module(name, path)
    return found


def imported(module, names):
    """The modules out of ``names`` that a module imports, wherever in it."""
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
    """Who imports whom, by name."""
    return {name: imported(module, modules) for name, module in modules.items()}


def circles(edges):
    """Groups of modules that can reach each other: the strongly connected components of more than one (Tarjan)."""
    index, low, stack, found = {}, {}, [], []

    def visit(name):
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in edges[name]:
            if target not in index:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], index[target])
        if low[name] == index[name]:
            group = []
            while not group or group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for name in edges:
        if name not in index:
            visit(name)
    return found


_LINE = re.compile(r"^ {4}((?:\w+(?:\.py|/)(?:\s+|$))+)")


def printed_map(package):
    """The layers that a package's docstring prints: for each file or folder in it, the number of its line.

    A line of the map holds one or more names that end in ``.py`` or ``/``, then a description; lines that begin
    deeper go on with the description.
    """
    layers = {}
    for number, line in enumerate((ast.get_docstring(package.tree, clean=True) or "").splitlines()):
        match = _LINE.match(line)
        if match is None:
            continue
        for name in match[1].split():
            assert name not in layers, f"the map of {package.name} names {name} twice"
            layers[name] = number
    return layers


def on_disk(package):
    """What a package's map has to name."""
    folder = package.path.parent
    files = {path.name for path in folder.glob("*.py")} - {"__init__.py"}
    return files | {f"{path.name}/" for path in folder.iterdir() if (path / "__init__.py").exists()}


def entry(module, package):
    """The name under which a package's map has a module of it: its own file, or the folder that it lies in."""
    inner = module.path.relative_to(package.path.parent).parts
    return inner[0] if len(inner) == 1 else f"{inner[0]}/"


def fields(node):
    """Names of a class's fields: assigned on ``self`` in its methods, or annotated in its body."""
    own = {
        inner.attr
        for inner in ast.walk(node)
        if isinstance(inner, ast.Attribute)
        and isinstance(inner.ctx, ast.Store)
        and isinstance(inner.value, ast.Name)
        and inner.value.id == "self"
    }
    return own | {
        inner.target.id
        for inner in node.body
        if isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name)
    }


def definitions(modules, kind):
    """All definitions of a kind, with the dotted name that says where."""
    for name, module in modules.items():
        for node in ast.walk(module.tree):
            if isinstance(node, kind):
                yield f"{name}.{node.name}", node


def code_lines(node):
    """Return the lines of a function without its docstring, which is as long as what is to be told."""
    lines = node.end_lineno - node.lineno + 1
    if ast.get_docstring(node) is not None:
        lines -= node.body[0].end_lineno - node.body[0].lineno + 1
    return lines


class Step(NamedTuple):
    """A step of a walk through the code: a file and the names in it that take part."""

    file: str
    names: tuple[str, ...]


def walk(page, heading):
    """The steps under a heading of a page: each line that names a file in backticks, and the names after it."""
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
    """Return whether a module defines a function, a class, or a member of a class of this dotted name."""
    scope = module.tree.body
    for part in dotted.split("."):
        for node in scope:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == part:
                scope = node.body
                break
        else:
            return False
    return True
