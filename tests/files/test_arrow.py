"""Rows of Arrow files in all of its formats, and errors of invalid files."""

import os
import pickle
import random
import subprocess
import sys

import numpy as np
import pytest
from helpers.file_parts import offsets_of
from helpers.table_files import plain, table
from helpers.table_files import write_arrow as write

import mpqueue
from mpqueue.errors import FileError
from mpqueue.files import Arrow

pa = pytest.importorskip("pyarrow")

ROWS = 1000
TABLE = table(ROWS)
WANTED = TABLE.to_pylist()


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "a.arrow", TABLE)


SLICED = TABLE.drop(["map"])  # rows of these columns are built from their own bytes


@pytest.mark.parametrize("rows", [1, 170, ROWS])
def test_rows_read_separately_equal_those_of_pyarrow(tmp_path, rows, monkeypatch):
    """All types of columns, with null values, in batches of any size."""
    monkeypatch.setattr(Arrow, "_decode", None)
    source = Arrow(write(tmp_path / "a.arrow", SLICED.slice(0, 200 if rows == 1 else ROWS), rows=rows))
    wanted = SLICED.to_pylist()
    chosen = [*random.Random(0).sample(range(len(source)), 60), 3, 3, *range(150, 175)]
    assert [plain(row) for row in source.__getitems__(chosen)] == [wanted[i] for i in chosen]
    assert [plain(source[i]) for i in chosen[:20]] == [wanted[i] for i in chosen[:20]]
    assert source.__getitems__([]) == []


def test_rows_that_all_fit_into_the_cache_are_read_once(tmp_path, monkeypatch):
    """Samples belong to the caller: modifying one does not affect the next."""
    source = Arrow(write(tmp_path / "a.arrow", SLICED))
    wanted = SLICED.to_pylist()
    chosen = [*random.Random(0).sample(range(ROWS), 60), 3, 3, *range(150, 175)]
    for sample in source.__getitems__(chosen):
        for value in sample.values():
            if isinstance(value, np.ndarray):
                value[...] = 0
            elif isinstance(value, dict | list):
                value.clear()
    monkeypatch.setattr(os, "pread", None)
    assert [plain(row) for row in source.__getitems__(chosen[::-1])] == [wanted[i] for i in chosen[::-1]]
    assert plain(source[chosen[0]]) == wanted[chosen[0]]


def test_rows_that_do_not_all_fit_are_not_cached(tmp_path, monkeypatch):
    """The memory of the objects counts in addition to the bytes."""
    texts = pa.table({"t": ["a" * 2000] * 100})
    path = write(tmp_path / "a.arrow", texts, rows=50)
    reads, real = [], os.pread
    monkeypatch.setattr(os, "pread", lambda *args: reads.append(args) or real(*args))
    for cache_bytes, expected in ((os.path.getsize(path), 1), (os.path.getsize(path) + 100_000, 0)):
        source = Arrow(path, cache_bytes=cache_bytes)
        source.__getitems__([5, 70])
        reads.clear()
        assert source[70] == {"t": "a" * 2000}
        assert len(reads) == expected


def test_damaged_row_of_many_is_named(tmp_path):
    """Its string is invalid; adjacent rows are read separately."""
    path = tmp_path / "a.arrow"
    write(path, pa.table({"t": [f"text {i}" for i in range(40)]}), rows=10)
    path.write_bytes(path.read_bytes().replace(b"text 25", b"text \xff\xff"))
    source = Arrow(path)
    with pytest.raises(FileError, match=r"a\.arrow, byte .*record batch 2 of this file"):
        source.__getitems__(range(40))
    with mpqueue.Loader(source, batch_size=8, workers=1, on_error="skip") as loader:
        seen = [text for batch in loader for text in batch["t"]]
    assert len(seen) == 39 and "text 25" not in seen


def test_feather_file_is_read(tmp_path):
    feather = pytest.importorskip("pyarrow.feather")
    feather.write_feather(TABLE, str(tmp_path / "a.feather"))
    assert plain(Arrow(tmp_path / "a.feather")[5]) == WANTED[5]


