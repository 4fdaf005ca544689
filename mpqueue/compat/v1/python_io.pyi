# Printed by scripts/stubs from mpqueue/tf1/compat/surface.py: not to be edited.
from mpqueue.compat.v1.io import tf_record_iterator as tf_record_iterator
from mpqueue.python_io import TFRecordCompressionType as TFRecordCompressionType
from mpqueue.python_io import TFRecordOptions as TFRecordOptions
from mpqueue.python_io import TFRecordWriter as TFRecordWriter

__all__ = [
    "TFRecordCompressionType", "TFRecordOptions", "TFRecordWriter", "tf_record_iterator",
]  # fmt: skip
