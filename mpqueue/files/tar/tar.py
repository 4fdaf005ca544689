"""`Tar`: samples in tar archives, by WebDataset's convention.

For each member of a sample, the index contains the position of its bytes and the index of its suffix. For each sample,
it contains the key and the end of its members. Reading a sample takes one `os.pread` per member.
"""

import functools
import os
from array import array

import numpy as np

from mpqueue.errors import FileError
from mpqueue.files.access.names import Names, expand
from mpqueue.files.access.ranges import FileRange
from mpqueue.files.access.window import open_window
from mpqueue.files.indexing.index import ERROR, Index, error_array, packed
from mpqueue.files.indexing.index_file import Arrays
from mpqueue.files.sources.source import FileSource
from mpqueue.files.tar.headers import SPARSE, TarSample, samples_in, sparse_text
from mpqueue.system.user_code.keywords import suggests_keywords


@suggests_keywords
class Tar(FileSource):
    """Samples in tar archives in the format of WebDataset: adjacent members with the same stem form a sample.

    A sample is a dict: ``{"__key__": "train/000017", "jpg": b"...", "cls": b"3"}``. It has an item for each member,
    named by the part after the first dot of the member's name, in lower case. Members without a stem or a dot, links,
    devices and folders are ignored. Files are never extracted. A key is untrusted text, not a path.

    Samples are read by index, so a shuffle covers all of them. A source can be pickled, contains no data, and opens its
    files in the process that reads. A file that changes later raises an error when it is read.

    Args:
        paths: A path, or a list of them; ``*`` and ``?`` match existing files, and ``{000..099}`` expands
            to a hundred names.
        exclude: A pattern of files to exclude, or a list of patterns. A pattern without a slash is compared with the
            file's name.
        on_error: What to do if an archive is truncated or damaged. ``"raise"`` raises a `FileError`. ``"skip"`` ignores
            the rest of the archive, and logs a warning that names the position; see `file_errors`. The last sample
            before it is also skipped, because it may lack a member. A file that is not a tar archive is skipped.
        index: The folder for the index, which is created once. If None, ``$XDG_CACHE_HOME/mpqueue``.

    Raises:
        FileNotFoundError: A file does not exist, no file matches, or ``exclude`` excludes all of them.
        FileError: A file is not a tar archive, or is compressed, truncated or damaged. With ``on_error="skip"``: all
            files are.
        ValueError: ``on_error`` is unknown.

    Follows: WebDataset, and its ``handler=warn_and_continue``. In addition, samples have an index; two members with the
        same stem and suffix in a sample are an error; an archive without an end mark, which tarfile accepts, counts as
        truncated; and archives one after another in a file are all read.

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

    def __init__(
        self,
        paths: Names,
        *,
        exclude: Names | None = None,
        on_error: str = "raise",
        index: str | os.PathLike[str] | None = None,
    ) -> None:
        find = scan_to_error if on_error == "skip" else scan
        super().__init__(Index("tar", 3, expand(paths, exclude), find, index, on_error=on_error), "member_ends")

    def _ranges(self, index: int, file: int) -> list[FileRange]:
        start, stop = self._members(index, file)
        offsets, sizes = self._index["offsets"][start:stop].tolist(), self._index["sizes"][start:stop].tolist()
        if SPARSE in sizes:
            at = sizes.index(SPARSE)
            suffix = self._suffixes(file)[int(self._index["suffixes"][start + at])]
            raise self._error(FileRange(file, offsets[at], 0), sparse_text(f"{self._key(index, file)}.{suffix}"))
        return [FileRange(file, offset, size) for offset, size in zip(offsets, sizes, strict=True)]

    def _sample(self, index: int, ranges: list[FileRange], parts: list[bytes]) -> TarSample:
        file = ranges[0].file
        start, _ = self._members(index, file)
        suffixes = self._suffixes(file)
        sample: TarSample = {"__key__": self._key(index, file)}
        for suffix, part in zip(self._index["suffixes"][start : start + len(parts)].tolist(), parts, strict=True):
            sample[suffixes[suffix]] = part
        return sample

    def _span(self, index: int, file: int) -> tuple[int | None, int | None]:
        """Return the span from the first to the last member, with the headers between them."""
        start, stop = self._members(index, file)
        last = stop - 1
        offsets, sizes = self._index["offsets"], self._index["sizes"]
        if SPARSE in sizes[start:stop]:
            return None, None
        return int(offsets[start]), int(offsets[last]) + int(sizes[last])

    def _members(self, index: int, file: int) -> tuple[int, int]:
        """Return the range of a sample's members, as start and exclusive stop."""
        return self._part("member_ends", "offsets", index, file)

    def _key(self, index: int, file: int) -> str:
        start, stop = self._part("key_ends", "keys", index, file)
        return os.fsdecode(self._index["keys"][start:stop].tobytes())

    def _part(self, ends_name: str, name: str, index: int, file: int) -> tuple[int, int]:
        """Return the range of a sample in an array; the ends of the samples are relative to the archive."""
        base, ends = int(self._index.starts(name)[file]), self._index[ends_name]
        first = base + int(ends[index - 1]) if index > self._starts[file] else base
        return first, base + int(ends[index])

    @functools.cached_property
    def _suffixes_of(self) -> dict[int, list[str]]:
        return {}

    def _suffixes(self, file: int) -> list[str]:
        suffixes = self._suffixes_of.get(file)
        if suffixes is None:
            first, last = self._index.starts("suffix_names")[file : file + 2].tolist()
            names = os.fsdecode(self._index["suffix_names"][first:last].tobytes())
            suffixes = self._suffixes_of[file] = names.split("\0")
        return suffixes


def scan(path: str) -> Arrays:
    """Return the positions of the members of an archive's samples; ends and suffix indices are relative to the archive.

    Raises:
        FileError: The file is not a tar archive, is truncated or damaged, or has a duplicate member.
    """
    arrays, error = _scanned(path)
    if error is not None:
        remedy = "; write the file again, or read the samples before it with on_error='skip'" if error.offset else ""
        raise FileError(error.path, error.offset, error.what + remedy) from error
    return arrays


def scan_to_error(path: str) -> Arrays:
    """Return the same for the samples before an error, and the error.

    Raises:
        FileError: The file is not a tar archive.
    """
    arrays, error = _scanned(path)
    if error is not None and not error.offset:
        raise error
    return arrays if error is None else arrays | {ERROR: error_array(f"{error}; only the samples before it are read")}


def _scanned(path: str) -> tuple[Arrays, FileError | None]:
    """Return the arrays of an archive up to the first error, and the error."""
    offsets, sizes, suffixes, member_ends = array("q"), array("q"), array("I"), array("q")
    keys: list[bytes] = []
    key_indices: dict[bytes, int] = {}
    error: FileError | None = None
    try:
        with open_window(path) as window:
            for key, members in samples_in(window, lambda member: member):
                keys.append(key)
                for suffix, (_, offset, size) in members.items():
                    offsets.append(offset)
                    sizes.append(size)
                    suffixes.append(key_indices.setdefault(suffix, len(key_indices)))
                member_ends.append(len(offsets))
    except FileError as damaged:
        error = damaged
    text, key_ends = packed(keys)
    arrays: Arrays = {
        "offsets": np.frombuffer(offsets, np.int64),
        "sizes": np.frombuffer(sizes, np.int64),
        "suffixes": np.frombuffer(suffixes, np.uint32),
        "member_ends": np.frombuffer(member_ends, np.int64),
        "keys": text,
        "key_ends": key_ends,
        "suffix_names": np.frombuffer(b"\0".join(key_indices), np.uint8),
    }
    return arrays, error
