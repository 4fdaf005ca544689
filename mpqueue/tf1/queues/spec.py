"""Components of the elements of a queue: their dtypes, static shapes and names.

A caller's value becomes a list of arrays here, one for each component, and a list of arrays becomes what the caller
gets. Two kinds of checks, as in TensorFlow: `check_types` is for what is known before any value exists (the dtypes and
shapes of a source), `check` and `check_many` are for the arrays themselves.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from mpqueue.errors import InvalidArgumentError
from mpqueue.tf1.values.shapes import is_compatible, is_fully_known
from mpqueue.values.conversion import Array, to_array
from mpqueue.values.dtypes import DType, as_dtype
from mpqueue.values.shapes import Shape


def as_list(value: Any) -> list[Any]:
    """A list or tuple as a list, anything else as a list of one, as TensorFlow takes dtypes and names."""
    return list(value) if isinstance(value, list | tuple) else [value]


class ElementSpec:
    """Dtypes, shapes and names of the components of one queue's elements.

    Args:
        dtypes: One dtype or a list of them.
        shapes: One shape for each dtype, as `shapes.as_shapes` makes them; None if nothing is known of any.
        names: One name for each dtype, or None: then elements are no dictionaries.

    Raises:
        TypeError: A dtype does not exist.
        ValueError: No dtype at all, or another number of shapes or names than of dtypes.
    """

    def __init__(self, dtypes: Any, shapes: Sequence[Shape] | None = None, names: Any = None) -> None:
        self.dtypes: list[DType] = [as_dtype(dtype) for dtype in as_list(dtypes)]
        if not self.dtypes:
            raise ValueError("a queue needs at least one component: dtypes is empty")
        count = len(self.dtypes)
        self.has_shapes = shapes is not None
        self.shapes: list[Shape] = [None] * count if shapes is None else list(shapes)
        self.names: list[str] | None = None if names is None else as_list(names)
        for what, given in (("shapes", self.shapes), ("names", self.names)):
            if given is not None and len(given) != count:
                raise ValueError(f"got {len(given)} {what} for {count} dtypes: give one for each")
        self.are_shapes_fixed = all(is_fully_known(shape) for shape in self.shapes)
        self._labels = [f"component {name!r}" for name in self.names or range(count)]
        self._only_dtype = self.dtypes[0] if count == 1 and names is None else None

    def components(self, vals: Any) -> list[Array]:
        """The arrays of one element (or of many: of one more dimension), converted by TensorFlow's rules.

        Raises:
            ValueError: A dictionary without names, wrong keys, a list for named components, None.
            TypeError: A literal of another kind than the dtype.
            InvalidArgumentError: Fewer values than components. More are dropped with a warning.
        """
        if type(vals) is np.ndarray and vals.dtype is self._only_dtype:
            return [vals]  # the usual case, and it takes a tenth of the time
        return [
            to_array(value, dtype, label)
            for value, dtype, label in zip(self._in_order(vals), self.dtypes, self._labels, strict=True)
        ]

    def _in_order(self, vals: Any) -> Sequence[Any]:
        if isinstance(vals, dict):
            return self._by_name(vals)
        if self.names is not None:
            raise ValueError(f"the components have names: enqueue a dictionary with the keys {self.names}")
        values = vals if isinstance(vals, list | tuple) else (vals,)
        if len(values) != len(self.dtypes):
            self._check_count(len(values))
            values = values[: len(self.dtypes)]
        return values

    def _by_name(self, vals: dict[Any, Any]) -> list[Any]:
        if self.names is None:
            raise ValueError("the components have no names: enqueue a list, or give the queue names")
        if set(vals) != set(self.names):
            raise ValueError(f"got the keys {sorted(vals, key=str)}, expected {sorted(self.names)}")
        return [vals[name] for name in self.names]

    def _check_count(self, got: int) -> None:
        expected = len(self.dtypes)
        if got < expected:
            raise InvalidArgumentError(None, None, f"got {got} components, expected {expected}: one for each dtype")
        if got > expected:
            warnings.warn(
                f"got {got} components, the queue has {expected}: the last {got - expected} are dropped, as "
                "TensorFlow drops them (a list is a list of components, never one vector)",
                RuntimeWarning,
                stacklevel=5,  # the caller of enqueue
            )

    def result(self, components: list[Any]) -> Any:
        """Return the result of a dequeue: a dictionary by names, the bare array of one component, or a list."""
        if self.names is not None:
            return dict(zip(self.names, components, strict=True))
        return components[0] if len(components) == 1 else components

    def check(self, components: Sequence[Array]) -> None:
        """Raise `InvalidArgumentError` unless these are the components of one element."""
        for place, (array, shape) in enumerate(zip(components, self.shapes, strict=True)):
            if array.shape != shape and not is_compatible(array.shape, shape):
                raise self._misfit(place, array.shape, shape)

    def check_many(self, components: Sequence[Array]) -> int:
        """The number of elements in these components, whose first dimension counts the elements.

        Raises:
            InvalidArgumentError: A scalar, first dimensions that differ, or rows of another shape.
        """
        for place, array in enumerate(components):
            if array.ndim == 0:
                raise InvalidArgumentError(
                    None, None, f"{self._labels[place]} is a scalar: its first dimension must count the elements"
                )
        count = len(components[0])
        for place, (array, shape) in enumerate(zip(components, self.shapes, strict=True)):
            if len(array) != count:
                raise InvalidArgumentError(
                    None, None, f"{self._labels[place]} has {len(array)} rows, {self._labels[0]} has {count}"
                )
            if not is_compatible(array.shape[1:], shape):
                raise self._misfit(place, array.shape[1:], shape)
        return count

    def num_rows(self, example: Any) -> int:
        """The number of elements that ``enqueue_many`` makes of an example."""
        return len(self.components(example)[0])

    def rows_from(self, example: Any, first: int) -> Any:
        """The example without its first elements."""
        rows = [component[first:] for component in self.components(example)]
        return rows if self.names is None else dict(zip(self.names, rows, strict=True))

    def __reduce__(self) -> tuple[Any, ...]:
        # By the constructor, which makes the dtypes NumPy's own objects again: `components` compares by identity.
        return ElementSpec, (self.dtypes, self.shapes if self.has_shapes else None, self.names)

    def check_count(self, count: int, queue_name: str) -> None:
        """Raise `InvalidArgumentError` unless so many elements may be dequeued in one call."""
        if count < 0:
            raise InvalidArgumentError(None, None, f"cannot dequeue {count} elements from {queue_name!r}")
        if not self.has_shapes:
            raise InvalidArgumentError(
                None,
                None,
                f"queue {queue_name!r} was made without shapes, so its elements cannot be stacked: give it shapes, or "
                "dequeue one by one",
            )

    def _misfit(self, place: int, got: tuple[int, ...], expected: Shape) -> InvalidArgumentError:
        return InvalidArgumentError(
            None, None, f"{self._labels[place]} of an element has the shape {list(got)}, expected {expected}"
        )

    def check_types(self, dtypes: Any, shapes: Sequence[Shape] | None = None, *, many: bool = False) -> None:
        """Raise unless typed values of these dtypes and shapes could be enqueued, before there is any value.

        Args:
            dtypes: Dtypes of the values, in the order of the components. Values that have a dtype are never cast.
            shapes: Their shapes as far as they are known, or None.
            many: For `enqueue_many`: the shapes have one more dimension in front.

        Raises:
            ValueError: A dtype differs, or a shape cannot fit.
            InvalidArgumentError: There are too few.
        """
        given = [as_dtype(dtype) for dtype in as_list(dtypes)]
        if len(given) < len(self.dtypes):
            self._check_count(len(given))
        for place, (dtype, got) in enumerate(zip(self.dtypes, given, strict=False)):
            if got != dtype:
                raise ValueError(f"{self._labels[place]} is {got}, expected {dtype}: convert it before it is enqueued")
        for place, (shape, known) in enumerate(zip(self.shapes, shapes or (), strict=False)):
            row = known[1:] if many and known is not None else known
            if (many and known == ()) or not is_compatible(row, shape):
                raise ValueError(f"{self._labels[place]} has the shape {known}, expected {shape}")
