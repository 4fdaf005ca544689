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

*Interrupts.* Ctrl-C may raise between any two bytecodes. No batch is lost or returned twice: a batch is moved from the
loader into ``_ahead`` by one call of C. It is replaced there, after its transfer has started, by one store. If a signal
arrives after it was removed, it is put back. The next `next` continues with the remaining steps.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from mpqueue.loader.bookmark import Bookmark
from mpqueue.loader.loader import Loader
from mpqueue.plan.batch_info import BatchInfo
from mpqueue.plan.batch_types import Batch_co, MaybeNone
from mpqueue.plan.checks import integer
from mpqueue.plan.signatures import suggests_keywords
from mpqueue.system.exceptions import matches
from mpqueue.system.extras import import_extra
from mpqueue.system.interrupts import not_of_handler
from mpqueue.system.iterators import rest_of
from mpqueue.system.locks import RLock

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
    return DeviceIterator(loader, _Putter(jax, sharding), int(prefetch))


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

    def is_ready(self) -> bool:
        """Return True if our transfers no longer read the views. JAX itself may still do, see the module docstring."""
        return all(array.is_deleted() or array.is_ready() for array in self.arrays)


class _Ahead(NamedTuple):
    """The outcome of the next `__next__`.

    Attributes:
        outcome: A batch that is being transferred, or the error that was raised instead.
        before: Position of the loader before this batch; None: the loader is not a `Loader`.
    """

    outcome: _Transfer | BaseException
    before: Bookmark | None


