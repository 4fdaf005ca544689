"""JAX: the batches of a loader as device arrays, put on their way ahead of use.

Who holds a batch's memory, and until when::

    loader       gives a batch: its arrays are views of a slot, and the views are the lease of it
    this module  puts the arrays on the devices, and holds the views until the transfers are ready
    JAX          holds a view for as long as a device array uses its memory: on a CPU, where an array may *be* the
                 view, until the last array, shard or NumPy view of it is gone; a donated one is copied first
    loader       gets the slot back with the last view

So no lock and no copy is needed here: a slot that an array lies in is not granted to a worker. A loop that keeps many
such arrays gets private copies from the ring, as every consumer does that keeps many batches.

There is no thread: a `next` takes one batch from the loader, starts its transfer and returns the one that was started
``prefetch`` calls before.

*Interrupts.* Ctrl-C raises between any two bytecodes, and no batch is lost or given twice by that. A batch goes from
the loader into ``_ahead`` in one call of C; it is replaced there, once its transfer has begun, by one store; and when a
signal strikes after it was taken out of there, it is put back. The next `next` goes on with what is half done.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from mpqueue.loader.loader import Loader
from mpqueue.system.interrupts import is_of_handler
from mpqueue.system.locks import RLock

__all__ = ["device_iterator"]


def device_iterator(loader: Iterable[Any], sharding: Any = None, prefetch: int = 2) -> "DeviceIterator":
    """Iterate over one epoch of a loader, its arrays and numbers as device arrays, ahead of use.

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
        loader: A `mpqueue.Loader`, or any other iterable of batches. Batches are trees as JAX knows them.
        sharding: Where the arrays go: a device or a `jax.sharding.Sharding`, or a tree of them that is a prefix of the
            batch; None: JAX's default device. For a sharding over the devices of several processes, a batch is this
            process's own part of the whole (`jax.make_array_from_process_local_data`).
        prefetch: Batches on their way ahead of the one that is handed out. More rides out slow batches, fewer saves
            memory of the devices; 0: each is put when it is asked for.

    Returns:
        An iterator of batches of the same structure. Arrays and numbers are `jax.Array`s; text, bytes, dates and other
        objects stay what they are, and wherever there is such a leaf ``sharding`` is not looked at. Any number of
        threads may share it. Its `state_dict` and `load_state_dict` count what was handed out.

    Raises:
        TypeError: ``loader`` cannot be iterated over, or ``prefetch`` is no integer.
        ValueError: ``prefetch`` is negative.
        ImportError: There is no JAX; the text names the extra.
        Exception: At ``next``, after the batches before it: what the loader raised in a batch's place, or JAX for its
            arrays. The following ``next`` goes on behind it, as the loader does.
    """
    jax = _import_jax()
    if not hasattr(prefetch, "__index__") or isinstance(prefetch, bool):
        raise TypeError(f"prefetch must be an integer number of batches, got {prefetch!r}")
    if prefetch < 0:
        raise ValueError(f"prefetch must be 0 (none) or more, got {prefetch}")
    if not hasattr(loader, "__iter__"):
        hint = ": pass its get()" if hasattr(loader, "get") else ""
        raise TypeError(f"device_iterator takes a Loader, or an iterable of batches; got {type(loader).__name__}{hint}")
    return DeviceIterator(loader, _Putter(jax, sharding), int(prefetch))


class _Transfer(NamedTuple):
    """A batch on its way.

    Attributes:
        batch: To be handed out.
        arrays: The device arrays in it.
        views: The arrays of the loader that they are made of.
    """

    batch: Any
    arrays: list[Any]
    views: list[Any]

    def is_ready(self) -> bool:
        """Return True if nothing reads the views any more on our account; see the module's head for JAX's."""
        return all(array.is_deleted() or array.is_ready() for array in self.arrays)


class _Ahead(NamedTuple):
    """The next thing to be handed out.

    Attributes:
        outcome: A batch on its way, or what was raised in its place.
        place: That of the loader before it took this; None: it is no `Loader`.
    """

    outcome: _Transfer | Exception
    place: dict[str, Any] | None


class DeviceIterator(Iterator[Any]):
    """The iterator of `device_iterator`."""

    def __init__(self, loader: Iterable[Any], put: Callable[[Any], _Transfer], prefetch: int) -> None:
        self._loader, self._put, self._prefetch = loader, put, prefetch
        self._ahead: deque[Any] = deque()  # of _Ahead; the last may still be as the loader gave it
        self._handed_out: deque[_Transfer] = deque()  # while their transfers last
        self._lock = RLock()  # the handler of a signal may ask for a batch, too
        self._begin()

    def _begin(self) -> None:
        self._batches, self._num_left = iter(self._loader), _length_of(self._loader)
        self._place: dict[str, Any] | None = None  # of the loader, before it was asked for the last batch
        self._is_over = False

    def __next__(self) -> Any:
        taken: _Ahead | None = None
        try:
            with self._lock:
                # First: slots come back to the workers before another batch is asked for.
                self._let_go()
                self._fill()
                if not self._ahead:
                    raise StopIteration
                taken = self._ahead[0]
                # JAX still reads the views: their slot is not to be granted to a worker before it has.
                if isinstance(taken.outcome, _Transfer) and not taken.outcome.is_ready():
                    self._handed_out.append(taken.outcome)
                del self._ahead[0]
            if isinstance(taken.outcome, Exception):
                raise taken.outcome
            return taken.outcome.batch  # noqa: TRY300 - a signal may still strike here
        except BaseException as error:
            self._keep(taken, error)
            del taken  # the error's own traceback would keep it, and this frame, alive
            raise

    def _keep(self, taken: _Ahead | None, error: BaseException) -> None:
        """Put back what an interrupt has kept from being handed out."""
        with self._lock:
            if taken is not None and taken.outcome is not error and not (self._ahead and self._ahead[0] is taken):
                self._ahead.appendleft(taken)

    def _let_go(self) -> None:
        """Let go of the views whose transfers are ready; they are in the order in which they began."""
        while self._handed_out and self._handed_out[0].is_ready():
            self._handed_out.popleft()
        # Those that wait to be handed out need no slot either once their arrays lie on the devices.
        for ahead in self._ahead:
            if isinstance(ahead, _Ahead) and isinstance(ahead.outcome, _Transfer) and ahead.outcome.is_ready():
                ahead.outcome.views.clear()

    def _fill(self) -> None:
        """Take batches until enough are on their way.

        An error is the last until it was raised; and the end is not asked for before it is due, because the loader's
        epoch ends with that, for the source's ``on_epoch_end`` too.
        """
        self._start_last()
        while not self._is_over and len(self._ahead) <= self._prefetch:
            if self._ahead and (self._num_left == 0 or isinstance(self._ahead[-1].outcome, Exception)):
                return
            if self._num_left:
                self._num_left -= 1
            # Before it is asked: a state of the loader is of here until the batch is handed out.
            self._place = self._loader.place() if isinstance(self._loader, Loader) else None
            before = len(self._ahead)
            try:
                self._ahead.extend(islice(self._batches, 1))  # one call, so that no signal strikes in between
            except Exception as error:
                if is_of_handler(error):
                    raise
                self._ahead.append(_Ahead(error, self._place))
            self._is_over = len(self._ahead) == before
            self._start_last()

    def _start_last(self) -> None:
        """Start the transfer of a batch that is as the loader gave it."""
        if not self._ahead or isinstance(self._ahead[-1], _Ahead):
            return
        outcome: _Transfer | Exception
        try:
            outcome = self._put(self._ahead[-1])
        except Exception as error:
            if is_of_handler(error):  # else it would take the place of the batch, which stays as it is
                raise
            outcome = error
        self._ahead[-1] = _Ahead(outcome, self._place)

    def state_dict(self) -> dict[str, Any]:
        """Return the place behind the last batch that was handed out, for `load_state_dict`.

        Returns:
            What `mpqueue.Loader.state_dict` gives there: batches that are only on their way do not count.

        Raises:
            TypeError: The batches are those of no `mpqueue.Loader`.
            RuntimeError: The source changes itself in ``on_epoch_end``, has no ``state_dict``, and an epoch has ended.
        """
        loader = self._stateful_loader()
        with self._lock:
            self._start_last()
            return loader.state_at(self._ahead[0].place) if self._ahead else loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state, in the rest of its epoch: batches on their way are dropped, and given where they belong.

        Args:
            state: What `state_dict` gave, of this iterator or of a `mpqueue.Loader` of the same source.

        Raises:
            TypeError: The batches are those of no `mpqueue.Loader`.
            ValueError: It is no such state.
        """
        loader = self._stateful_loader()
        with self._lock:
            loader.load_state_dict(state)
            self._ahead.clear()
            self._begin()

    def _stateful_loader(self) -> Loader:
        if not isinstance(self._loader, Loader):
            raise TypeError(f"only a mpqueue.Loader has states; the batches are of a {type(self._loader).__name__}")
        return self._loader

    def __repr__(self) -> str:
        return f"<device batches of {self._batches!r}, {len(self._ahead)} on their way>"


def _length_of(loader: Iterable[Any]) -> int | None:
    """Return how many batches there will be, or None: that is not known."""
    try:
        return len(loader) if isinstance(loader, Loader) else None
    except TypeError:
        return None


class _Putter:
    """Puts batches on devices.

    Args:
        jax: The module.
        sharding: See `device_iterator`.
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
        """Return where each leaf goes."""
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
        """Return True for what JAX can put on a device."""
        if isinstance(leaf, bool | int | float | complex | self._jax.Array):
            return True
        if not isinstance(leaf, np.ndarray | np.generic):
            return False
        return leaf.dtype == bool or bool(self._jax.dtypes.issubdtype(leaf.dtype, self._jax.numpy.number))


def _is_global(jax: Any, target: Any) -> bool:
    """Return True for a sharding over the devices of several processes."""
    return isinstance(target, jax.sharding.Sharding) and not target.is_fully_addressable


def _import_jax() -> Any:
    try:
        import jax
    except ModuleNotFoundError as error:
        if error.name != "jax":  # JAX is there, and its own parts are not
            raise
        raise ImportError('mpqueue.jax needs JAX: pip install "mpqueue[jax]"', name="jax") from error
    return jax
