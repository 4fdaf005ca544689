"""Operations that join and split arrays."""

from collections.abc import Callable, Sequence

import numpy as np

from mpqueue.tf1.compat.ops import dtypes
from mpqueue.tf1.compat.ops.dims import Dims, axis_in, is_known, merged, merged_all, with_rank
from mpqueue.tf1.compat.ops.infer import Array, Known, int_of, ints_of, invalid
from mpqueue.tf1.compat.ops.registry import INDEX, Types, op
from mpqueue.tf1.runs.axes import along, along_attribute


def _concatenated(values: Sequence[Known], axis: Known) -> Dims:
    rank = next((len(each.known_dims) for each in values if each.known_dims is not None), None)
    if rank is None:
        return None
    if rank == 0:
        raise ValueError("Can't concatenate scalars (use tf.stack instead)")
    shapes = [with_rank(each.known_dims, rank, "values of concat") for each in values]
    place = int_of(axis)
    if place is None:
        return (None,) * rank
    place = axis_in(place, rank, "concat axis")
    rest = merged_all((*dims[:place], None, *dims[place + 1 :]) for dims in shapes)
    sizes = tuple(dims[place] for dims in shapes)
    return _with_axis(rest, place, sum(sizes) if is_known(sizes) else None)


def _with_axis(dims: Dims, place: int, size: int | None) -> Dims:
    """Return the shape with one size replaced."""
    return None if dims is None else (*dims[:place], size, *dims[place + 1 :])


def _entries_together(values: Sequence[Known], _axis: Known) -> Array | None:
    parts = [part for each in values if (part := _entries_of_vector(each)) is not None]
    return np.concatenate(parts) if len(parts) == len(values) else None


def _entries_of_vector(vector: Known) -> Array | None:
    entries = vector.known_entries()
    if entries is None and vector.known_dims is not None and len(vector.known_dims) == 1 and vector.known_dims[0]:
        return np.full(vector.known_dims[0], None, object)
    return entries if entries is not None and entries.ndim == 1 else None


@op("ConcatV2", "values: N * T, axis: I[] -> T", infer=_concatenated, entries=_entries_together, rows=along(-1))
def concat(values: Sequence[Array], axis: Array) -> Array:
    """Concatenate arrays along ``axis``."""
    return np.concatenate(values, axis.item())


def _packed(values: Sequence[Known], *, axis: int) -> Dims:
    dims = merged_all(each.known_dims for each in values)
    if dims is None:
        return None
    place = axis_in(axis, len(dims) + 1)
    return (*dims[:place], len(values), *dims[place:])


def _packed_entries(values: Sequence[Known], *, axis: int) -> Array | None:
    if axis or any(each.known_dims != () for each in values):
        return None
    scalars = [each.known_value() for each in values]
    return np.array([None if each is None else each.item() for each in scalars], object)


@op("Pack", "values: N * T -> T", infer=_packed, entries=_packed_entries, rows=along_attribute("axis", adds=1))
def pack(values: Sequence[Array], *, axis: int = 0) -> Array:
    """Stack arrays along a new axis."""
    return np.stack(values, axis)


def _unpacked(value: Known, *, num: int, axis: int) -> list[Dims]:
    dims = value.known_dims
    if dims is None:
        return [None] * num
    place = axis_in(axis, len(dims))
    merged((dims[place],), (num,))
    return [dims[:place] + dims[place + 1 :]] * num


@op("Unpack", "value: T -> num * T", infer=_unpacked, rows=along_attribute("axis"))
def unpack(value: Array, *, num: int, axis: int = 0) -> list[Array]:
    """Return the slices along ``axis``, without that axis."""
    if value.shape[axis] != num:
        invalid(f"Input shape axis {axis} must equal {num}, got shape {list(value.shape)}")
    moved = np.moveaxis(value, axis, 0)
    return [moved[n, ...] for n in range(num)]


def _in_parts(
    value: Known, axis: Known, num_split: int, sizes_of: Callable[[int | None], Sequence[int | None]]
) -> list[Dims]:
    """Infer the shapes of the parts; ``sizes_of`` returns their sizes along the axis from the size of the whole."""
    dims, place = value.known_dims, int_of(axis)
    if dims is None or place is None:
        return [None if dims is None else (None,) * len(dims)] * num_split
    place = axis_in(place, len(dims))
    return [_with_axis(dims, place, size) for size in sizes_of(dims[place])]


def _split_evenly(axis: Known, value: Known, *, num_split: int) -> list[Dims]:
    if num_split < 1:
        raise ValueError(f"num_split must be at least 1, got {num_split}")

    def sizes_of(size: int | None) -> list[int | None]:
        if size is not None and size % num_split:
            raise ValueError(f"Dimension size, {size}, must be evenly divisible by {num_split}")
        return [None if size is None else size // num_split] * num_split

    return _in_parts(value, axis, num_split, sizes_of)


@op("Split", "axis: int32[], value: T -> num_split * T", infer=_split_evenly, rows=along(0))
def split(axis: Array, value: Array, *, num_split: int) -> list[Array]:
    """Split into equal parts along ``axis``."""
    return np.split(value, num_split, int(axis))


def _split_by_sizes(value: Known, size_splits: Known, axis: Known, *, num_split: int) -> list[Dims]:
    sizes = ints_of(size_splits)
    return _in_parts(value, axis, num_split, lambda size: [None] * num_split if sizes is None else _parts(size, sizes))


def _parts(total: int | None, sizes: list[int]) -> list[int | None]:
    """Return the sizes, with -1 replaced by the remaining size if the total is known.

    Raises:
        ValueError: The sizes do not match the total.
    """
    if sizes.count(-1) > 1:
        raise ValueError(f"There can only be one -1 in size_splits, got {sizes}")
    if any(size < -1 for size in sizes):
        raise ValueError(f"Split size must be >= 0, got {sizes}")
    fixed = sum(size for size in sizes if size != -1)
    if total is not None and (fixed > total if -1 in sizes else fixed != total):
        raise ValueError(f"size_splits {sizes} must sum to the dimension of value along axis, {total}")
    rest = None if total is None else total - fixed
    return [rest if size == -1 else size for size in sizes]


@op(
    "SplitV",
    "value: T, size_splits: L[_], axis: int32 -> num_split * T",
    L=Types((dtypes.int8, *INDEX.allowed), dtypes.int64),
    infer=_split_by_sizes,
    rows=along(2, only_first=True),
)
def split_v(value: Array, size_splits: Array, axis: Array, *, num_split: int) -> list[Array]:
    """Split into parts of the given sizes along ``axis``; one size can be -1 for the rest."""
    sizes = _parts(value.shape[int(axis)], [int(size) for size in size_splits])
    if len(sizes) != num_split:
        invalid(f"size_splits must have {num_split} sizes, one per output, got {len(sizes)}")
    return np.split(value, np.cumsum(np.array(sizes[:-1], np.int64)), int(axis))
