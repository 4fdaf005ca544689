"""Rows of pyarrow tables as samples: a dict of Python values per row, as Hugging Face's datasets return them.

A list of numbers becomes a NumPy array, and one of fixed size an array of that shape. A sequence of 2,048 tokens is
then a single leaf of a batch instead of 2,048. All other values are as returned by pyarrow's ``as_py``: strings, bytes,
numbers, None, datetimes, dicts for structs, lists of other values. A list of numbers with a null item is a list with
None.
"""

import functools
import struct
from collections.abc import Callable, Sequence
from typing import Any

from mpqueue.system.units import count_text
from mpqueue.system.user_code.extras import import_extra

Value = Callable[[Any], Any]


def pyarrow(module: str = "") -> Any:
    """Return pyarrow, or one of its modules, imported on first use.

    Raises:
        ImportError: pyarrow is not installed; the message contains the install command.
    """
    message = 'mpqueue.files.Parquet and Arrow need pyarrow: pip install "mpqueue[files]"'
    return import_extra(f"pyarrow.{module}" if module else "pyarrow", message)


def value_of(kind: Any) -> Value:
    """Return a function that converts a scalar of a pyarrow type to a value."""
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
            return lambda scalar: _numbers(scalar, shape)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        if _is_number(kind.value_type):
            return lambda scalar: _numbers(scalar, ())
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


def _numbers(scalar: Any, shape: Sequence[int]) -> Any:
    """Return a list of numbers as an array: of this shape, or of any length without one."""
    values = scalar.values
    if values is None:
        return None
    for _ in shape[1:]:
        if values.null_count:
            return scalar.as_py()
        values = values.flatten()
    if values.null_count:
        return scalar.as_py()
    # A copy: a view would keep the whole row group in memory as long as the sample exists, and would be read-only.
    numbers = values.to_numpy(zero_copy_only=False).copy()
    return numbers.reshape(shape) if shape else numbers


# Format characters of `memoryview` for pyarrow types, by name.
_NAMES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float", "double")
NUMBERS = dict(zip(_NAMES, "bBhHiIqQfd", strict=True))


cached_value_of = functools.cache(value_of)


def items(data: memoryview, form: str, count: int) -> Sequence[Any]:
    """Return the first numbers of a buffer, in a format of `NUMBERS`."""
    cast: Any = data.cast("B")[: count * struct.calcsize(form)].cast
    numbers: Sequence[Any] = cast(form)
    return numbers


def reader_of(array: Any) -> Callable[[int], Any]:
    """Return a function that returns the value of a pyarrow array at a row.

    Numbers, bytes and strings are read directly from the array's buffers, because a scalar costs more than its value.
    """
    pa = pyarrow()
    types = pa.types
    kind = array.type
    if isinstance(array, pa.Array) and not array.null_count and len(array):
        first, buffers = array.offset, array.buffers()
        if (form := NUMBERS.get(str(kind))) is not None:
            # Its own method takes half the time of a function that calls it.
            return items(memoryview(buffers[1]), form, first + len(array))[first:].__getitem__
        is_text = types.is_string(kind) or types.is_large_string(kind)
        if is_text or types.is_binary(kind) or types.is_large_binary(kind):
            wide = types.is_large_string(kind) or types.is_large_binary(kind)
            ends = items(memoryview(buffers[1]), "q" if wide else "i", first + len(array) + 1)
            data = memoryview(buffers[2] or b"")
            if is_text:
                return lambda row: str(data[ends[first + row] : ends[first + row + 1]], "utf-8")
            return lambda row: bytes(data[ends[first + row] : ends[first + row + 1]])
    value = cached_value_of(kind)
    return lambda row: value(array[row])


class TableRows(Sequence[dict[str, Any]]):
    """The rows of one row group or record batch, each built on access.

    Args:
        names: The names of the columns.
        arrays: A pyarrow array for each column.
        num_rows: The number of rows.

    Attributes:
        columns: The name of each column, and a function that returns its value at a row.
    """

    def __init__(self, names: Sequence[str], arrays: Sequence[Any], num_rows: int) -> None:
        self._names, self._arrays, self._num_rows = names, arrays, num_rows
        self.columns = list(zip(names, map(reader_of, arrays), strict=True))

    def __len__(self) -> int:
        return self._num_rows

    def check(self, row: int) -> None:
        """Raise an `IndexError` for a row that does not exist: a damaged group may have fewer rows than the index."""
        if not 0 <= row < self._num_rows:
            raise IndexError(f"row {row} is out of range: there are {count_text(self._num_rows, 'row')}")

    def __getitem__(self, row: int) -> dict[str, Any]:  # type: ignore[override]  # slices are not supported
        self.check(row)
        return {name: read(row) for name, read in self.columns}

    def part(self, start: int, stop: int) -> "TableRows":
        """Return neighbours with their own memory, because a slice would keep the memory of all rows."""
        arrays = [_copied(array.slice(start, stop - start)) for array in self._arrays]
        return TableRows(self._names, arrays, stop - start)


def _copied(array: Any) -> Any:
    """Return an array with the same values, maybe of a different type, that does not keep the memory around it."""
    pa = pyarrow()
    kind = _without_views(array.type)
    if kind != array.type:
        array = array.cast(kind)
    # Not `take`, which has no views, and is wrong for slices of nested lists of fixed size (pyarrow 26).
    return pa.concat_arrays([array] if isinstance(array, pa.Array) else array.chunks)


def _without_views(kind: Any) -> Any:
    """Return a type with large strings and bytes in place of views: a copy of a view keeps the memory of all values."""
    pa = pyarrow()
    types = pa.types
    if str(kind) in {"string_view", "binary_view"}:
        return pa.large_string() if str(kind) == "string_view" else pa.large_binary()
    if types.is_struct(kind):
        return pa.struct([field.with_type(_without_views(field.type)) for field in kind])
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        item = kind.value_field.with_type(_without_views(kind.value_type))
        if types.is_fixed_size_list(kind):
            return pa.list_(item, kind.list_size)
        return (pa.large_list if types.is_large_list(kind) else pa.list_)(item)
    return kind
