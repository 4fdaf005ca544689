"""TFRecord files and their Examples, written without mpqueue."""

import gzip
import struct
import zlib

PACKED = {"": bytes, "GZIP": gzip.compress, "ZLIB": zlib.compress}


def write_records(path, records, compression=""):
    """Write a file of these records; return its path."""
    path.write_bytes(PACKED[compression](b"".join(map(_framed, records))))
    return path


def _framed(record):
    length = struct.pack("<Q", len(record))
    return length + _checksum(length) + record + _checksum(record)


def _checksum(data):
    import google_crc32c

    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
