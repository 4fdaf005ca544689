"""Decoders: bytes to arrays.

Serialized Examples are read by `mpqueue.examples`. CSV has two ways that lead to one result, as there.
From the ground up::

    strings.py             arrays of byte strings
    number_text.py         one number from text, by TensorFlow's grammar and rounding
    number_columns.py      thousands of numbers from text
    raw.py                 decode_raw
    fingerprint.py         the hash of texts that buckets are made of
    csv_fields.py          how CSV records are written, and one of them cut into its fields
    csv_rows.py            CSV rows
    csv_cut.py             a batch of CSV records cut into its fields
    csv_columns.py         CSV columns
    csv.py                 decode_csv
    parse.py               parse_example, parse_single_example
    example.py             the messages of mpqueue.train, Example and its parts, by the protobuf library
    sequence.py            parse_single_sequence_example, by these messages
    json_text.py           TensorFlow's grammar of JSON
    json_example.py        decode_json_example
"""
