"""Serialized `tf.train.Example` records to arrays, by TensorFlow's rules and without TensorFlow.

Two ways lead to one result. The *rows* read one record after another; they are the rules, and raise every error. The
*columns* read a batch at once with NumPy; they give the same where they give anything, and leave the rest to the rows.
From the ground up::

    vectorized.py          numbers at many places of one buffer, at once
    protobuf_wire.py       the wire format of one serialized Example
    arguments.py           strings and names of dtypes that callers pass
    features.py            the feature classes of users, and their checked form
    example_rows.py        the rows of parse_example
    example_plan.py        what is worked out once for a dict of features
    example_columns.py     the arrays that a batch of Examples fills
    example_entries.py     where the features of a batch lie
    example_batch.py       the columns of parse_example, for any records
    example_layout.py      the same, faster, for records that differ in their values only
    reading.py             Examples to arrays: many at once, or one
"""
