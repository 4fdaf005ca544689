# Printed by scripts/stubs from mpqueue/tf1/compat/surface.py: not to be edited.
from collections.abc import Iterator
from collections.abc import Mapping
from mpqueue.examples.features import FixedLenFeature as FixedLenFeature
from mpqueue.examples.features import FixedLenSequenceFeature as FixedLenSequenceFeature
from mpqueue.examples.features import VarLenFeature as VarLenFeature
from mpqueue.python_io import TFRecordCompressionType as TFRecordCompressionType
from mpqueue.python_io import TFRecordOptions as TFRecordOptions
from mpqueue.python_io import TFRecordWriter as TFRecordWriter
from mpqueue.tf1.compat.functions.queue_base import QueueBase as QueueBase
from mpqueue.tf1.compat.functions.queues import FIFOQueue as FIFOQueue
from mpqueue.tf1.compat.functions.queues import PaddingFIFOQueue as PaddingFIFOQueue
from mpqueue.tf1.compat.functions.queues import RandomShuffleQueue as RandomShuffleQueue
from mpqueue.tf1.compat.graph.nodes import Tensor
from mpqueue.tf1.compat.train.producers import match_filenames_once as match_filenames_once
from os import PathLike
from typing import Any

__all__ = [
    "FIFOQueue",
    "FixedLenFeature",
    "FixedLenSequenceFeature",
    "PaddingFIFOQueue",
    "QueueBase",
    "RandomShuffleQueue",
    "TFRecordCompressionType",
    "TFRecordOptions",
    "TFRecordWriter",
    "VarLenFeature",
    "decode_base64",
    "decode_bmp",
    "decode_csv",
    "decode_gif",
    "decode_image",
    "decode_jpeg",
    "decode_json_example",
    "decode_png",
    "decode_raw",
    "encode_base64",
    "encode_jpeg",
    "encode_png",
    "extract_jpeg_shape",
    "is_jpeg",
    "match_filenames_once",
    "matching_files",
    "parse_example",
    "parse_single_example",
    "parse_single_sequence_example",
    "read_file",
    "tf_record_iterator",
]

def decode_base64(input: Any, name: str | None = None) -> Tensor: ...
def decode_json_example(json_examples: Any, name: str | None = None) -> Tensor: ...
def decode_raw(
    input_bytes: Any | None = None,
    out_type: Any = None,
    little_endian: bool = True,
    name: str | None = None,
    bytes: Any = None,
    *,
    fixed_length: int | None = None,
) -> Tensor: ...
def encode_base64(input: Any, pad: bool = False, name: str | None = None) -> Tensor: ...
def matching_files(pattern: Any, name: str | None = None) -> Tensor: ...
def read_file(filename: Any, name: str | None = None) -> Tensor: ...
def decode_bmp(contents: Any, channels: int = 0, name: str | None = None) -> Tensor: ...
def decode_gif(contents: Any, name: str | None = None) -> Tensor: ...
def decode_jpeg(
    contents: Any,
    channels: int = 0,
    ratio: int = 1,
    fancy_upscaling: bool = True,
    try_recover_truncated: bool = False,
    acceptable_fraction: float = 1.0,
    dct_method: str = "",
    name: str | None = None,
) -> Tensor: ...
def decode_png(contents: Any, channels: int = 0, dtype: Any = ..., name: str | None = None) -> Tensor: ...
def encode_jpeg(
    image: Any,
    format: str = "",
    quality: int = 95,
    progressive: bool = False,
    optimize_size: bool = False,
    chroma_downsampling: bool = True,
    density_unit: str = "in",
    x_density: int = 300,
    y_density: int = 300,
    xmp_metadata: str = "",
    name: str | None = None,
) -> Tensor: ...
def encode_png(image: Any, compression: int = -1, name: str | None = None) -> Tensor: ...
def extract_jpeg_shape(contents: Any, output_type: Any = ..., name: str | None = None) -> Tensor: ...
def decode_image(
    contents: Any,
    channels: int | None = None,
    dtype: Any = ...,
    name: str | None = None,
    expand_animations: bool = True,
) -> Tensor: ...
def is_jpeg(contents: Any, name: str | None = None) -> Tensor: ...
def decode_csv(
    records: Any,
    record_defaults: Any,
    field_delim: str = ",",
    use_quote_delim: bool = True,
    name: str | None = None,
    na_value: str = "",
    select_cols: Any = None,
) -> list[Tensor]: ...
def parse_example(
    serialized: Any, features: Mapping[Any, Any], name: str | None = None, example_names: Any = None
) -> Any: ...
def parse_single_example(
    serialized: Any, features: Mapping[Any, Any], name: str | None = None, example_names: Any = None
) -> dict[Any, Any]: ...
def parse_single_sequence_example(
    serialized: Any,
    context_features: Mapping[Any, Any] | None = None,
    sequence_features: Mapping[Any, Any] | None = None,
    example_name: Any = None,
    name: str | None = None,
) -> tuple[dict[Any, Any], dict[Any, Any]]: ...
def tf_record_iterator(
    path: str | bytes | PathLike[str] | PathLike[bytes],
    options: TFRecordOptions | str | None = None,
    *,
    max_record_bytes: int = 1073741824,
) -> Iterator[bytes]: ...
