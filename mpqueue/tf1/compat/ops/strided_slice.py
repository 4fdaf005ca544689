"""Indexing ``x[1, ..., None, ::2]``: one operation over the vectors begin, end and strides.

Each position of the three vectors is one entry of the index. A bit mask per kind of entry marks open starts
(``begin_mask``) and ends (``end_mask``), ``...``, new axes, and single indices whose axis is removed
(``shrink_axis_mask``).
"""

from collections.abc import Sequence
from typing import NamedTuple

from mpqueue.tf1.compat.ops.dims import Dims, text
from mpqueue.tf1.compat.ops.infer import Array, Known, ints_of, invalid
from mpqueue.tf1.compat.ops.registry import SUBSCRIPT, op
from mpqueue.tf1.runs import axes


class Masks(NamedTuple):
    """Kinds of the entries of a slice; bit n applies to entry n."""

    begin_mask: int = 0
    end_mask: int = 0
    ellipsis_mask: int = 0
    new_axis_mask: int = 0
    shrink_axis_mask: int = 0


class Entry(NamedTuple):
    """The treatment of one axis of the input."""

    place: int | None  # the entry for this axis, None for an axis that the ellipsis covers
    keeps: bool  # whether the axis remains, False for a single index
    size: int | None  # the size of the axis


def _bit(mask: int, place: int) -> bool:
    return bool(mask >> place & 1)


def _layout(dims: Sequence[int | None], count: int, masks: Masks) -> list[Entry | None]:
    """Map the entries to axes of the input, in order; None for a new axis of the output.

    Raises:
        ValueError: There are two ellipses, or more entries than axes.
    """
    ellipses = [n for n in range(count) if _bit(masks.ellipsis_mask, n)]
    if len(ellipses) > 1:
        raise ValueError("Multiple ellipses in slice spec not allowed")
    used = sum(not _bit(masks.new_axis_mask, n) and n not in ellipses for n in range(count))
    if used > len(dims):
        raise ValueError(f"Index out of range using input dim {len(dims)}; input has only {len(dims)} dims")
    sizes = iter(dims)
    covered = len(dims) - used
    places = range(count) if ellipses else range(count + 1)
    out: list[Entry | None] = []
    for n in places:
        if n in ellipses or n == count:
            out += [Entry(None, True, next(sizes)) for _ in range(covered)]
        elif _bit(masks.new_axis_mask, n):
            out.append(None)
        else:
            out.append(Entry(n, not _bit(masks.shrink_axis_mask, n), next(sizes)))
    return out


def _index(entry: Entry, start: int, stride: int) -> int:
    assert entry.size is not None
    if stride <= 0:
        raise ValueError("only stride 1 allowed on non-range indexing.")
    if not -entry.size <= start < entry.size:
        raise ValueError(f"slice index {start} of dimension {entry.place} out of bounds.")
    return start


def _slice(place: int, start: int, stop: int, stride: int, masks: Masks) -> slice:
    if stride == 0:
        raise ValueError(f"strides[{place}] must be non-zero")
    return slice(
        None if _bit(masks.begin_mask, place) else start, None if _bit(masks.end_mask, place) else stop, stride
    )


def _strided(input: Known, begin: Known, end: Known, strides: Known, **of_entries: int) -> Dims:
    dims, steps = input.known_dims, ints_of(strides)
    if dims is None or steps is None:
        return None
    masks = Masks(**of_entries)
    starts, stops = ints_of(begin), ints_of(end)
    out: list[int | None] = []
    for entry in _layout(dims, len(steps), masks):
        if entry is None:
            out.append(1)
        elif entry.keeps:
            out.append(_kept_size(entry, starts, stops, steps, masks))
        elif starts is not None and entry.size is not None and entry.place is not None:
            _index(entry, starts[entry.place], steps[entry.place])
    return tuple(out)


def _kept_size(
    entry: Entry, starts: list[int] | None, stops: list[int] | None, steps: list[int], masks: Masks
) -> int | None:
    place = entry.place
    if place is None:
        return entry.size
    if steps[place] == 0:
        raise ValueError(f"strides[{place}] must be non-zero")
    whole = _bit(masks.begin_mask, place) and _bit(masks.end_mask, place)
    if entry.size is None or not (whole or (starts is not None and stops is not None)):
        return None
    start, stop = (0, 0) if starts is None or stops is None else (starts[place], stops[place])
    return len(range(*_slice(place, start, stop, steps[place], masks).indices(entry.size)))


def _entries(input: Known, begin: Known, end: Known, strides: Known, **masks: int) -> Array | None:
    vector = input.known_entries()
    start, stop, step = (each.known_value() for each in (begin, end, strides))
    if vector is None or start is None or stop is None or step is None:
        return None
    return strided_slice(vector, start, stop, step, **masks)


@op(
    "StridedSlice",
    "input: T, begin: I[n], end: I[n], strides: I[n] -> T",
    I=SUBSCRIPT,
    infer=_strided,
    entries=_entries,
    rows=axes.strided_slice,
)
def strided_slice(input: Array, begin: Array, end: Array, strides: Array, **of_entries: int) -> Array:
    """Index ``input`` as the vectors and masks specify; see the module docstring."""
    masks = Masks(**of_entries)
    where: list[int | slice | None] = []
    try:
        for entry in _layout(input.shape, begin.size, masks):
            if entry is None:
                where.append(None)
            elif entry.place is None:
                where.append(slice(None))
            elif entry.keeps:
                n = entry.place
                where.append(_slice(n, int(begin[n]), int(end[n]), int(strides[n]), masks))
            else:
                where.append(_index(entry, int(begin[entry.place]), int(strides[entry.place])))
    except ValueError as error:
        invalid(f"{error} (input shape {text(input.shape)})")
    return input[(*where, ...)]  # the ellipsis keeps a 0-d result an array
