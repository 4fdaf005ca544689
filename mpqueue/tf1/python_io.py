"""Writing TFRecord files, and iterating over them without a reader and a queue.

::

    with python_io.TFRecordWriter("train.tfrecord") as writer:
        writer.write(b"a record")
    for record in python_io.tf_record_iterator("train.tfrecord"):
        print(record)

Follows: ``tf.compat.v1.python_io``.
"""

from collections.abc import Iterator

from mpqueue.tf1.readers.file_records import DEFAULT_MAX_RECORD_BYTES, positive_bytes
from mpqueue.tf1.readers.opening import FileName, file_name
from mpqueue.tf1.readers.options import TFRecordCompressionType, TFRecordOptions
from mpqueue.tf1.readers.tfrecord import RecordStream
from mpqueue.tf1.readers.writing import TFRecordWriter

__all__ = ["TFRecordCompressionType", "TFRecordOptions", "TFRecordWriter", "tf_record_iterator"]

_RECORDS_AT_ONCE = 1024


def tf_record_iterator(
    path: FileName, options: TFRecordOptions | str | None = None, *, max_record_bytes: int = DEFAULT_MAX_RECORD_BYTES
) -> Iterator[bytes]:
    """Return an iterator over the records of a TFRecord file, which verifies checksums.

    Example:
        All records of a file::

            import mpqueue

            with mpqueue.python_io.TFRecordWriter("data.tfrecord") as writer:
                for number in range(3):
                    writer.write(b"%d" % number)
            assert list(mpqueue.python_io.tf_record_iterator("data.tfrecord")) == [b"0", b"1", b"2"]

    Args:
        path: A local path, an ``os.PathLike``, or a URL (extra ``[files]``). The file is opened at once.
        options: `TFRecordOptions`, or the compression as a string: "GZIP" or "ZLIB".
        max_record_bytes: Maximum size of a record in bytes. It is checked before memory is allocated.

    Raises:
        TypeError: ``path`` is not a file name.
        ValueError: ``options`` is not a valid compression, or ``max_record_bytes`` is less than 1.
        NotFoundError, PermissionDeniedError, ...: The file cannot be opened.
        ImportError: google-crc32c is not installed (extra ``[tfrecord]``).

    The iterator raises:
        DataLossError: The next record is corrupt: a checksum is wrong, or the file is truncated. All records before it
            were returned. The message contains the file and the offset.
        FailedPreconditionError: The path is a directory, FIFO or device.

    Follows: ``tf.compat.v1.python_io.tf_record_iterator``.
    """
    compression = TFRecordOptions.get_compression_type_string(options)
    bound = positive_bytes(max_record_bytes, "max_record_bytes")
    return _records(RecordStream(file_name(path), compression, bound))


def _records(stream: RecordStream) -> Iterator[bytes]:
    try:
        while payloads := stream.take(_RECORDS_AT_ONCE)[1]:
            yield from payloads
    finally:
        stream.close()
