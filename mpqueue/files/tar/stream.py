"""`TarStream`: samples of tar archives that are read sequentially, compressed or not.

A compressed archive has no random access, so its samples have no index. Each virtual shard of a stream reads whole
archives, one after another. Its position is the index of the archive and the number of samples read from it.
"""

import os
from collections.abc import Iterator
from itertools import islice
from typing import Any, Self

from mpqueue.errors import FileError
from mpqueue.files.access.names import Names, expand
from mpqueue.files.access.opened import IndexedFile, changed_error
from mpqueue.files.access.window import ForwardWindow, ScanWindow, open_window
from mpqueue.files.indexing.index import check_on_error, files_key, warn_of_damage
from mpqueue.files.sources.unpacked import compression_of, unpacked_blocks
from mpqueue.files.tar.headers import SPARSE, TarMember, TarSample, samples_in, sparse_text
from mpqueue.system.signals.interrupts import is_of_handler
from mpqueue.system.units import count_text
from mpqueue.system.user_code.keywords import suggests_keywords
from mpqueue.worker.context import worker_info


@suggests_keywords
class TarStream:
    """Samples of tar archives, read sequentially as in WebDataset: a stream.

    Use it for compressed archives: ``.tar.gz``, ``.tgz``, ``.tar.bz2``, ``.tar.xz`` and ``.tar.zst``. For archives that
    are not compressed, `Tar` reads samples by index, and shuffles all of them.

    Samples are the same as in `Tar`. Each virtual shard of the stream (see ``lanes`` of `Loader`) reads its own
    archives, one at a time: use at least as many archives as worker processes. A resume opens the archive again and
    skips the samples that were delivered before.

    Args:
        paths: A path, an fsspec URL, a pattern (``*``, ``?``), braces (``{000..099}``), or a list of these.
        exclude: A pattern of files to exclude, or a list of patterns. A pattern without a slash is compared with the
            file's name.
        on_error: What to do if an archive is truncated or damaged. ``"raise"`` raises a `FileError`; the next sample is
            then the first one of the next archive. ``"skip"`` logs a warning that names the position, and continues
            with the next archive. In both cases the sample before the damage is skipped, because it may lack a member.

    Raises:
        FileNotFoundError: A file does not exist, no file matches, or ``exclude`` excludes all of them.
        ValueError: ``on_error`` is unknown.
        FileError: When reading: an archive is truncated, damaged, or has changed since the source was created.
        ImportError: When reading: an archive is compressed with zstd, and zstandard is not installed (extra ``files``).

    Follows: WebDataset, and its ``handler=warn_and_continue``.

    Example:
        >>> import mpqueue, pathlib, tarfile, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name, data in {"cat.txt": b"meow", "dog.txt": b"woof"}.items():
        ...     _ = (folder / name).write_bytes(data)
        >>> with tarfile.open(folder / "animals.tar.gz", "w:gz") as archive:
        ...     for name in ("cat.txt", "dog.txt"):
        ...         archive.add(folder / name, name)
        >>> animals = mpqueue.files.TarStream(folder / "*.tar.gz")
        >>> list(mpqueue.Dataset(animals).map(lambda sample: sample["txt"]))
        [b'meow', b'woof']
    """

    def __init__(self, paths: Names, *, exclude: Names | None = None, on_error: str = "raise") -> None:
        self._on_error = check_on_error(on_error)
        self._files = IndexedFile.of_all(expand(paths, exclude))

    def __mpqueue_source__(self, options: Any, needs: str | None) -> Any:
        """Return the source of ``Dataset(self)``, which has the same virtual shards for any number of workers."""
        from mpqueue.dataset.dataset import Dataset  # imported on use, because files do not need it

        return Dataset(self).__mpqueue_source__(options, needs)

    def __iter__(self) -> "TarIterator":
        """Return an iterator over the archives of this virtual shard; outside of workers, over all archives."""
        info = worker_info()
        files = self._files if info is None else self._files[info.shard_id :: info.num_shards]
        return TarIterator(files, self._on_error)

    def __repr__(self) -> str:
        num_files = len(self._files)
        return f"TarStream({count_text(num_files, 'file')})"

    def fingerprint(self) -> str:
        """Return a key of the files, which changes if a file changes."""
        return files_key("tar stream", 2, self._files)


