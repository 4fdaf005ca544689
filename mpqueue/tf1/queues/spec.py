"""Components of a queue's elements: dtypes, static shapes and names.

It converts a caller's value to a list of arrays, one for each component, and a list of arrays to the result of a
dequeue. As in TensorFlow, there are two kinds of checks: `check_types` before any value exists (the dtypes and shapes
of a source), `check` and `check_many` for arrays.
"""

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from mpqueue.system.program_streams import warn_caller
from mpqueue.tf1.values.conversion import invalid
from mpqueue.tf1.values.shapes import is_compatible, is_fully_known
from mpqueue.values.conversion import Array, to_array
from mpqueue.values.dtypes import DType, as_dtype
from mpqueue.values.shapes import Shape


def as_list(value: Any) -> list[Any]:
    """Return a list or tuple as a list, and any other value as a list of one, as TensorFlow does."""
    return list(value) if isinstance(value, list | tuple) else [value]


class ElementSpec:
    """Dtypes, shapes and names of the components of one queue's elements.

    Args:
        dtypes: One dtype or a list of dtypes.
        shapes: One shape for each dtype, as `shapes.as_shapes` returns them. None: unknown.
        names: One name for each dtype. None: elements are not dicts.

    Raises:
        TypeError: A dtype does not exist.
        ValueError: There are zero dtypes, or the number of shapes or names differs from the number of dtypes.
    """

    def __init__(self, dtypes: Any, shapes: Sequence[Shape] | None = None, names: Any = None) -> None:
        self.dtypes: list[DType] = [as_dtype(dtype) for dtype in as_list(dtypes)]
        if not self.dtypes:
            raise ValueError("dtypes must not be empty: a queue needs at least one component.")
        count = len(self.dtypes)
        self.has_shapes = shapes is not None
        self.shapes: list[Shape] = [None] * count if shapes is None else list(shapes)
        self.names: list[str] | None = None if names is None else as_list(names)
        for what, actual in (("shapes", self.shapes), ("names", self.names)):
            if actual is not None and len(actual) != count:
                raise ValueError(f"Expected {count} {what}, one for each dtype, got {len(actual)}.")
        self.are_shapes_fixed = all(is_fully_known(shape) for shape in self.shapes)
        self._labels = [f"component {name!r}" for name in self.names or range(count)]
        self._only_dtype = self.dtypes[0] if count == 1 and names is None else None

    def components(self, vals: Any) -> list[Array]:
        """Return the arrays of one element (or of several, with an additional first dimension).

        Conversion follows TensorFlow's rules.

        Raises:
            ValueError: The value is None, a dict although the components have no names, a list although they have
                names, or the keys are wrong.
            TypeError: A literal has a different kind than the dtype.
            InvalidArgumentError: There are fewer values than components. Additional values are dropped with a warning.
        """
        if type(vals) is np.ndarray and vals.dtype is self._only_dtype:
            return [vals]  # the common case, in a tenth of the time
        return [
            to_array(value, dtype, label)
            for value, dtype, label in zip(self._in_order(vals), self.dtypes, self._labels, strict=True)
        ]

    def _in_order(self, vals: Any) -> Sequence[Any]:
        if isinstance(vals, dict):
            return self.by_name(vals)
        if self.names is not None:
            raise ValueError(f"The components have names: enqueue a dict with the keys {self.names}.")
        values = vals if isinstance(vals, list | tuple) else (vals,)
        if len(values) != len(self.dtypes):
            self._check_count(len(values))
            values = values[: len(self.dtypes)]
        return values

    def by_name(self, vals: dict[Any, Any]) -> list[Any]:
        """Return the values of a dict in the order of the components; raise `ValueError` for other keys."""
        if self.names is None:
            raise ValueError("The components have no names: enqueue a list, or create the queue with names.")
        if set(vals) != set(self.names):
            raise ValueError(f"Expected the keys {sorted(self.names)}, got {sorted(vals, key=str)}.")
        return [vals[name] for name in self.names]

    def _check_count(self, got: int) -> None:
        expected = len(self.dtypes)
        if got < expected:
            invalid(f"Expected {expected} components, one for each dtype, got {got} components.")
        if got > expected:
            warn_caller(
                f"Expected {expected} components, got {got}. The last {got - expected} are dropped, as in TensorFlow. "
                "A list is a list of components, not a single vector.",
                RuntimeWarning,
            )

    def result(self, components: list[Any]) -> Any:
        """Return the result of a dequeue: a dictionary by names, the bare array of one component, or a list."""
        if self.names is not None:
            return dict(zip(self.names, components, strict=True))
        return components[0] if len(components) == 1 else components

    def check(self, components: Sequence[Array]) -> None:
        """Raise `InvalidArgumentError` unless these are the components of one element."""
        if [array.shape for array in components] == self.shapes:
            return  # the common case, in half of the time
        for place, (array, shape) in enumerate(zip(components, self.shapes, strict=True)):
            if array.shape != shape and not is_compatible(array.shape, shape):
                self._refuse_shape(place, array.shape, shape)

    def check_many(self, components: Sequence[Array]) -> int:
        """Return the number of elements in these components, which is the size of their first dimension.

        Raises:
            InvalidArgumentError: A component is a scalar, the first dimensions differ, or a row has a wrong shape.
        """
        for place, array in enumerate(components):
            if array.ndim == 0:
                invalid(f"{self._labels[place]} is a scalar: its first dimension must count the elements")
        count = len(components[0])
        for place, (array, shape) in enumerate(zip(components, self.shapes, strict=True)):
            if len(array) != count:
                invalid(f"{self._labels[place]} has {len(array)} rows, {self._labels[0]} has {count}")
            row = array.shape[1:]
            if row != shape and not is_compatible(row, shape):
                self._refuse_shape(place, row, shape)
        return count

    def num_rows(self, example: Any) -> int:
        """Return the number of elements that ``enqueue_many`` enqueues for an example."""
        return len(self.components(example)[0])

    def rows_from(self, example: Any, first: int) -> Any:
        """Return the example without its first elements."""
        rows = [component[first:] for component in self.components(example)]
        return rows if self.names is None else dict(zip(self.names, rows, strict=True))

    def __reduce__(self) -> tuple[Any, ...]:
        # The constructor replaces the dtypes by NumPy's singletons: `components` compares dtypes by identity.
        return ElementSpec, (self.dtypes, self.shapes if self.has_shapes else None, self.names)

    def check_count(self, count: int, queue_name: str) -> None:
        """Raise `InvalidArgumentError` unless ``count`` elements may be dequeued in one call."""
        if count < 0:
            invalid(f"Number of elements to dequeue from {queue_name!r} must be at least 0, got {count}.")
        if not self.has_shapes:
            invalid(
                f"Queue {queue_name!r} has no shapes, so its elements cannot be stacked. Create it with shapes, or "
                "dequeue elements one by one.",
            )

    def _refuse_shape(self, place: int, got: tuple[int, ...], expected: Shape) -> NoReturn:
        invalid(f"{self._labels[place]} of an element has the shape {list(got)}, expected {expected}")

    def check_types(self, dtypes: Any, shapes: Sequence[Shape] | None = None, *, many: bool = False) -> None:
        """Raise an error unless values of these dtypes and shapes can be enqueued; no value is needed yet.

        Args:
            dtypes: Dtypes of the values, in the order of the components. Values with a dtype are never cast.
            shapes: Static shapes of the values, or None.
            many: For `enqueue_many`: the shapes have an additional first dimension.

        Raises:
            ValueError: A dtype or a shape does not match.
            InvalidArgumentError: There are fewer dtypes than components.
        """
        actual = [as_dtype(dtype) for dtype in as_list(dtypes)]
        if len(actual) < len(self.dtypes):
            self._check_count(len(actual))
        for place, (dtype, got) in enumerate(zip(self.dtypes, actual, strict=False)):
            if got != dtype:
                raise ValueError(f"{self._labels[place]} is {got}, expected {dtype}: convert it before you enqueue it")
        for place, (shape, known) in enumerate(zip(self.shapes, shapes or (), strict=False)):
            row = known[1:] if many and known is not None else known
            if (many and known == ()) or not is_compatible(row, shape):
                raise ValueError(f"{self._labels[place]} has the shape {known}, expected {shape}")
