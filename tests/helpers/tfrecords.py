"""TFRecord files and their Examples, written without mpqueue."""

import gzip
import struct
import zlib

import numpy as np

from helpers.example_encoding import bytes_list, example_of, float_list, int64_list
from mpqueue import files

PACKED = {"": bytes, "GZIP": gzip.compress, "ZLIB": zlib.compress}


def write_records(path, records, compression=""):
    """Write a file of these records; return its path."""
    path.write_bytes(PACKED[compression](framed(*records)))
    return path


def framed(*records):
    """Return the content of an uncompressed file of these records."""
    lengths = [struct.pack("<Q", len(record)) for record in records]
    return b"".join(
        length + _checksum(length) + record + _checksum(record) for length, record in zip(lengths, records, strict=True)
    )


def _checksum(data):
    import google_crc32c

    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


FEATURES = {
    "label": files.FixedLenFeature([], "int64"),
    "weight": files.FixedLenFeature([], "float32", 0.5),
    "image": files.FixedLenFeature([2, 2], np.float32),
    "name": files.FixedLenFeature([], "string"),
    "words": files.VarLenFeature("string"),
    "boxes": files.FixedLenSequenceFeature([2], "int64", allow_missing=True),
}


def example(number):
    """Return a serialized Example of these features."""
    return example_of(
        label=int64_list(number),
        **({"weight": float_list(number)} if number % 2 else {}),
        image=float_list(number, 1, 2, 3),
        name=bytes_list(b"n%d\0" % number),
        words=bytes_list(*[b"w"] * (number % 3)),
        boxes=int64_list(*[number] * (2 * (number % 4))),
    )


def described(sample):
    """Return the dtype, the shape and the content of each feature of a parsed Example."""
    return {
        key: (getattr(value, "dtype", None), np.shape(value), np.array(value).tolist()) for key, value in sample.items()
    }
