"""`prefetch`: the batches of a loader on a device, copied there ahead of use on a stream of its own.

    loader       gives a batch; with ``pin_memory=True`` its tensors lie in pinned slots, or are pinned by a copy
    copying      `Tensor.to(device, non_blocking=True)` on a stream of this iterator, and an event behind it
    next         the stream of the training waits for that event, on the device; this process waits for nothing
    the tensors  are told (`record_stream`) that the training's stream uses them, so that their memory is not given away
    the batch    of the host is dropped when its copies have passed; its slot is not written before, see `pinned.py`

``depth`` batches are on their way ahead of the one that was handed out. On the CPU nothing has to be moved: each batch
is handed out as it is, when it is asked for, and none is taken ahead.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch


class _Moving(NamedTuple):
    """A batch on its way.

    Attributes:
        batch: On the device.
        host: What it is copied from, which must stay.
        event: It has passed when the copies have.
    """

    batch: Any
    host: Any
    event: Any


class _Coming(NamedTuple):
    """The next batch of a loader.

    Attributes:
        outcome: A batch on its way; what was raised in its place; None: the end.
        place: The loader's state before it was asked for this; None: it tells none.
    """

    outcome: _Moving | Exception | None
    place: Any


def prefetch(loader: Iterable[Any], device: Any, depth: int = 2) -> "DevicePrefetcher":
    """Iterate over the batches of a loader on a device, to which they are copied ahead of use.

    Example:
        On a GPU, where there is one::

            import torch
            import mpqueue

            data = torch.utils.data.TensorDataset(torch.arange(8.0))
            device = "cuda" if torch.cuda.is_available() else "cpu"
            loader = mpqueue.torch.DataLoader(data, batch_size=4, num_workers=1, pin_memory=device == "cuda")
            batches = mpqueue.torch.prefetch(loader, device)
            assert [float(batch.sum()) for epoch in range(2) for batch, in batches] == [6, 22, 6, 22]

    Args:
        loader: A `DataLoader` with ``pin_memory=True``, or any other iterable of batches of tensors. (Without pinned
            memory a copy holds up this process.)
        device: Where to: "cuda", "cuda:1", a `torch.device`. "cpu": the batches are given as they are.
        depth: So many batches are on their way ahead of the one in use. More rides out slow batches, fewer saves memory
            of the device.

    Returns:
        An iterable; each ``for`` is a pass over the loader. Batches have the structure that they had: tuples, named
        tuples, lists and dicts are looked into, and what has a method ``to`` is moved. ``state_dict()`` and
        ``load_state_dict(state)`` are the loader's, of what was handed out: what was on its way comes again.

    Raises:
        TypeError: ``loader`` cannot be iterated over, or ``depth`` is no integer.
        ValueError: ``depth`` is below 1.
        RuntimeError: torch cannot use the device.

    Follows: `mpqueue.jax.device_iterator`; the prefetchers of NVIDIA's examples, with a stream for the copies.
    """
    if not hasattr(depth, "__index__") or isinstance(depth, bool):
        raise TypeError(f"depth must be an integer number of batches, got {depth!r}")
    if depth < 1:
        raise ValueError(f"depth must be 1 or more, got {depth}")
    if not hasattr(loader, "__iter__"):
        raise TypeError(f"prefetch takes a loader, or an iterable of batches; got {type(loader).__name__}")
    where = torch.device(device)
    return DevicePrefetcher(loader, where, None if where.type == "cpu" else _AcceleratorDevice(where), int(depth))


class DevicePrefetcher:
    """The iterable of `prefetch`.

    Args:
        loader: Whose batches.
        device: Where to.
        mover: Moves them; None: they are given as they are.
        depth: So many ahead.
    """

    def __init__(
        self, loader: Iterable[Any], device: torch.device, mover: "_AcceleratorDevice | None", depth: int
    ) -> None:
        self.loader, self.device, self.depth = loader, device, depth
        self._mover = mover
        self._pass: PrefetchedPass | None = None  # the latest one

    def __iter__(self) -> Iterator[Any]:
        """Begin a pass over the loader."""
        if self._mover is None:
            return iter(self.loader)
        self._pass = PrefetchedPass(self.loader, self._mover, self.depth)
        return self._pass

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]  # the loader's own TypeError is what the caller is to see

    def state_dict(self) -> dict[str, Any]:
        """Return the loader's state behind the batch that was handed out last."""
        place = None if self._pass is None else self._pass.place()
        found: dict[str, Any] = self.loader.state_dict() if place is None else place  # type: ignore[attr-defined]
        return found

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Have the next pass go on from a state of the loader."""
        self._pass = None
        self.loader.load_state_dict(state)  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return f"<prefetch of {self.loader!r} to {self.device}>"


class PrefetchedPass(Iterator[Any]):
    """One pass: batches are taken from the loader and set on their way, and handed out in order.

    An error of the loader is kept until all that came before it was handed out.
    """

    def __init__(self, loader: Any, mover: "_AcceleratorDevice", depth: int) -> None:
        self._loader, self._mover, self._depth = loader, mover, depth
        self._tells = hasattr(loader, "state_dict")
        self._batches = iter(loader)
        self._ahead: deque[_Coming] = deque()
        self._handed_out: deque[_Moving] = deque()  # while they are copied from the host

    def __next__(self) -> Any:
        while self._handed_out and self._mover.is_done(self._handed_out[0]):
            self._handed_out.popleft()
        self._fill(self._depth + 1)  # first: what is interrupted here loses nothing of what is on its way
        outcome = self._ahead[0].outcome
        if outcome is None:
            self._tells = False  # from here on the loader itself is at the end
            raise StopIteration
        self._ahead.popleft()
        if isinstance(outcome, Exception):
            raise outcome
        # What it is copied from stays until the copies have passed: its slot must not be written before.
        self._handed_out.append(outcome)
        return self._mover.finish(outcome)

    def _fill(self, number: int) -> None:
        while len(self._ahead) < number:
            if self._ahead and not isinstance(self._ahead[-1].outcome, _Moving):
                return  # the end; or an error, behind which the loader goes on when it was raised
            # Before the batch is asked for: a state of here gives it once more.
            place = self._loader.state_dict() if self._tells else None
            outcome: _Moving | Exception | None = None
            try:
                outcome = self._mover.start(next(self._batches))
            except StopIteration:
                pass
            except Exception as error:
                outcome = error
            self._ahead.append(_Coming(outcome, place))

    def place(self) -> Any:
        """Return the loader's state behind what was handed out; None: that is where the loader is."""
        return self._ahead[0].place if self._ahead and self._tells else None


