"""`prefetch`: the batches of a loader on a device, copied there ahead of use on a separate stream.

    loader       returns a batch; with ``pin_memory=True`` its tensors are in pinned slots, or are pinned by a copy
    copying      `Tensor.to(device, non_blocking=True)` on the stream of this iterator, followed by an event
    next         the stream of the training waits for that event, on the device; this process does not wait
    the tensors  `record_stream` informs the allocator that the training's stream uses them, so that it does not reuse
                 their memory too early
    the batch    in host memory is dropped when its copies are done; its slot is not written before, see `pinned.py`

``depth`` batches are copied ahead of the returned one. On the CPU no copy is needed: each batch is returned
unchanged when it is requested, and none is taken ahead.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, NamedTuple

import torch

from mpqueue.plan.batch_info import BatchInfo
from mpqueue.plan.batch_types import Batch, Batch_co, MaybeNone
from mpqueue.plan.checks import integer
from mpqueue.plan.signatures import suggests_keywords
from mpqueue.system.exceptions import matches
from mpqueue.system.interrupts import not_of_handler


class _Moving(NamedTuple):
    """A batch that is being copied.

    Attributes:
        batch: The batch on the device.
        host: The batch in host memory, which must exist until the copies are done.
        event: Completes when the copies are done.
    """

    batch: Any
    host: Any
    event: Any


class _Coming(NamedTuple):
    """The next outcome of a loader.

    Attributes:
        outcome: A batch that is being copied; the error that was raised instead; None: the end.
        place: The loader's state before this outcome was requested; None: the loader has no states.
        last: Returns the loader's ``last`` before this outcome was requested; None if the loader has none.
    """

    outcome: _Moving | BaseException | None
    place: Any
    last: Callable[[], BatchInfo | None] | None


@suggests_keywords
def prefetch(loader: Iterable[Batch], device: Any, depth: int = 2) -> "DevicePrefetcher[Batch]":
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

    Returns:
        An iterable; each ``for`` loop is a pass over the loader. Batches keep their structure: tuples, named tuples,
        lists and dicts are traversed, and objects with a method ``to`` are moved. ``state_dict()``,
        ``load_state_dict(state)`` and ``last`` are the loader's, and count the returned batches. Batches that were
        copied ahead are returned again after a resume.

    Raises:
        TypeError: ``loader`` is not iterable, or ``depth`` is not an integer.
        ValueError: ``depth`` is below 1.
        RuntimeError: torch cannot use the device.

    Follows: `mpqueue.jax.device_iterator`; the prefetchers in NVIDIA's examples, with a stream for the copies.
    """
    integer(1)("depth", depth)
    if not hasattr(loader, "__iter__"):
        raise TypeError(f"prefetch needs a loader or an iterable of batches, got {type(loader).__name__}")
    where = torch.device(device)
    return DevicePrefetcher(loader, where, None if where.type == "cpu" else _AcceleratorDevice(where), int(depth))


