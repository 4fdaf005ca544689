"""Decoders: bytes to arrays.

Two ways lead to one result. The *rows* read one record after another; they are the rules, and raise every error. The
*columns* read a batch at once with NumPy; they give the same where they give anything, and leave the rest to the rows.
From the ground up::

    vectorized.py          numbers at many places of one buffer, at once
    protobuf_wire.py       the wire format of one serialized Example
    number_text.py         one number from text, by TensorFlow's grammar and rounding
    number_columns.py      thousands of numbers from text
    arguments.py           what callers pass: texts, and names of dtypes
    raw.py                 decode_raw
    fingerprint.py         the hash of texts that buckets are made of
    csv_fields.py          how CSV records are written, and one of them cut into its fields
    csv_rows.py            CSV rows
    csv_cut.py             a batch of CSV records cut into its fields
    csv_columns.py         CSV columns
    csv.py                 decode_csv
    features.py            the feature classes of users, and their checked form
    example_rows.py        the rows of parse_example
    example_plan.py        what is worked out once for a dict of features
    example_columns.py     the arrays that a batch of Examples fills
    example_entries.py     where the features of a batch lie
    example_batch.py       the columns of parse_example, for any records
    example_layout.py      the same, faster, for records that differ in their values only
    parse.py               parse_example, parse_single_example
    example.py             the messages of mpqueue.train, Example and its parts, by the protobuf library
    sequence.py            parse_single_sequence_example, by these messages
    json_text.py           TensorFlow's grammar of JSON
    json_example.py        decode_json_example
"""
