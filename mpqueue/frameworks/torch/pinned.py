"""Pinned slots: a GPU copies batches straight out of the ring.

    a slot's first view     its memory is registered with CUDA: `tensor.is_pinned()` holds
    .to(device, non_blocking=True)    one copy by the GPU, out of the slot
    the last view is gone   an event is recorded on the streams that may still copy
    the events have passed  (they are asked, never waited for) the slot may be written again

So there is no thread that pins, and no copy into pinned memory. What does not lie in a slot (private copies, tensors
inside of pickled objects) is pinned by torch's own function.

*Registration.* A copy must not reach over two registrations. So a slot is registered as one piece, when it is first
handed out, and anew when it has grown; nobody reads it at that moment. Before its memory goes back to the system it is
unregistered. Where CUDA refuses, the slot stays plain memory, torch's function copies out of it, and the log says so
once.

*Streams.* Those that copy are the ones that were current in the time of the lease. All streams are noted that this
process has made current since the first pinned ring (by ``torch.cuda.stream``, ``torch.cuda.set_stream``, or a ``with``
of the stream itself), and those that are current when a batch is handed out and when its last view goes. An event on
one more stream than needed costs a microsecond. To be told, ``set_stream`` and the streams' ``__enter__`` are replaced,
which costs each call of them 0.6 µs. Without that the usual prefetcher gets wrong data: it asks for a batch outside of
its copying stream, copies inside of it, and drops the batch outside again, so that the stream is never seen.

*The end.* What is still read when the ring is closed stays registered, and mapped, until its events have passed, which
the next pinned ring and the end of the process look at. In a forked child nothing is unregistered: the registrations
are the parent's.
"""

import atexit
import functools
import os
from typing import Any

import numpy as np
import torch

from mpqueue.memory.segment import Segment
from mpqueue.memory.slots import PAGE, Slot
from mpqueue.system.log import warn

_PORTABLE = 1  # cudaHostRegisterPortable: pinned for the contexts of all devices


class _Piece:
    """The registered memory of one slot.

    Attributes:
        nbytes: From the beginning of the slot on.
        events: What has to pass before the slot may be written: None while there are views of it.
    """

    __slots__ = ("address", "events", "nbytes")

    def __init__(self, address: int, nbytes: int) -> None:
        self.address, self.nbytes = address, nbytes
        self.events: list[Any] | None = []