class DevicePrefetcher(Generic[Batch_co]):
    """The iterable of `prefetch`.

    Args:
        loader: The loader of the batches.
        device: The target.
        mover: Moves the batches; None: they are returned unchanged.
        depth: Number of batches copied ahead.
    """

    def __init__(
        self, loader: Iterable[Batch_co], device: torch.device, mover: "_AcceleratorDevice | None", depth: int
    ) -> None:
        self.loader, self.device, self.depth = loader, device, depth
        self._mover = mover
        self._pass: PrefetchedPass | None = None  # the latest pass

    def __iter__(self) -> Iterator[Batch_co]:
        """Begin a pass over the loader."""
        if self._mover is None:
            return iter(self.loader)
        self._pass = PrefetchedPass(self.loader, self._mover, self.depth)
        return self._pass

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]  # the caller gets the loader's own TypeError

    def state_dict(self) -> dict[str, Any]:
        """Return the loader's state after the last returned batch."""
        place = None if self._pass is None else self._pass.place()
        found: dict[str, Any] = self.loader.state_dict() if place is None else place  # type: ignore[attr-defined]
        return found

    @property
    def last(self) -> BatchInfo | MaybeNone:
        """The place and the samples of the batch that was returned last; see `DataLoader.last`.

        Raises:
            LookupError: The samples are unknown; see `DataLoader.last`.
        """
        last = None if self._pass is None else self._pass.last()
        found: BatchInfo | None = self.loader.last if last is None else last()  # type: ignore[attr-defined]
        return found

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume the next pass from a state of the loader."""
        self._pass = None
        self.loader.load_state_dict(state)  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return f"<batches of {self.loader!r} on {self.device}>"


class PrefetchedPass(Iterator[Any]):
    """One pass: takes batches from the loader, starts their copies, and returns them in order.

    An error of the loader is raised after all earlier batches were returned.
    """

    def __init__(self, loader: Any, mover: "_AcceleratorDevice", depth: int) -> None:
        self._loader, self._mover, self._depth = loader, mover, depth
        self._has_states = hasattr(loader, "state_dict")
        self._batches = iter(loader)
        self._ahead: deque[_Coming] = deque()
        self._returned: deque[_Moving] = deque()  # returned batches that are still being copied

    def __next__(self) -> Any:
        while self._returned and self._mover.is_done(self._returned[0]):
            self._returned.popleft()
        self._fill(self._depth + 1)  # before a batch is removed, so that an interrupt here loses none
        outcome: Any = self._ahead[0].outcome
        if outcome is None:
            self._has_states = False  # from here on, the loader itself has reached the end, and its state is right
            raise StopIteration
        self._ahead.popleft()
        if matches(outcome, BaseException):
            raise outcome
        # Keep the host batch until the copies are done: its slot must not be written before.
        self._returned.append(outcome)
        return self._mover.finish(outcome)

    def _fill(self, number: int) -> None:
        while len(self._ahead) < number:
            if self._ahead and type(self._ahead[-1].outcome) is not _Moving:
                return  # the end, or an error; the loader continues after the error has been raised
            # Before the batch is requested, so that a resume from this state returns the batch again.
            place = self._loader.state_dict() if self._has_states else None
            last = _last_of(self._loader) if self._has_states else None
            outcome: _Moving | BaseException | None = None
            try:
                outcome = self._mover.start(next(self._batches))
            except StopIteration:
                pass
            except not_of_handler(BaseException) as error:
                outcome = error
            self._ahead.append(_Coming(outcome, place, last))

    def place(self) -> Any:
        """Return the loader's state after the last returned batch; None: that is the loader's present state."""
        return self._ahead[0].place if self._ahead and self._has_states else None

    def last(self) -> Callable[[], BatchInfo | None] | None:
        """Return a function for the batch that was returned last; None: it is the loader's present one, or unknown."""
        return self._ahead[0].last if self._ahead and self._has_states else None


def _last_of(loader: Any) -> Callable[[], BatchInfo | None] | None:
    later: Callable[[], Callable[[], BatchInfo | None]] | None = getattr(loader, "last_later", None)
    if later is not None:  # a `mpqueue.Loader`, which would compute the samples of each batch
        return later()
    try:
        found = loader.last
    except (AttributeError, LookupError):  # `DevicePrefetcher.last` gets the same error from the loader, and raises it
        return None
    return lambda: found


class _AcceleratorDevice:
    """Copies batches on a separate stream; see the module docstring."""

    def __init__(self, device: torch.device) -> None:
        module: Any = getattr(torch, device.type, None)
        if not hasattr(module, "Stream") or not hasattr(module, "current_stream"):
            raise RuntimeError(f'prefetch needs a device with streams, and torch has no streams for "{device}"')
        self._device, self._module = device, module
        self._stream = module.Stream(device=device)

    def start(self, batch: Any) -> _Moving:
        """Start copying a batch."""
        with self._module.stream(self._stream):
            moved = map_tensors(batch, lambda value: value.to(self._device, non_blocking=True))
            event = self._stream.record_event()
        return _Moving(moved, batch, event)

    def finish(self, moving: _Moving) -> Any:
        """Make the current stream wait for the copies, on the device, and return the batch."""
        current = self._module.current_stream(self._device)
        current.wait_event(moving.event)
        # The memory belongs to the copying stream. Without this, the allocator reuses it for the next copy as soon as
        # the last reference is gone, while the training's stream may still read it.
        map_tensors(moving.batch, lambda value: _record(value, current))
        return moving.batch

    def is_done(self, moving: _Moving) -> bool:
        """Return whether the copies are done."""
        return bool(moving.event.query())


def _record(value: Any, stream: Any) -> Any:
    with contextlib.suppress(AttributeError):  # a user's class with `to`, but without `record_stream`
        value.record_stream(stream)
    return value


def map_tensors(value: Any, function: Callable[[Any], Any]) -> Any:
    """Return a batch with ``function`` applied to all objects that can be moved to a device."""
    if isinstance(value, torch.Tensor) or hasattr(type(value), "to"):
        return function(value)
    if isinstance(value, dict):
        return type(value)((key, map_tensors(each, function)) for key, each in value.items())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(each, function) for each in value))
    if type(value) in (list, tuple):
        return type(value)(map_tensors(each, function) for each in value)
    return value
