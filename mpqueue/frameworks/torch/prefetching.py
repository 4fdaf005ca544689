"""`prefetch`: the batches of a loader on a device, copied there ahead of use on a separate stream.

    loader       returns a batch; with ``pin_memory=True`` its tensors are in pinned slots, or are pinned by a copy
    copying      `Tensor.to(device, non_blocking=True)` on the stream of this iterator, followed by an event
    next         the stream of the training waits for that event, on the device; this process does not wait
    the tensors  `record_stream` informs the allocator that the training's stream uses them, so that it does not reuse
                 their memory too early
    the batch    in host memory is dropped when its copies are done; its slot is not written before, see `pinned.py`

``depth`` batches are copied ahead of the returned one. On the CPU no copy is needed: each batch is returned
unchanged when it is requested, not ahead.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, NamedTuple

import torch

from mpqueue.frameworks.torch.iterator import PassIterator
from mpqueue.frameworks.torch.tensors.ragged import SPARSE, longest, to_padded
from mpqueue.loader.ahead import Ahead, Plain
from mpqueue.loader.loader import Loader
from mpqueue.plan.ids.batch_info import BatchInfo
from mpqueue.plan.options.checks import flag, integer
from mpqueue.plan.sources.batch_types import Batch, Batch_co, MaybeNone
from mpqueue.samples.ragged import Ragged
from mpqueue.system.user_code.keywords import suggests_keywords

_PARTS_OF = {torch.sparse_csr: ("crow_indices", "col_indices", "values"), torch.sparse_coo: ("_indices", "_values")}


@dataclass
class _Moving:
    """A batch that is being copied.

    Attributes:
        batch: The batch on the device.
        host: The batch in host memory, which must exist until the copies are done; None after that.
        event: Completes when the copies are done.
    """

    batch: Any
    host: Any
    event: Any


class _Before(NamedTuple):
    """The point in the data of a loader before a batch was requested.

    Attributes:
        state: Its state.
        last: Its ``last``, or the error that this raised.
    """

    state: Any
    last: BatchInfo | BaseException | None


@suggests_keywords
def prefetch(
    loader: Iterable[Batch], device: Any, depth: int = 2, *, dense: bool = False
) -> "DevicePrefetcher[Batch]":  # fmt: skip
    """Iterate over the batches of a loader on a device. They are copied there ahead of use.

    Example:
        On a GPU, if there is one::

            import torch
            import mpqueue

            data = torch.utils.data.TensorDataset(torch.arange(8.0))
            device = "cuda" if torch.cuda.is_available() else "cpu"
            loader = mpqueue.torch.DataLoader(data, batch_size=4, num_workers=1, pin_memory=device == "cuda")
            batches = mpqueue.torch.prefetch(loader, device)
            assert [float(batch.sum()) for epoch in range(2) for batch, in batches] == [6, 22, 6, 22]

    Args:
        loader: A `DataLoader` with ``pin_memory=True``, or any other iterable of batches of tensors. (Without pinned
            memory, a copy blocks this process.)
        device: The target: "cuda", "cuda:1", a `torch.device`. With "cpu", batches are returned unchanged.
        depth: Number of batches copied ahead of the returned one. A higher number absorbs slow batches; a lower one
            saves device memory.
        dense: Convert on the device, after the copy: sparse tensors to dense ones, and a `mpqueue.Ragged` to one
            tensor, padded with zeros as by `mpqueue.torch.to_padded`.

    Returns:
        An iterable; each ``for`` loop is a pass over the loader. Batches keep their structure: tuples, named tuples,
        lists and dicts are traversed, and objects with a method ``to`` are moved. ``state_dict()``,
        ``load_state_dict(state)`` and ``last`` are the loader's, and count the returned batches. Batches that were
        copied ahead are returned again after a resume.

    Raises:
        TypeError: ``loader`` is not iterable, ``depth`` is not an integer, or ``dense`` is not a bool.
        ValueError: ``depth`` is below 1.
        RuntimeError: torch cannot use the device.

    Follows: `mpqueue.jax.device_iterator`; the prefetchers in NVIDIA's examples, with a stream for the copies.
    """
    integer(1)("depth", depth)
    flag("dense", dense)
    if not hasattr(loader, "__iter__"):
        raise TypeError(f"prefetch needs a loader or an iterable of batches, got {type(loader).__name__}")
    where = torch.device(device)
    mover = None if where.type == "cpu" else _AcceleratorDevice(where, dense=bool(dense))
    return DevicePrefetcher(loader, where, mover, int(depth), dense=bool(dense))


class DevicePrefetcher(Generic[Batch_co]):
    """The iterable of `prefetch`.

    Args:
        loader: The loader of the batches.
        device: The target.
        mover: Moves the batches; None: they are returned unchanged.
        depth: Number of batches copied ahead.
        dense: Convert sparse and ragged tensors.
    """

    __slots__ = ("__weakref__", "_dense", "_depth", "_device", "_earlier", "_mover", "loader")

    def __init__(
        self, loader: Iterable[Batch_co], device: torch.device, mover: "_AcceleratorDevice | None", depth: int,
        *, dense: bool = False,
    ) -> None:  # fmt: skip
        self.loader, self._device, self._depth, self._dense = loader, device, depth, dense
        self._mover = mover
        self._earlier: _Earlier | None = None  # of the latest pass

    def __iter__(self) -> Iterator[Batch_co]:
        """Begin a pass over the loader."""
        if self._mover is None:
            batches = iter(self.loader)
            return map(partial(moved_to, self._device, dense=True), batches) if self._dense else batches
        self._earlier = None
        if isinstance(self.loader, Loader):
            return Ahead.of(self.loader, self._mover, self._depth)
        batches = iter(self.loader)
        if isinstance(batches, PassIterator):
            return Ahead(batches.held(), self._mover, self._depth)
        if hasattr(self.loader, "state_dict"):  # this loader does not know which batches are held
            self._earlier = _Earlier(self.loader, batches)
            return Ahead(self._earlier, self._mover, self._depth)
        return Ahead(Plain(batches), self._mover, self._depth)

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]  # the caller gets the loader's own TypeError

    def state_dict(self) -> dict[str, Any]:
        """Return the loader's state after the last returned batch."""
        before = None if self._earlier is None else self._earlier.before()
        state: dict[str, Any] = self.loader.state_dict() if before is None else before.state  # type: ignore[attr-defined]
        return state

    @property
    def last(self) -> BatchInfo | MaybeNone:
        """The point and the samples of the batch that was returned last; see `DataLoader.last`.

        Raises:
            LookupError: The samples are unknown; see `DataLoader.last`.
        """
        before = None if self._earlier is None else self._earlier.before()
        found: Any = self.loader.last if before is None else before.last  # type: ignore[attr-defined]
        if isinstance(found, BaseException):
            raise found
        last: BatchInfo | None = found
        return last

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume the next pass from a state of the loader."""
        self._earlier = None
        self.loader.load_state_dict(state)  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return f"<batches of {self.loader!r} on {self._device}>"


class _Earlier(Plain):
    """The batches that were taken from a loader with states, each with the loader's point before it.

    Args:
        loader: The loader.
        batches: Its iterator.
    """

    def __init__(self, loader: Any, batches: Iterator[Any]) -> None:
        self._loader, self._is_told_end = loader, False
        super().__init__(batches, self._read)

    def _read(self) -> _Before:
        # Before the batch is requested, so that a resume from this state returns the batch again.
        return _Before(self._loader.state_dict(), _last_of(self._loader))

    def take(self) -> bool:
        """Take the next batch; see `Plain.take`."""
        try:
            return super().take()
        except StopIteration:
            self._is_told_end = True
            raise

    def before(self) -> _Before | None:
        """Return the loader's point after the batch that was returned last; None: that is its present point."""
        if self.entries:
            before: _Before = self.entries[0][0]
            return before
        # The loader is exhausted, and the user has not received `StopIteration` yet.
        return self.point if self.is_over and not self._is_told_end else None


