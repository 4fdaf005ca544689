"""JAX: the batches of a loader as device arrays, transferred ahead of use.

The memory of a batch has these owners::

    loader       returns a batch: its arrays are views of a slot, and the views hold the lease of the slot
    this module  starts the transfers, and keeps the views until the transfers are ready
    JAX          keeps a view as long as a device array uses its memory. On a CPU, an array may *be* the view; then the
                 view lives until the last array, shard or NumPy view of it is deleted. A donated view is copied first
    loader       gets the slot back when the last view is deleted

So this module needs neither a lock nor a copy: a slot that an array uses is not granted to a worker. If a loop keeps
many such arrays, the ring returns private copies, as for every consumer that keeps many batches.

No thread is used: a `next` takes one batch from the loader, starts its transfer, and returns the batch that was
started ``prefetch`` calls before.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from mpqueue.loader.ahead import Ahead
from mpqueue.loader.loader import Loader
from mpqueue.memory.layout import room_for
from mpqueue.plan.ids.batch_info import BatchInfo
from mpqueue.plan.options.checks import flag, integer
from mpqueue.plan.sources.batch_types import Batch_co, MaybeNone
from mpqueue.samples.leaves import is_sparse
from mpqueue.samples.ragged import Ragged
from mpqueue.system.user_code.extras import import_extra
from mpqueue.system.user_code.keywords import suggests_keywords

__all__ = ["device_iterator", "to_padded"]

_NEEDS = 'mpqueue.jax needs JAX: pip install "mpqueue[jax]"'


@suggests_keywords
def device_iterator(
    loader: Iterable[Any], sharding: Any = None, prefetch: int = 2, *, dense: bool = False
) -> "DeviceIterator[Any]":  # fmt: skip
    """Iterate over one epoch of a loader, with its arrays and numbers as device arrays, transferred ahead of use.

    Example:
        Epochs of device arrays::

            import numpy as np
            import mpqueue

            squares = [np.full(8, number**2, np.float32) for number in range(4)]
            with mpqueue.Loader(squares, workers=2) as loader:
                for epoch in range(2):
                    sums = [float(batch.sum()) for batch in mpqueue.jax.device_iterator(loader)]
                    assert sums == [0, 8, 32, 72]

    Args:
        loader: A `mpqueue.Loader`, or any other iterable of batches. Batches are JAX pytrees.
        sharding: The target of the arrays: a device or a `jax.sharding.Sharding`, or a tree of them that is a prefix of
            the batch. If None, JAX's default device. For a sharding over the devices of several processes, each batch
            is this process's part of the global array (`jax.make_array_from_process_local_data`).
        prefetch: Number of batches transferred ahead of the returned one. A higher number absorbs slow batches; a lower
            one saves device memory. If 0, each batch is transferred when it is requested.
        dense: Convert on the device, after the transfer: sparse matrices and arrays of scipy to arrays, and a
            `mpqueue.Ragged` to one array, padded with zeros as by `to_padded`. Otherwise scipy's remain unchanged.

    Returns:
        An iterator of batches with the same structure. Arrays and numbers become `jax.Array` objects. Strings, bytes,
        dates and other objects remain unchanged, and ``sharding`` is ignored for them. Several threads may share the
        iterator. `state_dict`, `load_state_dict` and `last` count the returned batches.

    Raises:
        TypeError: ``loader`` is not iterable, ``prefetch`` is not an integer, or ``dense`` is not a bool.
        ValueError: ``prefetch`` is negative.
        ImportError: JAX is not installed; the message names the extra.
        Exception: At ``next``, after the batches before it: the error that the loader raised instead of a batch, or
            that JAX raised for its arrays. The following ``next`` continues after it, as with the loader.
    """
    jax = import_extra("jax", _NEEDS)
    integer(0)("prefetch", prefetch)
    flag("dense", dense)
    if not hasattr(loader, "__iter__"):
        hint = ": pass its get()" if hasattr(loader, "get") else ""
        raise TypeError(f"device_iterator needs a Loader or an iterable of batches, got {type(loader).__name__}{hint}")
    return DeviceIterator(loader, _Mover(jax, sharding, dense=bool(dense)), int(prefetch))


def to_padded(ragged: Ragged[Any], length: int | None = None, *, padding: float = 0) -> Any:
    """Return a ragged batch as one array, with each sample padded at the end. It is made on the device of the batch.

    Example:
        Two sequences of different lengths::

            import numpy as np
            import mpqueue

            texts = [np.arange(3), np.arange(5)]
            with mpqueue.Loader(texts, batch_size=2, collate="ragged", workers=1) as loader:
                (batch,) = mpqueue.jax.device_iterator(loader)
                padded = mpqueue.jax.to_padded(batch, 6, padding=-1)
            assert padded.tolist() == [[0, 1, 2, -1, -1, -1], [0, 1, 2, 3, 4, -1]]

    Args:
        ragged: A `mpqueue.Ragged` of device arrays or NumPy arrays.
        length: The length of the padded samples; longer ones are cut. A fixed length has one compiled program. If None,
            that of the longest one.
        padding: The value after the end of a sample.

    Returns:
        A `jax.Array` of shape (n, length, ...) in the dtype of the batch.

    Raises:
        ImportError: JAX is not installed; the message names the extra.
    """
    import_extra("jax", _NEEDS)
    if length is None:
        length = int(np.diff(np.asarray(ragged.offsets)).max(initial=0))
    return programs()[0](ragged.values, ragged.offsets, length, padding)


@functools.cache
def programs() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the programs ``pad(values, offsets, length, padding)`` and ``fill(data, indices, indptr, columns)``.

    They make dense arrays. JAX compiles them once for each shape.
    """
    import jax
    import jax.numpy as jnp

    def pad(values: Any, offsets: Any, length: int, padding: Any) -> Any:
        shape = (len(offsets) - 1, length, *values.shape[1:])
        if not len(values):
            return jnp.full(shape, padding, values.dtype)
        positions = jnp.arange(length)
        is_filled = positions < jnp.diff(offsets)[:, None]
        found = jnp.take(values, offsets[:-1, None] + positions, axis=0, mode="clip")
        return jnp.where(
            is_filled.reshape(*shape[:2], *[1] * (values.ndim - 1)), found, jnp.asarray(padding, values.dtype)
        )

    def fill(data: Any, indices: Any, indptr: Any, columns: int) -> Any:
        # Positions after the last element belong to the row after the last one, and are dropped.
        rows = jnp.searchsorted(indptr, jnp.arange(len(data)), side="right") - 1
        out = jnp.zeros((len(indptr) - 1, columns), data.dtype)
        at = out.at[rows, indices]
        return (at.max if data.dtype == bool else at.add)(data, mode="drop")  # scipy's sums of bools are bools

    return jax.jit(pad, static_argnums=2), jax.jit(fill, static_argnums=3)