def test_empty_batch_is_skipped(tmp_path):
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), TABLE.schema) as writer:
        for part in (TABLE.slice(0, 0), TABLE.slice(0, 2), TABLE.slice(0, 0), TABLE.slice(2, 1)):
            for batch in part.to_batches() or [pa.RecordBatch.from_pylist([], schema=TABLE.schema)]:
                writer.write_batch(batch)
    source = Arrow(tmp_path / "a.arrow")
    assert [plain(source[i]) for i in range(len(source))] == WANTED[:3]


def test_lists_of_numbers_are_writable_arrays(path):
    sample = Arrow(path)[8]
    assert (sample["tokens"].dtype, sample["tokens"].tolist()) == (np.int32, list(range(8)))
    assert (sample["matrix"].dtype, sample["matrix"].shape) == (np.float32, (2, 2))
    sample["tokens"][0] = 7
    assert isinstance(sample["holes"], list)  # None is not a number


def test_row_of_a_large_batch_reads_only_its_own_bytes(tmp_path, monkeypatch):
    """Reading one of a thousand photographs must not read the whole batch."""
    large = pa.table({"image": [os.urandom(10_000)] * 500})
    source = Arrow(write(tmp_path / "a.arrow", large, rows=500))
    source[0]
    read, real = [], os.pread
    monkeypatch.setattr(os, "pread", lambda fd, length, offset: read.append(length) or real(fd, length, offset))
    source[250]
    assert sum(read) == 10_000


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"FEA1" + b"x" * 100, "version 1"), (b"PAR1" + b"x" * 100, "Parquet"), (b"hello" * 10, "not an Arrow file")],
)
def test_file_of_another_format_raises(tmp_path, data, words):
    (tmp_path / "a.arrow").write_bytes(data)
    with pytest.raises(FileError, match=words):
        Arrow(tmp_path / "a.arrow")


def test_copy_imports_pyarrow_on_first_read(path, tmp_path):
    """A worker is forked from a process that has unpickled the source; threads of libraries would not survive that."""
    (tmp_path / "source").write_bytes(pickle.dumps(Arrow(path)))
    code = (
        "import pickle, sys; source = pickle.load(open(sys.argv[1], 'rb')); n = len(source); before = 'pyarrow' in sys.modules; "
        "source[0]; print(n, before, 'pyarrow' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "source")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["1000", "False", "True"], done.stderr


def test_record_batches_are_a_source_of_their_rows(tmp_path, path):
    for file in (path, write(tmp_path / "b.arrow", TABLE, compression="zstd")):
        batches = Arrow(file, ["int"]).record_batches()
        assert [len(batch) for batch in batches] == [170] * 5 + [150]
        assert [row["int"] for batch in batches for row in batch] == list(range(ROWS))
        with pytest.raises(IndexError):
            batches[6]


@pytest.mark.parametrize("form", ["file", "stream"])
def test_zeros_in_place_of_a_message_do_not_hide_the_later_ones(tmp_path, form):
    path = write(tmp_path / "a.arrow", TABLE, form=form)
    offset = int(offsets_of(Arrow(path))[1])
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(bytes(64))
    with pytest.raises(FileError, match=rf"a\.arrow, byte {offset:,}: .* bytes follow an end mark; it may be damaged"):
        Arrow(path)


@pytest.mark.parametrize("inner", [False, True], ids=["column", "field"])
@pytest.mark.parametrize("columns", [None, ["other"]])
def test_name_that_is_not_utf_8_raises_an_error_with_the_file(tmp_path, inner, columns):
    column = [{"abcd": 1}] if inner else [1]
    table = pa.table({"outer" if inner else "abcd": column, "other": [1]})
    path = tmp_path / "a.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    path.write_bytes(path.read_bytes().replace(b"abcd", b"ab\xffd"))
    with pytest.raises(FileError, match=r"a\.arrow, byte 0: its schema cannot be read: 'utf-8'"):
        Arrow(path, columns=columns, index=tmp_path / "index")