class PinnedSlots:
    """The guard of a ring whose slots are registered with CUDA.

    Args:
        cuda: The calls.
        segment: The ring's memory.
    """

    def __init__(self, cuda: "TorchCuda", segment: Segment) -> None:
        self._cuda, self._pid = cuda, os.getpid()
        self._memory: Any = np.frombuffer(segment.memory, np.uint8)  # keeps it mapped
        self._address = int(self._memory.__array_interface__["data"][0])
        self._pieces: dict[int, _Piece] = {}
        self._has_warned = False
        self._leases: object = None
        _sweep()

    def admit(self, slot: Slot) -> None:
        """Have a slot registered as far as it reaches; views of it are about to be handed out."""
        self._cuda.note_current()
        nbytes = -(-slot.high_water // PAGE) * PAGE
        piece = self._pieces.get(slot.number)
        if piece is None or piece.nbytes < nbytes:
            self.discard(slot)
            # As one piece: a copy must not reach over two registrations.
            piece = self._register(slot, nbytes)
        if piece is not None:
            # Not free, whatever passes, until `end` has noted who may still copy.
            piece.events = None

    def _register(self, slot: Slot, nbytes: int) -> _Piece | None:
        address = self._address + slot.offset
        trouble = self._cuda.register(address, nbytes)
        if trouble:
            if not self._has_warned:
                self._has_warned = True
                warn(f"CUDA does not pin {nbytes:,} bytes of the ring ({trouble}): batches are pinned by a copy")
            return None
        piece = self._pieces[slot.number] = _Piece(address, nbytes)
        return piece

    def end(self, slot: Slot) -> None:
        """The last view of a slot is gone: note where the streams are."""
        piece = self._pieces.get(slot.number)
        if piece is not None and os.getpid() == self._pid:
            self._cuda.note_current()
            # The batch may have been copied on this stream, which was made current before there was a ring.
            piece.events = self._cuda.record()

    def is_free(self, slot: Slot) -> bool:
        """Return whether no copy out of the slot is under way."""
        piece = self._pieces.get(slot.number)
        return piece is None or _has_passed(piece)

    def discard(self, slot: Slot) -> None:
        """Unregister a slot that nobody reads."""
        piece = self._pieces.pop(slot.number, None)
        if piece is not None:
            self._unregister(piece)

    def close(self, leases: object) -> None:
        """Unregister all slots that nobody reads; those that are still read, when they are no more."""
        if not self.has_let_go():
            self._leases = leases  # or `end` would not be called any more
            _leftovers.append(self)

    def has_let_go(self) -> bool:
        """Unregister the slots of a closed ring that nobody reads; return True if there are no others."""
        for number, piece in list(self._pieces.items()):
            if _has_passed(piece):
                del self._pieces[number]
                self._unregister(piece)
        if self._pieces:
            return False
        self._memory = self._leases = None
        return True

    def _unregister(self, piece: _Piece) -> None:
        if os.getpid() == self._pid:
            self._cuda.unregister(piece.address)


def _has_passed(piece: _Piece) -> bool:
    return piece.events is not None and all(event.query() for event in piece.events)


_leftovers: list[PinnedSlots] = []  # of rings that are closed, and read


def _sweep() -> None:
    """Unregister what the rings of before have left, as far as it is read no more."""
    _leftovers[:] = [slots for slots in _leftovers if not slots.has_let_go()]


atexit.register(_sweep)


class TorchCuda:
    """CUDA, by way of torch; it notes the streams that are made current."""

    def __init__(self) -> None:
        self._cudart = torch.cuda.cudart()
        self._streams: dict[tuple[int, int], Any] = {}
        self._note_what_becomes_current()

    def register(self, address: int, nbytes: int) -> str:
        """Pin memory; return what is in the way, or nothing."""
        code = self._cudart.cudaHostRegister(address, nbytes, _PORTABLE)
        return "" if int(code) == 0 else f"error {int(code)}"

    def unregister(self, address: int) -> None:
        """Undo it."""
        self._cudart.cudaHostUnregister(address)

    def note_current(self) -> None:
        """Note the stream that is current in this thread."""
        self.note(torch.cuda.current_stream())

    def note(self, stream: Any) -> None:
        """Note a stream."""
        self._streams[stream.device_index, stream.stream_id] = stream

    def record(self) -> list[Any]:
        """Record an event on each stream that was noted."""
        events: list[Any] = []
        for key, stream in list(self._streams.items()):
            event = torch.cuda.Event()
            try:
                event.record(stream)
            except RuntimeError:  # a stream of another library, which it has destroyed
                del self._streams[key]
            else:
                events.append(event)
        return events

    def _note_what_becomes_current(self) -> None:
        set_stream, enter = torch.cuda.set_stream, torch.cuda.Stream.__enter__

        @functools.wraps(set_stream)
        def noting_set_stream(stream: Any) -> Any:
            if stream is not None:
                self.note(stream)
            return set_stream(stream)

        def noting_enter(stream: Any) -> Any:
            self.note(stream)
            return enter(stream)

        torch.cuda.set_stream = noting_set_stream
        torch.cuda.Stream.__enter__ = noting_enter


@functools.cache
def torch_cuda() -> TorchCuda:
    """Return CUDA as this process has it."""
    return TorchCuda()


def make_pinned(segment: Segment) -> PinnedSlots:
    """Make the guard of a ring; see `PinnedSlots`."""
    return PinnedSlots(torch_cuda(), segment)