def packed_fields(leaf: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """Return the arrays of a ragged or sparse leaf, and the function that makes the dense array of them on a device."""
    if isinstance(leaf, Ragged):
        length = int(np.diff(np.asarray(leaf.offsets)).max(initial=0))
        return [_with_room(leaf.values), leaf.offsets], lambda put: programs()[0](*put, length, 0)
    rows = leaf.tocsr()
    columns = rows.shape[1]
    return [_with_room(rows.data), _with_room(rows.indices), rows.indptr], lambda put: programs()[1](*put, columns)


def _with_room(array: Any) -> Any:
    """Return an array with a rounded length, so that batches of similar sizes share a compiled program."""
    if not isinstance(array, np.ndarray):
        return array
    grown = np.zeros((room_for(len(array)), *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown


class _Transfer(NamedTuple):
    """A batch that is being transferred.

    Attributes:
        batch: The batch with device arrays, to be returned.
        arrays: The device arrays in it.
        views: The arrays of the loader that are being transferred.
    """

    batch: Any
    arrays: list[Any]
    views: list[Any]


class DeviceIterator(Iterator[Batch_co]):
    """The iterator of `device_iterator`."""

    __slots__ = ("__weakref__", "_ahead", "_loader", "_mover", "_prefetch")

    def __init__(self, loader: Iterable[Any], mover: "_Mover", prefetch: int) -> None:
        self._loader, self._mover, self._prefetch = loader, mover, prefetch
        self._ahead = Ahead.of(loader, mover, prefetch)

    def __next__(self) -> Batch_co:
        return self._ahead.__next__()  # type: ignore[no-any-return]

    def state_dict(self) -> dict[str, Any]:
        """Return the position after the last returned batch, for `load_state_dict`.

        Returns:
            The state of `mpqueue.Loader.state_dict` at this position. Batches transferred ahead do not count.

        Raises:
            TypeError: The batches are not from a `mpqueue.Loader`.
            RuntimeError: The source changes itself in ``on_epoch_end``, has no ``state_dict``, and an epoch is over.
        """
        return self._stateful_loader().state_dict()

    @property
    def last(self) -> BatchInfo | MaybeNone:
        """The position and the samples of the batch that was returned last; see `mpqueue.Loader.last`.

        Batches transferred ahead do not count. None before the first batch of the run, and after `load_state_dict`.

        Raises:
            TypeError: The batches are not from a `mpqueue.Loader`.
        """
        return self._stateful_loader("last needs").last

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state with the rest of its epoch. Batches transferred ahead are dropped.

        Args:
            state: A state from `state_dict` of this iterator or of a `mpqueue.Loader` of the same source.

        Raises:
            TypeError: The batches are not from a `mpqueue.Loader`.
            ValueError: It is not such a state.
        """
        self._stateful_loader().load_state_dict(state)
        self._ahead = Ahead.of(self._loader, self._mover, self._prefetch)

    def __repr__(self) -> str:
        return f"<batches of {self._loader!r} on devices, {self._ahead.num_ahead} transferred ahead>"

    def _stateful_loader(self, need: str = "states need") -> Loader:
        if not isinstance(self._loader, Loader):
            raise TypeError(f"{need} a mpqueue.Loader, but the batches are from a {type(self._loader).__name__}")
        return self._loader


class _Mover:
    """Transfers batches to devices: the `mpqueue.loader.ahead.Mover`.

    Args:
        jax: The module.
        sharding, dense: As in `device_iterator`.
    """

    def __init__(self, jax: Any, sharding: Any, *, dense: bool = False) -> None:
        self._jax, self._sharding = jax, sharding
        self._is_leaf = self._is_packed if dense else None
        self._is_single = sharding is None or isinstance(sharding, jax.Device | jax.sharding.Sharding)

    def start(self, batch: Any) -> _Transfer:
        """Start the transfer of a batch."""
        tree = self._jax.tree_util
        leaves, structure = tree.tree_flatten(batch, self._is_leaf)
        positions = [position for position, leaf in enumerate(leaves) if self._is_array(leaf)]
        views = [leaves[position] for position in positions]
        targets = self._targets(batch, len(leaves))
        arrays = self._put(views, [targets[position] for position in positions])
        for position, array in zip(positions, arrays, strict=True):
            leaves[position] = array
        for position, leaf in enumerate(leaves):
            if self._is_leaf is not None and self._is_leaf(leaf):
                fields, make = packed_fields(leaf)
                target, is_one = targets[position], self._is_one(targets[position])
                put = self._jax.device_put(fields, target if is_one else None)
                leaves[position] = make(put) if is_one else self._put([make(put)], [target])[0]
                views += fields
                arrays += put
        return _Transfer(tree.tree_unflatten(structure, leaves), arrays, views)

    def finish(self, moving: _Transfer) -> Any:
        """Return the batch with device arrays. JAX waits for a transfer where an array is used."""
        return moving.batch

    def is_done(self, moving: _Transfer) -> bool:
        """Return whether our transfers no longer read the views. JAX itself may still do, see the module docstring."""
        return all(array.is_deleted() or array.is_ready() for array in moving.arrays)

    def release(self, moving: _Transfer) -> None:
        """Drop the views, so that their slot can be granted to a worker."""
        moving.views.clear()

    def _targets(self, batch: Any, num_leaves: int) -> list[Any]:
        """Return the target of each leaf."""
        if self._is_single:
            return [self._sharding] * num_leaves
        tree, targets = self._jax.tree_util, []
        tree.tree_map(
            lambda target, part: targets.extend([target] * len(tree.tree_leaves(part, self._is_leaf))),
            self._sharding,
            batch,
            is_leaf=lambda target: target is None,
        )
        return targets

    def _put(self, views: list[Any], targets: list[Any]) -> list[Any]:
        jax = self._jax
        if not any(_is_global(jax, target) for target in targets):
            arrays: list[Any] = jax.device_put(views, targets)
            return arrays
        return [
            jax.make_array_from_process_local_data(target, view)
            if _is_global(jax, target)
            else jax.device_put(view, target)
            for view, target in zip(views, targets, strict=True)
        ]

    def _is_packed(self, leaf: Any) -> bool:
        """Return True for a leaf that is converted to a dense array on the device."""
        values = leaf.values if isinstance(leaf, Ragged) else leaf.dtype.type() if is_sparse(leaf) else None
        return values is not None and self._is_array(values)

    def _is_one(self, target: Any) -> bool:
        """Return True if a target is one device."""
        return target is None or isinstance(target, self._jax.Device) or len(target.device_set) == 1

    def _is_array(self, leaf: Any) -> bool:
        """Return True if JAX can transfer a leaf to a device."""
        if isinstance(leaf, bool | int | float | complex | self._jax.Array):
            return True
        if not isinstance(leaf, np.ndarray | np.generic):
            return False
        return leaf.dtype == bool or bool(self._jax.dtypes.issubdtype(leaf.dtype, self._jax.numpy.number))


def _is_global(jax: Any, target: Any) -> bool:
    """Return True for a sharding over the devices of several processes."""
    return isinstance(target, jax.sharding.Sharding) and not target.is_fully_addressable
