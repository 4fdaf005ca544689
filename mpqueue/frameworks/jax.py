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

An interrupt loses no batch: see `mpqueue.loader.ahead`.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from mpqueue.loader.ahead import Ahead
from mpqueue.loader.loader import Loader
from mpqueue.plan.batch_info import BatchInfo
from mpqueue.plan.batch_types import Batch_co, MaybeNone
from mpqueue.plan.checks import integer
from mpqueue.plan.signatures import suggests_keywords
from mpqueue.system.extras import import_extra

__all__ = ["device_iterator"]


@suggests_keywords
def device_iterator(loader: Iterable[Any], sharding: Any = None, prefetch: int = 2) -> "DeviceIterator[Any]":
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

    Returns:
        An iterator of batches with the same structure. Arrays and numbers become `jax.Array` objects. Strings, bytes,
        dates and other objects remain unchanged, and ``sharding`` is ignored for them. Several threads may share the
        iterator. `state_dict`, `load_state_dict` and `last` count the returned batches.

    Raises:
        TypeError: ``loader`` is not iterable, or ``prefetch`` is not an integer.
        ValueError: ``prefetch`` is negative.
        ImportError: JAX is not installed; the message names the extra.
        Exception: At ``next``, after the batches before it: the error that the loader raised instead of a batch, or
            that JAX raised for its arrays. The following ``next`` continues after it, as with the loader.
    """
    jax = import_extra("jax", 'mpqueue.jax needs JAX: pip install "mpqueue[jax]"')
    integer(0)("prefetch", prefetch)
    if not hasattr(loader, "__iter__"):
        hint = ": pass its get()" if hasattr(loader, "get") else ""
        raise TypeError(f"device_iterator needs a Loader or an iterable of batches, got {type(loader).__name__}{hint}")
    return DeviceIterator(loader, _Mover(jax, sharding), int(prefetch))


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

    def __init__(self, loader: Iterable[Any], mover: "_Mover", prefetch: int) -> None:
        self._loader, self._mover, self._prefetch = loader, mover, prefetch
        self._ahead = Ahead.of(loader, mover, prefetch)

    def __next__(self) -> Batch_co:
        return self._ahead.__next__()  # type: ignore[no-any-return]

    def state_dict(self) -> dict[str, Any]:
        """Return the place after the last returned batch, for `load_state_dict`.

        Returns:
            The state of `mpqueue.Loader.state_dict` at this place. Batches transferred ahead do not count.

        Raises:
            TypeError: The batches are not from a `mpqueue.Loader`.
            RuntimeError: The source changes itself in ``on_epoch_end``, has no ``state_dict``, and an epoch has ended.
        """
        return self._stateful_loader().state_dict()

    @property
    def last(self) -> BatchInfo | MaybeNone:
        """The place and the samples of the batch that was returned last; see `mpqueue.Loader.last`.

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
        sharding: As in `device_iterator`.
    """

    def __init__(self, jax: Any, sharding: Any) -> None:
        self._jax, self._sharding = jax, sharding
        self._is_single = sharding is None or isinstance(sharding, jax.Device | jax.sharding.Sharding)

    def start(self, batch: Any) -> _Transfer:
        """Start the transfer of a batch."""
        tree = self._jax.tree_util
        leaves, structure = tree.tree_flatten(batch)
        places = [place for place, leaf in enumerate(leaves) if self._is_array(leaf)]
        views = [leaves[place] for place in places]
        targets = self._targets(batch, len(leaves))
        arrays = self._put(views, [targets[place] for place in places])
        for place, array in zip(places, arrays, strict=True):
            leaves[place] = array
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
            lambda target, part: targets.extend([target] * len(tree.tree_leaves(part))),
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
