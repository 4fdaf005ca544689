"""`Tar`: samples in tar archives, by WebDataset's convention.

The index has, for each member that belongs to a sample, where its bytes lie and which of the file's suffixes it has;
for each sample its key and where its members end. A sample is read with one `os.pread` for each member.
"""

import os
from array import array

import numpy as np

from mpqueue.errors import FileError
from mpqueue.files.index import Index, packed
from mpqueue.files.index_file import Arrays
from mpqueue.files.names import Names, expand
from mpqueue.files.opened import FileRange
from mpqueue.files.source import FileSource
from mpqueue.files.tar_headers import members


class Tar(FileSource):
    """Samples in tar archives, as WebDataset has them: members of one stem, side by side, are a sample.

    A sample is a dict: ``{"__key__": "train/000017", "jpg": b"...", "cls": b"3"}``, with an item for each member, whose
    name is what follows the first dot of the member's, in lower case. Members without a stem or without a dot, links,
    devices and folders are left out. Nothing is ever extracted; a key is text that anybody may have chosen, no path.

    Any sample is read at once, so that a shuffled order is a true one. A source can be pickled, holds no data, and
    opens its files in the process that reads. A file that changes later is an error when it is read.

    Args:
        paths: A path, or a list of them; ``*`` and ``?`` match what is there, and ``{000..099}`` are a hundred.
        index: The folder of the index, which is made once; None: ``$XDG_CACHE_HOME/mpqueue``.

    Raises:
        FileNotFoundError: A file is not there, or no file matches.
        FileError: A file is no tar archive, is compressed, cut short, or damaged.

    Follows: WebDataset, whose shards it reads; but each sample has its number, and members of one stem and one suffix
        are an error in place of two halves of data.

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

    def __init__(self, paths: Names, *, index: str | os.PathLike[str] | None = None) -> None:
        folder = None if index is None else os.fspath(index)
        super().__init__(Index("tar", 1, expand(paths), scan, folder), "member_ends")
        self._suffixes_of: dict[int, list[str]] = {}

    def _ranges(self, number: int, file: int) -> list[FileRange]:
        start, stop = self._members(number, file)
        offsets, sizes = self._index["offsets"][start:stop].tolist(), self._index["sizes"][start:stop].tolist()
        return [FileRange(file, offset, size) for offset, size in zip(offsets, sizes, strict=True)]

    def _sample(self, number: int, ranges: list[FileRange], parts: list[bytes]) -> dict[str, str | bytes]:
        file = ranges[0].file
        start, _ = self._members(number, file)
        suffixes = self._suffixes(file)
        sample: dict[str, str | bytes] = {"__key__": self._key(number, file)}
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
        FileError: It is no archive, is damaged, or has a member twice.
    """
    offsets, sizes, suffixes = array("q"), array("q"), array("I")
    keys: list[bytes] = []
    member_ends = array("q")
    numbers: dict[bytes, int] = {}
    key, of_key = b"", set[bytes]()
    for name, offset, size in members(path):
        folder, slash, base = name.rpartition(b"/")
        stem, dot, suffix = base.partition(b".")
        if not stem or not dot:
            continue
        this = folder + slash + stem
        suffix = suffix.lower()
        if this != key or not keys:
            if keys:
                member_ends.append(len(offsets))
            keys.append(this)
            key, of_key = this, set()
        if suffix in of_key:
            raise FileError(path, offset, f"there are two members {os.fsdecode(name)!r} in a sample; write one of them")
        of_key.add(suffix)
        offsets.append(offset)
        sizes.append(size)
        suffixes.append(numbers.setdefault(suffix, len(numbers)))
    if keys:
        member_ends.append(len(offsets))
    text, key_ends = packed(keys)
    return {
        "offsets": np.frombuffer(offsets, np.int64),
        "sizes": np.frombuffer(sizes, np.int64),
        "suffixes": np.frombuffer(suffixes, np.uint32),
        "member_ends": np.frombuffer(member_ends, np.int64),
        "keys": text,
        "key_ends": key_ends,
        "suffix_names": np.frombuffer(b"\0".join(numbers), np.uint8),
    }
