"""`WholeFileReader` and `IdentityReader`, with one record per work unit."""

from mpqueue.errors import DataLossError
from mpqueue.tf1.readers.base import ReaderBase, Record
from mpqueue.tf1.readers.failures import shown
from mpqueue.tf1.readers.file_records import DEFAULT_MAX_RECORD_BYTES, positive_bytes
from mpqueue.tf1.readers.files import read_all


class WholeFileReader(ReaderBase):
    """A reader of whole files: the key is the file name as it was enqueued, the value is the file's contents.

    Example:
        A file::

            import pathlib
            import mpqueue

            pathlib.Path("photo.jpg").write_bytes(b"...")
            names = mpqueue.train.FIFOQueue(10, "string", [()])
            names.enqueue(["photo.jpg"])
            assert mpqueue.train.WholeFileReader().read(names) == (b"photo.jpg", b"...")

    Args:
        name: Name of the reader.
        max_record_bytes: Maximum size of a file in bytes. It is checked before memory is allocated.

    Raises:
        ValueError: ``max_record_bytes`` is less than 1.

    Reading raises:
        NotFoundError, PermissionDeniedError, ...: The file cannot be opened.
        FailedPreconditionError: The path is a directory, FIFO or device.
        DataLossError: The file exceeds ``max_record_bytes``.

    Each further read raises these errors again, because the reader keeps the file as its work unit.

    Follows: ``tf.compat.v1.WholeFileReader``.
    """

    one_record_per_unit = True

    def __init__(self, name: str | None = None, *, max_record_bytes: int = DEFAULT_MAX_RECORD_BYTES) -> None:
        super().__init__(supports_serialize=True)
        self.name = name
        self._max_record_bytes = positive_bytes(max_record_bytes, "max_record_bytes")

    def _on_work_start(self, work: bytes) -> None:
        """No-op: `_read` opens the file, so that an error keeps the unit."""

    def _read(self) -> Record:
        content = read_all(self._work, self._max_record_bytes)
        if content is None:
            text = f"{shown(self._work)} has more bytes than max_record_bytes={self._max_record_bytes}"
            raise DataLossError(None, None, text)
        return self._work, content


class IdentityReader(ReaderBase):
    """A reader that returns each work unit, any string or bytes, as both key and value. It opens no file.

    Example:
        File names as records::

            import mpqueue

            names = mpqueue.train.FIFOQueue(10, "string", [()])
            names.enqueue(["photo.jpg"])
            assert mpqueue.train.IdentityReader().read(names) == (b"photo.jpg", b"photo.jpg")

    Args:
        name: Name of the reader.

    Follows: ``tf.compat.v1.IdentityReader``.
    """

    one_record_per_unit = True

    def __init__(self, name: str | None = None) -> None:
        super().__init__(supports_serialize=True)
        self.name = name

    def _on_work_start(self, work: bytes) -> None:
        """No-op."""

    def _read(self) -> Record:
        return self._work, self._work
