"""`TFRecordReader`: records of TFRecord files."""

from mpqueue.tf1.readers.file_records import DEFAULT_MAX_RECORD_BYTES, FileRecordReader, positive_bytes
from mpqueue.tf1.readers.options import TFRecordOptions
from mpqueue.tf1.readers.tfrecord import RecordStream


class TFRecordReader(FileRecordReader):
    """A reader of TFRecord files that verifies the checksums of records.

    The key is ``path:OFFSET``, the offset of the record in the (decompressed) file. As in TensorFlow, an incomplete
    header of up to 11 bytes counts as the end of the file.

    Example:
        Reading a written file::

            import mpqueue

            with mpqueue.python_io.TFRecordWriter("data.tfrecord") as writer:
                writer.write(b"one")
                writer.write(b"two")
            names = mpqueue.train.FIFOQueue(10, "string", [()])
            names.enqueue(["data.tfrecord"])
            names.close()
            reader = mpqueue.train.TFRecordReader()
            assert [reader.read(names)[1] for _ in range(2)] == [b"one", b"two"]

    Args:
        name: Name of the reader.
        options: `mpqueue.python_io.TFRecordOptions`, or the compression as a string: "GZIP" or "ZLIB".
        max_record_bytes: Maximum size of a record in bytes. It is checked before memory is allocated.

    Raises:
        ValueError: The compression is not supported, or ``max_record_bytes`` is less than 1.

    Reading raises:
        NotFoundError, PermissionDeniedError, ...: The file cannot be opened. The next read takes the next file.
        DataLossError: A checksum is wrong, the file is truncated, it cannot be decompressed, or a record exceeds
            ``max_record_bytes``. The message contains the file and the offset. Each further read raises it again.
        FailedPreconditionError: The path is a directory, FIFO or device. Each further read raises it again.
        ImportError: google-crc32c is not installed (extra ``[tfrecord]``).

    Follows: ``tf.compat.v1.TFRecordReader``.
    """

    def __init__(
        self,
        name: str | None = None,
        options: TFRecordOptions | str | None = None,
        *,
        max_record_bytes: int = DEFAULT_MAX_RECORD_BYTES,
    ) -> None:
        super().__init__()
        self.name = name
        self._compression = TFRecordOptions.get_compression_type_string(options)
        self._max_record_bytes = positive_bytes(max_record_bytes, "max_record_bytes")

    def _open(self, name: bytes) -> RecordStream:
        return RecordStream(name, self._compression, self._max_record_bytes)
