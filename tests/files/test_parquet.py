"""Rows of Parquet files: what they are, how often row groups are decoded, and what is told of files that are not as expected."""

import logging
import os
import pickle
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers.tabular import answer_of_child, plain, rewrite, table

import mpqueue
from mpqueue.errors import FileError
from mpqueue.files import Parquet, opened
from mpqueue.files.opened import OpenFiles

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ROWS = 1000
TABLE = table(ROWS)
WANTED = TABLE.to_pylist()


def write(path, content, rows=170, **options):
    pq.write_table(content, str(path), row_group_size=rows, **options)
    return str(path)


@pytest.fixture
def index(tmp_path):
    return str(tmp_path / "index")


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "a.parquet", TABLE)


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_a_row_is_that_of_pyarrow(tmp_path, index, compression):
    source = Parquet(write(tmp_path / "a.parquet", TABLE, compression=compression), index=index)
    assert len(source) == ROWS
    chosen = [*random.Random(0).sample(range(ROWS), 100), *range(160, 180), -1, 3, 3]
    assert [plain(row) for row in source.__getitems__(chosen)] == [WANTED[i] for i in chosen]
    assert plain(source[-1]) == WANTED[-1]


def test_rows_go_on_through_files(tmp_path, index):
    names = [write(tmp_path / f"{i}.parquet", TABLE.slice(i * 400, 400)) for i in range(3)]
    source = Parquet(str(tmp_path / "*.parquet"), ["int"], index=index)
    assert repr(source).startswith("Parquet(3 files, 1,000 samples, ")
    assert [row["int"] for row in source.__getitems__([999, 0, 400, 399])] == [999, 0, 400, 399]
    assert len(Parquet(names[2], index=index)) == 200


def test_columns_are_those_that_are_named_in_their_order(path, index):
    assert list(Parquet(path, ["text", "int"], index=index)[3].items()) == [("text", "täxt 3"), ("int", 3)]
    with pytest.raises(ValueError, match="no column 'nope'; the columns are int, small"):
        Parquet(path, ["nope"], index=index)


def test_a_row_group_is_decoded_once_for_all_rows_that_are_asked_for_together(path, index):
    source = Parquet(path, ["int"], index=index, cache_bytes=0)
    source.__getitems__([0, 500, 1, 501, 2])
    assert source._num_decoded == 2 * 170


def test_groups_that_fit_are_decoded_once(path, index):
    source = Parquet(path, ["int"], index=index)
    for i in random.Random(0).sample(range(ROWS), 200):
        source[i]
    assert source._num_decoded == ROWS


def test_rows_that_decode_their_group_each_are_warned_of_once(path, index, caplog):
    source = Parquet(path, ["int"], index=index, cache_bytes=0)
    with caplog.at_level(logging.WARNING, "mpqueue"):
        for i in range(200):
            source[i * 370 % ROWS]
    (record,) = caplog.records
    assert "30 row groups" in record.getMessage()
    assert "Shuffled Parquet" in record.getMessage()


def test_rows_of_groups_that_all_fit_are_not_warned_of(tmp_path, index, caplog):
    """Each group is decoded once, though only one of its thirty rows was asked for up to now."""
    source = Parquet(write(tmp_path / "a.parquet", pa.table({"int": range(1200)}), rows=30), index=index)
    with caplog.at_level(logging.WARNING, "mpqueue"):
        for number in range(0, 1200, 30):
            source[number]
    assert source._num_groups_decoded == 40
    assert caplog.records == []


def test_rows_in_order_are_not_warned_of(path, index, caplog):
    source = Parquet(path, ["int"], index=index, cache_bytes=0)
    with caplog.at_level(logging.WARNING, "mpqueue"):
        for _ in range(10):
            for row in range(0, ROWS, 10):
                source.__getitems__(range(row, row + 10))
    assert caplog.records == []


def test_shuffled_row_groups_are_decoded_once_in_an_epoch(path, index):
    """The way that the documents show for files that do not fit into memory."""
    source = Parquet(path, ["int"], index=index, cache_bytes=0)
    rows = mpqueue.Dataset(source.row_groups()).shuffle().flat_map(list).shuffle(buffer=100)
    seen = [row["int"] for row in rows]
    assert sorted(seen) == list(range(ROWS))
    assert seen != sorted(seen)
    with mpqueue.Loader(rows.batch(64), workers=2, seed=1) as loader:
        assert sorted(int(i) for batch in loader for i in batch["int"]) == list(range(ROWS))


def test_the_footer_of_a_file_is_read_once_however_few_row_groups_are_kept(path, index, monkeypatch):
    reads = []
    monkeypatch.setattr(
        OpenFiles, "read", lambda self, *place, read=OpenFiles.read: reads.append(place) or read(self, *place)
    )
    rows = Parquet(path, index=index, cache_bytes=0)
    size = os.path.getsize(path)
    for _ in range(2):
        for number in range(0, len(rows), 100):
            assert rows[number]
    of_ends = [place for place in reads if place[1] + place[2] == size]
    assert len(of_ends) <= 2  # where the footer is as long as pyarrow guesses, it is one
    assert len(reads) > len(of_ends)


