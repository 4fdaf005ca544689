"""Files and folders by name: ``tf.gfile``. Names may be fsspec URLs (extra ``[fsspec]``)."""

import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from mpqueue.compat.program.file_systems import located
from mpqueue.compat.program.texts import as_text
from mpqueue.errors import AlreadyExistsError, NotFoundError, UnimplementedError
from mpqueue.readers.files import matching_files


class FileStatistics(NamedTuple):
    """Size, time and kind of a file or folder.

    Attributes:
        length: Bytes.
        mtime_nsec: Time of the last change, nanoseconds since 1970; 0 where it is not known.
        is_directory: Whether it is a folder.
    """

    length: int
    mtime_nsec: int
    is_directory: bool


def Exists(filename: Any) -> bool:
    """Return whether there is a file or folder of this name."""
    with located(filename) as (files, path):
        return bool(files.exists(path))


def IsDirectory(dirname: Any) -> bool:
    """Return whether there is a folder of this name."""
    with located(dirname) as (files, path):
        return bool(files.isdir(path))


def ListDirectory(dirname: Any) -> list[str]:
    """Return the names of what is in a folder, without its own name, in no order.

    Raises:
        NotFoundError: There is no such folder.
    """
    with located(dirname) as (files, path):
        if not files.isdir(path):
            raise NotFoundError(None, None, f"Could not find directory {as_text(dirname)}")
        return [os.path.basename(each.rstrip("/")) for each in files.ls(path, detail=False)]


def Glob(filename: Any) -> list[str]:
    """Return the names of the files and folders that match a pattern, or several, sorted."""
    patterns = filename if isinstance(filename, Iterable) and not isinstance(filename, str | bytes) else [filename]
    return [as_text(match) for pattern in patterns for match in matching_files(pattern).tolist()]


def MakeDirs(dirname: Any) -> None:
    """Make a folder and those it lies in, as far as they are not there."""
    with located(dirname) as (files, path):
        files.makedirs(path, exist_ok=True)


def MkDir(dirname: Any) -> None:
    """Make a folder, if it is not there.

    Raises:
        NotFoundError: The folder that it is to lie in does not exist.
    """
    with located(dirname) as (files, path):
        if not files.isdir(path):
            files.mkdir(path, create_parents=False)


def Remove(filename: Any) -> None:
    """Remove a file.

    Raises:
        NotFoundError: There is none.
        FailedPreconditionError: It is a folder.
    """
    with located(filename) as (files, path):
        files.rm_file(path)


def DeleteRecursively(dirname: Any) -> None:
    """Remove a folder with all that is in it.

    Raises:
        NotFoundError: There is none.
    """
    with located(dirname) as (files, path):
        files.rm(path, recursive=True)


def Copy(oldpath: Any, newpath: Any, overwrite: bool = False) -> None:
    """Copy a file.

    Raises:
        NotFoundError: There is none.
        AlreadyExistsError: ``newpath`` exists and is not to be overwritten.
    """
    with located(newpath) as (target, new), located(oldpath) as (source, old):
        _check_free(target, new, newpath, overwrite)
        if source == target:
            source.cp_file(old, new)
        else:
            with source.open(old, "rb") as reader, target.open(new, "wb") as writer:
                while block := reader.read(1 << 20):
                    writer.write(block)


def Rename(oldname: Any, newname: Any, overwrite: bool = False) -> None:
    """Give a file or folder another name.

    Raises:
        NotFoundError: There is none.
        AlreadyExistsError: ``newname`` exists and is not to be overwritten.
        UnimplementedError: The two names belong to different file systems.
    """
    with located(newname) as (target, new), located(oldname) as (files, old):
        _check_free(target, new, newname, overwrite)
        if files != target:
            raise UnimplementedError(None, None, f"Renaming {as_text(oldname)} to {as_text(newname)} not implemented")
        files.mv(old, new)


def _check_free(files: Any, path: str, name: Any, overwrite: bool) -> None:
    if not overwrite and files.exists(path):
        raise AlreadyExistsError(None, None, f"{as_text(name)}; file already exists")


def Stat(filename: Any) -> FileStatistics:
    """Return size, time and kind of a file or folder.

    Raises:
        NotFoundError: There is none.
    """
    with located(filename) as (files, path):
        known = files.info(path)
    when = known.get("mtime")
    seconds = when if isinstance(when, int | float) else 0
    return FileStatistics(int(known.get("size") or 0), int(seconds * 1e9), known["type"] == "directory")


def Walk(top: Any, in_order: bool = True) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield the folders below one, each as its name, the names of the folders in it, and those of the files.

    Args:
        top: The folder; of one that does not exist nothing is given.
        in_order: A folder before those in it, else after them.
    """
    name = as_text(top)
    if not IsDirectory(name):
        return
    entries = ListDirectory(name)
    folders = [each for each in entries if IsDirectory(f"{name.rstrip('/')}/{each}")]
    here = name, folders, [each for each in entries if each not in folders]
    if in_order:
        yield here
    for folder in folders:
        yield from Walk(f"{name.rstrip('/')}/{folder}", in_order)
    if not in_order:
        yield here
