"""The file system that a name belongs to: fsspec's for a URL (extra ``[fsspec]``), else the local one."""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Final

from mpqueue.readers.failures import file_error
from mpqueue.readers.opening import file_name, local_path, remote_filesystem, remote_scheme


class LocalFiles:
    """The system's own files, with those of fsspec's methods that `gfile` uses."""

    def exists(self, path: str) -> bool:
        """Return whether there is a file or folder."""
        return os.path.exists(path)

    def isdir(self, path: str) -> bool:
        """Return whether it is a folder."""
        return os.path.isdir(path)

    def ls(self, path: str, detail: bool = False) -> list[str]:
        """Return the paths of the files and folders in a folder."""
        del detail
        return [os.path.join(path, name) for name in os.listdir(path)]

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Make a folder and those it lies in."""
        os.makedirs(path, exist_ok=exist_ok)

    def mkdir(self, path: str, create_parents: bool = False) -> None:
        """Make a folder."""
        del create_parents
        os.mkdir(path)

    def rm_file(self, path: str) -> None:
        """Remove a file."""
        os.remove(path)

    def rm(self, path: str, recursive: bool = False) -> None:
        """Remove a folder with all that is in it."""
        del recursive
        shutil.rmtree(path)

    def mv(self, path1: str, path2: str) -> None:
        """Rename a file or folder."""
        os.replace(path1, path2)

    def cp_file(self, path1: str, path2: str) -> None:
        """Copy a file."""
        shutil.copyfile(path1, path2)

    def info(self, path: str) -> dict[str, Any]:
        """Return size, type and time of a file or folder."""
        status = os.stat(path)
        kind = "directory" if stat.S_ISDIR(status.st_mode) else "file"
        return {"size": status.st_size, "type": kind, "mtime": status.st_mtime}

    def open(self, path: str, mode: str) -> IO[bytes]:
        """Open a file."""
        return open(path, mode)


_LOCAL: Final = LocalFiles()


@contextmanager
def problems_of(name: Any) -> Iterator[None]:
    """Enter a context in which an OSError about a file becomes an `OpError`."""
    try:
        yield
    except OSError as problem:
        raise file_error(problem, file_name(name)) from problem


@contextmanager
def located(name: Any) -> Iterator[tuple[Any, str]]:
    """Enter a context with the file system of a name, and the path in it; an OSError becomes an `OpError`.

    Raises:
        TypeError: It is no file name.
        ImportError: It is a URL, and fsspec is not installed.
    """
    label = file_name(name)
    with problems_of(name):
        yield remote_filesystem(label) if remote_scheme(label) else (_LOCAL, os.fsdecode(local_path(label)))
