"""The docstrings of the public names: their sections, their arguments and their examples."""

import functools
import inspect
import re
import textwrap
from importlib import import_module
from typing import NamedTuple

# The public modules whose names are written down one by one; `mpqueue.compat.v1` makes its own of a table.
MODULES = (
    "mpqueue",
    "mpqueue.errors",
    "mpqueue.jax",
    "mpqueue.keras",
    "mpqueue.metrics",
    "mpqueue.python_io",
    "mpqueue.tf",
    "mpqueue.torch",
    "mpqueue.train",
)
_SECTION = re.compile(r"^([A-Z][\w` ]*):\n((?:    .*\n|\n)+)", re.M)


class Example(NamedTuple):
    """A block of code in the section ``Example`` of a docstring, the name that it belongs to, and its module."""

    name: str
    number: int
    module: str
    text: str

    def __str__(self):
        return f"{self.name}-{self.number}"


@functools.cache
def public_names():
    """Return all public names with what they stand for, modules left out; each thing once, under its first name."""
    found = {}
    for module in map(import_module, MODULES):
        for name in module.__all__:
            value = getattr(module, name)
            if not inspect.ismodule(value):
                found[f"{module.__name__}.{name}"] = value
    return found


@functools.cache
def documented():
    """Return classes and functions of this package behind the public names, and the public methods of the classes."""
    found = {}
    for name, value in public_names().items():
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


def sections(value):
    """Return the sections of a docstring by title, their text without its indentation."""
    text = inspect.cleandoc(value.__doc__ or "") + "\n"
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
    """Return the blocks of code of all docstrings."""
    found = []
    for name, value in documented().items():
        text = sections(value).get("Example", "")
        blocks = re.findall(r"::\n\n((?:    .*\n|\n)+)", text + "\n")
        found += [Example(name, n, value.__module__, textwrap.dedent(block)) for n, block in enumerate(blocks)]
    return found
