# Printed by scripts/stubs from mpqueue/compat/surface.py: not to be edited.
from mpqueue.python_io import TFRecordCompressionType as TFRecordCompressionType
from mpqueue.python_io import TFRecordOptions as TFRecordOptions
from mpqueue.python_io import TFRecordWriter as TFRecordWriter
from mpqueue.python_io import tf_record_iterator as tf_record_iterator

__all__ = ["TFRecordCompressionType", "TFRecordOptions", "TFRecordWriter", "tf_record_iterator"]
