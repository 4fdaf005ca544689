"""Records of ArrayRecord files, and errors of invalid files."""

import random
import subprocess
import sys

import pytest

from mpqueue.files import ArrayRecord

array_record_module = pytest.importorskip("array_record.python.array_record_module")


def write(path, numbers):
    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
    for number in numbers:
        writer.write(b"%d" % number)
    writer.close()
    return str(path)


@pytest.fixture
def index(tmp_path):
    return str(tmp_path / "index")


@pytest.fixture
def paths(tmp_path):
    return [write(tmp_path / f"{i}.array_record", range(i * 100, i * 100 + 100)) for i in range(3)]


def test_records_are_numbered_across_files(paths, index):
    source = ArrayRecord(paths, index=index)
    assert len(source) == 300
    chosen = [*random.Random(0).sample(range(300), 50), -1, 3, 3]
    assert source.__getitems__(chosen) == [b"%d" % (i % 300) for i in chosen]
    assert source[299] == b"299"
    assert repr(source).startswith("ArrayRecord(3 files, 300 samples, ")
    with pytest.raises(IndexError):
        source[300]


def test_error_without_the_library_names_the_extra(paths, index):
    code = f"import sys; sys.modules['array_record'] = None; from mpqueue.files import ArrayRecord; ArrayRecord({paths!r}, index={index!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert 'pip install "mpqueue[arrayrecord]"' in done.stderr.splitlines()[-1]
