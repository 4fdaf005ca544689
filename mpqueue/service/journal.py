"""The journal: a file that says what was taken, so that a server that comes back goes on there.

    [ head: JSON, one line ][ record ][ record ] ...          records of 32 bytes, each with a checksum

The server appends a record for each batch that was taken, before its consumer can be handed the next one, and for each
consumer that comes and goes. At each epoch the file is written anew and put in the place of the old one by a rename, so
it holds one epoch. Written is not synced: what a process has written outlives it. A thread of its own syncs, so that a
machine that loses its power loses little.

A record that is not whole ends the journal, as far as its reader is concerned.

Of a stream in lanes the head has the place where it goes on, with snapshots (`mpqueue.service.checkpoints`), and the
file is written anew in the middle of the epoch, too, with what was taken behind that place.

The state of a source is in the head: as JSON where JSON gives back exactly what it was given, else as a pickle. A
pickle can run any code, so nothing of a file is parsed before the open descriptor has shown that it is this user's own,
that nobody else may write to it, and that it is a file and no link. In a folder where others may write, too, they can
only keep a server from starting: what they have put in the place of the journal, or of the next one, is an error.
"""

import base64
import contextlib
import errno
import hashlib
import json
import math
import os
import pickle
import struct
import threading
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mpqueue.errors import ServiceError
from mpqueue.plan.cursors import Place
from mpqueue.plan.lanes import LaneStart
from mpqueue.service.modes import Mode
from mpqueue.service.rules import Rules
from mpqueue.service.stream import Stream
from mpqueue.system import descriptors, folders
from mpqueue.system.joined_threads import JoinedThread
from mpqueue.system.locks import Lock
from mpqueue.system.log import warn
from mpqueue.system.processes import kernel_fields

_RECORD = struct.Struct("<IHxxQQq")
_MAGIC = 0x514A
_VERSION = 2
_MAX_DEPTH = 100  # of a state in JSON, whose parser calls itself for each level
_MAX_BITS = 4096  # of a number in JSON: Python parses no more than 4,300 digits


class _JournalKind:
    TAKEN, CAME, WENT = 1, 2, 3


class Survivor(NamedTuple):
    """A consumer that was attached when the server died.

    Attributes:
        pid: Of its process.
        started: When that was started, in ticks since the machine was: another process may have the id by now.
    """

    pid: int
    started: int


@dataclass
class Recovered:
    """The contents of a journal.

    Attributes:
        job: Hash of the stream's identity; empty: there is no journal yet, and nothing was taken.
        seed: Of the stream.
        epoch: The epoch that was begun.
        taken: The positions of it that were taken, by holder: a rank, or a consumer.
        survivors: Consumers that were attached.
        state: Of the source, when the epoch began; None: it has none.
        lanes: Where a stream in lanes begins, to go on: see `mpqueue.service.checkpoints`; None: at its beginning.
        begun: Where the epoch of an endless stream began; None: at the beginning of the stream, or nobody needs it.
    """

    job: str = ""
    seed: int = 0
    epoch: int = 0
    taken: dict[int, set[int]] = field(default_factory=dict)
    survivors: dict[int, Survivor] = field(default_factory=dict)
    state: Any = None
    lanes: Place | None = None
    begun: Place | None = None

    def count_of(self, rank: int, world: int) -> int:
        """Return how many batches a rank has taken, those between that were left out included."""
        return max(self.taken.get(rank, {-world})) // world + 1

    def pairs(self) -> list[tuple[int, int]]:
        """Return what was taken as pairs of holder and position."""
        return [(who, position) for who, positions in self.taken.items() for position in sorted(positions)]


def place_in(recovered: Recovered, mode: Mode) -> Place:
    """Return the place where a stream resumes: no consumer needs a batch before it."""
    least = 0 if recovered.lanes is None else recovered.lanes.position  # all before it was taken
    frontier = mode.make_frontier(least)
    for who, position in recovered.pairs():
        frontier.add(position, who)
    return Place(recovered.epoch, frontier.position(recovered.survivors), frontier.ahead())


