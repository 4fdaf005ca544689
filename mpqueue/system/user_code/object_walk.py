"""A search of the contents of an object, breadth first and within bounds.

The contents are the object's attributes, items, arguments and closures. The bounds keep the search short for any
object: a source may contain millions of file names, and a reference to most of the program. Strings and numbers in
containers are skipped, because there may be millions of them and no caller searches for them.
"""

import functools
import itertools
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

MAX_ITEMS = 64  # of one container
_MAX_DEPTH = 5
_MAX_OBJECTS = 2000
_PLAIN = frozenset((str, bytes, int, float, complex, bool, types.NoneType))
# Python 3.11 and 3.12 read the attributes of an object 40 % slower once code has asked for its `__dict__`.
_SLOWS_READS = sys.version_info < (3, 13)
_LEAVES = (str, bytes, int, float, complex, type, types.ModuleType, types.NoneType)


class Found(NamedTuple):
    """An object, and the path to it.

    Attributes:
        path: Names and indices, separated by dots; a dot in a name is doubled. So no two objects have the same path.
        shown: The path as an expression, for messages.
        value: The object.
    """

    path: str
    shown: str
    value: Any


def is_a(value: Any, kinds: type | tuple[type, ...]) -> bool:
    """Return whether an object is an instance of some classes, or a proxy of an instance."""
    # The type first: `isinstance` of an abstract class reads ``value.__class__``, also where the type is the answer.
    if issubclass(type(value), kinds):
        return True
    try:
        # A proxy returns the class of its object as its own ``__class__``.
        return isinstance(value, kinds)
    except Exception:  # from the code of a lazy object, as attribute ``f`` of NumPy's `NpzFile`
        return False


def name_of(source: Any) -> str:
    """Return the name of a source's class as the user knows it; a wrapper has its wrapped class's name."""
    kind = type(source)
    name: str = getattr(kind, "shown_as", kind.__name__)
    return name


def title_of(source: Any) -> str:
    """Return the qualified name of a function, or the name of a source's class as the user knows it."""
    try:
        title = source.__qualname__
    except Exception:  # also from its `__getattr__`
        title = None
    return title if isinstance(title, str) else name_of(source)


def names_in(code: types.CodeType) -> Iterator[str]:
    """Yield the names that a function's code looks up, including nested functions."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from names_in(constant)


def code_of(code: types.CodeType) -> tuple[Any, ...]:
    """Return plain data that represents a function's code, without its file, line numbers and comments."""
    constants = [code_of(each) if isinstance(each, types.CodeType) else _constant(each) for each in code.co_consts]
    names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount
    return code.co_code, code.co_exceptiontable, constants, names, code.co_flags, counts


def _constant(value: Any) -> tuple[str, Any]:
    """Return a constant of code with its type, because 1, 1.0 and True are equal. Sets are sorted."""
    return type(value).__name__, sorted(map(repr, value)) if isinstance(value, frozenset) else repr(value)


def content_of(cell: types.CellType) -> Any:
    """Return the value of a variable that a function closes over; None if it has no value yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def contents(
    root: Any,
    is_wanted: Callable[[Any], bool],
    *,
    without: Iterable[Any] = (),
    skips_long: bool = False,
    is_whole: bool = False,
    depth: int = _MAX_DEPTH,
) -> Iterator[Found]:
    """Search an object, including the object itself.

    Args:
        root: The object.
        is_wanted: Predicate of the objects to yield; their contents are not searched.
        without: Objects below the root that are skipped together with their contents.
        skips_long: Skip containers of more than `MAX_ITEMS` items; otherwise their first items are searched.
        is_whole: Search all items of all containers. It takes about 20 ns for a string or a number, and one or two
            microseconds for another object.
        depth: Number of levels below the root.

    Yields:
        The objects, nearest first, each once.
    """
    level, seen = [Found("", "", root)], {id(value) for value in without if value is not root}
    numpy = sys.modules.get("numpy")  # not imported for that: otherwise the object has no arrays
    leaves = (*_LEAVES, getattr(numpy, "ndarray", type), getattr(numpy, "dtype", type))
    num_items, num_objects = (None, None) if is_whole else (MAX_ITEMS, _MAX_OBJECTS)
    for _ in range(depth + 1):
        following: list[Found] = []
        for entry in level:
            if id(entry.value) in seen:
                continue
            seen.add(id(entry.value))
            try:
                is_found = is_wanted(entry.value)
                is_end = is_found or (skips_long and _is_long(entry.value))
                parts = [] if is_end else _parts(entry.value, num_items, leaves)
            except Exception:  # noqa: S112 - from a lazy object, or from a mock that only claims to be a container
                continue
            if is_found:
                yield entry
            # Create no more parts than there is room for: paths for a million items would take seconds.
            room = None if num_objects is None else max(0, num_objects - len(seen) - len(following))
            following += itertools.islice((_below(entry, part) for part in parts if id(part.value) not in seen), room)
        level = following


def _is_long(value: Any) -> bool:
    return is_a(value, (dict, list, tuple)) and len(value) > MAX_ITEMS


def _below(entry: Found, part: Found) -> Found:
    path = f"{entry.path}.{part.path}" if entry.path else part.path
    return Found(path, entry.shown + part.shown, part.value)


def _parts(value: Any, num_items: int | None, leaves: tuple[type, ...]) -> Iterable[Found]:
    """Return the objects that one object refers to, at most ``num_items`` of a container; each path is one name."""
    if is_a(value, leaves):
        return []
    if is_a(value, dict):
        items = enumerate(list(itertools.islice(value.items(), num_items)))
        return (Found(str(index), f"[{key!r}]", item) for index, (key, item) in items if type(item) not in _PLAIN)
    if is_a(value, (list, tuple)):
        some = enumerate(value[:num_items])
        return (Found(str(index), f"[{index}]", item) for index, item in some if type(item) not in _PLAIN)
    if is_a(value, functools.partial):
        return [Found(name, f".{name}", getattr(value, name)) for name in ("func", "args", "keywords")]
    if is_a(value, types.MethodType):
        return [Found("self", ".__self__", value.__self__)]
    if is_a(value, types.FunctionType):
        return _closed_over(value)
    attributes = getattr(value, "__dict__", None)
    if not isinstance(attributes, dict):
        return []
    if _SLOWS_READS and attributes and type(attributes) is dict and num_items is not None:
        _hold_own_keys(attributes)
    return [
        Found(str(name).replace(".", ".."), f".{name}", item)
        for name, item in list(attributes.items())
        if type(item) not in _PLAIN
    ]


def _hold_own_keys(attributes: dict[str, Any]) -> None:
    """Make reading attributes fast again after a look at their ``__dict__``, which shares its keys with other objects.

    A removal of an item gives the dict its own keys. It costs memory, so only objects of a bounded search get that.
    """
    # In one call of C code, so that no thread misses the attribute.
    attributes.update(itertools.islice(iter(attributes.popitem, None), 1))


def _closed_over(function: types.FunctionType) -> list[Found]:
    variables = []
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            variables.append(Found(name, f"<{name}>", cell.cell_contents))
        except ValueError:  # the variable is not assigned yet, or was deleted
            continue
    return variables
