"""WholeFileReader and IdentityReader: a work unit is one record."""

from mpqueue.errors import DataLossError
from mpqueue.tf1.readers.base import ReaderBase, Record
from mpqueue.tf1.readers.failures import shown
from mpqueue.tf1.readers.file_records import DEFAULT_MAX_RECORD_BYTES, positive_bytes
from mpqueue.tf1.readers.files import read_all


class WholeFileReader(ReaderBase):
    """Reads whole files: the key is the name as it was queued, the value the content of the file.

    Example:
        A file::

            import pathlib
            import mpqueue

            pathlib.Path("photo.jpg").write_bytes(b"...")
            names = mpqueue.train.FIFOQueue(10, "string", [()])
            names.enqueue(["photo.jpg"])
            assert mpqueue.train.WholeFileReader().read(names) == (b"photo.jpg", b"...")

    Args:
        name: Kept as ``name``.
        max_record_bytes: A bigger file is an error, before memory is taken for it.

    Raises:
        ValueError: ``max_record_bytes`` is below 1.

    Reading raises:
        NotFoundError, PermissionDeniedError, ...: The file cannot be opened.
        FailedPreconditionError: It is a folder, FIFO or device.
        DataLossError: It is above ``max_record_bytes``.

    Each comes again at every read, because the reader stays at the file.

    Follows: ``tf.compat.v1.WholeFileReader``.
    """

    one_record_per_unit = True

    def __init__(self, name: str | None = None, *, max_record_bytes: int = DEFAULT_MAX_RECORD_BYTES) -> None:
        super().__init__(supports_serialize=True)
        self.name = name
        self._max_record_bytes = positive_bytes(max_record_bytes, "max_record_bytes")

    def _on_work_start(self, work: bytes) -> None:
        """Open nothing yet: `_read` finds a missing file, and keeps the unit."""

    def _read(self) -> Record:
        content = read_all(self._work, self._max_record_bytes)
        if content is None:
            text = f"{shown(self._work)} has more bytes than max_record_bytes allows, {self._max_record_bytes}"
            raise DataLossError(None, None, text)
        return self._work, content


class IdentityReader(ReaderBase):
    """Returns each work unit, any text or bytes, as both key and value; no file is opened.

    Example:
        The names themselves::

            import mpqueue

            names = mpqueue.train.FIFOQueue(10, "string", [()])
            names.enqueue(["photo.jpg"])
            assert mpqueue.train.IdentityReader().read(names) == (b"photo.jpg", b"photo.jpg")

    Args:
        name: Kept as ``name``.

    Follows: ``tf.compat.v1.IdentityReader``.
    """

    one_record_per_unit = True

    def __init__(self, name: str | None = None) -> None:
        super().__init__(supports_serialize=True)
        self.name = name

    def _on_work_start(self, work: bytes) -> None:
        """Do nothing."""

    def _read(self) -> Record:
        return self._work, self._work
