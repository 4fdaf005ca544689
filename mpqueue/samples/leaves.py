"""The leaves of samples: those of one name in all samples of a batch become one leaf of the batch.

Numbers and arrays are stacked along a new first axis, in an array from `Empty`: inside the slot, where there is one.
Text, bytes and all other objects become a list.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from mpqueue.memory.layout import Array

Empty: TypeAlias = Callable[[Any, Any], Array]  # by shape and dtype
_NUMBERS: dict[type, Any] = {bool: np.bool_, int: np.int64, float: np.float64, complex: np.complex128}


def no_sample(name: str, hint: str = "did `__getitem__` forget to return?") -> TypeError:
    """Return the error of a sample that is None.

    Args:
        name: The sample and its source, in words.
        hint: The likely mistake, as a question.
    """
    return TypeError(
        f"{name} is None: {hint} To leave out samples, use mpqueue.Dataset(source).filter(function). "
        "A missing value belongs into a field of a dict or tuple"
    )


class LeafPlace:
    """The way to a leaf from the sample, and the samples' indices, for errors.

    Args:
        indices: By which the source was asked for the samples.
        refuse_none: Returns the error of a sample that is None, by its index.
        path: The steps to the leaf.
    """

    __slots__ = ("_indices", "_path", "_refuse_none")

    def __init__(
        self, indices: Sequence[Any], refuse_none: Callable[[Any], Exception], path: tuple[str, ...] = ()
    ) -> None:  # fmt: skip
        self._indices, self._refuse_none, self._path = indices, refuse_none, path

    def check_none(self, values: Sequence[Any]) -> None:
        """Raise for a whole sample that is None; a field may be None in all samples.

        Raises:
            TypeError: One of the values is None, and the values are samples.
        """
        if not self._path:
            for index, value in zip(self._indices, values, strict=False):
                if value is None:
                    raise self._refuse_none(index)

    def step(self, step: str) -> "LeafPlace":
        """One step further."""
        return LeafPlace(self._indices, self._refuse_none, (*self._path, step))

    def name(self, number: int) -> str:
        """Return the leaf of a sample, by its number in the batch."""
        return f"{''.join(('sample', *self._path))} of index {self._indices[number]!r}"

    def refuse(self, one: int, other: int, what: Callable[[int], str]) -> ValueError:
        """Return the error that names two samples, by their numbers in the batch, that are unlike in this leaf."""
        leaf = "".join(("sample", *self._path))
        return ValueError(
            f"cannot make a batch of unlike samples: {leaf} of index {self._indices[one]!r} {what(one)}, that of index "
            f"{self._indices[other]!r} {what(other)}. Make them alike in the source, or pass collate=, a function "
            "from a list of samples to a batch"
        )


def is_stackable(value: Any) -> bool:
    """Return True for numbers and arrays, those of other libraries included."""
    if isinstance(value, np.ndarray | np.generic):
        return not isinstance(value, np.str_ | np.bytes_)
    return isinstance(value, int | float | complex) or hasattr(type(value), "__dlpack__")


def merge_numbers(values: Sequence[Any], kind: type, empty: Empty) -> Any:
    """An array of Python's numbers of one kind; a list of integers that no dtype holds."""
    # int64 first, which holds most; where one number is above it, uint64 may hold all, as in NumPy.
    for dtype in (_NUMBERS[kind], np.uint64):
        try:
            out = empty(len(values), dtype)
            out[...] = values
        except OverflowError:
            continue
        return out
    return list(values)


def is_number(kind: type) -> bool:
    """Return True for Python's own numbers."""
    return kind in _NUMBERS


def stack_alike(arrays: Sequence[Array], empty: Empty) -> Array | None:
    """The stacked arrays if all are of one shape and dtype, None if not.

    Joined end to end: NumPy then asks for equal ranks, dtypes, and lengths of all axes but the first, at a third of the
    price of a look at each.
    """
    shape = arrays[0].shape
    # What has no first axis, or an empty one, cannot be joined end to end.
    if not shape or not shape[0] or len(set(map(len, arrays))) > 1:
        return None
    out = empty((len(arrays), *shape), arrays[0].dtype)
    try:
        np.concatenate(arrays, out=out.reshape(len(arrays) * shape[0], *shape[1:]), casting="no")
    except (TypeError, ValueError):
        return None
    return out


def merge_arrays(values: Sequence[Any], empty: Empty, place: LeafPlace) -> Any:
    """The stacked arrays, of their common dtype.

    Raises:
        ValueError: Two have unlike shapes.
        TypeError: NumPy takes one for no array: a tensor of torch's bfloat16, or of a GPU.
    """
    arrays = [_as_array(value, number, place) for number, value in enumerate(values)]
    shape = arrays[0].shape
    if len({array.shape for array in arrays}) > 1:
        other = next(number for number, array in enumerate(arrays) if array.shape != shape)
        raise place.refuse(0, other, lambda number: f"has shape {arrays[number].shape}")
    dtypes = {array.dtype for array in arrays}
    out = empty((len(arrays), *shape), dtypes.pop() if len(dtypes) == 1 else _common(arrays, place))
    if shape and arrays[0].size:
        np.concatenate(arrays, out=out.reshape(len(arrays) * shape[0], *shape[1:]))
    else:
        for number, array in enumerate(arrays):
            out[number] = array
    return out


def _as_array(value: Any, number: int, place: LeafPlace) -> Array:
    try:
        return np.asarray(value)
    except TypeError as error:
        raise TypeError(
            f"{place.name(number)}, a {type(value).__name__} of dtype {getattr(value, 'dtype', None)}, makes no NumPy "
            f"array: {error}. Return it as an array that NumPy has, of a tensor in bfloat16 `.float()`, of one on a "
            "GPU `.cpu()`; or use mpqueue.torch.DataLoader, whose batches are tensors of any dtype"
        ) from error


def _common(arrays: Sequence[Array], place: LeafPlace) -> np.dtype[Any]:
    try:
        return np.result_type(*{array.dtype for array in arrays})
    except TypeError:
        other = next(number for number, array in enumerate(arrays) if array.dtype.kind != arrays[0].dtype.kind)
        raise place.refuse(0, other, lambda number: f"has dtype {arrays[number].dtype}") from None


def merge_unlike(values: Sequence[Any], empty: Empty, place: LeafPlace) -> Any:
    """The leaves of samples that are not all of one type.

    Raises:
        ValueError: Some are numbers or arrays, and others are not; or some are None.
    """
    stackable = [is_stackable(value) for value in values]
    if all(stackable):
        if all(type(value) in _NUMBERS for value in values):
            array = np.array(values)
            return list(values) if array.dtype.hasobject else array
        return merge_arrays(values, empty, place)
    if not any(stackable) and not any(value is None or isinstance(value, dict | list | tuple) for value in values):
        return list(values)
    kinds = [type(value) for value in values]
    other = next(number for number, kind in enumerate(kinds) if kind is not kinds[0])

    def what(number: int) -> str:
        return "is None" if values[number] is None else f"is of type {kinds[number].__name__}"

    raise place.refuse(0, other, what)


def is_masked(value: Any) -> bool:
    """Return True for NumPy's masked arrays."""
    # NumPy imports them, for 13 ms, when somebody first names them; before that there are none.
    masked = getattr(sys.modules.get("numpy.ma"), "MaskedArray", None)
    return masked is not None and isinstance(value, masked)
