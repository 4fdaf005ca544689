"""`locate` of sources of files: the file, the row and the bytes of a sample."""

import gzip
import pickle
from pathlib import Path

import pytest
from helpers.file_formats import write_array_record, write_tar
from helpers.file_parts import decoded_sample
from helpers.table_files import write_arrow, write_parquet
from helpers.tfrecords import write_records

import mpqueue
from mpqueue.files import MDS, ArrayRecord, Arrow, Images, JSONLines, Location, Parquet, Tar, TarStream, TFRecord

MOSAICML = Path(__file__).parent / "mosaicml"


def bytes_at(location):
    return Path(location.path).read_bytes()[location.start : location.stop]


def rows_by_file(source):
    """Return pairs of the name of the file and the row of each sample."""
    return [(Path(each.path).name, each.row) for each in map(source.locate, range(len(source)))]


def lines_in(folder):
    """Return a source of four values in three files (one is empty) with blank lines.

    Not a fixture, which would keep the index mapped until after the check for leaks.
    """
    (folder / "a.jsonl").write_text('{"a": 1}\n\n{"a": 22}\n')
    (folder / "b.jsonl").write_text("")
    (folder / "c.jsonl").write_text('[3]\n"four"')
    return JSONLines(folder / "*.jsonl")


def test_location_has_path_row_and_bytes_and_prints_path_and_row(tmp_path):
    lines = lines_in(tmp_path)
    path = str(tmp_path / "a.jsonl")
    location = lines.locate(1)
    assert location == Location(path, 1, 10, 19) == (path, 1, 10, 19)
    assert str(location) == f"{path}:1"
    assert "stop=19" in repr(location)
    assert pickle.loads(pickle.dumps(lines)).locate(1) == location


def test_rows_of_json_lines_are_counted_in_each_file_without_blank_lines(tmp_path):
    lines = lines_in(tmp_path)
    assert rows_by_file(lines) == [("a.jsonl", 0), ("a.jsonl", 1), ("c.jsonl", 0), ("c.jsonl", 1)]
    assert [bytes_at(lines.locate(number)) for number in range(4)] == [b'{"a": 1}', b'{"a": 22}', b"[3]", b'"four"']


