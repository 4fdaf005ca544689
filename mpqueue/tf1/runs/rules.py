"""Rules: how operations are computed for a run of records. Here those of operations that know no axes.

A rule takes a `Call` and returns the value of each output. It may be given anything that the operation may be given,
and must not compute something else than the operation does for each record; where it cannot tell, it falls back on
`per_row`. Any exception means that the run is computed record by record: so a rule never raises an error of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from mpqueue.tf1.runs.rows import Array, Rows, Value, contiguous, spread, together


class Call(NamedTuple):
    """One operation, to be computed for a run.

    Attributes:
        apply: The operation as it is computed for one record: it takes a list of arrays, and by keyword other settings
            than its own, and returns the outputs.
        inputs: The values of its inputs; at least one of them is a `Rows`.
        attributes: The settings with which it was made.
        num_records: Number of records.
    """

    apply: Callable[..., Sequence[Array]]
    inputs: list[Value]
    attributes: Mapping[str, Any]
    num_records: int


Rule: TypeAlias = Callable[[Call], Sequence[Value]]


class CannotJoin(Exception):
    """A rule does not give what the operation gives for each record."""


def per_row(call: Call) -> Sequence[Value]:
    """One record after another: right for every operation that is a function of its inputs."""
    found = [call.apply([_of(each, place) for each in call.inputs]) for place in range(call.num_records)]
    return [together(parts) for parts in zip(*found, strict=True)]


def _of(value: Value, place: int) -> Array:
    return value.row(place) if isinstance(value, Rows) else value


def elementwise(call: Call) -> Sequence[Value]:
    """All at once, for operations on single elements, whose inputs broadcast."""
    aligned = align(call.inputs)
    return per_row(call) if aligned is None else checked(call, call.apply(aligned))


def of_one_shape(call: Call) -> Sequence[Value]:
    """As `elementwise`, for operations whose inputs do not broadcast: they must have one shape."""
    rows = [spread(each, call.num_records).stacked for each in call.inputs]
    shapes = {None if each is None else each.shape for each in rows}
    if len(shapes) > 1 or None in shapes:
        return per_row(call)
    return checked(call, call.apply([contiguous(each) for each in rows if each is not None]))


def leading(*, rank: int = 0) -> Rule:
    """Return the rule of operations on the last axes of their first input, which takes any number of axes in front.

    Args:
        rank: Axes that the operation itself needs.
    """

    def rule(call: Call) -> Sequence[Value]:
        first, *rest = call.inputs
        if not isinstance(first, Rows) or first.stacked is None or first.rank != rank or has_rows(rest):
            return per_row(call)
        return checked(call, call.apply([first.stacked, *rest]))

    return rule


def has_rows(values: Sequence[Value]) -> bool:
    """Tell if one of some values differs from record to record."""
    return any(isinstance(each, Rows) for each in values)


def align(values: Sequence[Value]) -> list[Array] | None:
    """Return arrays that broadcast as the values of one record do; None if some have no common shape.

    They are contiguous: NumPy computes others by other instructions, whose last bit may differ.
    """
    rows = [each.stacked for each in values if isinstance(each, Rows)]
    if any(each is None for each in rows):
        return None
    rank = max(each.ndim - isinstance(one, Rows) for one, each in ((one, _array(one)) for one in values))
    return [_aligned(one, rank) for one in values]


def _array(value: Value) -> Array:
    return value.values if isinstance(value, Rows) else value  # type: ignore[return-value]  # no lists are left


def _aligned(value: Value, rank: int) -> Array:
    array = contiguous(_array(value)) if isinstance(value, Rows) else value
    if not isinstance(value, Rows) or array.ndim == rank + 1:
        return array
    return array.reshape(len(array), *[1] * (rank + 1 - array.ndim), *array.shape[1:])


def checked(call: Call, outputs: Sequence[Array]) -> Sequence[Value]:
    """Return arrays as `Rows`.

    Raises:
        CannotJoin: One has another number of rows than there are records.
    """
    if any(not each.ndim or len(each) != call.num_records for each in outputs):
        raise CannotJoin(f"{call.num_records} records gave the shapes {[each.shape for each in outputs]}")
    return [Rows(each) for each in outputs]
