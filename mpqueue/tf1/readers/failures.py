"""File errors of the operating system as TensorFlow's error classes.

A caller of a reader only gets subclasses of `OpError`, with the file's name. The table maps errno values like
TensorFlow's file systems. Remote file systems often raise a Python class without errno, so the class has precedence.
"""

import errno
import os
from collections.abc import Callable

from mpqueue.errors import (
    AbortedError,
    AlreadyExistsError,
    CancelledError,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    OpError,
    OutOfRangeError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnavailableError,
    UnimplementedError,
    UnknownError,
)
from mpqueue.system.signals.interrupts import is_of_handler

_BY_CLASS: tuple[tuple[type[BaseException], type[OpError]], ...] = (
    (FileNotFoundError, NotFoundError),
    (PermissionError, PermissionDeniedError),
    (FileExistsError, AlreadyExistsError),
    (IsADirectoryError, FailedPreconditionError),
    (NotADirectoryError, FailedPreconditionError),
    (TimeoutError, DeadlineExceededError),
    (ConnectionError, UnavailableError),
    (MemoryError, ResourceExhaustedError),
)

_BY_ERRNO: dict[type[OpError], str] = {
    InvalidArgumentError: "EINVAL ENAMETOOLONG E2BIG EFAULT EILSEQ ESPIPE ENOTTY",
    NotFoundError: "ENODEV ENXIO ESRCH",
    ResourceExhaustedError: "ENOSPC EDQUOT EMFILE ENFILE EMLINK ENOBUFS ENOMEM",
    OutOfRangeError: "EFBIG EOVERFLOW ERANGE",
    UnimplementedError: "ENOSYS ENOTSUP EAFNOSUPPORT EPFNOSUPPORT EPROTONOSUPPORT EXDEV",
    UnavailableError: "EAGAIN EINTR EHOSTDOWN EHOSTUNREACH ENETDOWN ENETRESET ENETUNREACH ENOLCK ENOLINK ETXTBSY",
    FailedPreconditionError: "EBADF EBUSY ECHILD EISCONN ENOTBLK ENOTCONN ENOTEMPTY EPIPE",
    PermissionDeniedError: "EROFS",
    AbortedError: "EDEADLK ESTALE",
    CancelledError: "ECANCELED",
}
_CLASS_OF = {getattr(errno, code, None): kind for kind, codes in _BY_ERRNO.items() for code in codes.split()}


def shown(name: bytes) -> str:
    """Format a file name for a message, with escapes for invalid UTF-8."""
    return name.decode("utf-8", "backslashreplace")


def file_error(problem: BaseException, name: bytes) -> OpError:
    """Return the `OpError` for an exception about a file.

    Raises:
        BaseException: ``problem`` itself, if a signal handler raised it, such as a TimeoutError of the user's alarm.
    """
    if is_of_handler(problem):
        raise problem
    return _class_of(problem)(None, None, f"{shown(name)}; {_words(problem)}")


def _class_of(problem: BaseException) -> Callable[[None, None, str], OpError]:
    for raised, kind in _BY_CLASS:
        if isinstance(problem, raised):
            return kind
    code = problem.errno if isinstance(problem, OSError) else None
    return UnknownError if code is None else _CLASS_OF.get(code, UnknownError)


def _words(problem: BaseException) -> str:
    if isinstance(problem, OSError) and problem.errno is not None:
        return os.strerror(problem.errno)
    return f"{type(problem).__name__}: {problem}"
