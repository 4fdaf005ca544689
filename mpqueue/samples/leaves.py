"""The leaves of samples: the leaves with the same path in all samples become one leaf of the batch.

Numbers and arrays are stacked along a new first axis, in an array from `Empty`, inside the slot if there is one.
Strings, bytes and other objects are put into a list.
"""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from mpqueue.memory.layout import Array

Empty: TypeAlias = Callable[[Any, Any], Array]  # by shape and dtype
REMEDY = "Return samples of equal structure and shape, or pass collate=, a function from a list of samples to a batch"
OF_LENGTHS = (
    'For arrays of different lengths, pass collate="ragged", which joins them to a mpqueue.Ragged. Or return arrays of '
    "one shape, or pass a function from a list of samples to a batch as collate="
)
NUMBERS: dict[type, Any] = {bool: np.bool_, int: np.int64, float: np.float64, complex: np.complex128}


def no_sample(name: str, hint: str = "did `__getitem__` forget to return?") -> TypeError:
    """Return the error for a sample that is None.

    Args:
        name: The sample and its source, in words.
        hint: The likely mistake, as a question.
    """
    return TypeError(
        f"{name} is None: {hint} To skip samples, use mpqueue.Dataset(source).filter(function). "
        "To represent a missing value, use a field of a dict or tuple"
    )


class LeafPath:
    """The path to a leaf, and the samples' indices, for error messages.

    Args:
        indices: The indices that the source was called with.
        refuse_none: Returns the error for a sample that is None, by its index.
        choice: The part of ``collate`` for this leaf and those below it: "ragged", a mapping by field, or None. True:
            a mapping names this leaf.
        path: The steps to the leaf.
    """

    __slots__ = ("_indices", "_path", "_refuse_none", "choice")

    def __init__(
        self,
        indices: Sequence[Any],
        refuse_none: Callable[[Any], Exception],
        choice: Any = None,
        path: tuple[str, ...] = (),
    ) -> None:
        self._indices, self._refuse_none, self.choice, self._path = indices, refuse_none, choice, path

    def check_none(self, values: Sequence[Any]) -> None:
        """Raise if a whole sample is None; a field may be None in all samples.

        Raises:
            TypeError: One of the values is None, and the values are samples.
        """
        if not self._path:
            for index, value in zip(self._indices, values, strict=False):
                if value is None:
                    raise self._refuse_none(index)

    def steps(self, fields: Collection[Any], form: str = "[{!r}]") -> "list[LeafPath]":
        """Return the positions one step further down, by field.

        Raises:
            ValueError: ``collate`` chooses a field that does not exist.
        """
        choice: Any = self.choice
        by_field = choice if isinstance(choice, Mapping) else {}
        for field in by_field:
            if field not in fields:
                raise ValueError(f"collate chooses the field {field!r}, and {self.name(0)} has {list(fields)}")
        below = None if by_field or choice is None else "ragged"
        parts = [True if by_field.get(field) == "ragged" else by_field.get(field, below) for field in fields]
        return [
            LeafPath(self._indices, self._refuse_none, part, (*self._path, form.format(field)))
            for field, part in zip(fields, parts, strict=True)
        ]

    def name(self, index: int) -> str:
        """Return the name of a sample's leaf, by the sample's index in the batch."""
        return f"{''.join(('sample', *self._path))} of index {self._indices[index]!r}"

    def refuse(self, one: int, other: int, what: Callable[[int], str], remedy: str = REMEDY) -> ValueError:
        """Return the error for two samples, by their indices in the batch, that differ in this leaf."""
        return ValueError(
            f"cannot combine different samples into a batch: {self.name(one)} {what(one)}, but index "
            f"{self._indices[other]!r} {what(other)}. {remedy}"
        )

    def require_equal(self, features: Sequence[Any], text: Callable[[Any], str], remedy: str = REMEDY) -> None:
        """Raise the error for the first sample with another feature; ``text`` describes it, and None fits all."""
        first = next((index for index, feature in enumerate(features) if feature is not None), 0)
        for index, feature in enumerate(features):
            if feature != features[first] and feature is not None:
                raise self.refuse(first, index, lambda which: text(features[which]), remedy)


def is_stackable(value: Any) -> bool:
    """Return True for numbers and arrays, including arrays of other libraries."""
    if isinstance(value, np.ndarray | np.generic):
        return not isinstance(value, np.str_ | np.bytes_)
    return isinstance(value, int | float | complex) or hasattr(type(value), "__dlpack__")


def is_number_list(value: Any) -> bool:
    """Return True for a list of numbers of Python or NumPy, which counts as an array where arrays are joined."""
    kinds = set(map(type, value)) if type(value) is list else {str}
    return all(kind in NUMBERS or issubclass(kind, np.number | np.bool_) for kind in kinds)


def merge_numbers(values: Sequence[Any], kind: type, empty: Empty) -> Any:
    """Return an array of Python numbers of one type, or a list of integers if no dtype can hold them."""
    # int64 first, which holds most integers. If one is too large, uint64 may hold all of them, as in NumPy.
    for dtype in (NUMBERS[kind], np.uint64):
        try:
            out = empty(len(values), dtype)
            out[...] = values
        except OverflowError:
            continue
        return out
    return list(values)