def test_compressed_lines_have_a_row_and_no_bytes(tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"1\n2\n"))
    (tmp_path / "b.jsonl").write_bytes(b"3\n4\n")
    source = JSONLines([tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl"])
    found = [source.locate(number)[1:] for number in range(4)]
    assert found == [(0, None, None), (1, None, None), (0, 0, 1), (1, 2, 3)]


@pytest.mark.parametrize("check_crc", [False, True])
def test_bytes_of_a_tfrecord_are_the_record(tmp_path, check_crc):
    pytest.importorskip("google_crc32c")
    write_records(tmp_path / "a.tfrecord", [b"one", b"two"])
    write_records(tmp_path / "b.tfrecord", [b"three"])
    source = TFRecord(tmp_path / "*.tfrecord", check_crc=check_crc)
    assert rows_by_file(source) == [("a.tfrecord", 0), ("a.tfrecord", 1), ("b.tfrecord", 0)]
    assert [bytes_at(source.locate(number)) for number in range(3)] == [b"one", b"two", b"three"]


def test_bytes_of_a_tar_sample_contain_all_members(tmp_path):
    for archive, stems in (("a", ["cat", "dog"]), ("b", ["owl"])):
        members = [(f"{stem}.{end}", f"{end} of {stem}".encode()) for stem in stems for end in ("txt", "cls")]
        write_tar(tmp_path / f"{archive}.tar", members)
    source = Tar(tmp_path / "*.tar")
    assert rows_by_file(source) == [("a.tar", 0), ("a.tar", 1), ("b.tar", 0)]
    for index, stem in enumerate(["cat", "dog", "owl"]):
        found = bytes_at(source.locate(index))
        assert found.startswith(f"txt of {stem}\0".encode())
        assert found.endswith(f"\0cls of {stem}".encode())


def test_location_of_an_image_is_its_file(tmp_path):
    for name in ("cat/1.jpg", "cat/2.jpg", "dog/1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    source = Images(tmp_path)
    assert source.locate(2) == (str(tmp_path / "dog/1.jpg"), 0, 0, 9)
    assert [bytes_at(source.locate(number)) for number in range(3)] == [b"cat/1.jpg", b"cat/2.jpg", b"dog/1.jpg"]
    with pytest.raises(LookupError, match="has no sample 3"):
        source.locate(3)


@pytest.fixture
def tables(tmp_path):
    """Return Parquet and Arrow files with ten rows in groups of three, and five rows."""
    pa = pytest.importorskip("pyarrow")
    for name, length in (("a", 10), ("b", 0), ("c", 5)):
        table = pa.table({"x": pa.array(range(length), pa.int64())})
        write_parquet(tmp_path / f"{name}.parquet", table, rows=3)
        write_arrow(tmp_path / f"{name}.arrow", table, rows=3)
    return tmp_path


def test_rows_of_tables_are_counted_across_groups(tables):
    for source, end in ((Parquet(tables / "*.parquet"), "parquet"), (Arrow(tables / "*.arrow"), "arrow")):
        wanted = [(f"a.{end}", row) for row in range(10)] + [(f"c.{end}", row) for row in range(5)]
        assert rows_by_file(source) == wanted
        assert [source[number]["x"] for number in range(15)] == [row for _, row in wanted]
        assert {source.locate(number)[2:] for number in range(15)} == {(None, None)}


def test_location_of_a_row_group_is_its_first_row(tables):
    groups = Parquet(tables / "*.parquet").row_groups()
    starts = [next(iter(group))["x"] if len(group) else 0 for group in groups]
    assert [groups.locate(number).row for number in range(len(groups))] == starts
    with pytest.raises(LookupError, match=f"has no sample {len(groups)}"):
        groups.locate(len(groups))


def test_samples_of_plain_mds_shards_have_bytes_and_compressed_ones_have_none():
    plain, compressed = MDS(MOSAICML / "plain"), MDS(MOSAICML / "gz")
    rows = rows_by_file(plain)
    assert [row for _, row in rows] == [row for _, row in rows_by_file(compressed)]
    assert [name for name, _ in rows] == sorted(name for name, _ in rows)
    for number in range(len(plain)):
        location = plain.locate(number)
        sample = decoded_sample(plain, int(Path(location.path).name[6:11]), location.start, bytes_at(location))
        assert sample["text"] == plain[number]["text"] == f"é{number}"
        assert compressed.locate(number)[2:] == (None, None)


def test_records_of_array_record_have_a_row(tmp_path):
    for name in "ab":
        write_array_record(tmp_path / f"{name}.array_record", [f"{name}{row}".encode() for row in range(3)])
    source = ArrayRecord(tmp_path / "*.array_record")
    assert rows_by_file(source) == [(f"{name}.array_record", row) for name in "ab" for row in range(3)]
    assert source.locate(4)[2:] == (None, None)
    assert source.__getitems__([4, 2, -1, 3, 3]) == [b"b1", b"a2", b"b2", b"b0", b"b0"]
    assert repr(source).startswith("ArrayRecord(2 files, 6 samples, ")


@pytest.mark.parametrize(
    ("index", "kind", "message"),
    [
        (4, LookupError, r"JSONLines\(3 files, .* has no sample 4: the ids of its samples are 0 to 3"),
        (-1, LookupError, "has no sample -1"),
        (True, TypeError, "must be an integer, got True"),
    ],
)
def test_wrong_index_raises_an_error_that_names_the_expected_value(tmp_path, index, kind, message):
    lines = lines_in(tmp_path)
    with pytest.raises(kind, match=message):
        lines.locate(index)


def test_dataset_locates_samples_by_their_ids(tmp_path):
    lines = lines_in(tmp_path)
    assert mpqueue.Dataset(lines).shuffle().map(str).locate(3) == lines.locate(3)
    assert mpqueue.Dataset.mix([mpqueue.Dataset.range(3), mpqueue.Dataset(lines)]).locate([1, 0]) == lines.locate(0)
    stream = mpqueue.Dataset(TarStream(write_tar(tmp_path / "a.tar", [])))
    with pytest.raises(LookupError, match="is a stream"):
        stream.locate((0, 0))
