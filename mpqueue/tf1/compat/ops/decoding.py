"""Operations on texts and files, which the eager functions of `tf1.parsing` and `tf1.readers` carry out."""

from typing import Any

from mpqueue.tf1.compat.ops.dims import Dims
from mpqueue.tf1.compat.ops.dtypes import DType
from mpqueue.tf1.compat.ops.infer import Array, Known
from mpqueue.tf1.compat.ops.registry import op
from mpqueue.tf1.parsing import json_example, raw
from mpqueue.tf1.readers import files
from mpqueue.tf1.runs.rules import elementwise, leading


def _numbers(bytes: Known, *, out_type: DType, fixed_length: int | None, **_order: bool) -> Dims:
    raw.decode_raw(b"", out_type, fixed_length=fixed_length)  # refuses what cannot be read
    return None if bytes.known_dims is None else (*bytes.known_dims, None)


@op(
    "DecodeRaw",
    "bytes: string -> out_type",
    "decode_raw(bytes as input_bytes=None, out_type=None, little_endian, name, bytes=input_bytes, *, fixed_length)",
    infer=_numbers,
    rows=leading(),
)
def decode_raw(bytes: Array, *, out_type: DType, little_endian: bool = True, fixed_length: int | None = None) -> Array:
    """Texts as the memory of numbers, with one more axis at the end.

    Args:
        input_bytes: Texts of any shape, of equal lengths.
        out_type: The type of the numbers.
        little_endian: The byte order.
        fixed_length: Bytes to take of each text; a longer one is cut, a shorter one filled up with zeros. Not in
            TensorFlow 1.

    Raises:
        TypeError: A type that cannot be read.
        ValueError: No texts, or given under both names; or a ``fixed_length`` that does not fit the type.

    While running, the `InvalidArgumentError` of `mpqueue.train.decode_raw`.
    """
    return raw.decode_raw(bytes, out_type, little_endian, fixed_length=fixed_length)


@op("DecodeJSONExample", "json_examples: string[...] -> string[...]", "decode_json_example", rows=elementwise)
def decode_json_example(json_examples: Array) -> Any:
    """Examples written as JSON, as serialized ones, of the same shape.

    While running, the `InvalidArgumentError` of `mpqueue.train.decode_json_example`.
    """
    return json_example.decode_json_example(json_examples)


@op("ReadFile", "filename: string[] -> string[]", "read_file", pure=False)
def read_file(filename: Array) -> bytes:
    """All that is in a file, a scalar text.

    Raises:
        ValueError: ``filename`` is no scalar.

    While running, `NotFoundError` and what else the system says.
    """
    return files.read_file(filename.item())


def _found(pattern: Known) -> Dims:
    if pattern.known_dims is not None and len(pattern.known_dims) > 1:
        raise ValueError(f"pattern must be one text or a vector of them, got shape {pattern.known_dims}")
    return (None,)


@op("MatchingFiles", "pattern: string -> string", "matching_files", infer=_found, pure=False)
def matching_files(pattern: Array) -> Array:
    """The names of the files that match a pattern, or several, sorted; a vector of texts.

    Args:
        pattern: A text, or a vector of them; see `mpqueue.train.matching_files`.

    Raises:
        ValueError: ``pattern`` has two or more axes.
    """
    return files.matching_files(pattern)
