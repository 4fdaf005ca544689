# Printed by scripts/stubs from mpqueue/tf1/compat/surface.py: not to be edited.
from collections.abc import Iterator
from mpqueue.python_io import TFRecordCompressionType as TFRecordCompressionType
from mpqueue.python_io import TFRecordOptions as TFRecordOptions
from mpqueue.python_io import TFRecordWriter as TFRecordWriter
from os import PathLike

__all__ = ["TFRecordCompressionType", "TFRecordOptions", "TFRecordWriter", "tf_record_iterator"]

def tf_record_iterator(
    path: str | bytes | PathLike[str] | PathLike[bytes],
    options: TFRecordOptions | str | None = None,
    *,
    max_record_bytes: int = 1073741824,
) -> Iterator[bytes]: ...