class _AcceleratorDevice:
    """Copies batches on a stream of its own; see the module's head."""

    def __init__(self, device: torch.device) -> None:
        module: Any = getattr(torch, device.type, None)
        if not hasattr(module, "Stream") or not hasattr(module, "current_stream"):
            raise RuntimeError(f'prefetch copies on a stream of the device, and torch has none for "{device}"')
        self._device, self._module = device, module
        self._stream = module.Stream(device=device)

    def start(self, batch: Any) -> _Moving:
        """Begin to copy a batch."""
        with self._module.stream(self._stream):
            moved = map_tensors(batch, lambda value: value.to(self._device, non_blocking=True))
            event = self._stream.record_event()
        return _Moving(moved, batch, event)

    def finish(self, moving: _Moving) -> Any:
        """Have the current stream wait for the copies, on the device."""
        current = self._module.current_stream(self._device)
        current.wait_event(moving.event)
        # The memory belongs to the copying stream: without this the allocator gives it to the next copy as soon as the
        # last reference is gone, while the training's stream still reads it.
        map_tensors(moving.batch, lambda value: _record(value, current))
        return moving.batch

    def is_done(self, moving: _Moving) -> bool:
        """Return whether the copies have passed."""
        return bool(moving.event.query())


def _record(value: Any, stream: Any) -> Any:
    with contextlib.suppress(AttributeError):  # a class of a user that has `to`, and no streams
        value.record_stream(stream)
    return value


def map_tensors(value: Any, function: Callable[[Any], Any]) -> Any:
    """Return a batch with ``function`` of all that can be moved in it."""
    if isinstance(value, torch.Tensor) or hasattr(type(value), "to"):
        return function(value)
    if isinstance(value, dict):
        return type(value)((key, map_tensors(each, function)) for key, each in value.items())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(each, function) for each in value))
    if type(value) in (list, tuple):
        return type(value)(map_tensors(each, function) for each in value)
    return value
