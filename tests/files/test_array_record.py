"""Records of ArrayRecord files, and errors of invalid files."""

import pickle
import random
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.tabular import answer_of_child, rewrite
from helpers.threads_reading import read_by_threads

import mpqueue
from mpqueue.errors import FileError
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


def test_changed_file_raises_an_error_with_its_name(paths, index):
    source = ArrayRecord(paths, index=index)
    source[0]
    rewrite(paths[0], Path(paths[1]).read_bytes())
    with pytest.raises(FileError, match=r"0\.array_record.*changed"):
        source[1]
    assert source[100] == b"100"


def test_pickle_is_small_and_its_copy_reads(paths, index):
    source = ArrayRecord(paths, index=index)
    source[0]
    data = pickle.dumps(source)
    assert len(data) < 1000
    assert pickle.loads(data)[7] == b"7"


def test_child_forked_after_use_reads(paths, index):
    source = ArrayRecord(paths, index=index)
    source.__getitems__([1, 250])
    assert answer_of_child(lambda: source.__getitems__([200, 1])) == "[b'200', b'1']"


def test_threads_read_concurrently(paths, index):
    read = read_by_threads(ArrayRecord(paths, index=index), 300, rounds=50)
    assert [i for i, record in read if record != b"%d" % i] == []


def test_loader_shuffles_the_records(paths, index):
    dataset = mpqueue.Dataset(ArrayRecord(paths, index=index)).shuffle().map(int).batch(32)
    with mpqueue.Loader(dataset, workers=2, seed=1) as loader:
        seen = [int(i) for batch in loader for i in batch]
    assert sorted(seen) == list(range(300))
    assert seen != sorted(seen)


def test_error_without_the_library_names_the_extra(paths, index):
    code = f"import sys; sys.modules['array_record'] = None; from mpqueue.files import ArrayRecord; ArrayRecord({paths!r}, index={index!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert 'pip install "mpqueue[arrayrecord]"' in done.stderr.splitlines()[-1]
