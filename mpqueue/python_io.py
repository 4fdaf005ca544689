"""TFRecord files without a reader and a queue; the code is in `mpqueue.tf1.python_io`."""

from mpqueue.tf1.python_io import TFRecordCompressionType, TFRecordOptions, TFRecordWriter, tf_record_iterator

__all__ = ["TFRecordCompressionType", "TFRecordOptions", "TFRecordWriter", "tf_record_iterator"]