def stack_alike(arrays: Sequence[Array], empty: Empty) -> Array | None:
    """Return the stacked arrays if all have one shape and dtype, otherwise None."""
    # Concatenated: NumPy then checks for equal ranks, dtypes, and lengths of all axes except the first, at a third of
    # the cost of checking each array here.
    shape = arrays[0].shape
    # Arrays without a first axis, or with an empty one, cannot be concatenated.
    if not shape or not shape[0] or len(set(map(len, arrays))) > 1:
        return None
    out = empty((len(arrays), *shape), arrays[0].dtype)
    try:
        np.concatenate(arrays, out=out.reshape(len(arrays) * shape[0], *shape[1:]), casting="no")
    except (TypeError, ValueError):
        return None
    return out


def merge_arrays(values: Sequence[Any], empty: Empty, leaf: LeafPath) -> Any:
    """Return the stacked arrays, in their common dtype.

    Raises:
        ValueError: Two arrays have different shapes.
        TypeError: NumPy cannot convert a value: a torch tensor in bfloat16, or on a GPU.
    """
    arrays = [as_array(value, index, leaf) for index, value in enumerate(values)]
    shape = arrays[0].shape
    if len({array.shape for array in arrays}) > 1:
        other = next(index for index, array in enumerate(arrays) if array.shape != shape)
        raise leaf.refuse(
            0,
            other,
            lambda index: f"has shape {arrays[index].shape}",
            OF_LENGTHS if len({(array.ndim, array.shape[1:]) for array in arrays}) == 1 else REMEDY,
        )
    dtypes = {array.dtype for array in arrays}
    out = empty((len(arrays), *shape), dtypes.pop() if len(dtypes) == 1 else common_dtype(arrays, leaf))
    if shape and arrays[0].size:
        np.concatenate(arrays, out=out.reshape(len(arrays) * shape[0], *shape[1:]))
    else:
        for index, array in enumerate(arrays):
            out[index] = array
    return out


def array_of(value: Any) -> Array:
    """Return a value as an array; an empty list as one of integers, which NumPy combines with any other dtype."""
    return np.empty(0, np.int64) if type(value) is list and not value else np.asarray(value)


def as_array(value: Any, index: int, leaf: LeafPath) -> Array:
    """Return a value as an array; see `merge_arrays` for the error."""
    try:
        return array_of(value)
    except TypeError as error:
        raise TypeError(
            f"{leaf.name(index)}, a {type(value).__name__} of dtype {getattr(value, 'dtype', None)}, cannot be "
            f"converted to a NumPy array: {error}. Return a NumPy array: use `.float()` for a tensor in bfloat16, "
            "`.cpu()` for a tensor on a GPU. Or use mpqueue.torch.DataLoader, which returns tensors of any dtype"
        ) from error


def common_dtype(arrays: Sequence[Array], leaf: LeafPath) -> np.dtype[Any]:
    """Return the common dtype of arrays.

    Raises:
        ValueError: They have none.
    """
    found = _common(arrays)
    if found is None:
        # Not the first with another dtype, which may have a common one with those before it.
        other = next(index for index in range(1, len(arrays)) if _common(arrays[: index + 1]) is None)
        raise leaf.refuse(0, other, lambda index: f"has dtype {arrays[index].dtype}")
    return found


def _common(arrays: Sequence[Array]) -> np.dtype[Any] | None:
    try:
        return np.result_type(*{array.dtype for array in arrays})
    except TypeError:
        return None


def merge_unlike(values: Sequence[Any], empty: Empty, leaf: LeafPath) -> Any:
    """Return the merged leaves of samples with different types.

    Raises:
        ValueError: Some leaves are numbers or arrays and others are not, or some are None.
    """
    stackable = [is_stackable(value) for value in values]
    if all(stackable):
        if all(type(value) in NUMBERS for value in values):
            array = np.array(values)
            return list(values) if array.dtype.hasobject else array
        if any(map(is_masked, values)):
            return merge_masked(values, leaf)
        return merge_arrays(values, empty, leaf)
    if not any(stackable) and not any(value is None or isinstance(value, dict | list | tuple) for value in values):
        return list(values)
    kinds = [type(value) for value in values]
    other = next(index for index, kind in enumerate(kinds) if kind is not kinds[0])

    def describe(index: int) -> str:
        return "is None" if values[index] is None else f"is of type {kinds[index].__name__}"

    raise leaf.refuse(0, other, describe)


def is_masked(value: Any) -> bool:
    """Return True for NumPy's masked arrays."""
    # NumPy imports them, for 13 ms, at the first use of the name; before that there are no masked arrays.
    masked = getattr(sys.modules.get("numpy.ma"), "MaskedArray", None)
    return masked is not None and isinstance(value, masked)


def merge_masked(values: Sequence[Any], leaf: LeafPath) -> Any:
    """Return the stacked arrays, of which some are masked.

    Raises:
        ValueError: Two arrays have different shapes.
    """
    leaf.require_equal([tuple(np.shape(value)) for value in values], "has shape {}".format)
    return np.ma.stack(values)  # `np.stack` would drop the masks


def masked_error(values: Sequence[Any], leaf: LeafPath) -> ValueError:
    """Return the error for the first masked array, where a batch cannot have masks."""
    first = next(index for index, value in enumerate(values) if is_masked(value))
    return ValueError(
        f"{leaf.name(first)} is masked, and neither a ragged field nor a tensor can have masked values: call filled() "
        "in the source"
    )


def is_sparse(value: Any) -> bool:
    """Return whether a value is a sparse matrix or array of scipy."""
    is_one = getattr(sys.modules.get("scipy.sparse"), "issparse", None)
    return is_one is not None and bool(is_one(value))
