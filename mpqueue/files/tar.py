"""`Tar`: samples in tar archives, by WebDataset's convention.

The index has, for each member that belongs to a sample, where its bytes lie and which of the file's suffixes it has;
for each sample its key and where its members end. A sample is read with one `os.pread` for each member.
"""

import functools
import itertools
import os
from array import array

import numpy as np

from mpqueue.errors import FileError
from mpqueue.files.index import Index, packed
from mpqueue.files.index_file import Arrays
from mpqueue.files.names import Names, expand
from mpqueue.files.ranges import FileRange
from mpqueue.files.source import FileSource
from mpqueue.files.tar_headers import SPARSE, TarSample, members, sparse_text, split_name
from mpqueue.system import log


class Tar(FileSource):
    """Samples in tar archives, as WebDataset has them: members of one stem, side by side, are a sample.

    A sample is a dict: ``{"__key__": "train/000017", "jpg": b"...", "cls": b"3"}``, with an item for each member, whose
    name is what follows the first dot of the member's, in lower case. Members without a stem or without a dot, links,
    devices and folders are left out. Nothing is ever extracted; a key is text that anybody may have chosen, no path.

    Any sample is read at once, so that a shuffled order is a true one. A source can be pickled, holds no data, and
    opens its files in the process that reads. A file that changes later is an error when it is read.

    Args:
        paths: A path, or a list of them; ``*`` and ``?`` match what is there, and ``{000..099}`` are a hundred.
        on_error: What is done where an archive is cut short or damaged: ``"raise"``, or ``"skip"`` all that is behind
            that place, with a warning that names it. The last sample before it is left out, too: it may lack a member.
        index: The folder of the index, which is made once; None: ``$XDG_CACHE_HOME/mpqueue``.

    Raises:
        FileNotFoundError: A file is not there, or no file matches.
        FileError: A file is no tar archive, is compressed, cut short, or damaged.
        ValueError: There is no such ``on_error``.

    Follows: WebDataset, whose shards it reads, and its ``handler=warn_and_continue``; but each sample has its number,
        members of one stem and one suffix are an error in place of two halves of data, and an archive without the mark
        of its end, of which tarfile says nothing, is one that is cut short.

    Example:
        >>> import mpqueue, pathlib, tarfile, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name, data in {"cat.txt": b"meow", "cat.cls": b"0", "dog.txt": b"woof"}.items():
        ...     _ = (folder / name).write_bytes(data)
        >>> with tarfile.open(folder / "animals.tar", "w") as archive:
        ...     for name in ("cat.txt", "cat.cls", "dog.txt"):
        ...         archive.add(folder / name, name)
        >>> animals = mpqueue.files.Tar(folder / "*.tar", index=folder)
        >>> len(animals), animals[0]
        (2, {'__key__': 'cat', 'txt': b'meow', 'cls': b'0'})
    """

    def __init__(self, paths: Names, *, on_error: str = "raise", index: str | os.PathLike[str] | None = None) -> None:
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}")
        form, find = ("tar", scan) if on_error == "raise" else ("tar, on_error=skip", scan_to_error)
        super().__init__(Index(form, 1, expand(paths), find, index), "member_ends")
        if on_error == "skip":
            self._warn_of_damaged()

    def _warn_of_damaged(self) -> None:
        starts, text = self._index.starts("errors"), self._index["errors"]
        for first, last in itertools.pairwise(starts.tolist()):
            if first < last:
                log.warn(
                    f"{os.fsdecode(text[first:last].tobytes())}; only what is before it is read", "Your files", "Errors"
                )

    def _ranges(self, number: int, file: int) -> list[FileRange]:
        start, stop = self._members(number, file)
        offsets, sizes = self._index["offsets"][start:stop].tolist(), self._index["sizes"][start:stop].tolist()
        if SPARSE in sizes:
            at = sizes.index(SPARSE)
            suffix = self._suffixes(file)[int(self._index["suffixes"][start + at])]
            raise self._error(FileRange(file, offsets[at], 0), sparse_text(f"{self._key(number, file)}.{suffix}"))
        return [FileRange(file, offset, size) for offset, size in zip(offsets, sizes, strict=True)]

    def _sample(self, number: int, ranges: list[FileRange], parts: list[bytes]) -> TarSample:
        file = ranges[0].file
        start, _ = self._members(number, file)
        suffixes = self._suffixes(file)
        sample: TarSample = {"__key__": self._key(number, file)}
        for suffix, part in zip(self._index["suffixes"][start : start + len(parts)].tolist(), parts, strict=True):
            sample[suffixes[suffix]] = part
        return sample

    def _members(self, number: int, file: int) -> tuple[int, int]:
        """Return which members a sample has: from the first of them to that behind the last."""
        ends = self._index["member_ends"]
        base = int(self._index.starts("offsets")[file])
        first = base + int(ends[number - 1]) if number > self._starts[file] else base
        return first, base + int(ends[number])

    def _key(self, number: int, file: int) -> str:
        base, ends = int(self._index.starts("keys")[file]), self._index["key_ends"]
        first = base + int(ends[number - 1]) if number > self._starts[file] else base
        return os.fsdecode(self._index["keys"][first : base + int(ends[number])].tobytes())

    @functools.cached_property
    def _suffixes_of(self) -> dict[int, list[str]]:
        return {}

    def _suffixes(self, file: int) -> list[str]:
        found = self._suffixes_of.get(file)
        if found is None:
            first, last = self._index.starts("suffix_names")[file : file + 2].tolist()
            names = os.fsdecode(self._index["suffix_names"][first:last].tobytes())
            found = self._suffixes_of[file] = names.split("\0")
        return found


