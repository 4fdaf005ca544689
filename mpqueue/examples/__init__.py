"""Serialized `tf.train.Example` records to arrays, by TensorFlow's rules and without TensorFlow.

There are two implementations with the same result. The *rows* read one record at a time. They define the rules and
raise all errors. The *columns* read a batch at once with NumPy. They leave each record that they do not support to the
rows. The modules, bottom up::

    vectorized.py          numbers at many offsets of one buffer, read together
    record_frame.py        the frame of a record in a TFRecord file
    protobuf_wire.py       the wire format of one serialized Example
    arguments.py           strings and dtype names in arguments
    features.py            the feature classes of users, and their validated form
    example_rows.py        the rows of parse_example
    example_plan.py        cached preparation of a dict of features
    example_columns.py     the arrays that a batch of Examples fills
    example_entries.py     the positions of the features of a batch
    example_batch.py       the columns of parse_example, for any records
    example_layout.py      the same, faster, for records that differ only in their values
    reading.py             Examples to arrays: many at once, or one
"""
