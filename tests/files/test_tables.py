"""Common behavior of table formats: rows and columns, copies, forks, threads, errors of invalid files."""

import random
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers.forked_calls import status_of_fork
from helpers.table_files import plain, rewrite, table, write_arrow, write_parquet

import mpqueue
from mpqueue.errors import FileError
from mpqueue.files import Arrow, Parquet

pa = pytest.importorskip("pyarrow")

ROWS = 1000
TABLE = table(ROWS)
WITH_DICTIONARY = TABLE.append_column("kind", pa.array([f"c{i % 4}" for i in range(ROWS)]).dictionary_encode())
FORMATS = {
    "Parquet": (Parquet, write_parquet),
    "Arrow": (Arrow, write_arrow),
    "compressed Arrow": (Arrow, partial(write_arrow, compression="zstd")),
}


@pytest.fixture(params=FORMATS.values(), ids=FORMATS)
def made(request):
    """Return the class of a format, and a function that writes a file of it."""
    return request.param


@pytest.fixture
def source_of(made, tmp_path):
    """Return a function that creates the source of one file or several."""
    return partial(made[0], index=str(tmp_path / "index"))


@pytest.fixture
def write(made, tmp_path):
    """Return a function that writes a table to a file with a name."""
    return lambda name, content=TABLE, **options: made[1](tmp_path / name, content, **options)


@pytest.fixture
def path(write):
    return write("a.table")


ARROW = [
    (Arrow, write_arrow, {"form": form, "compression": c}) for form in ("file", "stream") for c in (None, "lz4", "zstd")
]
PARQUET = [(Parquet, write_parquet, {"compression": compression}) for compression in ("none", "snappy", "zstd")]


@pytest.mark.parametrize(
    "content", [TABLE, WITH_DICTIONARY, TABLE.slice(13, 500)], ids=["plain", "dictionary", "slice"]
)
@pytest.mark.parametrize(("make", "write", "options"), [*ARROW, *PARQUET])
def test_row_equals_that_of_pyarrow(tmp_path, make, write, options, content):
    """The validity and the offsets of a slice begin in the middle of bytes and buffers."""
    rows = {"rows": 499} if len(content) < ROWS else {}
    source, wanted = make(write(tmp_path / "a.table", content, **options, **rows)), content.to_pylist()
    assert len(source) == len(wanted)
    chosen = random.Random(0).sample(range(len(wanted)), 100)
    assert [plain(source[i]) for i in chosen[:20]] == [wanted[i] for i in chosen[:20]]
    several = [*chosen, *range(160, 180), -1, 3, 3]
    assert [plain(row) for row in source.__getitems__(several)] == [wanted[i] for i in several]
    assert type(source[1]["tokens"]) is np.ndarray


def test_rows_are_numbered_across_files(write, source_of, tmp_path):
    names = [write(f"{i}.table", TABLE.slice(i * 400, 400)) for i in range(3)]
    for paths in (names, str(tmp_path / "*.table")):
        source = source_of(paths, ["int"])
        assert repr(source).startswith(f"{type(source).__name__}(3 files, 1,000 samples, ")
        assert [row["int"] for row in source.__getitems__([999, 0, 400, 399])] == [999, 0, 400, 399]
    assert len(source_of(names[2])) == 200


def test_selected_columns_are_returned_in_order(path, source_of):
    assert list(source_of(path, ["text", "int"])[3].items()) == [("text", "täxt 3"), ("int", 3)]


@pytest.mark.parametrize(
    ("columns", "error", "words"),
    [
        (["nope"], ValueError, "got 'nope'; the columns are int, small"),
        ("text", TypeError, "list of names, got 'text'"),
        (5, TypeError, "list of names, got 5"),
        ([1], TypeError, "list of names, got one that contains 1"),
        (["int", "int"], ValueError, "'int' is repeated"),
        ([], ValueError, "at least one column"),
    ],
)
def test_invalid_columns_raise(path, source_of, columns, error, words):
    with pytest.raises(error, match=words):
        source_of(path, columns)


def test_file_with_another_schema_is_named(write, path, source_of):
    bad = write("b.table", TABLE.set_column(0, "int", TABLE["int"].cast(pa.int32())))
    with pytest.raises(FileError, match=r"b\.table.*'int' is of type int32, expected int64 as in .*a\.table"):
        source_of([path, bad])
    with pytest.raises(FileError, match=r"has no column 'small'"):
        source_of([path, write("c.table", TABLE.select(["int"]))])


def test_schemas_can_differ_in_metadata(write, path, source_of):
    other = TABLE.replace_schema_metadata({"huggingface": "{}"})
    assert len(source_of([path, write("b.table", other)])) == 2 * ROWS


def test_damaged_bytes_never_crash(write, source_of, made, tmp_path):
    """A damaged byte raises a FileError, changes a value, or has no effect. A crash of pyarrow ends only a child."""
    small = TABLE.select(["int", "text", "tokens", "struct"]).slice(0, 30)
    whole = Path(write("whole.table", small, rows=10)).read_bytes()
    num_kept = 1500 if made[0] is Parquet else 0  # pyarrow checks the footer

    def count_errors():
        dice, num_errors = random.Random(1), 0
        for turn in range(55):
            damaged, path = bytearray(whole), tmp_path / f"{turn}.table"
            for _ in range(3):
                damaged[dice.randrange(len(damaged) - num_kept)] = dice.randrange(256)
            path.write_bytes(damaged)
            try:
                source = source_of(path)
                for i in range(min(len(source), 100)):
                    source[i]
            except FileError:
                num_errors += 1
        return num_errors

    assert 5 < status_of_fork(count_errors) <= 55


def test_rows_of_a_damaged_file_can_be_skipped(write, source_of):
    """One of three files changes during the run: its rows are skipped and named in the log."""
    names = [write(f"{i}.table", TABLE.slice(i * 10, 10)) for i in range(3)]
    source = source_of(names, ["int"])
    rewrite(names[1], b"short")
    with mpqueue.Loader(source, batch_size=5, workers=1, on_error="skip") as loader:
        seen = [int(i) for batch in loader for i in batch["int"]]
        assert loader.statistics().skipped == 10
    assert seen == [*range(10), *range(20, 30)]


@pytest.mark.parametrize("kind", ["time", "text"])
def test_value_that_python_cannot_represent_raises_an_error_with_the_file(write, source_of, kind):
    """Also if the rows of a group are built later, as the group is iterated."""
    text = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers())
    column = text if kind == "text" else pa.array([2**62], pa.duration("s"))
    source = source_of(write("b.table", pa.table({"a": column})))
    groups = source.row_groups() if isinstance(source, Parquet) else source.record_batches()
    for read in (lambda: source[0], lambda: list(groups[0])):
        with pytest.raises(FileError, match=r"b\.table, byte [\d,]+: (row group|record batch) 0 of this file cannot"):
            read()
