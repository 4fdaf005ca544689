"""Selection of columns, and comparison of the schemas of files."""

from collections.abc import Iterable, Sequence
from typing import Any


def chosen(columns: Iterable[str] | None, names: Sequence[str]) -> list[str]:
    """Return the selected columns.

    Raises:
        TypeError: The columns are not names.
        ValueError: A column does not exist or is repeated, or the list is empty.
    """
    selected = list(names) if columns is None else _listed(columns)
    missing = [name for name in selected if name not in names]
    if missing:
        raise ValueError(
            f"columns must be among the existing ones, got {missing[0]!r}; the columns are {', '.join(names)}"
        )
    twice = [name for name in selected if selected.count(name) > 1 or list(names).count(name) > 1]
    if twice:
        raise ValueError(f"the column {twice[0]!r} is repeated, but a sample is a dict with unique keys")
    if not selected:
        raise ValueError("a sample needs at least one column, got none")
    return selected


def _listed(columns: Iterable[str]) -> list[str]:
    if isinstance(columns, str | bytes) or not isinstance(columns, Iterable):
        raise TypeError(f"columns must be a list of names, got {columns!r}")
    names = list(columns)
    if bad := [name for name in names if not isinstance(name, str)]:
        raise TypeError(f"columns must be a list of names, got one that contains {bad[0]!r}")
    return names


def difference(expected: Any, got: Any, names: Sequence[str], first: str) -> str | None:
    """Return a description of how a schema differs from the first file's in some columns; None if it does not.

    Args:
        expected: The schema of the first file.
        got: The schema of another file.
        names: The columns to compare.
        first: The path of the first file.
    """
    for name in names:
        if got.get_field_index(name) < 0:
            return f"it has no column {name!r}, which {first} has; its columns are {', '.join(got.names)}"
        if (here := got.field(name).type) != (there := expected.field(name).type):
            return (
                f"its column {name!r} is of type {here}, expected {there} as in {first}; pass only files with the same "
                "schema"
            )
    return None
