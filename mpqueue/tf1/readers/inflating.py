"""GZIP and ZLIB streams, decompressed block by block.

Only as much is decompressed as the caller requests, so a decompression bomb only costs time for the bytes that are
read. As in TensorFlow, a GZIP file may have several members, and bytes after a ZLIB stream are ignored. Unlike in
TensorFlow, an incomplete stream is an error. Otherwise a file truncated between two records would seem complete.
"""

import zlib

from mpqueue.errors import DataLossError
from mpqueue.tf1.readers.failures import shown
from mpqueue.tf1.readers.opening import BLOCK_BYTES, ByteSource

# As TensorFlow, decompress 256 KiB at once: that many bytes before corrupt data are lost, so the same records are lost.
_UNPACK_BYTES = 256 * 1024
_WINDOW_BITS = {"ZLIB": zlib.MAX_WBITS, "GZIP": zlib.MAX_WBITS | 16}


def unpacked(source: ByteSource, compression: str, name: bytes) -> ByteSource:
    """Return the decompressed contents, or the source itself if ``compression`` is ``""``."""
    return InflatedFile(source, compression, name) if compression else source


class InflatedFile:
    """The decompressed contents of a GZIP or ZLIB file.

    Args:
        source: The compressed bytes.
        compression: "GZIP" or "ZLIB".
        name: Name of the file for error messages.
    """

    size_hint = 0

    def __init__(self, source: ByteSource, compression: str, name: bytes) -> None:
        self._source, self._compression, self._name = source, compression, name
        self._packed, self._has_bytes = b"", False
        self._unpacked_bytes = 0
        self._inflate = zlib.decompressobj(_WINDOW_BITS[compression])
        self._failure = ""

    def read(self, num_bytes: int) -> bytes:
        """Return the next decompressed bytes; see `ByteSource`.

        Raises:
            DataLossError: The stream is corrupt or has the other format: each further read raises the error again. Or
                the file ends before the stream: a further read continues if the file has grown.
        """
        while True:
            if self._failure:
                raise DataLossError(None, None, self._failure)
            if self._inflate.eof and not self._next_member():
                return b""
            packed = self._packed or self._source.read(BLOCK_BYTES)
            self._has_bytes = self._has_bytes or bool(packed)
            data = self._unpack(packed, min(num_bytes, _UNPACK_BYTES))
            if data or not self._has_bytes:  # an empty file has no records, as in TensorFlow
                return data
            if not packed and not self._failure and not self._inflate.eof:
                raise DataLossError(
                    None,
                    None,
                    f"{shown(self._name)}: the {self._compression} stream is incomplete after {self._unpacked_bytes} "
                    "decompressed bytes. The file was truncated.",
                )

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def _next_member(self) -> bool:
        if self._compression == "ZLIB":
            return False
        self._packed = self._inflate.unused_data or self._source.read(BLOCK_BYTES)
        if not self._packed:
            return False
        self._inflate = zlib.decompressobj(_WINDOW_BITS[self._compression])
        return True

    def _unpack(self, packed: bytes, num_bytes: int) -> bytes:
        try:
            data = self._inflate.decompress(packed, num_bytes)
        except zlib.error as problem:
            where = f"after {self._unpacked_bytes} decompressed bytes"
            self._failure = f"{shown(self._name)}: corrupt {self._compression} stream {where}: {problem}"
            return b""
        self._packed = self._inflate.unconsumed_tail
        self._unpacked_bytes += len(data)
        return data
