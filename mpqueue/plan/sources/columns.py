"""Reads one column of a source: of `mpqueue.files`, or of a dataset of Hugging Face."""

from collections.abc import Sequence
from typing import Any


def column_of(source: Any, name: str) -> Sequence[Any]:
    """Return the values of a column, one for each sample.

    Args:
        source: The source.
        name: The name of the column.

    Raises:
        ValueError: The source has no columns, or not this one.
    """
    if hasattr(type(source), "column"):
        values: Sequence[Any] = source.column(name)
        return values
    names = getattr(source, "column_names", None)
    if not isinstance(names, list):
        raise ValueError(  # noqa: TRY004 - the name is wrong for this source
            f"{name!r} names a column, and {type(source).__name__} has no columns: pass an array with one number for "
            "each sample, or a function of its id"
        )
    if name not in names:
        raise ValueError(f"there is no column {name!r}; the columns are {', '.join(names)}")
    # Without a format, which may convert numbers to tensors.
    of_dataset: Sequence[Any] = source.with_format(None)[name][:]
    return of_dataset