def read_journal(path: str) -> Recovered | None:
    """Return what a journal says; None: there is none.

    Raises:
        ServiceError: The file is no journal, or not this user's alone.
        OSError: It cannot be read.
    """
    try:
        head, data = _read_own(path)
    except FileNotFoundError:
        return None
    if not head:  # its writer was killed before the first line
        return None
    try:
        said = json.loads(head)
        if said["journal"] not in {1, _VERSION}:
            raise ValueError(f"version {said['journal']}")
        found = Recovered(said["job"], said["seed"], said["epoch"], state=_unpack_state(said["state"]))
        found.lanes, found.begun = (_unpack_lanes(found.epoch, said.get(name)) for name in ("lanes", "begun"))
    except Exception as error:  # unpickling may raise anything: the class of a state may be gone
        text = f"{type(error).__name__}: {error}"
        raise ServiceError(f"{path} is no journal of a server ({text}): choose another path, or remove it") from error
    for kind, value, extra, who in _records(data):
        if kind == _JournalKind.TAKEN:
            found.taken.setdefault(who, set()).add(value)
        elif kind == _JournalKind.CAME:
            found.survivors[who] = Survivor(value, extra)
        else:
            found.survivors.pop(who, None)
    return found


def _read_own(path: str) -> tuple[bytes, bytes]:
    """Return the first line and the rest of a file that nobody but this user can have written."""
    remedy = "use a journal in a folder where only this user may write, or remove the file if it is not yours"
    try:
        # Without O_NONBLOCK, the opening of somebody's named pipe would wait for its writer.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ServiceError(f"the journal {path} is a symbolic link, expected a file: {remedy}") from error
        if isinstance(error, PermissionError):
            raise ServiceError(f"the journal {path} may not be read by uid {os.geteuid()}: {remedy}") from error
        raise
    with open(fd, "rb") as file:
        folders.check_file(fd, path, {os.geteuid()}, ServiceError, remedy, kind="the journal ", process="server")
        return file.readline(), file.read()


def _pack_state(state: Any) -> dict[str, Any] | None:
    """Return the state of a source, fit for JSON."""
    if state is None:
        return None
    if _is_json(state, set(), 0):
        return {"json": state}
    return {"pickle": base64.b64encode(pickle.dumps(state)).decode()}


def _unpack_state(packed: Any) -> Any:
    if packed is None:
        return None
    if isinstance(packed, str):  # version 1, which pickled each state
        packed = {"pickle": packed}
    return packed["json"] if "json" in packed else pickle.loads(base64.b64decode(packed["pickle"]))


def _pack_lanes(place: Place) -> dict[str, Any]:
    """Return a place in lanes, fit for JSON."""
    starts = [[at, None if state is None else base64.b64encode(state).decode()] for at, state in place.starts]
    return {"position": place.position, "counts": place.counts, "starts": starts, "ends": place.ends}


def _unpack_lanes(epoch: int, packed: Any) -> Place | None:
    if packed is None:
        return None
    starts = [LaneStart(at, None if state is None else base64.b64decode(state)) for at, state in packed["starts"]]
    return Place(epoch, packed["position"], (), tuple(packed["counts"]), tuple(starts), tuple(packed["ends"]))


def _is_json(value: Any, seen: set[int], depth: int) -> bool:
    """Return whether JSON gives back what it was given: equal values of the same types.

    It has no tuples, no keys but text, no arrays of NumPy, and no object that is in two places.
    """
    kind = type(value)
    if value is None or kind is bool:
        return True
    if kind is int:
        return bool(value.bit_length() <= _MAX_BITS)
    if kind is float:
        return math.isfinite(value)
    if kind is str:
        return not any("\ud800" <= character <= "\udfff" for character in value)  # two halves would come back as one
    if kind not in {list, dict} or id(value) in seen or depth > _MAX_DEPTH:
        return False
    seen.add(id(value))
    if kind is dict and not all(type(key) is str and _is_json(key, seen, depth) for key in value):
        return False
    return all(_is_json(item, seen, depth + 1) for item in (value.values() if kind is dict else value))


