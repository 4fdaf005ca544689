"""Decoders: bytes to arrays.

`mpqueue.examples` reads serialized Examples. CSV has two implementations with equal results, for a whole batch and
for single records. From the bottom layer up::

    strings.py             arrays of byte strings
    number_text.py         one number from a string, with TensorFlow's grammar and rounding
    number_columns.py      thousands of numbers from strings
    raw.py                 decode_raw
    fingerprint.py         the hash function for buckets of strings
    csv_fields.py          the CSV format, and splitting one record into fields
    csv_rows.py            CSV row by row
    csv_cut.py             splitting a batch of CSV records into fields
    csv_columns.py         CSV column by column
    csv.py                 decode_csv
    parse.py               parse_example, parse_single_example
    example.py             the protobuf messages of mpqueue.train: Example and its parts
    sequence.py            parse_single_sequence_example, with these messages
    json_example.py        decode_json_example
"""
