# Printed by scripts/stubs from mpqueue/tf1/compat/surface.py: not to be edited.
from collections.abc import Iterator
from mpqueue.compat.v1 import decode_base64 as decode_base64
from mpqueue.compat.v1 import decode_csv as decode_csv
from mpqueue.compat.v1 import decode_json_example as decode_json_example
from mpqueue.compat.v1 import decode_raw as decode_raw
from mpqueue.compat.v1 import encode_base64 as encode_base64
from mpqueue.compat.v1 import matching_files as matching_files
from mpqueue.compat.v1 import parse_example as parse_example
from mpqueue.compat.v1 import parse_single_example as parse_single_example
from mpqueue.compat.v1 import parse_single_sequence_example as parse_single_sequence_example
from mpqueue.compat.v1 import read_file as read_file
from mpqueue.compat.v1.image import decode_bmp as decode_bmp
from mpqueue.compat.v1.image import decode_gif as decode_gif
from mpqueue.compat.v1.image import decode_image as decode_image
from mpqueue.compat.v1.image import decode_jpeg as decode_jpeg
from mpqueue.compat.v1.image import decode_png as decode_png
from mpqueue.compat.v1.image import encode_jpeg as encode_jpeg
from mpqueue.compat.v1.image import encode_png as encode_png
from mpqueue.compat.v1.image import extract_jpeg_shape as extract_jpeg_shape
from mpqueue.compat.v1.image import is_jpeg as is_jpeg
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
from mpqueue.tf1.compat.train.producers import match_filenames_once as match_filenames_once
from os import PathLike

__all__ = [
    "FIFOQueue", "FixedLenFeature", "FixedLenSequenceFeature", "PaddingFIFOQueue", "QueueBase", "RandomShuffleQueue",
    "TFRecordCompressionType", "TFRecordOptions", "TFRecordWriter", "VarLenFeature", "decode_base64", "decode_bmp",
    "decode_csv", "decode_gif", "decode_image", "decode_jpeg", "decode_json_example", "decode_png", "decode_raw",
    "encode_base64", "encode_jpeg", "encode_png", "extract_jpeg_shape", "is_jpeg", "match_filenames_once",
    "matching_files", "parse_example", "parse_single_example", "parse_single_sequence_example", "read_file",
    "tf_record_iterator",
]  # fmt: skip

def tf_record_iterator(
    path: str | bytes | PathLike[str] | PathLike[bytes],
    options: TFRecordOptions | str | None = None,
    *,
    max_record_bytes: int = 1073741824,
) -> Iterator[bytes]: ...
