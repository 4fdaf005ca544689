"""An open file of ``tf.gfile``."""

from collections.abc import Iterator
from typing import IO, Any, Final, Self

from mpqueue.compat.program.file_systems import located, problems_of
from mpqueue.compat.program.gfile import Stat
from mpqueue.compat.program.texts import as_bytes, as_text
from mpqueue.errors import InvalidArgumentError, PermissionDeniedError

_MODES: Final = ("r", "w", "a", "r+", "w+", "a+")


class GFile:
    """A file, opened at its first use; a context manager, closed at the end.

    Args:
        name: A path, or a URL (extra ``[fsspec]``).
        mode: "r", "w", "a", "r+", "w+" or "a+"; with "b" at the end, what is read is bytes and not text.

    Raises:
        InvalidArgumentError: Another mode.

    Methods raise the `OpError` of what the system says, and `PermissionDeniedError` where the mode does not allow it.
    """

    def __init__(self, name: Any, mode: str = "r") -> None:
        self._handle: IO[bytes] | None = None
        self._name, self._mode = name, mode
        self._is_binary = "b" in mode
        self._plain_mode = mode.replace("b", "")
        if self._plain_mode not in _MODES:
            raise InvalidArgumentError(None, None, f"mode must be one of {', '.join(_MODES)}, got {mode!r}")

    @property
    def name(self) -> Any:
        """The name as it was given."""
        return self._name

    @property
    def mode(self) -> str:
        """The mode as it was given."""
        return self._mode

    def _opened(self) -> IO[bytes]:
        if self._handle is None:
            with located(self._name) as (files, path):
                self._handle = files.open(path, f"{self._plain_mode}b")
        return self._handle

    def _for_reading(self) -> IO[bytes]:
        if self._plain_mode in ("w", "a"):
            raise PermissionDeniedError(None, None, f"{self._name!r} is not open for reading: its mode is {self._mode}")
        return self._opened()

    def _converted(self, data: bytes) -> Any:
        return data if self._is_binary else as_text(data)

    def read(self, n: int = -1) -> Any:
        """Return the rest of the file, or ``n`` bytes of it; empty at its end."""
        handle = self._for_reading()
        with problems_of(self._name):
            return self._converted(handle.read(n))

    def readline(self) -> Any:
        """Return the next line, with the line break; empty at the end of the file."""
        handle = self._for_reading()
        with problems_of(self._name):
            return self._converted(handle.readline())

    def readlines(self) -> list[Any]:
        """Return the lines that are left."""
        return list(self)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.readline, self._converted(b""))

    def write(self, file_content: Any) -> None:
        """Append text or bytes."""
        if self._plain_mode == "r":
            raise PermissionDeniedError(None, None, f"{self._name!r} is not open for writing: its mode is {self._mode}")
        handle = self._opened()
        with problems_of(self._name):
            handle.write(as_bytes(file_content))

    def seek(self, offset: int, whence: int = 0) -> None:
        """Go to a place in the file."""
        self._for_reading().seek(offset, whence)

    def tell(self) -> int:
        """Return the place in the file."""
        return self._opened().tell()

    def seekable(self) -> bool:
        """Return True: `seek` works."""
        return True

    def size(self) -> int:
        """Return the number of bytes in the file."""
        return Stat(self._name).length

    def flush(self) -> None:
        """Put into the file what was written."""
        if self._handle is not None:
            with problems_of(self._name):
                self._handle.flush()

    def close(self) -> None:
        """Close the file; a later use opens it again."""
        handle, self._handle = self._handle, None
        if handle is not None:
            with problems_of(self._name):
                handle.close()

    def __del__(self) -> None:
        if self._handle is not None:
            self._handle.close()  # scripts read a file in one line, and never close it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
