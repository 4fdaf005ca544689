"""The journal: a file that records the taken batches, so that a restarted server can continue.

    [ head: a sealed line of JSON ][ record ][ record ] ...          records of 32 bytes, each with a checksum

The head is a block of `mpqueue.system.paths.own_files`. The checksum of each record also covers the checksum before it,
so a record that is missing, repeated or from another file is found, too. A crash or a power failure can cut off the end
of the file: its last record is incomplete, or only zeros follow. The server continues before that record, and logs it.
Any other damage is an error, because the records after it would be lost.

The server appends a record for each taken batch, before the consumer can receive the next one, and for each arrival and
departure of a consumer. At each epoch it writes a new file and renames it over the old one, so the file covers one
epoch. For a stream with lanes, it also does so in the middle of an epoch: the head then contains the point to resume
from, with snapshots (`mpqueue.service.serving.checkpoints`).

Written data survives a crash of the process without a sync. A new file is synced before it replaces the old one, so a
power failure leaves one of the two. A thread syncs the records, so that few of them are lost.

The server holds the lock file ``JOURNAL.lock`` while it runs: two servers would overwrite the records of each other.

A journal can contain pickles, and loading a pickle can run arbitrary code. So no byte is parsed of a file that another
user may have written. In a folder that other users can write, they can only prevent a server from starting.
"""

import base64
import contextlib
import errno
import hashlib
import json
import os
import pickle
import struct
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from mpqueue.errors import ServiceError
from mpqueue.plan.ids.history import NO_HISTORY, History
from mpqueue.plan.position.cursors import ResumePoint
from mpqueue.plan.position.lanes import LaneStart
from mpqueue.service.routing.modes import Mode
from mpqueue.service.routing.rules import Rules
from mpqueue.service.stream.stream import Stream
from mpqueue.system.descriptors import descriptors
from mpqueue.system.descriptors.held_descriptors import HeldDescriptor
from mpqueue.system.log import warn
from mpqueue.system.paths.lock_files import LockInUse, lock_now, unlock
from mpqueue.system.paths.own_files import SEAL_BYTES, DamagedFile, OtherVersion, open_own, seal, unseal
from mpqueue.system.processes.processes import kernel_fields
from mpqueue.system.signals.interrupts import is_interrupt
from mpqueue.system.signals.joined_threads import JoinedThread
from mpqueue.system.signals.locks import Lock
from mpqueue.system.user_code.exception_texts import named_text_of

_RECORD = struct.Struct("<IHxxQQq")
_MAGIC = 0x514A
_MARK = b"mpqueue journal" + bytes([5])  # with the version
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_REMEDY = "use a journal in a folder where only this user may write, or remove the file if it is not yours"


class _JournalKind:
    TAKEN, CAME, WENT = 1, 2, 3


class Survivor(NamedTuple):
    """A consumer that was attached when the server crashed.

    Attributes:
        pid: Its process id.
        started: Start time of the process, in ticks since boot. It detects a process id that was reused.
    """

    pid: int
    started: int


@dataclass
class Recovered:
    """The contents of a journal.

    Attributes:
        job: Hash of the stream's identity; empty without a journal yet.
        seed: Seed of the stream.
        epoch: The journaled epoch.
        taken: The taken positions of the epoch, by holder: a rank or a consumer.
        survivors: The consumers that were attached, by id.
        state: State of the source at the beginning of the epoch; None without a state.
        lanes: Where a stream with lanes resumes, see `mpqueue.service.serving.checkpoints`; None for its beginning.
        history: The exclusions.
    """

    job: str = ""
    seed: int = 0
    epoch: int = 0
    taken: dict[int, set[int]] = field(default_factory=dict)
    survivors: dict[int, Survivor] = field(default_factory=dict)
    state: Any = None
    lanes: ResumePoint | None = None
    history: History = NO_HISTORY

    def count_of(self, rank: int, world: int) -> int:
        """Return the number of batches that a rank has taken, including the skipped ones in between."""
        # The positions of a rank are `rank + i * world`, so the latest one yields the count; -world yields 0.
        return max(self.taken.get(rank, {-world})) // world + 1

    def pairs(self) -> list[tuple[int, int]]:
        """Return the taken batches as pairs of holder and position."""
        return [(who, position) for who, positions in self.taken.items() for position in sorted(positions)]

    def renumber(self, *, has_ranks: bool) -> None:
        """Give all consumers negative ids: the next server assigns positive ones again from 1."""
        ids = {who: -count for count, who in enumerate(self.survivors, 1)}
        self.survivors = {ids[who]: survivor for who, survivor in self.survivors.items()}
        if has_ranks:  # they hold the batches
            return
        taken: dict[int, set[int]] = {}
        for who, position in self.pairs():
            taken.setdefault(ids.get(who, 0), set()).add(position)  # 0: all consumers that have left
        self.taken = taken


