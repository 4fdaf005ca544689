"""TFRecord files from Python: write them, go through them.

::

    with python_io.TFRecordWriter("train.tfrecord") as writer:
        writer.write(b"a record")
    for record in python_io.tf_record_iterator("train.tfrecord"):
        print(record)

Follows: ``tf.compat.v1.python_io``.
"""

from mpqueue.readers.iterating import tf_record_iterator
from mpqueue.readers.options import TFRecordCompressionType, TFRecordOptions
from mpqueue.readers.writing import TFRecordWriter

__all__ = ["TFRecordCompressionType", "TFRecordOptions", "TFRecordWriter", "tf_record_iterator"]
