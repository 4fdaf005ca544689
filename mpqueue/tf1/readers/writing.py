"""Writer of TFRecord files.

Records are buffered and written in blocks. The buffer belongs to an object of its own, so that a writer that is
dropped, or alive at the interpreter's exit, still writes it out, as TensorFlow's does.
"""

import weakref
import zlib
from typing import Self

from mpqueue.errors import FailedPreconditionError
from mpqueue.tf1.readers.failures import file_error, shown
from mpqueue.tf1.readers.opening import FileName, file_name, open_output
from mpqueue.tf1.readers.options import TFRecordOptions
from mpqueue.tf1.readers.tfrecord import frame

_BUFFER_BYTES = 256 * 1024


class TFRecordWriter:
    """Writes records to a new TFRecord file. A context manager, which closes the file.

    Records are in the file after `flush`, after `close`, and after the end of this object. One thread at a time.

    Example:
        A compressed file, read back::

            import mpqueue

            with mpqueue.python_io.TFRecordWriter("data.tfrecord.gz", options="GZIP") as writer:
                writer.write("a record")
            assert list(mpqueue.python_io.tf_record_iterator("data.tfrecord.gz", "GZIP")) == [b"a record"]

    Args:
        path: A local path, an ``os.PathLike``, or a URL (extra ``[fsspec]``).
        options: `TFRecordOptions`, or the compression as text: "GZIP" or "ZLIB".

    Raises:
        TypeError: ``path`` is no file name.
        ValueError: ``options`` names no compression, or has a setting that zlib refuses.
        NotFoundError, PermissionDeniedError, ...: The file cannot be made.
        ImportError: google-crc32c is not installed (extra ``[tfrecord]``).

    Follows: ``tf.io.TFRecordWriter``.
    """

    def __init__(self, path: FileName, options: TFRecordOptions | str | None = None) -> None:
        given = options if isinstance(options, TFRecordOptions) else TFRecordOptions(options)
        frame(b"")  # a missing google-crc32c is an error before a file is emptied
        self._out = _Output(file_name(path), given)
        self._finalizer = weakref.finalize(self, _Output.close, self._out)

    def write(self, record: bytes | str) -> None:
        """Append one record.

        Args:
            record: The bytes of it; text is written as UTF-8.

        Raises:
            TypeError: ``record`` is neither bytes nor text.
            FailedPreconditionError: The writer is closed.
            ResourceExhaustedError, ...: The system's error; this one means a full disk.
        """
        self._check_open()
        payload = record.encode() if isinstance(record, str) else record
        if not isinstance(payload, bytes | bytearray):
            raise TypeError(f"a record is bytes, got {type(record).__name__}: {record!r:.80}")
        before, after = frame(bytes(payload))
        self._out.add(before, bytes(payload), after)

    def flush(self) -> None:
        """Write the buffered records out, so that a reader finds them, also in a compressed file.

        Raises:
            FailedPreconditionError: The writer is closed.
            ResourceExhaustedError, ...: The system's error.
        """
        self._check_open()
        self._out.flush()

    def close(self) -> None:
        """Write the buffered records out and close the file; a second call does nothing.

        Raises:
            ResourceExhaustedError, ...: The system's error.
        """
        self._finalizer()

    def _check_open(self) -> None:
        if not self._finalizer.alive:
            raise FailedPreconditionError(None, None, f"the writer of {shown(self._out.name)} is closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<TFRecordWriter of {shown(self._out.name)!r}: {'open' if self._finalizer.alive else 'closed'}>"


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