def lock_journal(path: str) -> Callable[[], None]:
    """Prevent other servers from using a journal, until the returned function is called.

    Raises:
        ServiceError: Another server is using it, or another user may write to the lock file.
        OSError: The lock file cannot be created.
    """
    lock = f"{path}.lock"
    fd: int | None = None
    try:
        with _named(path):
            while fd is None:
                fd = lock_now(lock, "the lock ", _REMEDY, ServiceError)
    except LockInUse as holder:
        raise ServiceError(
            f"the journal {path} is in use by the server in {holder}: stop that server, or use another journal"
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        warn(f"the file system of the journal {path} has no locks: no other server may use it at the same time")
        return lambda: None
    return partial(unlock, fd, lock)


@contextlib.contextmanager
def _named(path: str) -> Iterator[None]:
    """Add the path of a journal and a remedy to errors."""
    try:
        yield
    except OSError as error:
        where = f", {error.filename}" if error.filename not in {None, path} else ""
        text = f"the journal cannot be written ({error.strerror}{where}): fix that and restart the server"
        raise OSError(error.errno, text, path) from error


def point_in(recovered: Recovered, mode: Mode) -> ResumePoint:
    """Return the point where a stream resumes: no consumer needs a batch before it."""
    least = 0 if recovered.lanes is None else recovered.lanes.position  # all before it was taken
    frontier = mode.make_frontier(least)
    for who, position in recovered.pairs():
        frontier.add(position, who)
    return ResumePoint(recovered.epoch, frontier.position(recovered.survivors), frontier.ahead())


def read_journal(path: str) -> Recovered | None:
    """Return the contents of a journal; None if the file does not exist.

    Raises:
        ServiceError: The file is not a journal or is damaged, or other users can write to it.
        OSError: The file cannot be read.
    """
    try:
        data = _read_own(path)
    except FileNotFoundError:
        return None
    try:
        head = unseal(_MARK, lambda offset, length: data[offset : offset + length], len(data))
    except (DamagedFile, OtherVersion) as error:
        raise ServiceError(
            f"{path} is not a journal of this version of mpqueue, or its header is damaged ({error}). Restore the file "
            "from a copy; or choose another path, or remove it: the stream then begins with its first batch"
        ) from None
    try:
        recovered = _parse_head(json.loads(head))
    except BaseException as error:  # unpickling may raise any exception: the class of a state may be missing
        if is_interrupt(error):
            raise
        raise ServiceError(
            f"{path} is not a journal of this server ({named_text_of(error)}): choose another path, or remove it"
        ) from error
    for kind, value, extra, who in _records(path, data, SEAL_BYTES + len(head)):
        # The records are events in the order of writing: a later departure removes the survivor of an earlier arrival.
        if kind == _JournalKind.TAKEN:
            recovered.taken.setdefault(who, set()).add(value)
        elif kind == _JournalKind.CAME:
            recovered.survivors[who] = Survivor(value, extra)
        else:
            recovered.survivors.pop(who, None)
    return recovered


def _parse_head(header: dict[str, Any]) -> Recovered:
    recovered = Recovered(header["job"], header["seed"], header["epoch"], state=_unpack_state(header["state"]))
    recovered.lanes = header["lanes"] and _unpack_lanes(recovered.epoch, header["lanes"])
    recovered.history = History(header["history"])
    recovered.survivors = {who: Survivor(pid, started) for who, pid, started in header["present"]}
    return recovered


def _read_own(path: str) -> bytes:
    """Return the bytes of a file that only this user can have written."""
    try:
        held = open_own(path, os.O_RDONLY, _REMEDY, ServiceError, "the journal ")
    except PermissionError as error:
        raise ServiceError(f"uid {os.geteuid()} may not read the journal {path}: {_REMEDY}") from error
    with held, open(held.dup(), "rb") as file:
        return file.read()


def _pack_state(state: Any) -> dict[str, Any] | None:
    """Return the state of a source in a form for JSON."""
    # JSON itself would change some types, such as tuples and NumPy integers, and the source would not recognize its own
    # state.
    return None if state is None else {"pickle": base64.b64encode(pickle.dumps(state)).decode()}


def _unpack_state(packed: Any) -> Any:
    return None if packed is None else pickle.loads(base64.b64decode(packed["pickle"]))


def _pack_lanes(point: ResumePoint) -> dict[str, Any]:
    """Return a point in lanes in a form for JSON."""
    starts = [[at, None if state is None else base64.b64encode(state).decode()] for at, state in point.starts]
    return {"position": point.position, "counts": point.counts, "starts": starts, "ends": point.ends}


def _unpack_lanes(epoch: int, packed: dict[str, Any]) -> ResumePoint:
    starts = [LaneStart(at, None if state is None else base64.b64decode(state)) for at, state in packed["starts"]]
    return ResumePoint(epoch, packed["position"], (), tuple(packed["counts"]), tuple(starts), tuple(packed["ends"]))


def _records(path: str, data: bytes, start: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield the records of a journal, which begin at an offset; see the module's docstring.

    Raises:
        ServiceError: A record is damaged.
    """
    check = zlib.crc32(data[:start])
    for at in range(start, len(data), _RECORD.size):
        record = data[at : at + _RECORD.size]
        expected = zlib.crc32(record[4:], check)
        if len(record) < _RECORD.size or int.from_bytes(record[:4], "little") != expected:
            if any(data[at + _RECORD.size :]):
                raise ServiceError(
                    f"the journal {path} is damaged at byte {at:,} of {len(data):,}: a record has a wrong checksum. "
                    f"Restore the file from a copy. Otherwise run truncate -s {at} {path}, and all batches that were "
                    "taken after that record are delivered again; or remove the file, and the stream begins with its "
                    "first batch"
                )
            warn(
                f"the last record of the journal {path} is incomplete, as after a crash or a power failure: the server "
                f"continues before it, and may deliver a batch again ({len(data) - at:,} of {len(data):,} bytes were "
                "dropped)",
                "Share one data loader between processes",
                "Restart a server",
            )
            return
        _, tag, value, extra, who = _RECORD.unpack(record)
        if tag >> 4 != _MAGIC >> 4:
            raise ServiceError(f"the journal {path} has an unknown record at byte {at:,}, of another version")
        check = expected
        yield tag & 0xF, value, extra, who


class Journal:
    """The journal file of a running server. Only the server's loop calls its methods.

    Args:
        path: Path of the file.
        job: Hash of the stream's identity.
        seed: Seed of the stream.
        history: The exclusions.

    Attributes:
        present: The attached consumers, by id; and the ones that have not attached again, by negative process id.

    Raises:
        OSError: The file cannot be written.
    """

    def __init__(self, path: str, job: str, seed: int, history: History = NO_HISTORY) -> None:
        self._path, self._job, self._seed, self._history = path, job, seed, history
        # Written again into each new file, so that a restarted server knows whom to wait for.
        self.present: dict[int, Survivor] = {}
        self._fd, self._check = -1, 0  # the checksum before the next record
        self._is_torn = False  # the last record may be incomplete
        self._lock = Lock()  # guards the descriptor, which the syncing thread uses, too
        self._is_due, self._is_closed, self._has_warned = threading.Event(), False, False
        self._thread = JoinedThread(self._sync, "mpqueue-journal")

    def begin(
        self,
        epoch: int,
        state: Any,
        taken: Iterable[tuple[int, int]] = (),
        lanes: ResumePoint | None = None,
    ) -> None:
        """Write a new file for an epoch that begins or continues.

        Args:
            epoch: Number of the epoch.
            state: State of the source at the beginning of the epoch.
            taken: Pairs of holder and position.
            lanes: Where a stream with lanes resumes; None for its beginning.

        Raises:
            OSError: The file cannot be written.
        """
        head = {
            "job": self._job,
            "seed": self._seed,
            "epoch": epoch,
            "state": _pack_state(state),
            "lanes": lanes and _pack_lanes(lanes),
            "history": self._history.plain(),
            # The new file replaces the old one, which contains the arrivals. Not as records: the next server drops a
            # damaged last record, and would not wait for that consumer, which would then miss batches of a broadcast.
            "present": [[who, *survivor] for who, survivor in self.present.items()],
        }
        records = [(_JournalKind.TAKEN, position, 0, who) for who, position in taken]
        data = bytearray(seal(_MARK, json.dumps(head).encode() + b"\n"))
        check = zlib.crc32(data)
        for fields in records:
            record, check = _pack(check, *fields)
            data += record
        with _named(self._path):
            fd = self._replace(bytes(data))
        self._check, self._is_torn = check, False
        # The syncing thread may still use a duplicate of the old descriptor, which remains open until its sync is over.
        with self._lock:
            old, self._fd = self._fd, descriptors.own(fd)
        if old >= 0:
            descriptors.close(old)
        if not self._thread.is_alive():
            self._thread.start()
        self._is_due.set()

    def _replace(self, data: bytes) -> int:
        """Replace the old file by a new one; return the descriptor of the new one."""
        new = f"{self._path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)  # left by a killed server, or put there by another user, perhaps as a link
        # O_EXCL and O_NOFOLLOW: in a shared folder, another user may have created a file or a link here since the
        # unlink.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_APPEND | os.O_CLOEXEC
        fd = descriptors.above_standard(os.open(new, flags, 0o600))
        try:
            # Write everything before the rename: a server killed in between leaves the old journal intact.
            _write(fd, data)
            self._sync_now(os.fdatasync, fd)
            os.rename(new, self._path)
        except BaseException:
            os.close(fd)
            # On a full disk, half a file would use the space that the next attempt needs.
            with contextlib.suppress(OSError):
                os.unlink(new)
            raise
        self._sync_now(self._sync_folder)
        return fd

    def _append(self, *records: tuple[int, int, int, int]) -> None:
        """Write records at once: a crash of this process leaves all of them, or none."""
        self._check_torn()
        check, data = self._check, b""
        for record in records:
            packed, check = _pack(check, *record)
            data += packed
        self._is_torn = True
        with _named(self._path):
            _write(self._fd, data)
        self._check, self._is_torn = check, False

    def _check_torn(self) -> None:
        """Raise an error after a record that could not be written: only the last record may be incomplete."""
        if self._is_torn:
            text = "an earlier record of the journal could not be written: restart the server"
            raise OSError(errno.EIO, text, self._path)

    def note_taken(self, position: int, who: int) -> None:
        """Record that a batch was taken.

        Raises:
            OSError: The record, or an earlier one, cannot be written.
        """
        # Write here, and sync in the thread: written data survives a crash of this process, and a sync would delay each
        # batch.
        self._append((_JournalKind.TAKEN, position, 0, who))
        self._is_due.set()

    def note_arrival(self, consumer: int, survivor: Survivor) -> None:
        """Record that a consumer has attached."""
        awaited = self._awaited_of(survivor.pid)[:1]
        # Both at once. After a crash in between, the next server would wait for one consumer of the process too many,
        # or would have forgotten the process.
        self.present[consumer] = survivor
        for each in awaited:
            del self.present[each]
        if self._fd >= 0:
            gone = [(_JournalKind.WENT, 0, 0, each) for each in awaited]
            self._append((_JournalKind.CAME, *survivor, consumer), *gone)

    def await_back(self, survivors: Mapping[int, Survivor]) -> None:
        """Keep survivors that have not attached again in the journal. Call this before `begin`.

        Args:
            survivors: As in `Recovered`, after `Recovered.renumber`.
        """
        self.present.update(survivors)

    def _awaited_of(self, pid: int) -> list[int]:
        """Return the ids of the survivors of a process that have not attached again."""
        return [consumer for consumer, survivor in self.present.items() if consumer < 0 and survivor.pid == pid]

    def note_given_up(self, pid: int) -> None:
        """Record that a process is not awaited anymore: its consumers are back, or it has exited or is late."""
        for consumer in self._awaited_of(pid):
            self.note_departure(consumer)

    def note_departure(self, consumer: int) -> None:
        """Record that a consumer has left."""
        if self.present.pop(consumer, None) is not None and self._fd >= 0:
            self._append((_JournalKind.WENT, 0, 0, consumer))

    def _sync(self) -> None:
        # One sync covers all records written before it. So the number of syncs depends on the speed of the disk, not on
        # the number of batches.
        while not self._is_closed:
            self._is_due.wait()
            # Clear the event before the sync: data written during the sync needs another sync.
            self._is_due.clear()
            self._sync_once()

    def _sync_once(self) -> None:
        self._sync_now(self._sync_records)

    def _sync_records(self) -> None:
        # Sync a duplicate of the descriptor: `begin` would have to wait for the disk if the lock were held.
        with self._lock:
            fd = descriptors.above_standard(os.dup(self._fd)) if self._fd >= 0 else -1
        if fd >= 0:
            try:
                os.fdatasync(fd)
            finally:
                os.close(fd)

    def _sync_folder(self) -> None:
        """Sync the folder, so that the new file has the name on the disk, too."""
        with HeldDescriptor(os.open, os.path.dirname(self._path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) as held:
            os.fsync(held.fd)

    def _sync_now(self, sync: Callable[..., None], *arguments: int) -> None:
        """Sync written data. Warn once if that fails: the data is only lost if the machine crashes."""
        try:
            sync(*arguments)
        except OSError as error:
            if not self._has_warned:
                warn(f"the journal {self._path} cannot be synced and may be lost in a power failure: {error}")
            self._has_warned = True

    def close(self) -> None:
        """Sync and close the file."""
        self._is_closed = True
        self._is_due.set()
        if self._thread.is_alive():
            self._thread.join()
        # Sync the data written during the thread's last sync.
        self._sync_once()
        with self._lock:
            fd, self._fd = self._fd, -1
        if fd >= 0:
            descriptors.close(fd)


def _pack(check: int, kind: int, value: int, extra: int, who: int) -> tuple[bytes, int]:
    """Return a record that follows one with a checksum, and its own checksum."""
    record = _RECORD.pack(0, (_MAGIC & ~0xF) | kind, value, extra, who)[4:]
    check = zlib.crc32(record, check)
    return struct.pack("<I", check) + record, check


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def started_at(pid: int) -> int:
    """Return the start time of a process, in ticks since boot; 0 if it does not exist."""
    try:
        return int(kernel_fields(pid)[19])
    except (OSError, IndexError):
        return 0


def job_of(stream: Stream, rules: Rules) -> str:
    """Return a hash of the stream's identity: streams with the same hash yield the same batches."""
    seed, length, *others = stream.plan.order.identity()
    # The mode is part of the identity: the holders in the journal are ranks in one mode and consumers in another.
    identity = [seed, length, rules.mode.name, rules.mode.world, *others]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]
