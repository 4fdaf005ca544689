"""Pinned slots: a GPU copies batches directly out of the ring.

    a slot's first view               its memory is registered with CUDA: `tensor.is_pinned()` is true
    .to(device, non_blocking=True)    one copy by the GPU, out of the slot
    the last view is deleted          an event is recorded on the streams that may still copy
    the events have completed         (queried without blocking) the slot may be written again
    too many events are pending       the next batch waits for the oldest one: the program runs ahead of the GPU

So no thread pins memory, and no data is copied into pinned memory. Data outside a slot (private copies, tensors inside
pickled objects) is pinned by torch's own function.

*Registration.* A copy must not span two registrations. So a slot is registered as one piece when it is first delivered,
and again after it has grown; no reader uses it at that moment. It is unregistered before its memory is returned to the
system. If CUDA refuses the registration, the slot remains plain memory, torch's function copies out of it, and a
warning is logged once.

*Streams.* A batch may be copied on any stream that was current during its lease. All streams are recorded that this
process has made current since the first pinned ring (by ``torch.cuda.stream``, ``torch.cuda.set_stream``, or a ``with``
of the stream itself), and the streams current when a batch is delivered and when its last view is dropped. An event on
a surplus stream costs a microsecond. For this, ``set_stream`` and the streams' ``__enter__`` are replaced, which costs
0.6 µs per call. Without the replacement, typical prefetchers would get wrong data: they request a batch outside their
copying stream, copy inside it, and drop the batch outside again, so that the stream would never be seen.

*The end.* Slots that are still being read when the ring is closed remain registered and mapped until their events have
completed. The next pinned ring and the end of the process check this. A forked child must not unregister, because the
registrations belong to its parent.
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
        nbytes: Size in bytes, from the beginning of the slot.
        events: Events that must complete before the slot may be written; None while there are views of it.
    """

    __slots__ = ("address", "events", "nbytes")

    def __init__(self, address: int, nbytes: int) -> None:
        self.address, self.nbytes = address, nbytes
        self.events: list[Any] | None = []


class PinnedSlots:
    """The guard of a ring with slots registered with CUDA.

    Args:
        cuda: The CUDA functions.
        segment: The ring's memory.
    """

    def __init__(self, cuda: "TorchCuda", segment: Segment) -> None:
        self._cuda, self._pid = cuda, os.getpid()
        self._memory: Any = np.frombuffer(segment.memory, np.uint8)  # keeps the segment mapped
        self._address = int(self._memory.__array_interface__["data"][0])
        self._pieces: dict[int, _Piece] = {}
        self._has_warned = False
        self._leases: object = None
        _sweep()

    def admit(self, slot: Slot) -> None:
        """Register the used part of a slot, before views of it are delivered."""
        self._cuda.note_current()
        nbytes = -(-slot.high_water // PAGE) * PAGE
        piece = self._pieces.get(slot.index)
        if piece is None or piece.nbytes < nbytes:
            self.discard(slot)
            # As one piece: a copy must not span two registrations.
            piece = self._register(slot, nbytes)
        if piece is not None:
            # Not free, even if all events complete, until `end` has recorded the streams that may still copy.
            piece.events = None

    def _register(self, slot: Slot, nbytes: int) -> _Piece | None:
        address = self._address + slot.offset
        error = self._cuda.register(address, nbytes)
        if error:
            if not self._has_warned:
                self._has_warned = True
                warn(f"CUDA cannot pin {nbytes:,} bytes of the ring ({error}): batches are copied to pinned memory")
            return None
        piece = self._pieces[slot.index] = _Piece(address, nbytes)
        return piece

    def end(self, slot: Slot) -> None:
        """Record events on the known streams, after the last view of a slot was deleted."""
        piece = self._pieces.get(slot.index)
        if piece is not None and os.getpid() == self._pid:
            self._cuda.note_current()
            # The batch may have been copied on the current stream, even if it became current before the first ring.
            piece.events = self._cuda.record()

    def is_free(self, slot: Slot) -> bool:
        """Return whether no copy out of the slot is pending."""
        piece = self._pieces.get(slot.index)
        return piece is None or _has_passed(piece)

    def wait(self, slot: Slot) -> None:
        """Block until no copy out of the slot is pending."""
        for event in self._pieces[slot.index].events or ():
            event.synchronize()

    def discard(self, slot: Slot) -> None:
        """Unregister a slot without readers."""
        piece = self._pieces.pop(slot.index, None)
        if piece is not None:
            self._unregister(piece)

    def close(self, leases: object) -> None:
        """Unregister all slots without readers now, and the others when their events have completed."""
        if not self.release():
            self._leases = leases  # keep a reference, so that `end` is called
            _leftovers.append(self)

    def release(self) -> bool:
        """Unregister the slots of a closed ring that have no readers; return True if all are released."""
        for slot_index, piece in list(self._pieces.items()):
            if _has_passed(piece):
                del self._pieces[slot_index]
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


_leftovers: list[PinnedSlots] = []  # of closed rings with slots that are still being read


def _sweep() -> None:
    """Unregister leftover slots of closed rings that are not read any longer."""
    _leftovers[:] = [slots for slots in _leftovers if not slots.release()]


atexit.register(_sweep)


class TorchCuda:
    """CUDA functions, called through torch. Records all streams that become current."""

    def __init__(self) -> None:
        self._cudart = torch.cuda.cudart()
        self._streams: dict[tuple[int, int], Any] = {}
        self._note_current_streams()

    def register(self, address: int, nbytes: int) -> str:
        """Pin memory; return the error, or an empty string."""
        code = self._cudart.cudaHostRegister(address, nbytes, _PORTABLE)
        return "" if int(code) == 0 else f"error {int(code)}"

    def unregister(self, address: int) -> None:
        """Unpin memory."""
        self._cudart.cudaHostUnregister(address)

    def note_current(self) -> None:
        """Record the stream that is current in this thread."""
        self.note(torch.cuda.current_stream())

    def note(self, stream: Any) -> None:
        """Record a stream."""
        self._streams[stream.device_index, stream.stream_id] = stream

    def record(self) -> list[Any]:
        """Record an event on each known stream, and return the events."""
        events: list[Any] = []
        for key, stream in list(self._streams.items()):
            event = torch.cuda.Event(blocking=True)  # `wait` must not take a CPU from the workers
            try:
                event.record(stream)
            except RuntimeError:  # another library has created and destroyed this stream
                del self._streams[key]
            else:
                events.append(event)
        return events

    def _note_current_streams(self) -> None:
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
    """Return the CUDA functions of this process."""
    return TorchCuda()


def make_pinned(segment: Segment) -> PinnedSlots:
    """Return the guard of a ring; see `PinnedSlots`."""
    return PinnedSlots(torch_cuda(), segment)
