"""The file system of a name: fsspec's for a URL (extra ``[files]``), otherwise the local one."""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from mpqueue.tf1.readers.failures import file_error
from mpqueue.tf1.readers.opening import file_name, local_path, remote_filesystem, remote_scheme


class LocalFiles:
    """The local file system, with fsspec's methods for copying, renaming and listing."""

    exists = staticmethod(os.path.exists)
    isdir = staticmethod(os.path.isdir)
    makedirs = staticmethod(os.makedirs)
    rm_file = staticmethod(os.remove)
    mv = staticmethod(os.replace)
    cp_file = staticmethod(shutil.copyfile)
    open = staticmethod(open)

    @staticmethod
    def ls(path: str, *, detail: bool) -> list[str]:
        """Return the paths of the entries of a directory."""
        assert not detail
        return [os.path.join(path, name) for name in os.listdir(path)]

    @staticmethod
    def mkdir(path: str, *, create_parents: bool) -> None:
        """Create a directory."""
        assert not create_parents
        os.mkdir(path)

    @staticmethod
    def rm(path: str, *, recursive: bool) -> None:
        """Remove a directory and its contents."""
        assert recursive
        shutil.rmtree(path)

    @staticmethod
    def info(path: str) -> dict[str, Any]:
        """Return size, type and modification time of a path."""
        status = os.stat(path)
        kind = "directory" if stat.S_ISDIR(status.st_mode) else "file"
        return {"size": status.st_size, "type": kind, "mtime": status.st_mtime}


_LOCAL: Final = LocalFiles()


@contextmanager
def problems_of(name: Any) -> Iterator[None]:
    """Context manager that converts an `OSError` about a file to an `OpError`."""
    try:
        yield
    except OSError as problem:
        raise file_error(problem, file_name(name)) from problem


@contextmanager
def located(name: Any) -> Iterator[tuple[Any, str]]:
    """Context manager that returns a name's file system and path, and converts `OSError` to `OpError`.

    Raises:
        TypeError: ``name`` is not a file name.
        ImportError: ``name`` is a URL, and fsspec is not installed.
    """
    label = file_name(name)
    with problems_of(name):
        yield remote_filesystem(label) if remote_scheme(label) else (_LOCAL, os.fsdecode(local_path(label)))
