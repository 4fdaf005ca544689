"""The docstrings of the public names: their sections, arguments and examples."""

import ast
import functools
import inspect
import re
import textwrap
from importlib import import_module
from typing import NamedTuple

from helpers.package_structure import ROOT
from mpqueue.plan.options.signatures import GROUPS

# The public modules with an explicit list of names; `mpqueue.compat.v1` generates its names from a table. Modules that
# import torch are listed separately, because torch's threads must not run in the process of other tests.
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
    """A code block in the section ``Example`` of a docstring, with its module and name."""

    module: str
    name: str
    number: int
    text: str

    def __str__(self):
        return f"{self.module}.{self.name}-{self.number}"


@functools.cache
def public_names(modules=MODULES):
    """Return all public names and their values."""
    return {f"{module}.{name}": getattr(import_module(module), name) for module in modules for name in names_of(module)}


@functools.cache
def names_of(module):
    """Return ``__all__`` of a module without importing it."""
    path = ROOT / module.replace(".", "/")
    source = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text("utf-8")
    (listed,) = [
        node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
    ]
    # `mpqueue.train` adds the names of a different module.
    added = names_of("mpqueue.tf1.root") if "\n__all__ += root.__all__\n" in source else []
    return [*ast.literal_eval(listed), *added]


@functools.cache
def documented(modules=MODULES):
    """Return the package's public classes and functions, and the public methods of the classes."""
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
    """Return the arguments without a description, and the descriptions that only refer to another name.

    Methods need no section if TensorFlow's ``name`` is their only argument.
    """
    lacking, hints = [], []
    for name, value in documented(modules).items():
        titles = [*GROUPS, "Attributes"]
        described = {key: text for title in titles for key, text in arguments(sections(value).get(title, "")).items()}
        if described or parameters(value) - {"name"}:
            lacking += [f"{name}: {parameter}" for parameter in sorted(parameters(value) - described.keys())]
        texts = [text for title in ("Raises", "Returns") for text in sections(value).get(title, "").splitlines()]
        texts = [*described.values(), *(line.partition(": ")[2] or line for line in texts)]
        hints += [
            f"{name}: {text}" for text in texts if re.match(r"(?:[Ss]ee|[Aa]s (?:for|of|in)|As) `(?!`)", text.strip())
        ]
    return lacking, hints


def sections(value):
    """Return the sections of a docstring by title, with their indentation removed."""
    text = inspect.cleandoc((value if isinstance(value, str) else value.__doc__) or "") + "\n"
    return {title: textwrap.dedent(body) for title, body in _SECTION.findall(text)}


def arguments(section):
    """Return the description of each name in a section such as ``Args``, on one line."""
    found = {}
    for line in section.splitlines():
        if line and not line.startswith(" "):
            names, _, text = line.partition(": ")
            found[names] = text
        elif line:
            found[names] += f" {line.strip()}"
    return {name.strip().lstrip("*"): text.strip() for names, text in found.items() for name in names.split(",")}


def parameters(value):
    """Return the parameter names of a function, or of the constructor of a class."""
    if inspect.isclass(value) and (issubclass(value, BaseException) and "__init__" not in vars(value)):
        return set()  # inherits the constructor of its base class
    try:
        taken = inspect.signature(value).parameters.values()
    except ValueError:  # messages of protobuf have fields instead of a signature
        return set()
    return {parameter.name for parameter in taken if parameter.kind != parameter.VAR_KEYWORD} - {"self", "cls"}


def examples():
    """Return the code blocks of all docstrings of the package without importing it."""
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