def scan(path: str) -> Arrays:
    """Return where the members of an archive's samples lie; ends and suffixes count from 0 in each archive.

    Raises:
        FileError: It is no archive, is cut short or damaged, or has a member twice.
    """
    found, error = _scanned(path)
    if error is not None:
        remedy = "; write the file anew, or read what is before it by on_error='skip'" if error.offset else ""
        raise FileError(error.path, error.offset, error.what + remedy) from error
    return found


def scan_to_error(path: str) -> Arrays:
    """Return the same of the samples before an error, and its text as ``errors``.

    Raises:
        FileError: It is no archive.
    """
    found, error = _scanned(path)
    if error is not None and not error.offset:
        raise error
    return found | {"errors": np.frombuffer(b"" if error is None else os.fsencode(str(error)), np.uint8)}


def _scanned(path: str) -> tuple[Arrays, FileError | None]:
    """Return the arrays of an archive up to the first error, and that."""
    offsets, sizes, suffixes = array("q"), array("q"), array("I")
    keys: list[bytes] = []
    member_ends = array("q")
    numbers: dict[bytes, int] = {}
    key, of_key = b"", set[bytes]()
    error: FileError | None = None
    try:
        for name, offset, size in members(path):
            parts = split_name(name)
            if parts is None:
                continue
            this, suffix = parts
            # Only side by side: members of one stem that lie apart are samples of their own, as in WebDataset.
            if this != key or not keys:
                if keys:
                    member_ends.append(len(offsets))
                keys.append(this)
                key, of_key = this, set()
            if suffix in of_key:
                what = f"there are two members {os.fsdecode(name)!r} in a sample; write one of them"
                raise FileError(path, offset, what)
            of_key.add(suffix)
            offsets.append(offset)
            sizes.append(size)
            suffixes.append(numbers.setdefault(suffix, len(numbers)))
    except FileError as damaged:
        error = damaged
    if keys and error is None:
        member_ends.append(len(offsets))
    elif keys:  # the last sample may lack a member
        keys.pop()
        for members_of in (offsets, sizes, suffixes):
            del members_of[member_ends[-1] if member_ends else 0 :]
    text, key_ends = packed(keys)
    arrays: Arrays = {
        "offsets": np.frombuffer(offsets, np.int64),
        "sizes": np.frombuffer(sizes, np.int64),
        "suffixes": np.frombuffer(suffixes, np.uint32),
        "member_ends": np.frombuffer(member_ends, np.int64),
        "keys": text,
        "key_ends": key_ends,
        "suffix_names": np.frombuffer(b"\0".join(numbers), np.uint8),
    }
    return arrays, error
