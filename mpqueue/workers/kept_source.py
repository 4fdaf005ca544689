"""The large buffers of a source, kept in shared memory: copied once, mapped by all processes of a pool.

    trainer             copies what is new of an image into snapshots, `keep`, and sends their descriptors with the
                        places of all buffers; later it compares the source with what lies there, byte by byte
    fork server, workers    map the snapshots: their pages are the same memory in all of these processes

The receivers map copy-on-write: what a worker writes into an array is its own, as if it had a copy, and the snapshot
stays as it was sent. Nobody writes into it. So it is the trainer's record of what the workers have, too, and no digest
is needed, which takes six times as long as to compare.

A large buffer has a snapshot of its own, so that its memory is free when another version of it takes its place; small
ones share one. A snapshot has no name: the kernel frees it when nobody has it open or mapped any more, however those
processes ended. The trainer has it open as long as its fork server lives with that source.
"""

import errno
import zlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from mpqueue.memory.layout import Array
from mpqueue.memory.snapshot import Snapshot, map_snapshot

if TYPE_CHECKING:  # of the trainer: the fork server would import cloudpickle for them
    from mpqueue.workers.source_send import Patch, SourceImage

_SHARE = 8  # a buffer of this part of what is new, or more, has a snapshot of its own
_MAX_SNAPSHOTS = 32  # then all that is still used goes into new ones: each costs every process a descriptor
_NUM_SAMPLES, _SAMPLE_BYTES = 8, 64


class BufferPlace(NamedTuple):
    """The place of a buffer in shared memory.

    Attributes:
        snapshot: Number of the snapshot.
        offset: Where it begins there.
        nbytes: Its size.
        sample: A checksum of some of its bytes: where it differs, so do the buffers.
    """

    snapshot: int
    offset: int
    nbytes: int
    sample: int


class KeptSource(NamedTuple):
    """A version of a source, as a fork server has it.

    Attributes:
        data: The pickle.
        places: Of its buffers.
        snapshots: By number.
    """

    data: bytes
    places: list[BufferPlace]
    snapshots: dict[int, Snapshot]

    def is_same(self, image: "SourceImage") -> bool:
        """Return whether an image has the same pickle and buffers."""
        is_alike = self.data == image.data and len(self.places) == len(image.buffers)
        pairs = enumerate(zip(self.places, image.buffers, strict=False))
        return is_alike and all(number in image.constant or self._is_at(*pair) for number, pair in pairs)

    def find(self, image: "SourceImage") -> dict[int, int]:
        """Return which buffers of an image are here, by their number there the number here."""
        known = {(place.nbytes, place.sample): number for number, place in enumerate(self.places)}
        found = {}
        for number, buffer in enumerate(image.buffers):
            # As a rule it has kept its number; a source that has dropped one array moves all that follow.
            for here in (number, known.get((buffer.nbytes, _sample(buffer)), -1)):
                if 0 <= here < len(self.places) and self._is_at(self.places[here], buffer):
                    found[number] = here
                    break
        return found

    def _is_at(self, place: BufferPlace, buffer: memoryview) -> bool:
        return place.nbytes == buffer.nbytes and self.snapshots[place.snapshot].has(place.offset, buffer)


NOTHING = KeptSource(b"", [], {})


def keep(patch: "Patch", known: KeptSource) -> KeptSource:
    """Copy what is new into shared memory, and return the version that a patch makes of another.

    Raises:
        OSError: There is not so much memory, or there are no descriptors.
    """
    new, places = dict(patch.new), {number: known.places[here] for number, here in patch.old.items()}
    if len({place.snapshot for place in places.values()}) > _MAX_SNAPSHOTS:
        fds = {number: snapshot.fileno() for number, snapshot in known.snapshots.items()}
        new |= {number: buffer.data for number, buffer in zip(places, mapped(places.values(), fds), strict=True)}
        places.clear()
    snapshots = {place.snapshot: known.snapshots[place.snapshot] for place in places.values()}
    for group in _groups(new):
        snapshot = Snapshot([new[number] for number in group])
        snapshots[snapshot.number] = snapshot
        for number, offset in zip(group, snapshot.offsets, strict=True):
            places[number] = BufferPlace(snapshot.number, offset, new[number].nbytes, _sample(new[number]))
    return KeptSource(patch.data, [places[number] for number in sorted(places)], snapshots)


def _groups(new: Mapping[int, memoryview]) -> list[list[int]]:
    """Return which buffers are to have a snapshot together."""
    share = sum(buffer.nbytes for buffer in new.values()) // _SHARE
    alone = [[number] for number, buffer in new.items() if buffer.nbytes >= share]
    together = [number for number, buffer in new.items() if buffer.nbytes < share]
    return [*alone, together] if together else alone


def mapped(places: Iterable[BufferPlace], fds: Mapping[int, int]) -> list[Array]:
    """In a receiver: map the snapshots, and return the buffers, as private, writable memory.

    Args:
        places: Of the buffers.
        fds: Of the snapshots; they stay the caller's.

    Raises:
        OSError: There is not so much address space, or a descriptor was lost on the way.
    """
    places = list(places)
    if not fds.keys() >= {place.snapshot for place in places}:
        raise OSError(errno.EMFILE, "not all descriptors of the source's memory arrived; check `ulimit -n`")
    maps = {number: map_snapshot(fd) for number, fd in fds.items()}
    return [maps[number][offset : offset + nbytes] for number, offset, nbytes, _ in places]


def _sample(buffer: memoryview) -> int:
    step, found = buffer.nbytes // _NUM_SAMPLES, 0
    for number in range(_NUM_SAMPLES):
        found = zlib.crc32(buffer[number * step : number * step + _SAMPLE_BYTES], found)
    return found
