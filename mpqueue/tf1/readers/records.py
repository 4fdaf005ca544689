"""TFRecordReader: records of TFRecord files."""

from mpqueue.tf1.readers.file_records import DEFAULT_MAX_RECORD_BYTES, FileRecordReader, positive_bytes
from mpqueue.tf1.readers.options import TFRecordOptions
from mpqueue.tf1.readers.tfrecord import RecordStream


class TFRecordReader(FileRecordReader):
    """Reads the records of TFRecord files; their checksums are verified.

    The key is ``path:OFFSET``, the record's first byte in the (unpacked) file. Up to 11 bytes where the header of a
    further record should be count as the end of the file, as in TensorFlow.

    Example:
        What was written::

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
        name: Kept as ``name``.
        options: `mpqueue.python_io.TFRecordOptions`, or the compression as text: "GZIP" or "ZLIB".
        max_record_bytes: A record that claims more is an error, before memory is taken for it.

    Raises:
        ValueError: The compression is another one, or ``max_record_bytes`` is below 1.

    Reading raises:
        NotFoundError, PermissionDeniedError, ...: The file cannot be opened; the next read takes the next file.
        DataLossError: A checksum is wrong, the file ends in a record, it cannot be unpacked, or a record is above
            ``max_record_bytes``; with file and offset, again at every read.
        FailedPreconditionError: It is a folder, FIFO or device; again at every read.
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
