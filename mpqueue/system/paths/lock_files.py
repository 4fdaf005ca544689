"""Lock files: a process holds one (`flock`) while it uses something that no other process may use.

The kernel releases the lock when its holder exits, even after a crash. The file contains the holder's process id, for
the error in other processes. The holder removes the file before it releases the lock.
"""

import contextlib
import fcntl
import os

from mpqueue.system.descriptors import descriptors
from mpqueue.system.paths.own_files import open_own


class LockInUse(Exception):
    """Another process holds the lock; the message describes that process."""


def lock_now(path: str, kind: str, remedy: str, error: type[Exception]) -> int | None:
    """Create and lock a file, without waiting.

    Args:
        path: The path of the file.
        kind: The kind of lock, such as ``"the lock "``; see `open_own`.
        remedy: What to do about a file of a different user; see `open_own`.
        error: The exception to raise for such a file.

    Returns:
        A descriptor, which is registered in `mpqueue.system.descriptors.descriptors`; None if another process has just
        removed the file, which must then be tried again.

    Raises:
        LockInUse: Another process holds the lock.
        Exception: ``error``, if the file is a link, or may be written by other users.
        OSError: The file cannot be opened or locked.
    """
    # Do not truncate the file yet: another process may have locked it, and it contains that process's id.
    held = open_own(path, os.O_RDWR | os.O_CREAT, remedy, error, kind)
    with held:
        fd = descriptors.own(held.dup())  # closed in forked children, which would hold the lock otherwise
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(fd, 64, 0).decode("ascii", "replace").strip()
            raise LockInUse(f"process {pid or 'of unknown id'}") from None
        # Check after locking: the previous holder may have unlinked this file in the meantime, and another process may
        # have created the next one. Then the lock of the old file is worthless.
        if is_at(fd, path):
            os.ftruncate(fd, 0)
            os.pwrite(fd, b"%d\n" % os.getpid(), 0)
            return fd
    except BaseException:
        descriptors.close(fd)
        raise
    descriptors.close(fd)
    return None


def wait_for(fd: int, path: str) -> None:
    """Wait for the lock of an open file or folder, and hold it until `release`.

    Raises:
        OSError: It cannot be locked, such as on a file system without locks; the error has the path.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    except OSError as error:
        problem = f"it cannot be locked ({error.strerror}), as on a file system without locks"
        raise OSError(error.errno, problem, path) from error


def unlock(fd: int, path: str) -> None:
    """Remove a lock file, unless another process has created it again, and release the lock."""
    try:
        if is_at(fd, path):  # removed before the release, see `lock_now`
            os.unlink(path)
    finally:
        release(fd)


def release(fd: int) -> None:
    """Release a lock, and close its descriptor."""
    try:
        # A child that another thread forked while the file was being opened may have a duplicate of the descriptor.
        # Closing ours would leave the lock to that child, and a process that waits for it would wait for the child.
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        descriptors.close(fd)


def is_at(fd: int, path: str) -> bool:
    """Return whether an open file is the one with a path."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False
