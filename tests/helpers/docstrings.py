"""The docstrings of the public names: their sections, their arguments and their examples."""

import ast
import functools
import inspect
import re
import textwrap
from importlib import import_module
from typing import NamedTuple

from helpers.structure import ROOT

# The public modules whose names are written down one by one; `mpqueue.compat.v1` makes its own of a table. What imports
# torch is apart: its threads are not to be in the process of other tests.
MODULES = (
    "mpqueue",
    "mpqueue.errors",
    "mpqueue.files",
    "mpqueue.jax",
    "mpqueue.keras",
    "mpqueue.metrics",
    "mpqueue.python_io",
    "mpqueue.tf",
    "mpqueue.train",
)
OF_TORCH = ("mpqueue.torch",)
_SECTION = re.compile(r"^([A-Z][\w` ]*):\n((?:    .*\n|\n)+)", re.M)


class Example(NamedTuple):
    """A block of code in the section ``Example`` of a docstring, the module and the name that it belongs to."""

    module: str
    name: str
    number: int
    text: str

    def __str__(self):
        return f"{self.module}.{self.name}-{self.number}"


@functools.cache
def public_names(modules=MODULES):
    """Return all public names with what they stand for."""
    return {f"{module}.{name}": getattr(import_module(module), name) for module in modules for name in names_of(module)}


@functools.cache
def names_of(module):
    """Return ``__all__`` of a module, which is not imported for that."""
    path = ROOT / module.replace(".", "/")
    source = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text("utf-8")
    (listed,) = [
        node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
    ]
    return ast.literal_eval(listed)


@functools.cache
def documented(modules=MODULES):
    """Return classes and functions of this package behind the public names, and the public methods of the classes."""
    found = {}
    for name, value in public_names(modules).items():
        if value in found.values() or not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        found[name] = value
        if inspect.isclass(value):
            own = {key: member for base in reversed(value.__mro__) for key, member in vars(base).items()}
            for key, member in own.items():
                function = member.__func__ if isinstance(member, staticmethod | classmethod) else member
                if not key.startswith("_") and inspect.isfunction(function):
                    found[f"{name}.{key}"] = function
    return {name: value for name, value in found.items() if value.__module__.startswith("mpqueue")}


def undescribed(modules=MODULES):
    """Return the arguments of `documented` that nothing is said of, and all of which only a hint is given.

    Methods that have only TensorFlow's ``name`` need no section for it.
    """
    lacking, hints = [], []
    for name, value in documented(modules).items():
        said = arguments(sections(value).get("Args", "")) | arguments(sections(value).get("Attributes", ""))
        if said or parameters(value) - {"name"}:
            lacking += [f"{name}: {parameter}" for parameter in sorted(parameters(value) - said.keys())]
        told = [text for title in ("Raises", "Returns") for text in sections(value).get(title, "").splitlines()]
        told = [*said.values(), *(line.partition(": ")[2] or line for line in told)]
        hints += [
            f"{name}: {text}" for text in told if re.match(r"(?:[Ss]ee|[Aa]s (?:for|of|in)|As) `(?!`)", text.strip())
        ]
    return lacking, hints


def sections(value):
    """Return the sections of a docstring by title, their text without its indentation."""
    text = inspect.cleandoc((value if isinstance(value, str) else value.__doc__) or "") + "\n"
    return {title: textwrap.dedent(body) for title, body in _SECTION.findall(text)}


def arguments(section):
    """Return what a section such as ``Args`` says of each name, on one line."""
    found = {}
    for line in section.splitlines():
        if line and not line.startswith(" "):
            names, _, text = line.partition(": ")
            found[names] = text
        elif line:
            found[names] += f" {line.strip()}"
    return {name.strip().lstrip("*"): text.strip() for names, text in found.items() for name in names.split(",")}


def parameters(value):
    """Return the names of what a function, or the constructor of a class, takes."""
    if inspect.isclass(value) and (issubclass(value, BaseException) and "__init__" not in vars(value)):
        return set()  # its arguments are those of its base
    try:
        taken = inspect.signature(value).parameters.values()
    except ValueError:  # a message of protobuf has fields
        return set()
    return {parameter.name for parameter in taken if parameter.kind != parameter.VAR_KEYWORD} - {"self", "cls"}


def examples():
    """Return the blocks of code of all docstrings of the package, which is not imported for that."""
    found = []
    for path in sorted((ROOT / "mpqueue").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        source = path.read_text("utf-8")
        for node in ast.walk(ast.parse(source)) if "Example:" in source else ():
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                text = sections(ast.get_docstring(node) or "").get("Example", "") + "\n"
                blocks = re.findall(r"::\n\n((?:    .*\n|\n)+)", text)
                found += [Example(module, node.name, n, textwrap.dedent(block)) for n, block in enumerate(blocks)]
    return found
