"""Decoders: bytes to arrays.

Each public function has a module that says what it promises, and one below it that knows the rules; where a batch is
worth it, further ones give the same at once, and leave to the rules what they do not understand::

    raw.py                 decode_raw
    csv.py                 decode_csv
      csv_rows.py          one record after another: the rules, every error; by csv_fields and number_text
      csv_columns.py       a batch at once; by csv_cut and number_columns
    parse.py               parse_example, parse_single_example; what to read is said by features
      example_rows.py      one record after another: the rules, every error; by protobuf_wire
      example_batch.py     a batch at once; by example_entries and vectorized
      example_layout.py    a batch of records that differ in their values only
      example_columns.py   what all three fill
    sequence.py            parse_single_sequence_example, by protobuf
    json_example.py        decode_json_example, by json_text
    example.py             the messages of mpqueue.train: Example and its parts, by protobuf
"""