class DeviceIterator(Iterator[Batch_co]):
    """The iterator of `device_iterator`."""

    def __init__(self, loader: Iterable[Any], put: Callable[[Any], _Transfer], prefetch: int) -> None:
        self._loader, self._put, self._prefetch = loader, put, prefetch
        self._ahead: deque[Any] = deque()  # `_Ahead` objects; the last may still be the loader's batch
        self._transfers: deque[_Transfer] = deque()  # unfinished transfers, also those of returned batches
        self._lock = RLock()  # reentrant: a signal handler may request a batch, too
        self._begin()

    def _begin(self) -> None:
        self._batches = rest_of(iter(self._loader))
        self._num_left = _num_left(self._loader)  # after `iter`, which moves the loader to its next epoch
        self._before: Bookmark | None = None  # position of the loader before the last batch was requested
        self._is_over = False

    def __next__(self) -> Batch_co:
        taken: _Ahead | None = None
        outcome: Any = None
        try:
            with self._lock:
                # First, return slots to the workers, before another batch is requested.
                self._release_views()
                self._fill()
                if not self._ahead:
                    raise StopIteration
                taken = self._ahead[0]
                # Otherwise a batch that is ready would exist until the next call, even if the loop deletes it.
                self._release_views()
                del self._ahead[0]
            outcome = taken.outcome
            if matches(outcome, BaseException):
                raise outcome
            return outcome.batch  # type: ignore[no-any-return]  # noqa: TRY300 - a signal may still raise here
        except BaseException as error:
            self._keep(taken, error)
            del taken, outcome  # otherwise the error's traceback would keep the batch and this frame alive
            raise

    def _keep(self, taken: _Ahead | None, error: BaseException) -> None:
        """Put back a batch that was removed but not returned because of an interrupt."""
        with self._lock:
            if taken is not None and taken.outcome is not error and not (self._ahead and self._ahead[0] is taken):
                self._ahead.appendleft(taken)

    def _release_views(self) -> None:
        """Release the views of finished transfers. Transfers finish in the order of their start."""
        while self._transfers and self._transfers[0].is_ready():
            self._transfers.popleft().views.clear()

    def _fill(self) -> None:
        """Start transfers until there are enough.

        No batch is requested after an error until the error was raised. The end of the epoch is requested as late as
        possible, because the request ends the loader's epoch and runs the source's ``on_epoch_end``.
        """
        self._start_last()
        while not self._is_over and len(self._ahead) <= self._prefetch:
            if self._ahead and (self._num_left == 0 or matches(self._ahead[-1].outcome, BaseException)):
                return
            # Before the request: until this batch is returned, a state must contain this position.
            self._before = self._loader.bookmark() if isinstance(self._loader, Loader) else None
            before = len(self._ahead)
            try:
                self._ahead.extend(islice(self._batches, 1))  # one call of C, so that no signal can raise in between
            except not_of_handler(BaseException) as error:
                self._ahead.append(_Ahead(error, self._before))
            # Neither a batch nor an error was added: `islice` has met the end of the epoch.
            self._is_over = len(self._ahead) == before
            if self._num_left:  # after the request: an interrupt of it takes no batch
                self._num_left -= 1
            self._start_last()

    def _start_last(self) -> None:
        """Start the transfer of the last batch, unless it has started already."""
        if not self._ahead or isinstance(self._ahead[-1], _Ahead):
            return
        outcome: _Transfer | BaseException
        try:
            outcome = self._put(self._ahead[-1])
            # JAX still reads the views, so their slot must not be granted to a worker yet.
            self._transfers.append(outcome)
        except not_of_handler(
            BaseException
        ) as error:  # after an interrupt, the batch stays in `_ahead` for the next call
            outcome = error
        self._ahead[-1] = _Ahead(outcome, self._before)

    def state_dict(self) -> dict[str, Any]:
        """Return the place after the last returned batch, for `load_state_dict`.

        Returns:
            The state of `mpqueue.Loader.state_dict` at this place. Batches transferred ahead do not count.

        Raises:
            TypeError: The batches are not from a `mpqueue.Loader`.
            RuntimeError: The source changes itself in ``on_epoch_end``, has no ``state_dict``, and an epoch has ended.
        """
        loader = self._stateful_loader()
        with self._lock:
            self._start_last()
            return loader.state_at(self._ahead[0].before) if self._ahead else loader.state_dict()

    @property
    def last(self) -> BatchInfo | MaybeNone:
        """The place and the samples of the batch that was returned last; see `mpqueue.Loader.last`.

        Batches transferred ahead do not count. None before the first batch of the run, and after `load_state_dict`.

        Raises:
            TypeError: The batches are not from a `mpqueue.Loader`.
        """
        loader = self._stateful_loader("last needs")
        with self._lock:
            self._start_last()
            return loader.last_at(self._ahead[0].before) if self._ahead else loader.last

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state with the rest of its epoch. Batches transferred ahead are dropped.

        Args:
            state: A state from `state_dict` of this iterator or of a `mpqueue.Loader` of the same source.

        Raises:
            TypeError: The batches are not from a `mpqueue.Loader`.
            ValueError: It is not such a state.
        """
        loader = self._stateful_loader()
        with self._lock:
            loader.load_state_dict(state)
            self._ahead.clear()
            self._begin()

    def __repr__(self) -> str:
        return f"<batches of {self._loader!r} on devices, {len(self._ahead)} transferred ahead>"

    def _stateful_loader(self, need: str = "states need") -> Loader:
        if not isinstance(self._loader, Loader):
            raise TypeError(f"{need} a mpqueue.Loader, but the batches are from a {type(self._loader).__name__}")
        return self._loader


def _num_left(loader: Iterable[Any]) -> int | None:
    """Return the number of batches that are left in the epoch, which may be resumed; None: unknown."""
    if not isinstance(loader, Loader):
        return None
    try:
        left = loader._plan.num_left(loader._position.where())
    except TypeError:
        return None
    return None if left is None else max(0, left)


class _Putter:
    """Starts transfers of batches to devices.

    Args:
        jax: The module.
        sharding: As in `device_iterator`.
    """

    def __init__(self, jax: Any, sharding: Any) -> None:
        self._jax, self._sharding = jax, sharding
        self._is_single = sharding is None or isinstance(sharding, jax.Device | jax.sharding.Sharding)

    def __call__(self, batch: Any) -> _Transfer:
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
