"""The columns that are wanted of files, and whether all files have them."""

from collections.abc import Iterable, Sequence
from typing import Any


def chosen(columns: Iterable[str] | None, names: Sequence[str]) -> list[str]:
    """Return the columns that are wanted.

    Raises:
        TypeError: They are no names.
        ValueError: One of them is not there, or there twice, or none is wanted.
    """
    wanted = list(names) if columns is None else _listed(columns)
    missing = [name for name in wanted if name not in names]
    if missing:
        raise ValueError(f"there is no column {missing[0]!r}; the columns are {', '.join(names)}")
    twice = [name for name in wanted if wanted.count(name) > 1 or list(names).count(name) > 1]
    if twice:
        raise ValueError(f"the column {twice[0]!r} is there twice, and a sample is a dict")
    if not wanted:
        raise ValueError("a sample needs at least one column, got none")
    return wanted


def _listed(columns: Iterable[str]) -> list[str]:
    if isinstance(columns, str | bytes):
        raise TypeError(f"columns is a list of names, got {columns!r}")
    found = list(columns)
    if bad := [name for name in found if not isinstance(name, str)]:
        raise TypeError(f"columns is a list of names, got {bad[0]!r} in it")
    return found


def difference(expected: Any, got: Any, names: Sequence[str], first: str) -> str | None:
    """Return in words how a schema differs from that of the first file in some columns; None: in none of them.

    Args:
        expected: Of the first file.
        got: Of another one.
        names: The columns that count.
        first: The path of the first file.
    """
    for name in names:
        if got.get_field_index(name) < 0:
            return f"it has no column {name!r}, which {first} has; its columns are {', '.join(got.names)}"
        if (here := got.field(name).type) != (there := expected.field(name).type):
            return (
                f"its column {name!r} is of {here}, expected {there} as in {first}; list files of one schema together"
            )
    return None