def _records(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    for start in range(0, len(data) - _RECORD.size + 1, _RECORD.size):
        record = data[start : start + _RECORD.size]
        checksum, tag, value, extra, who = _RECORD.unpack(record)
        # A kill, or a loss of power, has cut it short: nothing behind it is to be believed.
        if checksum != zlib.crc32(record[4:]) or tag >> 4 != _MAGIC >> 4:
            return
        yield tag & 0xF, value, extra, who


class Journal:
    """The file, as its server writes it; all calls but those of its thread come from the server's loop.

    Args:
        path: Of the file.
        job: Hash of the stream's identity.
        seed: Of the stream.

    Raises:
        OSError: It cannot be written.
    """

    def __init__(self, path: str, job: str, seed: int) -> None:
        self._path, self._job, self._seed = path, job, seed
        self._present: dict[int, Survivor] = {}
        self._fd = -1
        self._lock = Lock()  # around the descriptor, which the thread that syncs uses, too
        self._is_due, self._is_closed, self._has_warned = threading.Event(), False, False
        self._thread = JoinedThread(self._sync, "mpqueue-journal")

    def begin(
        self,
        epoch: int,
        state: Any,
        taken: Iterable[tuple[int, int]] = (),
        lanes: Place | None = None,
        begun: Place | None = None,
    ) -> None:
        """Write down that an epoch begins, or goes on.

        Args:
            epoch: Its number.
            state: Of the source, when it began.
            taken: Pairs of holder and position.
            lanes: Where a stream in lanes goes on, if not at its beginning.
            begun: Where the epoch of an endless stream began, for those who come late to a broadcast.

        Raises:
            OSError: It cannot be written.
        """
        head = {"journal": _VERSION, "job": self._job, "seed": self._seed, "epoch": epoch, "state": _pack_state(state)}
        head |= {name: _pack_lanes(at) for name, at in (("lanes", lanes), ("begun", begun)) if at is not None}
        # The old file goes, and with it who came before this epoch.
        records = [_pack(_JournalKind.CAME, *survivor, who) for who, survivor in self._present.items()]
        records += [_pack(_JournalKind.TAKEN, position, 0, who) for who, position in taken]
        with self._named():
            fd = self._replace(json.dumps(head).encode() + b"\n" + b"".join(records))
        # The thread that syncs may have a copy of the old one: that stays open until its sync is over.
        with self._lock:
            old, self._fd = self._fd, descriptors.own(fd)
        if old >= 0:
            descriptors.close(old)
        if not self._thread.is_alive():
            self._thread.start()
        self._is_due.set()

    @property
    def present(self) -> list[int]:
        """The consumers that are attached."""
        return list(self._present)

    def _replace(self, data: bytes) -> int:
        """Put a new file into the place of the old one; return its descriptor."""
        new = f"{self._path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)  # of a server that was killed at this place, or what somebody has put there: a link, perhaps
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            # Written wholly before it has the name: a server that is killed here leaves the old journal.
            _write(fd, data)
            os.rename(new, self._path)
        except BaseException:
            os.close(fd)
            raise
        return fd

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Have errors say of which file they are, and what ends with it."""
        try:
            yield
        except OSError as error:
            place = f", {error.filename}" if error.filename not in {None, self._path} else ""
            what = f"the journal cannot be written ({error.strerror}{place}): mend that, and start the server again"
            raise OSError(error.errno, what, self._path) from error

    def _append(self, record: bytes) -> None:
        with self._named():
            _write(self._fd, record)

    def note_taken(self, position: int, who: int) -> None:
        """Write down that a batch was taken.

        Raises:
            OSError: It cannot be written. Nothing may be written behind a record that is not whole.
        """
        # Written here, and synced elsewhere: a write outlives this process, and a sync would hold up each batch.
        self._append(_pack(_JournalKind.TAKEN, position, 0, who))
        self._is_due.set()

    def note_arrival(self, consumer: int, survivor: Survivor) -> None:
        """Write down that a consumer has attached."""
        self._present[consumer] = survivor
        if self._fd >= 0:
            self._append(_pack(_JournalKind.CAME, *survivor, consumer))
        # Behind its arrival: else a server that dies in between would have noted the process nowhere.
        self.note_given_up(survivor.pid)

    def await_back(self, survivors: Iterable[Survivor]) -> None:
        """Have the journal keep those who were attached to another server, and are not back; before `begin`."""
        # Below 0, apart from the numbers of consumers, which this server gives anew.
        self._present.update({-survivor.pid: survivor for survivor in survivors})

    def note_given_up(self, pid: int) -> None:
        """Write down that a process is not waited for any more: it is back, or gone, or late."""
        self.note_departure(-pid)

    def note_departure(self, consumer: int) -> None:
        """Write down that a consumer takes no more."""
        if self._present.pop(consumer, None) is not None and self._fd >= 0:
            self._append(_pack(_JournalKind.WENT, 0, 0, consumer))

    def _sync(self) -> None:
        while not self._is_closed:
            self._is_due.wait()
            # Before the sync: what is written during it is synced next time.
            self._is_due.clear()
            self._sync_once()

    def _sync_once(self) -> None:
        """Sync what is written; where that fails, say so once, and go on: it is there as long as the machine runs."""
        try:
            # A copy, so that the lock is not held during the sync: `begin` would wait for the disk.
            with self._lock:
                fd = descriptors.above_standard(os.dup(self._fd)) if self._fd >= 0 else -1
            if fd >= 0:
                try:
                    os.fdatasync(fd)
                finally:
                    os.close(fd)
        except OSError as error:
            if not self._has_warned:
                warn(
                    f"the journal {self._path} is not synced to its disk, and may not outlive a loss of power: {error}"
                )
            self._has_warned = True

    def close(self) -> None:
        """Sync what was written, and let go of the file."""
        self._is_closed = True
        self._is_due.set()
        if self._thread.is_alive():
            self._thread.join()
        # What was written while the thread made its last sync.
        self._sync_once()
        with self._lock:
            fd, self._fd = self._fd, -1
        if fd >= 0:
            descriptors.close(fd)


def _pack(kind: int, value: int, extra: int, who: int) -> bytes:
    record = _RECORD.pack(0, (_MAGIC & ~0xF) | kind, value, extra, who)
    return struct.pack("<I", zlib.crc32(record[4:])) + record[4:]


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def started_at(pid: int) -> int:
    """Return when a process was started, in ticks since the machine was; 0: it is gone."""
    try:
        return int(kernel_fields(pid)[19])
    except (OSError, IndexError):
        return 0


def state_of(stream: Stream) -> Any:
    """Return the state of a source that has one, else None; lanes have states of their own."""
    source = stream.plan.plan.source
    return source.runs.state_dict() if source.has_index and source.has_state else None


def job_of(stream: Stream, rules: Rules) -> str:
    """Return a hash of what makes a stream the same one."""
    seed, length, *others = stream.plan.plan.identity()
    identity = [seed, length, rules.mode.name, rules.mode.world, *others]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]


def check_restartable(stream: Stream, *, is_ordered: bool) -> None:
    """Raise a `ValueError` if a server that comes back could not go on with this source."""
    source = stream.plan.plan.source
    if not is_ordered:
        raise ValueError(
            "a journal counts the batches of each consumer, which says nothing where they come as they are ready: "
            "leave out ordered=False, or journal"
        )
    if stream.is_generator:
        if stream.plan.plan.lanes is not None:
            return
        raise ValueError(
            "a journal says which batches were taken, and a generator cannot begin behind them where each worker has a "
            "lane: pass lanes=n (of a function, not of an iterator), or a source with __getitem__, or leave out journal"
        )
    if stream.plan.plan.epoch_end is not None and not source.has_state:
        raise ValueError(
            f"{source.name}.on_epoch_end changes the source, and a server that comes back would have it as "
            "it was at first: give it state_dict() and load_state_dict(), or leave out journal"
        )
