"""Rules: how operations are computed for a run of records. This module has the rules without axis arguments.

A rule takes a `Call` and returns the value of each output. It must accept all inputs of the operation, and its result
must equal the operation's result for each record. If it cannot ensure this, it falls back on `per_row`. After any
exception, the run is computed record by record, so a rule never reports errors itself.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from mpqueue.system.units import count_text
from mpqueue.tf1.runs.rows import Array, Rows, Value, contiguous, spread, together


class Call(NamedTuple):
    """A call of an operation for a run.

    Attributes:
        apply: Computes the operation for one record: takes a list of arrays and, as keywords, attributes that replace
            the operation's, and returns the outputs.
        inputs: The values of its inputs. At least one input is a `Rows`.
        attributes: Attributes of the operation.
        num_records: Number of records.
    """

    apply: Callable[..., Sequence[Array]]
    inputs: list[Value]
    attributes: Mapping[str, Any]
    num_records: int


Rule: TypeAlias = Callable[[Call], Sequence[Value]]


class CannotJoin(Exception):
    """Raised if a rule cannot compute the same result as the operation for each record."""


def per_row(call: Call) -> Sequence[Value]:
    """Compute the records one by one, which is correct for any operation that is a function of its inputs."""
    outputs = [call.apply([_of(each, place) for each in call.inputs]) for place in range(call.num_records)]
    return [together(parts) for parts in zip(*outputs, strict=True)]


def _of(value: Value, place: int) -> Array:
    return value.row(place) if isinstance(value, Rows) else value


def elementwise(call: Call) -> Sequence[Value]:
    """Compute all records at once, for elementwise operations with broadcasting."""
    aligned = align(call.inputs)
    return per_row(call) if aligned is None else checked(call, call.apply(aligned))


def of_one_shape(call: Call) -> Sequence[Value]:
    """Compute all records at once, for elementwise operations without broadcasting: the inputs must have one shape."""
    rows = [spread(each, call.num_records).stacked for each in call.inputs]
    shapes = {None if each is None else each.shape for each in rows}
    if len(shapes) > 1 or None in shapes:
        return per_row(call)
    return checked(call, call.apply([contiguous(each) for each in rows if each is not None]))


def leading(*, rank: int = 0) -> Rule:
    """Return the rule of an operation on the last axes of its first input, which accepts any number of leading axes.

    Args:
        rank: Number of axes that the operation needs.
    """

    def rule(call: Call) -> Sequence[Value]:
        first, *rest = call.inputs
        if not isinstance(first, Rows) or first.stacked is None or first.rank != rank or has_rows(rest):
            return per_row(call)
        return checked(call, call.apply([first.stacked, *rest]))

    return rule


def has_rows(values: Sequence[Value]) -> bool:
    """Return whether one of the values differs between records."""
    return any(isinstance(each, Rows) for each in values)


def align(values: Sequence[Value]) -> list[Array] | None:
    """Return arrays that broadcast like the values of one record, or None if the shapes of some values differ.

    The arrays are contiguous: for others, NumPy uses different instructions, and the last bit of a result may differ.
    """
    rows = [each.stacked for each in values if isinstance(each, Rows)]
    if any(each is None for each in rows):
        return None
    rank = max(each.ndim - isinstance(one, Rows) for one, each in ((one, array_of(one)) for one in values))
    return [_aligned(one, rank) for one in values]


def array_of(value: Value) -> Array:
    """Return the array of a value that is not a list."""
    array = value.stacked if isinstance(value, Rows) else value
    assert array is not None  # lists are excluded before
    return array


def _aligned(value: Value, rank: int) -> Array:
    array = contiguous(array_of(value)) if isinstance(value, Rows) else value
    if not isinstance(value, Rows) or array.ndim == rank + 1:
        return array
    return array.reshape(len(array), *[1] * (rank + 1 - array.ndim), *array.shape[1:])


def checked(call: Call, outputs: Sequence[Array]) -> Sequence[Value]:
    """Return arrays as `Rows`.

    Raises:
        CannotJoin: The number of rows of an array is not the number of records.
    """
    if any(not each.ndim or len(each) != call.num_records for each in outputs):
        raise CannotJoin(
            f"expected {count_text(call.num_records, 'row')}, got the shapes {[each.shape for each in outputs]}"
        )
    return [Rows(each) for each in outputs]
