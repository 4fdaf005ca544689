"""Common behavior of table formats: rows and columns, copies, forks, threads, errors of invalid files."""

import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from helpers.tabular import answer_of_child, plain, rewrite, table, write_arrow, write_parquet
from helpers.threads_reading import read_by_threads

import mpqueue
from mpqueue.errors import FileError
from mpqueue.files import Arrow, Parquet

pa = pytest.importorskip("pyarrow")

ROWS = 1000
TABLE = table(ROWS)
WANTED = TABLE.to_pylist()
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
        ([1], TypeError, "list of names, got one that contains 1"),
        (["int", "int"], ValueError, "'int' is repeated"),
        ([], ValueError, "at least one column"),
    ],
)
def test_invalid_columns_raise(path, source_of, columns, error, words):
    with pytest.raises(error, match=words):
        source_of(path, columns)


@pytest.mark.parametrize("bad", [ROWS, -ROWS - 1])
def test_row_out_of_range_raises_index_error(path, source_of, bad):
    with pytest.raises(IndexError, match=f"index {bad} is out of range"):
        source_of(path)[bad]


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
    whole = write("whole.table", TABLE.select(["int", "text", "tokens", "struct"]).slice(0, 30), rows=10)
    code = """
import random, sys
from mpqueue import files
from mpqueue.errors import FileError
path, index, name, num_kept = sys.argv[1:]
data = open(path, "rb").read()
dice, num_errors = random.Random(1), 0
for turn in range(55):
    bad = bytearray(data)
    for _ in range(3):
        bad[dice.randrange(len(bad) - int(num_kept))] = dice.randrange(256)
    open(path + str(turn), "wb").write(bad)
    try:
        source = getattr(files, name)(path + str(turn), index=index)
        for i in range(min(len(source), 100)):
            source[i]
    except FileError:
        num_errors += 1
print("errors", num_errors)
"""
    num_kept = "1500" if made[0] is Parquet else "0"  # pyarrow checks the footer
    done = subprocess.run(
        [sys.executable, "-c", code, whole, str(tmp_path / "index"), made[0].__name__, num_kept],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[1]) > 5


def test_changed_file_raises_an_error_with_its_name(path, source_of):
    source = source_of(path)
    source[0]
    rewrite(path, Path(path).read_bytes()[:5000])
    with pytest.raises(FileError, match=r"a\.table.*changed"):
        source[ROWS - 1]


def test_deleted_file_raises_file_not_found(path, source_of):
    source = source_of(path)
    Path(path).unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.table"):
        source[0]


def test_pickle_is_small_and_unpickled_source_reads(path, source_of):
    source = source_of(path)
    source[0]
    data = pickle.dumps(source)
    assert len(data) < 1000
    assert plain(pickle.loads(data)[7]) == WANTED[7]


def test_child_forked_after_use_reads(path, source_of):
    source = source_of(path, ["int", "text"])
    source.__getitems__([1, 500])
    assert answer_of_child(lambda: source.__getitems__([900, 1])) == repr(
        [{name: WANTED[i][name] for name in ("int", "text")} for i in (900, 1)]
    )


def test_threads_read_concurrently(path, source_of):
    read = read_by_threads(source_of(path, cache_bytes=1000), ROWS, rounds=15)
    assert [i for i, row in read if plain(row) != WANTED[i]] == []


def test_loader_shuffles_the_rows(path, source_of):
    source = source_of(path, ["int", "large", "matrix"])
    with mpqueue.Loader(source, batch_size=64, shuffle=True, workers=2, seed=1) as loader:
        seen = [int(i) for batch in loader for i in batch["int"]]
    assert sorted(seen) == list(range(ROWS))
    assert seen != sorted(seen)


def test_rows_of_a_damaged_file_can_be_skipped(write, source_of):
    """One of three files changes during the run: its rows are skipped and named in the log."""
    names = [write(f"{i}.table", TABLE.slice(i * 10, 10)) for i in range(3)]
    source = source_of(names, ["int"])
    rewrite(names[1], b"short")
    with mpqueue.Loader(source, batch_size=5, workers=1, on_error="skip") as loader:
        seen = [int(i) for batch in loader for i in batch["int"]]
        assert loader.statistics().skipped == 10
    assert seen == [*range(10), *range(20, 30)]


def test_error_without_pyarrow_names_the_extra(path, made):
    code = (
        "import sys; sys.modules['pyarrow'] = None; from mpqueue import files; getattr(files, sys.argv[1])(sys.argv[2])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, made[0].__name__, path], capture_output=True, text=True, timeout=60
    )
    assert done.stderr.splitlines()[-1].startswith(
        "ImportError: mpqueue.files.Parquet and Arrow need pyarrow: pip install"
    )
