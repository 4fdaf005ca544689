"""Values of the columns of MosaicML's format: the documented encodings, from bytes to values.

Numbers are little-endian. An encoding with a fixed size uses that number of bytes in each sample. The sizes of the
other columns precede the columns of a sample, four bytes each.
"""

import json
import math
import pickle
from collections.abc import Callable
from decimal import Decimal
from io import BytesIO
from typing import Any

import numpy as np

from mpqueue.system.user_code.extras import import_extra

Decode = Callable[[bytes], Any]

SCALARS = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
# The type codes in arrays without a type in the encoding.
_TYPES = {
    8: "uint8", 9: "int8", 16: "uint16", 17: "int16", 18: "float16", 32: "uint32", 33: "int32", 34: "float32",
    64: "uint64", 65: "int64", 66: "float64",
}  # fmt: skip


def size_of(encoding: str) -> int | None:
    """Return the size of each value of an encoding in bytes; None if variable."""
    if encoding == "int":
        return 8
    if encoding in SCALARS:
        return np.dtype(encoding).itemsize
    dtype, shape = _array_parameters(encoding) if encoding.partition(":")[0] == "ndarray" else (None, None)
    return None if dtype is None or shape is None else dtype.itemsize * math.prod(shape)


def decoder(encoding: str, *, decode_images: bool) -> Decode:
    """Return a function that decodes the bytes of an encoding.

    Args:
        encoding: The encoding's name in ``index.json``.
        decode_images: Whether to return Pillow images; otherwise the bytes of their files.

    Raises:
        ValueError: The encoding is unknown.
    """
    if encoding in SCALARS:
        dtype = np.dtype(encoding).newbyteorder("<")
        return lambda data: np.frombuffer(data, dtype, 1)[0]
    if encoding.partition(":")[0] == "ndarray":
        dtype_of_all, shape_of_all = _array_parameters(encoding)
        return lambda data: _array(data, dtype_of_all, shape_of_all)
    image = _image if decode_images else bytes
    decoders: dict[str, Decode] = {
        "bytes": bytes,
        "str": _text,
        "int": lambda data: int.from_bytes(data, "little", signed=True),
        "str_int": lambda data: int(_text(data)),
        "str_float": lambda data: float(_text(data)),
        "str_decimal": lambda data: Decimal(_text(data)),
        "json": json.loads,
        "pkl": pickle.loads,
        "pil": _raw_image,
        "jpeg": image,
        "png": image,
        "jpeg_array": lambda data: [image(part) for part in _parts(data, 0)],
        "jpegarray": lambda data: [image(part) for part in _parts(data, 0)],
        "list[pil]": lambda data: [_raw_image(part) for part in _parts(data, 4)],
        "list[jpeg]": lambda data: [image(part) for part in _parts(data, 4)],
        "list[png]": lambda data: [image(part) for part in _parts(data, 4)],
    }
    if encoding not in decoders:
        known = ", ".join(sorted([*decoders, *SCALARS, "ndarray"]))
        raise ValueError(f"encoding must be one of {known}, got {encoding!r}")
    return decoders[encoding]


def _text(data: bytes) -> str:
    return data.decode("utf-8")


def _array_parameters(encoding: str) -> tuple[np.dtype[Any] | None, tuple[int, ...] | None]:
    """Return type and shape of ``ndarray:TYPE:SHAPE``; None for each part that is stored in the arrays."""
    _, *parameters = encoding.split(":")
    if len(parameters) > 2 or (parameters and parameters[0] not in SCALARS):
        raise ValueError(f"an array encoding must be ndarray, ndarray:TYPE or ndarray:TYPE:SHAPE, got {encoding!r}")
    dtype = np.dtype(parameters[0]).newbyteorder("<") if parameters else None
    return dtype, tuple(map(int, parameters[1].split(","))) if len(parameters) == 2 else None


def _array(data: bytes, dtype: np.dtype[Any] | None, shape: tuple[int, ...] | None) -> np.ndarray[Any, Any]:
    at = 0
    if dtype is None:
        if data[0] not in _TYPES:
            raise ValueError(f"the type code of an array must be one of {sorted(_TYPES)}, got {data[0]}")
        dtype, at = np.dtype(_TYPES[data[0]]).newbyteorder("<"), 1
    if shape is None:
        num_axes, width = data[at] >> 2, 1 << (data[at] & 3)
        sizes = np.frombuffer(data, f"<u{width}", num_axes, at + 1)
        shape, at = tuple(sizes.tolist()), at + 1 + num_axes * width
    # A copy, which is writable and aligned, unlike a view of `bytes`.
    return np.frombuffer(data, dtype, -1, at).reshape(shape).astype(dtype.newbyteorder("="))


def _parts(data: bytes, at: int) -> list[bytes]:
    """Return the parts of a list, which is stored as the number of parts, their sizes, and their bytes."""
    num_parts = int.from_bytes(data[at : at + 4], "little")
    sizes = np.frombuffer(data, "<u4", num_parts, at + 4).tolist()
    at += 4 + 4 * num_parts
    if at + sum(sizes) > len(data):
        raise ValueError(
            f"a list of {num_parts} parts with {sum(sizes):,} bytes is truncated to {len(data) - at:,} bytes"
        )
    parts = []
    for size in sizes:
        parts.append(data[at : at + size])
        at += size
    return parts


def _pillow() -> Any:
    message = 'MDS needs Pillow: pip install "mpqueue[files]" or pass decode=False for the bytes of images'
    return import_extra("PIL.Image", message)


def _image(data: bytes) -> Any:
    return _pillow().open(BytesIO(data))


def _raw_image(data: bytes) -> Any:
    width, height, num_letters = np.frombuffer(data, "<u4", 3).tolist()
    return _pillow().frombytes(data[12 : 12 + num_letters].decode(), (width, height), data[12 + num_letters :])
