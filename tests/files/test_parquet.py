"""Rows of Parquet files, the number of times that row groups are decoded, and errors of invalid files."""

import logging
import os
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.table_files import plain, table
from helpers.table_files import write_parquet as write

import mpqueue
from mpqueue.errors import FileError
from mpqueue.files import Parquet

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ROWS = 1000
TABLE = table(ROWS)
WANTED = TABLE.to_pylist()


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "a.parquet", TABLE)


@pytest.fixture
def decoded(monkeypatch):
    """The numbers of the row groups that pyarrow has decoded, in order."""
    found, real = [], pq.ParquetFile.read_row_group

    def read_row_group(reader, number, **options):
        found.append(number)
        return real(reader, number, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", read_row_group)
    return found


def test_row_group_is_decoded_once_for_all_rows_of_a_batch(path, decoded):
    source = Parquet(path, ["int"], cache_bytes=0)
    source.__getitems__([0, 500, 1, 501, 2])
    assert decoded == [0, 2]


def test_groups_that_fit_are_decoded_once(path, decoded):
    source = Parquet(path, ["int"])
    for i in random.Random(0).sample(range(ROWS), 200):
        source[i]
    assert sorted(decoded) == list(range(6))


def test_decoding_a_group_per_row_warns_once(path, caplog):
    source = Parquet(path, ["int"], cache_bytes=0)
    with caplog.at_level(logging.WARNING, "mpqueue"):
        for i in range(200):
            source[i * 370 % ROWS]
    (record,) = caplog.records
    assert "30 row groups" in record.getMessage()
    assert "Shuffled Parquet" in record.getMessage()


def test_groups_that_all_fit_do_not_warn(tmp_path, caplog, decoded):
    """Each group is decoded once, although only one of its thirty rows was requested so far."""
    source = Parquet(write(tmp_path / "a.parquet", pa.table({"int": range(1200)}), rows=30))
    with caplog.at_level(logging.WARNING, "mpqueue"):
        for number in range(0, 1200, 30):
            source[number]
    assert decoded == list(range(40))
    assert caplog.records == []


def test_rows_in_order_do_not_warn(path, caplog):
    source = Parquet(path, ["int"], cache_bytes=0)
    with caplog.at_level(logging.WARNING, "mpqueue"):
        for _ in range(10):
            for row in range(0, ROWS, 10):
                source.__getitems__(range(row, row + 10))
    assert caplog.records == []


def test_shuffled_row_groups_are_decoded_once_per_epoch(path):
    """As shown in the documentation for files that do not fit into memory."""
    source = Parquet(path, ["int"], cache_bytes=0)
    rows = mpqueue.Dataset(source.row_groups()).shuffle().flat_map(list).shuffle(buffer=100)
    seen = [row["int"] for row in rows]
    assert sorted(seen) == list(range(ROWS))
    assert seen != sorted(seen)
    with mpqueue.Loader(rows.batch(64), workers=2, seed=1) as loader:
        assert sorted(int(i) for batch in loader for i in batch["int"]) == list(range(ROWS))


def test_threads_that_decode_row_groups_do_not_share_a_reader(path, monkeypatch):
    """Both threads are in the middle of a row group at the same time. Their two readers are used again."""
    both, held, made, num_made = threading.Barrier(2), threading.local(), [], set()

    def pread(*position, real=os.pread):
        if not hasattr(held, "met"):
            held.met = True
            both.wait(60)
        return real(*position)

    def make(reader, *source, real=pq.ParquetFile.__init__, **options):
        made.append(None)
        real(reader, *source, **options)

    monkeypatch.setattr(pq.ParquetFile, "__init__", make)
    rows = Parquet(path, cache_bytes=0)
    with ThreadPoolExecutor(2) as pool:
        for _ in range(2):
            held.met = True
            assert rows[500]  # now one reader is idle, and only this row group is cached
            monkeypatch.setattr(os, "pread", pread)
            found = list(pool.map(rows.__getitem__, [0, len(rows) - 1]))
            assert [plain(row) for row in found] == [WANTED[0], WANTED[-1]]
            num_made.add(len(made))
    assert len(num_made) == 1


def test_reading_starts_no_threads(path):
    code = f"""
from mpqueue.files import Parquet
from mpqueue.system.signals.safe_threads import unsafe_threads
import numpy
before = unsafe_threads()
source = Parquet({path!r})
source.__getitems__(range(1000))
print(len(unsafe_threads()) - len(before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["0"], done.stderr


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_verify_finds_a_changed_byte_of_a_page_with_a_checksum(tmp_path, version):
    """Without it, another number is returned, as by pyarrow."""
    content = pa.table({"number": np.arange(100, dtype=np.int64)})
    options = {"compression": "none", "use_dictionary": False, "data_page_version": version}
    path = write(tmp_path / "a.parquet", content, 50, write_page_checksum=True, **options)
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    data[data.index(np.int64(77).tobytes())] = 255
    (tmp_path / "a.parquet").write_bytes(data)
    assert Parquet(path)[77] == {"number": 255}
    source = Parquet(path, verify=True)
    assert source[3] == {"number": 3}
    with pytest.raises(FileError, match=r"a\.parquet, byte .*row group 1 of this file cannot be read: .*(CRC|crc)"):
        source[77]
    with mpqueue.Loader(source, batch_size=50, workers=1, on_error="skip", max_errors=100) as loader:
        assert [batch["number"].tolist() for batch in loader] == [list(range(50))]
    with pytest.raises(TypeError, match="verify must be True or False, got 'yes'"):
        Parquet(path, verify="yes")
    assert Parquet(write(tmp_path / "b.parquet", content), verify=True)[77] == {"number": 77}  # without checksums
