"""Records of ArrayRecord files."""

import random

from helpers.file_formats import write_array_record

from mpqueue.files import ArrayRecord


def test_records_are_numbered_across_files(tmp_path):
    records = [b"%d" % i for i in range(300)]
    paths = [write_array_record(tmp_path / f"{i}.array_record", records[100 * i :][:100]) for i in range(3)]
    source = ArrayRecord(paths)
    assert len(source) == 300
    chosen = [*random.Random(0).sample(range(300), 50), -1, 3, 3]
    assert source.__getitems__(chosen) == [records[i] for i in chosen]
    assert source[299] == b"299"
    assert repr(source).startswith("ArrayRecord(3 files, 300 samples, ")
