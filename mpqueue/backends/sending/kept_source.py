"""The large buffers of a source in shared memory: copied once, mapped by all processes of a pool.

    trainer                 copies new buffers of an image into snapshots (`keep`), and sends descriptors and spans;
                            later it compares the source with the snapshots, byte by byte
    fork server, workers    map the snapshots, so their pages are the same memory in all processes

Receivers map copy-on-write: a worker that writes to an array changes only its private copy, and the snapshot remains as
it was sent. So a snapshot is also the trainer's record of the workers' data. It needs no digest, which would take six
times as long as a comparison.

A large buffer has a separate snapshot, so that its memory is freed when a new version replaces it; small buffers share
one. A snapshot has no name: the kernel frees it when no process has it open or mapped.
The trainer keeps it open as long as its fork server has that source.
"""

import errno
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from mpqueue.memory.layout import Array
from mpqueue.memory.snapshot import Snapshot, map_snapshot

if TYPE_CHECKING:  # only in the trainer: the fork server would import cloudpickle for these
    from mpqueue.backends.sending.source_send import Patch, SourceImage

_SHARE = 8  # a buffer of at least this fraction of the new bytes has a separate snapshot
_MAX_SNAPSHOTS = 32  # above this, all used buffers move to new snapshots, because each costs every process a descriptor


class BufferSpan(NamedTuple):
    """A buffer's location in shared memory.

    Attributes:
        snapshot: Id of the snapshot.
        offset: Offset in the snapshot.
        nbytes: Its size.
    """

    snapshot: int
    offset: int
    nbytes: int


class KeptSource(NamedTuple):
    """A version of a source in a fork server.

    Attributes:
        data: The pickle.
        spans: Spans of its buffers.
        snapshots: Snapshots, by id.
    """

    data: bytes
    spans: list[BufferSpan]
    snapshots: dict[int, Snapshot]

    def is_same(self, image: "SourceImage") -> bool:
        """Return whether an image has the same pickle and buffers."""
        is_alike = self.data == image.data and len(self.spans) == len(image.buffers)
        pairs = enumerate(zip(self.spans, image.buffers, strict=False))
        return is_alike and all(index in image.constant or self._is_at(*pair) for index, pair in pairs)

    def find(self, image: "SourceImage") -> dict[int, int]:
        """Return the buffers of an image that are kept here: their indices in the image mapped to the indices here."""
        pairs = enumerate(zip(self.spans, image.buffers, strict=False))
        return {index: index for index, pair in pairs if self._is_at(*pair)}

    def _is_at(self, span: BufferSpan, buffer: memoryview) -> bool:
        return span.nbytes == buffer.nbytes and self.snapshots[span.snapshot].has(span.offset, buffer)


NOTHING = KeptSource(b"", [], {})


def keep(patch: "Patch", known: KeptSource) -> KeptSource:
    """Copy new buffers into shared memory, and return the version that results from a patch.

    Raises:
        OSError: Memory or descriptors are exhausted.
    """
    new, spans = dict(patch.new), {index: known.spans[here] for index, here in patch.old.items()}
    if len({span.snapshot for span in spans.values()}) > _MAX_SNAPSHOTS:
        fds = {snapshot_id: snapshot.fileno() for snapshot_id, snapshot in known.snapshots.items()}
        new |= {index: buffer.data for index, buffer in zip(spans, mapped(spans.values(), fds), strict=True)}
        # All used buffers are new now. The old snapshots are released with the last span that names them.
        spans.clear()
    snapshots = {span.snapshot: known.snapshots[span.snapshot] for span in spans.values()}
    for group in _groups(new):
        snapshot = Snapshot([new[index] for index in group])
        snapshots[snapshot.id] = snapshot
        for index, offset in zip(group, snapshot.offsets, strict=True):
            spans[index] = BufferSpan(snapshot.id, offset, new[index].nbytes)
    return KeptSource(patch.data, [spans[index] for index in sorted(spans)], snapshots)


def _groups(new: Mapping[int, memoryview]) -> list[list[int]]:
    """Return the groups of buffers that share a snapshot."""
    share = sum(buffer.nbytes for buffer in new.values()) // _SHARE
    # A snapshot per large buffer, so that replacing one frees its memory; a common one for the rest saves descriptors.
    alone = [[index] for index, buffer in new.items() if buffer.nbytes >= share]
    together = [index for index, buffer in new.items() if buffer.nbytes < share]
    return [*alone, together] if together else alone


def mapped(spans: Iterable[BufferSpan], fds: Mapping[int, int]) -> list[Array]:
    """Map the snapshots in a receiver, and return the buffers as private, writable memory.

    Args:
        spans: Spans of the buffers.
        fds: Descriptors of the snapshots; the caller still owns them.

    Raises:
        OSError: Address space is exhausted, or a descriptor was lost in transfer.
    """
    spans = list(spans)
    if not fds.keys() >= {span.snapshot for span in spans}:
        raise OSError(errno.EMFILE, "not all descriptors of the source's memory arrived; increase `ulimit -n`")
    # One map per snapshot, not per buffer: a process may have 65,530 maps by default.
    maps = {snapshot_id: map_snapshot(fd) for snapshot_id, fd in fds.items()}
    return [maps[snapshot_id][offset : offset + nbytes] for snapshot_id, offset, nbytes in spans]
