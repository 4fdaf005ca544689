"""Orders that a source draws in its first item: they are drawn in the trainer instead.

Each worker has a copy of the source, and would draw an order of its own, so that some items came twice and others not
at all. Keras's ImageDataGenerator iterators do so (`index_array` is None until `_set_index_array`), and so do others
under other names. What gives them away, before any item runs: an attribute is None, a method that ``__getitem__``
calls binds it, and that method draws random numbers. A file that is opened on first use is bound likewise, but draws
nothing.
"""

import dis
import types
import warnings
from collections.abc import Iterator
from typing import Any

from mpqueue.system.callers import outside_stacklevel

_KNOWN = (("index_array", "_set_index_array"), ("index_array", "__set_index_array__"))
_DRAWING = frozenset(
    {"choice", "choices", "default_rng", "permutation", "permuted", "randint", "random", "randperm", "rng", "sample"}
    | {"shuffle", "integers", "rand"}
)


def draw_lazy_order(source: Any, num_processes: int = 0) -> None:
    """Have a source draw its order now, in the trainer, before the first item.

    Args:
        source: A sequence.
        num_processes: Worker processes that would each draw their own; with several, a source of which no method is
            found that draws the order gets a warning.
    """
    for attribute, method in _KNOWN:
        if getattr(source, attribute, 0) is None and hasattr(source, method):
            getattr(source, method)()
            return
    if num_processes < 2:
        return
    for attribute, function in _lazily_drawn(source):
        if function.__name__ == "__getitem__" or function.__code__.co_argcount != 1:
            _warn(source, attribute)
        elif getattr(source, attribute) is None:  # the method before this one may have drawn it
            function(source)


def _lazily_drawn(source: Any) -> list[tuple[str, types.FunctionType]]:
    """The attributes that are None until a function reached from ``__getitem__`` draws them, and that function."""
    unbound = {name for name, value in getattr(source, "__dict__", {}).items() if value is None}
    if not unbound:
        return []
    return [
        (name, function)
        for function in _reached(type(source), "__getitem__", set())
        if _DRAWING.intersection(function.__code__.co_names)
        for name in sorted(unbound.intersection(_drawn_by(function)))
    ]


def _reached(kind: type, name: str, seen: set[str]) -> Iterator[types.FunctionType]:
    """The methods of a class that one of them calls, by name, the deepest first, and itself."""
    seen.add(name)
    function = getattr(kind, name, None)
    if not isinstance(function, types.FunctionType):
        return
    for called in function.__code__.co_names:
        if called not in seen:
            yield from _reached(kind, called, seen)
    yield function


def _drawn_by(function: types.FunctionType) -> set[str]:
    """The attributes that a function binds; an item, which may draw for other purposes, must draw in the same line."""
    names: dict[int | None, set[str]] = {}
    bound: dict[str, int | None] = {}
    for step in dis.get_instructions(function):
        line = step.positions.lineno if step.positions is not None else None
        if step.opname == "STORE_ATTR":
            bound[step.argval] = line
        if isinstance(step.argval, str):
            names.setdefault(line, set()).add(step.argval)
    if function.__name__ != "__getitem__":
        return set(bound)
    shuffled = set().union(*(here for here in names.values() if "shuffle" in here))
    return {name for name, line in bound.items() if name in shuffled or _DRAWING.intersection(names.get(line, ()))}


def _warn(source: Any, attribute: str) -> None:
    name = type(source).__name__
    warnings.warn(
        f"{name}.{attribute} is None until the first item draws it at random, and each worker process would draw "
        f"another one, so that some items come twice and others not at all: draw it in {name}.__init__ and in "
        "on_epoch_end, which run in this process",
        UserWarning,
        stacklevel=outside_stacklevel(),
    )
