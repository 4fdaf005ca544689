"""Rows of pyarrow's tables as samples: a dict of Python values for each, as Hugging Face's datasets give them.

A list of numbers becomes an array of NumPy, one of fixed sizes an array of that shape: a text of 2,048 tokens is then
one leaf of a batch, and not 2,048. All else is what pyarrow's ``as_py`` makes of it: text, bytes, numbers, None,
datetimes, dicts of structs, lists of what is no number. A list in which a number is missing is a list with None.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

Value = Callable[[Any], Any]


def pyarrow(module: str = "") -> Any:
    """Return pyarrow, or a module of it, which is imported on request only.

    Raises:
        ImportError: It is not installed; the text says how to.
    """
    import importlib

    try:
        return importlib.import_module(f"pyarrow.{module}" if module else "pyarrow")
    except ImportError as error:
        raise ImportError('mpqueue.files.Parquet and Arrow need pyarrow: pip install "mpqueue[files]"') from error


def value_of(kind: Any) -> Value:
    """Return what makes a value of a scalar of a type of pyarrow."""
    pa = pyarrow()
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        of_storage = value_of(kind.storage_type)
        return lambda scalar: None if scalar.value is None else of_storage(scalar.value)
    if types.is_fixed_size_list(kind):
        shape, number = [kind.list_size], kind.value_type
        while types.is_fixed_size_list(number):
            shape.append(number.list_size)
            number = number.value_type
        if _is_number(number):
            return lambda scalar: _tensor(scalar, shape)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        if _is_number(kind.value_type):
            return _numbers
        of_item = value_of(kind.value_type)
        return lambda scalar: [of_item(item) for item in scalar.values] if scalar.is_valid else None
    if types.is_struct(kind):
        parts = [(field.name, value_of(field.type)) for field in kind]
        return lambda scalar: (
            {name: of_part(scalar[i]) for i, (name, of_part) in enumerate(parts)} if scalar.is_valid else None
        )
    return _plain


def _is_number(kind: Any) -> bool:
    types = pyarrow().types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _plain(scalar: Any) -> Any:
    return scalar.as_py()


def _numbers(scalar: Any) -> Any:
    values = scalar.values
    if values is None:
        return None
    if values.null_count:
        return values.to_pylist()
    # A copy: a view would hold the whole row group as long as the sample lives, and could not be written to.
    return values.to_numpy(zero_copy_only=False).copy()


def _tensor(scalar: Any, shape: Sequence[int]) -> Any:
    values = scalar.values
    if values is None:
        return None
    for _ in shape[1:]:
        if values.null_count:
            return scalar.as_py()
        values = values.flatten()
    if values.null_count:
        return scalar.as_py()
    return values.to_numpy(zero_copy_only=False).copy().reshape(shape)


class Columns:
    """The way from rows to samples.

    Args:
        columns: Name and type, pyarrow's, of those that are wanted.
    """

    def __init__(self, columns: Iterable[tuple[str, Any]]) -> None:
        self._values = [(name, value_of(kind)) for name, kind in columns]

    def value(self, number: int, scalar: Any) -> Any:
        """Return the value of a column's scalar."""
        return self._values[number][1](scalar)

    def row(self, arrays: Sequence[Any], row: int) -> dict[str, Any]:
        """Return a sample.

        Args:
            arrays: Of pyarrow, one for each column.
            row: Its place in these.
        """
        return {name: of_column(array[row]) for (name, of_column), array in zip(self._values, arrays, strict=True)}


class TableRows(Sequence[dict[str, Any]]):
    """The rows of one row group, or record batch: each is made when it is asked for."""

    def __init__(self, columns: Columns, arrays: Sequence[Any], num_rows: int) -> None:
        self._columns, self._arrays, self._num_rows = columns, arrays, num_rows

    def __len__(self) -> int:
        return self._num_rows

    def __getitem__(self, row: int) -> dict[str, Any]:  # type: ignore[override]  # no slices are taken
        if not -self._num_rows <= row < self._num_rows:
            raise IndexError(f"row {row} of {self._num_rows}")
        return self._columns.row(self._arrays, row % self._num_rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self._columns.row(self._arrays, row) for row in range(self._num_rows))
