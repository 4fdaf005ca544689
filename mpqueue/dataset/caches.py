"""The places of the elements before a `cache`: in a folder, or in the memory of the host.

A cache travels with its dataset as the names of two files, which each process opens when it first needs them; see
`mpqueue.dataset.record_files`.

- *In a folder* they are ``KEY.data`` and ``KEY.index``. Whoever has the same key shares them: workers, ranks, later
  runs, all of one user. What is in them is unpickled, which runs code, so files that another user has made, or may
  write to, are refused. What is asked is the open file: a name that is looked at first may lead elsewhere when it is
  opened.
- *In memory* they have no name (memfd), and are gone with the process that has called ``cache()`` and its children.
  Others of this host open them through ``/proc``, which the kernel allows to processes of the same user; by the name
  that it shows there they see whether a descriptor is still the right one.

What cannot be kept is computed each time, which is told once in each process: there is no room, the folder is
read-only, or the memory is out of reach, as it is on another machine.
"""

import contextlib
import errno
import fcntl
import os
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from mpqueue.dataset.record_files import MISSING, NoRoomError, RecordFiles
from mpqueue.memory.segment import memory_file
from mpqueue.system import descriptors, folders, platform_support
from mpqueue.system.log import warn
from mpqueue.worker.failures import passes_at_once

_FORM = 1  # of the files; those of another form have other names
_SHARE_OF_MEMORY = 2
# Without O_NONBLOCK, the opening of somebody's named pipe would wait for its writer.
_AS_IT_IS = os.O_NOFOLLOW | os.O_NONBLOCK
_REMEDY = "use a folder to which only this user may write, or remove the file: cache() unpickles what is there"
_READ_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS}


class Cache:
    """Values by their numbers, which all processes of a host share that have the same cache.

    Args:
        max_bytes: Of the values; None: as far as there is room.
    """

    def __init__(self, max_bytes: int | None) -> None:
        self._max_bytes = max_bytes
        self._forget()

    def _forget(self) -> None:
        """Begin as in a new process."""
        self._opened: tuple[int, RecordFiles | None] | None = None
        self._keeps_none = ""  # why; empty: it does, as far as this process knows
        self._told: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in _MADE_ANEW}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    def __repr__(self) -> str:
        """Its place, in words."""
        raise NotImplementedError

    def values(self, numbers: Sequence[int], compute: Callable[[list[int]], list[Any]]) -> list[Any]:
        """Return values; those that are not there are computed, and kept.

        Args:
            numbers: Theirs.
            compute: Returns values by their numbers, of which no two are equal.

        Raises:
            Exception: What ``compute`` raises; of a value that cannot be pickled; of files that cannot be opened.
        """
        found = [self.get(number) for number in numbers]
        missing = [number for number, value in zip(numbers, found, strict=True) if value is MISSING]
        if not missing:
            return found
        once = list(dict.fromkeys(missing))
        made = {number: self.put(number, value) for number, value in zip(once, compute(once), strict=True)}
        for place, number in enumerate(numbers):
            if found[place] is MISSING:
                # Each has an object of its own, which the functions behind may change.
                found[place] = made.pop(number) if number in made else self.values([number], compute)[0]
        return found

    def get(self, number: int, salt: int = 0) -> Any:
        """Return a value; `MISSING`: it is not there.

        Args:
            number: Its number.
            salt: What it was kept with: values of another one are none.
        """
        files = self._files()
        if files is None:
            return MISSING
        try:
            return files.get(number, salt)
        except Exception as error:  # a class that has another name by now, say
            if passes_at_once(error):
                raise
            self._tell(f"it has values that cannot be read any more: {type(error).__name__}: {error}")
            return MISSING

    def put(self, number: int, value: Any, salt: int = 0) -> Any:
        """Keep a value if that is possible, and return what `get` gives from now on.

        Raises:
            Exception: It cannot be pickled.
        """
        files = self._files()
        if files is not None and not self._keeps_none:
            try:
                return files.put(number, value, salt)
            except NoRoomError as error:
                self._keeps_none = f"no more can be kept: {error}"
            except Exception as error:
                error.add_note("cache() keeps elements as pickles: put it before the stage that makes this one")
                raise
        self._tell(f"{self._keeps_none}. What it has is used, all else is computed each time")
        return value

    def _files(self) -> RecordFiles | None:
        opened = self._opened
        if opened is None or opened[0] != os.getpid():
            self._forget()
            opened = self._opened = os.getpid(), self._open()
        return opened[1]

    def _open(self) -> RecordFiles | None:
        """Open the files in this process; None: they are out of reach."""
        raise NotImplementedError

    def _tell(self, what: str) -> None:
        if what not in self._told:
            self._told.add(what)
            warn(f"{self!r}: {what}", "Streams", "Caches")


_MADE_ANEW = {"_opened", "_keeps_none", "_told", "_finalizer"}


