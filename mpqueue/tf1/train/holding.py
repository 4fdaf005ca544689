"""Search for the objects that a source refers to: queues, epoch counters, placeholders.

A source is a function. It refers to the attributes of its objects, the arguments of partials, the variables of
closures, and the globals that its code names. The search follows these references through containers, Sources, readers
and user objects. It does not enter modules, classes and arrays.
"""

import types
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np

# A source that refers to more objects than this holds data, not queues.
_MAX_THINGS = 20_000
_CLOSED = (types.ModuleType, type, np.ndarray, np.generic, str, bytes, int, float, complex, bool, type(None))

_Kind = TypeVar("_Kind")


def held_in(thing: Any, *kinds: type[_Kind], closed: tuple[type, ...] = ()) -> Iterator[_Kind]:
    """Iterate over the objects of some classes that an object refers to, without searching inside the matches.

    Args:
        thing: The object to search.
        kinds: Classes of the objects to find.
        closed: Classes of objects that are not searched.
    """
    seen: set[int] = set()
    left = [thing]
    keep = []  # keeps references to temporary objects, so that their ids are not reused during the search
    while left and len(seen) < _MAX_THINGS:
        one = left.pop()
        if id(one) in seen or isinstance(one, _CLOSED):
            continue
        seen.add(id(one))
        keep.append(one)
        if isinstance(one, kinds):
            yield one
        elif not isinstance(one, closed):
            left += _held_by(one)


def _held_by(one: Any) -> Iterator[Any]:
    if isinstance(one, dict):
        yield from one.values()
    elif isinstance(one, list | tuple | set | frozenset):
        yield from one
    elif isinstance(one, types.FunctionType):
        yield from _captured(one.__code__, one.__globals__)
        yield from (cell.cell_contents for cell in one.__closure__ or () if _is_filled(cell))
        yield from one.__defaults__ or ()
        yield from (one.__kwdefaults__ or {}).values()
    elif isinstance(one, types.GeneratorType):
        if one.gi_frame is not None:
            yield from one.gi_frame.f_locals.values()
            yield from _captured(one.gi_code, one.gi_frame.f_globals)
    else:
        yield from (getattr(one, name, None) for name in ("__self__", "__func__", "func", "args", "keywords"))
        yield from getattr(one, "__dict__", {}).values()


def _captured(code: types.CodeType, variables: dict[str, Any]) -> Iterator[Any]:
    """Iterate over the globals that code and its nested functions name."""
    yield from (variables[name] for name in code.co_names if name in variables)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _captured(constant, variables)


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - an empty cell raises
    except ValueError:
        return False
    return True
