"""The file system that a name belongs to: fsspec's for a URL (extra ``[fsspec]``), else the local one."""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from mpqueue.tf1.readers.failures import file_error
from mpqueue.tf1.readers.opening import file_name, local_path, remote_filesystem, remote_scheme


class LocalFiles:
    """The system's own files, with those of fsspec's methods that copy, rename and list."""

    exists = staticmethod(os.path.exists)
    isdir = staticmethod(os.path.isdir)
    makedirs = staticmethod(os.makedirs)
    rm_file = staticmethod(os.remove)
    mv = staticmethod(os.replace)
    cp_file = staticmethod(shutil.copyfile)
    open = staticmethod(open)

    @staticmethod
    def ls(path: str, *, detail: bool) -> list[str]:
        """Return the paths of the files and folders in a folder."""
        assert not detail
        return [os.path.join(path, name) for name in os.listdir(path)]

    @staticmethod
    def mkdir(path: str, *, create_parents: bool) -> None:
        """Make a folder."""
        assert not create_parents
        os.mkdir(path)

    @staticmethod
    def rm(path: str, *, recursive: bool) -> None:
        """Remove a folder with all that is in it."""
        assert recursive
        shutil.rmtree(path)

    @staticmethod
    def info(path: str) -> dict[str, Any]:
        """Return size, type and time of a file or folder."""
        status = os.stat(path)
        kind = "directory" if stat.S_ISDIR(status.st_mode) else "file"
        return {"size": status.st_size, "type": kind, "mtime": status.st_mtime}


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