def _last_of(loader: Any) -> BatchInfo | BaseException | None:
    try:
        found: BatchInfo | None = loader.last
    except (AttributeError, LookupError) as error:
        return error
    return found


class _AcceleratorDevice:
    """Copies batches on a separate stream; see the module docstring. The `mpqueue.loader.ahead.Mover`."""

    def __init__(self, device: torch.device, *, dense: bool = False) -> None:
        module: Any = getattr(torch, device.type, None)
        if not hasattr(module, "Stream") or not hasattr(module, "current_stream"):
            raise RuntimeError(f'prefetch needs a device with streams, and torch has no streams for "{device}"')
        self._device, self._module, self._dense = device, module, dense
        self._stream = module.Stream(device=device)

    def start(self, batch: Any) -> _Moving:
        """Start copying a batch."""
        with self._module.stream(self._stream):
            moved = moved_to(self._device, batch, dense=self._dense)
            event = self._stream.record_event()
        return _Moving(moved, batch, event)

    def finish(self, moving: _Moving) -> Any:
        """Make the current stream wait for the copies, on the device, and return the batch."""
        current = self._module.current_stream(self._device)
        current.wait_event(moving.event)
        # The memory belongs to the copying stream. Without this, the allocator reuses it for the next copy as soon as
        # the last reference is dropped, while the training's stream may still read it.
        map_tensors(moving.batch, lambda value: _record(value, current))
        return moving.batch

    def is_done(self, moving: _Moving) -> bool:
        """Return whether the copies are done."""
        return bool(moving.event.query())

    def release(self, moving: _Moving) -> None:
        """Drop the batch in host memory, so that its slot may be written again."""
        moving.host = None


