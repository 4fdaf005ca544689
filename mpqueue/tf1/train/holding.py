"""Search for the objects that a source holds: queues, counts of epochs, placeholders.

A source is a function. It holds attributes of objects, arguments of partials, variables that a closure has captured,
and globals that the code names. The search follows these through containers, Sources, readers and a user's own objects.
It does not enter modules, classes and arrays.
"""

import types
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np

# A source that holds more objects than this holds data, not queues.
_MAX_THINGS = 20_000
_CLOSED = (types.ModuleType, type, np.ndarray, np.generic, str, bytes, int, float, complex, bool, type(None))

_Kind = TypeVar("_Kind")


def held_in(thing: Any, *kinds: type[_Kind], closed: tuple[type, ...] = ()) -> Iterator[_Kind]:
    """Iterate over the objects of some kinds that something holds or captures, without those that they hold.

    Args:
        thing: Searched.
        kinds: Classes of the objects to find.
        closed: Classes of objects that are not searched.
    """
    seen: set[int] = set()
    left = [thing]
    keep = []  # keeps objects that were made here alive, so that no other one gets the id
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
    """Iterate over the globals that some code names, with the functions inside it."""
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