def test_threads_that_decode_row_groups_of_a_file_do_not_share_a_reader(path, index, monkeypatch):
    """Both are in the middle of a row group at the same time."""
    both, held = threading.Barrier(2), threading.local()

    def read(self, *place, read=opened._OpenFile.read):
        if not hasattr(held, "met"):
            held.met = True
            both.wait(60)
        return read(self, *place)

    rows = Parquet(path, index=index, cache_bytes=0)
    assert rows[0]
    assert rows[-1]  # now one reader is idle
    rows._parts.get("another", lambda: (None, 1))  # no row group is kept
    monkeypatch.setattr(opened._OpenFile, "read", read)
    with ThreadPoolExecutor(2) as pool:
        for _ in range(2):
            found = list(pool.map(rows.__getitem__, [0, len(rows) - 1]))
            assert [plain(row) for row in found] == [WANTED[0], WANTED[-1]]
    assert len(rows._footers.get(0, pytest.fail)[1]) == 2  # the next ones are read by these


def test_a_loader_shuffles_the_rows(path, index):
    source = Parquet(path, ["int", "large", "matrix"], index=index)
    with mpqueue.Loader(source, batch_size=64, shuffle=True, workers=2, seed=1) as loader:
        seen = [int(i) for batch in loader for i in batch["int"]]
    assert sorted(seen) == list(range(ROWS))
    assert seen != sorted(seen)


def test_a_file_of_another_schema_is_named(tmp_path, path, index):
    other = TABLE.set_column(0, "int", TABLE["int"].cast(pa.int32()))
    bad = write(tmp_path / "b.parquet", other)
    with pytest.raises(FileError, match=r"b\.parquet.*'int' is of int32, expected int64 as in .*a\.parquet"):
        Parquet([path, bad], index=index)
    assert Parquet([path, bad], ["text"], index=index)[ROWS]["text"] is None  # only what is wanted has to be alike


def test_damaged_bytes_never_crash(tmp_path, index):
    """Each is a FileError, another value, or unnoticed; in a process of its own, since pyarrow is C++."""
    write(tmp_path / "whole.parquet", TABLE.select(["int", "text", "tokens", "struct"]).slice(0, 30), rows=10)
    code = """
import random, sys
from mpqueue.errors import FileError
from mpqueue.files import Parquet
path, index = sys.argv[1:]
data = open(path, "rb").read()
dice, refused = random.Random(1), 0
for turn in range(50):
    bad = bytearray(data)
    for _ in range(3):
        bad[dice.randrange(len(bad) - 1500)] = dice.randrange(256)  # pages; a footer is pyarrow's to check
    open(path + str(turn), "wb").write(bad)
    try:
        source = Parquet(path + str(turn), index=index)
        for i in range(min(len(source), 100)):
            source[i]
    except FileError:
        refused += 1
print("refused", refused)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "whole.parquet"), index],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[1]) > 5


def test_a_file_that_has_changed_is_an_error_that_names_it(path, index):
    source = Parquet(path, ["int"], index=index)
    source[0]
    rewrite(path, Path(path).read_bytes()[:5000])
    with pytest.raises(FileError, match=r"a\.parquet.*changed"):
        source[ROWS - 1]


def test_a_file_that_is_gone_is_the_systems_error(path, index):
    source = Parquet(path, index=index)
    Path(path).unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.parquet"):
        source[0]


def test_a_copy_is_small_and_reads_by_itself(path, index):
    source = Parquet(path, index=index)
    source[0]
    data = pickle.dumps(source)
    assert len(data) < 1000
    assert plain(pickle.loads(data)[7]) == WANTED[7]


def test_reading_starts_no_threads_that_a_fork_would_lose(path, index):
    code = f"""
import os
from mpqueue.files import Parquet
from mpqueue.system.safe_threads import unsafe_threads
import numpy
before = unsafe_threads()
source = Parquet({path!r}, index={index!r})
source.__getitems__(range(1000))
print(len(unsafe_threads()) - len(before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["0"], done.stderr


def test_a_child_that_is_forked_after_use_reads(path, index):
    source = Parquet(path, ["int", "text"], index=index)
    source.__getitems__([1, 500])
    assert answer_of_child(lambda: source.__getitems__([900, 1])) == repr(
        [{name: WANTED[i][name] for name in ("int", "text")} for i in (900, 1)]
    )


def test_threads_read_together(path, index):
    source = Parquet(path, index=index, cache_bytes=1000)
    wrong = []

    def read(seed):
        dice = random.Random(seed)
        for _ in range(10):
            chosen = [dice.randrange(ROWS) for _ in range(8)]
            wrong.extend(
                i for i, row in zip(chosen, source.__getitems__(chosen), strict=True) if plain(row) != WANTED[i]
            )

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


def test_rows_of_a_damaged_file_can_be_skipped(tmp_path, index):
    names = [write(tmp_path / f"{i}.parquet", TABLE.slice(i * 10, 10)) for i in range(3)]
    source = Parquet(names, ["int"], index=index)
    rewrite(names[1], b"short")
    with mpqueue.Loader(source, batch_size=5, workers=1, on_error="skip") as loader:
        seen = [int(i) for batch in loader for i in batch["int"]]
        assert loader.statistics().skipped == 10
    assert seen == [*range(10), *range(20, 30)]
