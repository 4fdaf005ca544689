"""Storage of the elements before a `cache` stage, in a folder or in the memory of the host.

A cache is sent with its dataset as the names of its files. Each process opens them on first use; see
`mpqueue.dataset.caching.record_files`.

- *In a folder*, all users of the same key share its files: workers, ranks and later runs of the same user. All keys
  share the room of the folder, see `mpqueue.dataset.caching.folders`. The contents are unpickled, which runs code.
  Files that another user may have written are therefore rejected, see `mpqueue.system.paths.own_files`.
- *In memory*, the files have no name (memfd). They are freed when the process that called ``cache()`` and its children
  have exited. Other processes of the host open them through ``/proc``, which the kernel allows to processes of the same
  user. The name shown there reveals whether a descriptor is still the right one.

Elements that cannot be stored are computed each time, with one warning per process. This happens if no space is left,
if the folder is read-only, or if the memory is unreachable, as it is from another machine.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from mpqueue.dataset.caching.counts import CacheCounts, counts_in
from mpqueue.dataset.caching.folders import NameUsage, Segments, hold, usage_of, usage_of_name
from mpqueue.dataset.caching.record_files import MISSING, DataFile, NoRoomError, RecordFiles, ReleasedError
from mpqueue.dataset.caching.records import copied
from mpqueue.memory.segment import memory_file
from mpqueue.system.descriptors.held_descriptors import HeldDescriptor
from mpqueue.system.log import warn
from mpqueue.system.paths.own_files import open_own
from mpqueue.system.signals.exceptions import add_note
from mpqueue.system.signals.locks import RLock
from mpqueue.system.user_code.exception_texts import named_text_of
from mpqueue.worker import context
from mpqueue.worker.failures import passes_at_once

_FORM = 1  # version of the file format; part of the file names
_SHARE_OF_MEMORY = 2
_REMEDY = "use a folder that only this user can write to, or remove the file: cache() unpickles its contents"
_READ_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}  # also without free inodes

# Held while this process opens the files of a cache. Reentrant: a signal handler in the middle may call `release`.
_opening = RLock()


def _unlock() -> None:
    global _opening
    _opening = RLock()  # another thread of the parent may have held it


os.register_at_fork(after_in_child=_unlock)


class Cache:
    """Numbered values, shared by all processes of a host that have the same cache.

    Args:
        max_bytes: Limit of the values' total size; None for no limit but the free space.

    Attributes:
        max_bytes: The limit.
        remedy: What to do about a value that cannot be pickled.
    """

    remedy: ClassVar[str] = "cache() pickles elements: move it before the stage that makes this element"

    def __init__(self, max_bytes: int | None) -> None:
        self.max_bytes = max_bytes
        self._forget()

    def _forget(self) -> None:
        """Reset the state of this process."""
        self._opened: tuple[int, RecordFiles | None] | None = None
        self._counts = CacheCounts()
        self._keeps_none = ""  # the reason why values cannot be stored; empty if they can
        self._told: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in _MADE_ANEW}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    def __repr__(self) -> str:
        """Return a description of the storage."""
        raise NotImplementedError

    def values(
        self,
        indices: Sequence[int],
        compute: Callable[[list[int]], list[Any]],
        may_store: Callable[[], bool] = lambda: True,
    ) -> list[Any]:
        """Return values; missing ones are computed and stored.

        Args:
            indices: The indices of the values.
            compute: A function that returns the values of a list of distinct indices.
            may_store: Returns whether the values that ``compute`` returned last may be stored.

        Raises:
            Exception: ``compute`` raised, a value cannot be pickled, or the files cannot be opened.
        """
        values = [self.get(index) for index in indices]
        missing = [index for index, value in zip(indices, values, strict=True) if value is MISSING]
        if not missing:
            return values
        once = list(dict.fromkeys(missing))
        made = dict(zip(once, compute(once), strict=True))
        if may_store():
            made = {index: self.put(index, value) for index, value in made.items()}
        for position, index in enumerate(indices):
            if values[position] is MISSING:
                # Each occurrence gets a separate object, because functions of later stages may modify it.
                values[position] = made.pop(index) if index in made else self.values([index], compute, may_store)[0]
        return values

    def get(self, index: int, salt: int = 0, *, copies: bool = False) -> Any:
        """Return a value, or `MISSING` if it is not stored.

        Args:
            index: The index of the value.
            salt: The salt that the value was stored with. Values with another salt are ignored.
            copies: Return writable arrays.
        """
        files = self._files()
        if files is None:
            return MISSING
        try:
            value = files.get(index, salt, copies=copies)
        except BaseException as error:  # for example, a class was renamed
            if passes_at_once(error):
                raise
            self._tell(f"some cached values cannot be read: {named_text_of(error)}")
            return MISSING
        if value is not MISSING:
            self._counts.hit()
        return value

    def is_free(self, index: int, salt: int) -> bool:
        """Return whether an index has no value, or only a lost one that was stored with the salt."""
        files = self._files()
        return files is None or files.is_free(index, salt)

    def put(self, index: int, value: Any, salt: int = 0) -> Any:
        """Store a value if possible, and return it as `get` will return it.

        Questions about a run do not store values, nor does user code that still runs after the stop of its worker.

        Raises:
            Exception: The value cannot be pickled.
        """
        while not context.has_stopped() and (files := self._files()) is not None and not self._keeps_none:
            try:
                if context.is_asking():
                    return copied(value)
                stored = files.put(index, value, salt)
            except ReleasedError:
                continue  # a loader was stopped; if a different one, the files are opened again
            except NoRoomError as error:
                self._keeps_none = f"no more values can be stored: {error}"
            except BaseException as error:
                add_note(error, self.remedy)
                raise
            else:
                self._counts.stored()
                return stored
        if self._keeps_none:
            self._tell(f"{self._keeps_none}. Stored elements are used, all others are computed each time")
        return value

    def release(self) -> None:
        """Stop counting as a user of the folder, if there is one; the next use opens the files again."""

    def _files(self) -> RecordFiles | None:
        opened = self._opened
        if opened is None or opened[0] != os.getpid():
            opened = self._newly_opened()
        return None if opened is None else opened[1]

    def _newly_opened(self) -> tuple[int, RecordFiles | None] | None:
        """Open the files in this process, unless the worker of this thread was stopped; return them with its id."""
        with _opening:
            opened = self._opened  # maybe by another thread in the meantime
            if opened is not None and opened[0] != os.getpid():  # of the parent
                self._forget()
                opened = None
            # Under the lock: if the worker is stopped later than here, `release` waits and finds the files.
            if opened is None and not context.has_stopped():
                opened = self._opened = os.getpid(), self._open()
            return opened

    def _open(self) -> RecordFiles | None:
        """Open the files in this process; return None if they are unreachable."""
        raise NotImplementedError

    def counts(self) -> tuple[int, int, int, int] | None:
        """Return the hits, stored elements, evictions and bytes of all processes, or None if they are unreachable."""
        usage = self._usage()
        return None if usage is None else usage[1:]

    def _usage(self) -> NameUsage | None:
        raise NotImplementedError

    def tell_of_draws(self) -> None:
        """Warn that elements are not stored, because their random numbers are not reproducible."""
        self._tell(
            "some elements are not stored, but computed each time, because generators that several threads share drew "
            "numbers while a thread computed them. Draw from mpqueue.rng() instead, or compute without threads"
        )

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            warn(f"{self!r}: {text}", "Streams", "Caches")


_MADE_ANEW = {"_opened", "_counts", "_keeps_none", "_told", "_held"}


class FolderCache(Cache):
    """A cache in a folder.

    Args:
        folder: The path. The folder is created if needed.
        key: The name of the files.
        max_bytes: See `Cache`.

    Raises:
        OSError: The path is not a folder, the folder cannot be created, or it is not writable and has no such files.
            Not if the files do not fit: elements are then computed each time.
        PermissionError: The files belong to another user, or others can write to them.
    """

    def __init__(self, folder: str, key: str, max_bytes: int | None) -> None:
        super().__init__(max_bytes)
        self._folder, self._name = os.path.abspath(folder), f"{key}.{_FORM}"
        self._files()

    def __repr__(self) -> str:
        return f"cache({self._folder!r})"

    def release(self) -> None:
        """Stop counting as a user of the folder; the next use opens the files again.

        User code of a worker that was stopped before can no longer write into the folder. Another thread may be reading
        the files. They are closed with their last reference.
        """
        with _opening:
            opened, told = self._opened, self._told
            self._forget()
            self._told = told
        # Without that lock: a thread that stores may run a finalizer that needs it.
        if opened is not None and opened[0] == os.getpid() and opened[1] is not None:
            opened[1].release()

    def _open(self) -> RecordFiles | None:
        try:
            try:
                os.makedirs(self._folder, exist_ok=True)
                return self._opened_with(os.O_RDWR | os.O_CREAT)
            except OSError as error:
                if error.errno not in _READ_ONLY | _NO_ROOM:
                    raise
                refused = error
            is_full = refused.errno in _NO_ROOM
            reason = f"no more values can be stored: {refused}"
            self._keeps_none = reason if is_full else f"the files are read-only ({refused.strerror})"
            try:
                return self._opened_with(os.O_RDONLY)
            except FileNotFoundError:
                if is_full:
                    return None
                raise refused from None
        except OSError as error:
            if error.errno is not None:  # not an error of `open_own`, which has a remedy
                add_note(error, f"{self!r} stores elements in this folder: use a writable folder")
            raise

    def _opened_with(self, flags: int) -> RecordFiles:
        base, is_writable = os.path.join(self._folder, self._name), flags != os.O_RDONLY
        with contextlib.ExitStack() as on_error:
            # First: from here on, no process removes the other files.
            use = on_error.enter_context(hold(f"{base}.use", flags | os.O_APPEND * is_writable, _open_own))
            index = on_error.enter_context(_open_own(f"{base}.index", flags).above_standard())
            data = Segments(self._folder, self._name, self.max_bytes, self._counts, _open_own, is_writable=is_writable)
            on_error.pop_all()
        self._counts.open(use, is_writable=is_writable)
        return RecordFiles(data, index, name=self._name)

    def _usage(self) -> NameUsage | None:
        with contextlib.suppress(OSError):
            return usage_of_name(self._folder, self._name)
        return None


def folder_usage(folder: str) -> tuple[list[tuple[NameUsage, bool]], int | None]:
    """Return the space that caches use in a folder, and its bound; see `cache_folders.usage_of`.

    Raises:
        OSError: The folder cannot be read.
    """
    return usage_of(folder, _open_own)


class MemoryCache(Cache):
    """A cache in the memory of this host. It exists as long as the first object, or a child of its process, exists.

    Args:
        max_bytes: See `Cache`; None for half of the memory that is free now.

    Raises:
        OSError: The limit of file descriptors is reached.
    """

    def __init__(self, max_bytes: int | None) -> None:
        super().__init__(_free_bytes() // _SHARE_OF_MEMORY if max_bytes is None else max_bytes)
        self._pid, self._name = os.getpid(), f"mpqueue-cache-{os.urandom(8).hex()}"
        self._held = [HeldDescriptor(memory_file, self._name) for _ in range(3)]
        self._fds = [held.fd for held in self._held]

    def __repr__(self) -> str:
        return "cache()"

    def _open(self) -> RecordFiles | None:
        # Opened again rather than used: an inherited descriptor shares its position with the parent, and `DataFile`
        # reads the position after each write.
        for process in ("self", self._pid):  # a forked child has inherited the descriptors
            paths = [f"/proc/{process}/fd/{fd}" for fd in self._fds]
            with contextlib.suppress(OSError):
                if all(os.readlink(path) == f"/memfd:{self._name} (deleted)" for path in paths):
                    flags = os.O_RDWR | os.O_CLOEXEC
                    data, counts, index = (
                        HeldDescriptor(os.open, path, flags | more).above_standard()
                        for path, more in zip(paths, (os.O_APPEND, os.O_APPEND, 0), strict=True)
                    )
                    self._counts.open(counts)
                    return RecordFiles(DataFile(data, self.max_bytes), index)
        self._keeps_none = (
            f"its memory is unreachable from process {os.getpid()}: process {self._pid} is on another machine, or has "
            "closed the cache; use cache(folder)"
        )
        return None

    def _usage(self) -> NameUsage | None:
        if self._files() is None:
            return None
        data, counts, _ = (f"/proc/{self._pid}/fd/{fd}" for fd in self._fds)
        with contextlib.suppress(OSError), open(counts, "rb") as file:
            return NameUsage(self._name, *counts_in(file.read()), os.stat(data).st_size)
        return None


def _open_own(path: str, flags: int) -> HeldDescriptor:
    return open_own(path, flags, _REMEDY, mode=0o644)


def _free_bytes() -> int:
    import psutil

    return int(psutil.virtual_memory().available)