class TarIterator:
    """An iterator over the samples of some archives that can save and restore its position.

    Args:
        files: The archives.
        on_error: See `TarStream`.
    """

    def __init__(self, files: list[IndexedFile], on_error: str) -> None:
        self._files, self._on_error = files, on_error
        self._archive, self._sample = 0, 0  # the position of the next sample
        self._samples: Iterator[TarSample | FileError] | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> TarSample:
        while self._archive < len(self._files):
            try:
                if self._samples is None:
                    self._samples = islice(_samples(self._files[self._archive]), self._sample, None)
                sample = next(self._samples, None)
            except BaseException as error:
                if not isinstance(error, FileError | OSError) or is_of_handler(error):
                    self._samples = None  # an interrupt ends a generator: read again from the position
                    raise
                # The rest of this archive is unreadable. A caller that skips errors continues with the next archive.
                self._next_archive()
                if self._on_error == "raise" or not isinstance(error, FileError):
                    raise
                warn_of_damage(f"{error}; the rest of this archive is skipped")
                continue
            if sample is None:
                self._next_archive()
                continue
            self._sample += 1
            if not isinstance(sample, FileError):
                return sample
            if self._on_error == "raise":
                raise sample
            warn_of_damage(f"{sample}; this sample is skipped")
        raise StopIteration

    def _next_archive(self) -> None:
        self._samples = None
        self._archive, self._sample = self._archive + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """Return the position of the next sample."""
        return {"archive": self._archive, "sample": self._sample}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue at a saved position."""
        self._samples = None
        self._archive, self._sample = state["archive"], state["sample"]


def _samples(file: IndexedFile) -> Iterator[TarSample | FileError]:
    """Yield the samples of an archive, and an error in place of each sample that has a member of an unsupported kind.

    Raises:
        FileError: The archive is damaged or truncated, or has changed.
        OSError: The archive cannot be read.
    """
    if not (now := IndexedFile.of(file.path)).is_same(file):
        raise changed_error(file, now)
    if file.is_remote:
        with open_window(file.path) as window:
            yield from _of_window(window, file)
    else:
        # Without a `with` statement: a signal handler could interrupt its `__exit__` if the generator ends early. The
        # last reference closes the file.
        yield from _of_window(open_window(file.path), file)


def _of_window(window: ScanWindow, file: IndexedFile) -> Iterator[TarSample | FileError]:
    for sample in _read(window):
        window.check(file)  # after the read, so that a change before or during it is detected
        yield sample


def _read(window: ScanWindow) -> Iterator[TarSample | FileError]:
    # The name of a first member can begin with the magic number of a compression.
    is_tar = window.read(257, 5) == b"ustar"
    if is_tar or compression_of(window) is None:
        yield from _grouped(window)
        return
    blocks = unpacked_blocks(window)
    yield from _grouped(ForwardWindow(window.path, blocks))
    for _ in blocks:  # the checksum of the content follows its last byte
        pass


def _grouped(window: ScanWindow) -> Iterator[TarSample | FileError]:
    def read(member: TarMember) -> bytes | FileError:
        name = os.fsdecode(member.name)
        if member.size == SPARSE:
            return window.error(member.offset, sparse_text(name))
        data = window.read(member.offset, member.size)
        if len(data) < member.size:
            raise window.error(member.offset, f"the archive is truncated in {name!r}")
        return data

    for key, values in samples_in(window, read):
        sample: TarSample = {"__key__": os.fsdecode(key)}
        refused: FileError | None = None
        for suffix, value in values.items():
            if isinstance(value, FileError):
                refused = value
            else:
                sample[os.fsdecode(suffix)] = value
        yield refused or sample
