"""Values of the columns of MosaicML's format: the documented encodings, from bytes to values.

Numbers are little-endian. A column whose encoding has a size has that many bytes in each sample; before the columns of
a sample stand the sizes of the others, four bytes each.
"""

import json
import math
import pickle
from collections.abc import Callable
from decimal import Decimal
from io import BytesIO
from typing import Any

import numpy as np

Decode = Callable[[bytes], Any]

SCALARS = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
# How an array tells its type, where the column does not.
_TYPES = {
    8: "uint8", 9: "int8", 16: "uint16", 17: "int16", 18: "float16", 32: "uint32", 33: "int32", 34: "float32",
    64: "uint64", 65: "int64", 66: "float64",
}  # fmt: skip


def size_of(encoding: str) -> int | None:
    """Return the bytes of each value of an encoding; None where they differ."""
    if encoding == "int":
        return 8
    if encoding in SCALARS:
        return np.dtype(encoding).itemsize
    dtype, shape = _array_parameters(encoding) if encoding.partition(":")[0] == "ndarray" else (None, None)
    return None if dtype is None or shape is None else dtype.itemsize * math.prod(shape)


def decoder(encoding: str, *, decode_images: bool) -> Decode:
    """Return what makes values from the bytes of an encoding.

    Args:
        encoding: As ``index.json`` names it.
        decode_images: Whether images become Pillow's, or stay the bytes of their files.

    Raises:
        ValueError: There is no such encoding.
    """
    if encoding in SCALARS:
        dtype = np.dtype(encoding).newbyteorder("<")
        return lambda data: np.frombuffer(data, dtype, 1)[0]
    if encoding.partition(":")[0] == "ndarray":
        given_dtype, given_shape = _array_parameters(encoding)
        return lambda data: _array(data, given_dtype, given_shape)
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
        raise ValueError(f"there is no encoding {encoding!r}, expected one of {known}")
    return decoders[encoding]


def _text(data: bytes) -> str:
    return data.decode("utf-8")


def _array_parameters(encoding: str) -> tuple[np.dtype[Any] | None, tuple[int, ...] | None]:
    """Return type and shape of ``ndarray:TYPE:SHAPE``, None for what each array tells itself."""
    _, *given = encoding.split(":")
    if len(given) > 2 or (given and given[0] not in SCALARS):
        raise ValueError(f"{encoding!r} is no encoding of arrays: expected ndarray, ndarray:TYPE or ndarray:TYPE:SHAPE")
    dtype = np.dtype(given[0]).newbyteorder("<") if given else None
    return dtype, tuple(map(int, given[1].split(","))) if len(given) == 2 else None


def _array(data: bytes, dtype: np.dtype[Any] | None, shape: tuple[int, ...] | None) -> np.ndarray[Any, Any]:
    at = 0
    if dtype is None:
        if data[0] not in _TYPES:
            raise ValueError(f"an array of type {data[0]}, expected one of {sorted(_TYPES)}")
        dtype, at = np.dtype(_TYPES[data[0]]).newbyteorder("<"), 1
    if shape is None:
        num_axes, width = data[at] >> 2, 1 << (data[at] & 3)
        sizes = np.frombuffer(data, f"<u{width}", num_axes, at + 1)
        shape, at = tuple(sizes.tolist()), at + 1 + num_axes * width
    # A copy: a batch may be written to, and `bytes` may not. It is aligned, too.
    return np.frombuffer(data, dtype, -1, at).reshape(shape).astype(dtype.newbyteorder("="))


def _parts(data: bytes, at: int) -> list[bytes]:
    """Return the parts of a list: their number, the size of each, their bytes."""
    num_parts = int.from_bytes(data[at : at + 4], "little")
    sizes = np.frombuffer(data, "<u4", num_parts, at + 4).tolist()
    at += 4 + 4 * num_parts
    if at + sum(sizes) > len(data):
        raise ValueError(
            f"a list of {num_parts} parts with {sum(sizes):,} bytes, of which {len(data) - at:,} are there"
        )
    found = []
    for size in sizes:
        found.append(data[at : at + size])
        at += size
    return found


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            'MDS needs Pillow: pip install "mpqueue[image]" or pass decode=False for the bytes of images'
        ) from error
    return Image


def _image(data: bytes) -> Any:
    return _pillow().open(BytesIO(data))


def _raw_image(data: bytes) -> Any:
    width, height, num_letters = np.frombuffer(data, "<u4", 3).tolist()
    return _pillow().frombytes(data[12 : 12 + num_letters].decode(), (width, height), data[12 + num_letters :])