class FolderCache(Cache):
    """Values in a folder.

    Args:
        folder: Its path; it is made if it is not there.
        key: The name of the files.
        max_bytes: See `Cache`.

    Raises:
        OSError: It is no folder; it cannot be made; it cannot be written, and has no such files.
        PermissionError: Files there are another user's, or others may write to them.
    """

    def __init__(self, folder: str, key: str, max_bytes: int | None) -> None:
        super().__init__(max_bytes)
        self._folder, self._key = os.path.abspath(folder), key
        self._files()

    def __repr__(self) -> str:
        return f"cache({self._folder!r})"

    def _open(self) -> RecordFiles:
        base = os.path.join(self._folder, f"{self._key}.{_FORM}")
        paths = f"{base}.data", f"{base}.index"
        try:
            os.makedirs(self._folder, exist_ok=True)
            try:
                fds = _open_both(*paths, os.O_RDWR | os.O_CREAT | _AS_IT_IS)
            except OSError as error:
                if error.errno not in _READ_ONLY:
                    raise
                refused = error
            else:
                _check_own(paths, fds)
                return RecordFiles(*fds, max_bytes=self._max_bytes)
            try:
                fds = _open_both(*paths, os.O_RDONLY | _AS_IT_IS)
            except FileNotFoundError:
                raise refused from None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise PermissionError(f"{error.filename} is a symbolic link, expected a file: {_REMEDY}") from error
            if error.errno is not None:
                error.add_note(f"cache({self._folder!r}) keeps elements there: choose a folder that can be written")
            raise
        _check_own(paths, fds)
        self._keeps_none = f"it cannot be written ({refused.strerror})"
        return RecordFiles(*fds, max_bytes=self._max_bytes)


class MemoryCache(Cache):
    """Values in the memory of this host, as long as the object lives that was made first, or a child of its process.

    Args:
        max_bytes: See `Cache`; None: half of what is free now.

    Raises:
        OSError: There are no descriptors left.
    """

    def __init__(self, max_bytes: int | None) -> None:
        super().__init__(_free_bytes() // _SHARE_OF_MEMORY if max_bytes is None else max_bytes)
        self._pid, self._name = os.getpid(), f"mpqueue-cache-{os.urandom(8).hex()}"
        data = memory_file(self._name)
        try:
            index = memory_file(self._name)
        except OSError:
            os.close(data)
            raise
        fcntl.fcntl(data, fcntl.F_SETFL, fcntl.fcntl(data, fcntl.F_GETFL) | os.O_APPEND)
        self._fds = data, index
        self._finalizer = weakref.finalize(self, _close_in, self._pid, self._fds)
        self._finalizer.atexit = False  # the end of the process does the same

    def __repr__(self) -> str:
        return "cache()"

    def _open(self) -> RecordFiles | None:
        if not platform_support.CAN_REOPEN and self._pid == os.getpid():
            return RecordFiles(*map(descriptors.above_standard, map(os.dup, self._fds)), max_bytes=self._max_bytes)
        for process in ("self", self._pid):  # a child that was forked has them itself
            data, index = (f"/proc/{process}/fd/{fd}" for fd in self._fds)
            with contextlib.suppress(OSError):
                if all(os.readlink(path) == f"/memfd:{self._name} (deleted)" for path in (data, index)):
                    return RecordFiles(*_open_both(data, index, os.O_RDWR), max_bytes=self._max_bytes)
        self._keeps_none = (
            f"its memory is out of reach of process {os.getpid()}, which is on another machine than process "
            f"{self._pid}, or that one has let go of it: use cache(folder)"
        )
        return None


def _open_both(data: str, index: str, flags: int) -> tuple[int, int]:
    """Return descriptors of both files: the one of the data appends."""
    first = descriptors.above_standard(os.open(data, flags | os.O_APPEND | os.O_CLOEXEC, 0o644))
    try:
        return first, descriptors.above_standard(os.open(index, flags | os.O_CLOEXEC, 0o644))
    except BaseException:
        os.close(first)
        raise


def _check_own(paths: tuple[str, str], fds: tuple[int, int]) -> None:
    """Refuse files that somebody else may have written; root may do anything in any case.

    Raises:
        PermissionError: There is one; both are closed.
    """
    try:
        for path, fd in zip(paths, fds, strict=True):
            folders.check_file(fd, path, {os.geteuid(), 0}, PermissionError, _REMEDY)
    except PermissionError:
        for fd in fds:
            os.close(fd)
        raise


def _close_in(pid: int, fds: tuple[int, int]) -> None:
    """Close descriptors in the process that has made them: in a child their numbers may be others' by now."""
    if os.getpid() == pid:
        for fd in fds:
            os.close(fd)


def _free_bytes() -> int:
    import psutil

    return int(psutil.virtual_memory().available)
