"""Writer of TFRecord files.

Records are buffered and written in blocks. The buffer is in a separate object, so that it is also written if the writer
is garbage-collected, or exists at the interpreter's exit, as in TensorFlow.
"""

import zlib
from typing import Self

from mpqueue.errors import FailedPreconditionError
from mpqueue.system.signals.collected import WhenCollected
from mpqueue.tf1.readers.failures import file_error, shown
from mpqueue.tf1.readers.opening import FileName, file_name, open_output
from mpqueue.tf1.readers.options import TFRecordOptions
from mpqueue.tf1.readers.tfrecord import frame

_BUFFER_BYTES = 256 * 1024


class TFRecordWriter:
    """A writer of a new TFRecord file, and a context manager that closes the file.

    Records are in the file after `flush`, after `close`, and after the object was deleted. It is not thread-safe.

    Example:
        Writing and reading a compressed file::

            import mpqueue

            with mpqueue.python_io.TFRecordWriter("data.tfrecord.gz", options="GZIP") as writer:
                writer.write("a record")
            assert list(mpqueue.python_io.tf_record_iterator("data.tfrecord.gz", "GZIP")) == [b"a record"]

    Args:
        path: A local path, an ``os.PathLike``, or a URL (extra ``[files]``).
        options: `TFRecordOptions`, or the compression as a string: "GZIP" or "ZLIB".

    Raises:
        TypeError: ``path`` is not a file name.
        ValueError: ``options`` is not a valid compression, or zlib rejects a setting.
        NotFoundError, PermissionDeniedError, ...: The file cannot be created.
        ImportError: google-crc32c is not installed (extra ``[tfrecord]``).

    Follows: ``tf.io.TFRecordWriter``.
    """

    def __init__(self, path: FileName, options: TFRecordOptions | str | None = None) -> None:
        settings = options if isinstance(options, TFRecordOptions) else TFRecordOptions(options)
        frame(b"")  # raises an error for a missing google-crc32c before the file is truncated
        self._out = _Output(file_name(path), settings)
        self._is_closed = False
        self._end = WhenCollected(self, self._out.close)

    def write(self, record: bytes | str) -> None:
        """Append one record.

        Args:
            record: The record; a string is encoded as UTF-8.

        Raises:
            TypeError: ``record`` is neither bytes nor a string.
            FailedPreconditionError: The writer is closed.
            ResourceExhaustedError, ...: Errors of the operating system, such as a full disk.
        """
        self._check_open()
        payload = record.encode() if isinstance(record, str) else record
        if not isinstance(payload, bytes | bytearray):
            raise TypeError(f"record must be bytes or a string, got {type(record).__name__}: {record!r:.80}")
        before, after = frame(bytes(payload))
        self._out.add(before, bytes(payload), after)

    def flush(self) -> None:
        """Write buffered records to the file, so that readers can read them, also from a compressed file.

        Raises:
            FailedPreconditionError: The writer is closed.
            ResourceExhaustedError, ...: Errors of the operating system.
        """
        self._check_open()
        self._out.flush()

    def close(self) -> None:
        """Write buffered records and close the file. Idempotent.

        Raises:
            ResourceExhaustedError, ...: Errors of the operating system.
        """
        if not self._is_closed:
            self._is_closed = True
            self._end.detach()
            self._out.close()

    def _check_open(self) -> None:
        if self._is_closed:
            raise FailedPreconditionError(None, None, f"The writer of {shown(self._out.name)} is closed.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<TFRecordWriter of {shown(self._out.name)!r}: {'closed' if self._is_closed else 'open'}>"


class _Output:
    """The file and its buffer."""

    def __init__(self, name: bytes, options: TFRecordOptions) -> None:
        self.name = name
        self._compressor = options.compressor()
        self._file = open_output(name)
        self._buffered: list[bytes] = []
        self._num_buffered_bytes = 0

    def add(self, *parts: bytes) -> None:
        self._buffered += parts
        self._num_buffered_bytes += sum(map(len, parts))
        if self._num_buffered_bytes >= _BUFFER_BYTES:
            self._write_out()

    def flush(self) -> None:
        self._write_out(zlib.Z_SYNC_FLUSH)
        try:
            self._file.flush()
        except Exception as problem:
            raise file_error(problem, self.name) from problem

    def close(self) -> None:
        try:
            self._write_out(zlib.Z_FINISH)
        finally:
            try:
                self._file.close()
            except Exception as problem:
                raise file_error(problem, self.name) from problem

    def _write_out(self, flush_mode: int = zlib.Z_NO_FLUSH) -> None:
        data, self._buffered, self._num_buffered_bytes = b"".join(self._buffered), [], 0
        if self._compressor is not None:
            data = self._compressor.compress(data)
            if flush_mode != zlib.Z_NO_FLUSH:
                data += self._compressor.flush(flush_mode)
        try:
            self._file.write(data)
        except Exception as problem:
            raise file_error(problem, self.name) from problem
