"""Operations on strings and files, implemented by the eager functions of `tf1.parsing` and `tf1.readers`."""

from typing import Any

from mpqueue.tf1.compat.ops.dims import Dims
from mpqueue.tf1.compat.ops.dtypes import DType
from mpqueue.tf1.compat.ops.infer import Array, Known
from mpqueue.tf1.compat.ops.registry import op
from mpqueue.tf1.parsing import json_example, raw
from mpqueue.tf1.readers import files
from mpqueue.tf1.runs.rules import elementwise, leading


def _numbers(bytes: Known, *, out_type: DType, fixed_length: int | None, **_order: bool) -> Dims:
    raw.decode_raw(b"", out_type, fixed_length=fixed_length)  # rejects invalid types and lengths
    return None if bytes.known_dims is None else (*bytes.known_dims, None)


@op(
    "DecodeRaw",
    "bytes: string -> out_type",
    "decode_raw(bytes as input_bytes=None, out_type=None, little_endian, name, bytes=input_bytes, *, fixed_length)",
    infer=_numbers,
    rows=leading(),
)
def decode_raw(bytes: Array, *, out_type: DType, little_endian: bool = True, fixed_length: int | None = None) -> Array:
    """Reinterpret the bytes of strings as numbers, along an additional last axis.

    Args:
        input_bytes: Strings of equal lengths, in any shape.
        out_type: The type of the numbers.
        little_endian: The byte order.
        fixed_length: Number of bytes per string; longer strings are truncated, shorter ones padded with zeros. Not in
            TensorFlow 1.

    Raises:
        TypeError: The type is not supported.
        ValueError: The strings are missing or passed under both names, or ``fixed_length`` is not a multiple of the
            type's size.

    When run, raises the `InvalidArgumentError` of `mpqueue.train.decode_raw`.
    """
    return raw.decode_raw(bytes, out_type, little_endian, fixed_length=fixed_length)


@op("DecodeJSONExample", "json_examples: string[...] -> string[...]", "decode_json_example", rows=elementwise)
def decode_json_example(json_examples: Array) -> Any:
    """Convert Examples in JSON format to serialized Examples, of the same shape.

    When run, raises the `InvalidArgumentError` of `mpqueue.train.decode_json_example`.
    """
    return json_example.decode_json_example(json_examples)


@op("ReadFile", "filename: string[] -> string[]", "read_file", pure=False)
def read_file(filename: Array) -> bytes:
    """Read the contents of a file as a scalar string.

    Raises:
        ValueError: ``filename`` is not a scalar.

    When run, raises `NotFoundError` and other errors of the file system.
    """
    return files.read_file(filename.item())


def _names(pattern: Known) -> Dims:
    if pattern.known_dims is not None and len(pattern.known_dims) > 1:
        raise ValueError(f"pattern must be a string or a vector of strings, got shape {pattern.known_dims}")
    return (None,)


@op("MatchingFiles", "pattern: string -> string", "matching_files", infer=_names, pure=False)
def matching_files(pattern: Array) -> Array:
    """Return the sorted names of the files that match one or several patterns, as a vector of strings.

    Args:
        pattern: A string, or a vector of strings; see `mpqueue.train.matching_files`.

    Raises:
        ValueError: ``pattern`` has two or more axes.
    """
    return files.matching_files(pattern)