def _record(value: Any, stream: Any) -> Any:
    parts = _PARTS_OF.get(getattr(value, "layout", None))
    if parts is not None:  # torch cannot record these tensors as a whole
        for part in parts:
            getattr(value, part)().record_stream(stream)
        return value
    with contextlib.suppress(AttributeError):  # a user's class with `to`, but without `record_stream`
        value.record_stream(stream)
    return value


def moved_to(device: torch.device, batch: Any, *, dense: bool) -> Any:
    """Return a batch on a device.

    Args:
        device: The device.
        batch: The batch in host memory.
        dense: Convert sparse and ragged tensors on the device.
    """

    def move(value: Any) -> Any:
        moved = value.to(device, non_blocking=True)
        return moved.to_dense() if dense and getattr(moved, "layout", None) in SPARSE else moved

    def pad(ragged: Ragged[Any]) -> torch.Tensor:
        # In host memory, where the answer needs no waiting.
        return to_padded(Ragged(*map(move, ragged)), longest(ragged.offsets))

    return map_tensors(batch, move, pad if dense else None)


def map_tensors(
    value: Any, function: Callable[[Any], Any], of_ragged: Callable[[Ragged[Any]], Any] | None = None
) -> Any:  # fmt: skip
    """Return a batch with ``function`` applied to all objects that can be moved to a device.

    Args:
        value: The batch.
        function: The function.
        of_ragged: Applied to each `Ragged` of tensors instead of ``function``.
    """
    if of_ragged is not None and isinstance(value, Ragged) and isinstance(value.values, torch.Tensor):
        return of_ragged(value)
    if isinstance(value, torch.Tensor) or hasattr(type(value), "to"):
        return function(value)
    if isinstance(value, dict):
        return type(value)((key, map_tensors(each, function, of_ragged)) for key, each in value.items())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(each, function, of_ragged) for each in value))
    if type(value) in (list, tuple):
        return type(value)(map_tensors(each, function, of_ragged) for each in value)
    return value
