"""TFRecord files: records by index, checksums, and files truncated or damaged at any byte."""

import gzip
import lzma
import pickle
import struct

import numpy as np
import pytest
from helpers.tfrecords import FEATURES, described, example, write_records

import mpqueue
from mpqueue import files
from mpqueue.errors import FileError
from mpqueue.files import TFRecord, tfrecord

RECORDS = [b"one", b"", b"three" * 50, bytes(range(256)) * 300, b"last"]


def written(path, records=RECORDS):
    return write_records(path, records)


@pytest.mark.parametrize("check_crc", [True, False])
def test_records_equal_the_written_ones(tmp_path, check_crc, monkeypatch):
    if not check_crc:
        monkeypatch.setattr(tfrecord, "_crc32c", None)  # google-crc32c is not needed
    written(tmp_path / "a-0.tfrecord")
    written(tmp_path / "a-1.tfrecord", [])
    written(tmp_path / "a-2.tfrecord", RECORDS[::-1])
    records = TFRecord(tmp_path / "a-*.tfrecord", check_crc=check_crc)
    assert list(records) == RECORDS + RECORDS[::-1]
    assert records.__getitems__([9, 0, 3]) == [RECORDS[0], RECORDS[0], RECORDS[3]]
    assert repr(records).startswith("TFRecord(3 files, 10 samples, ")
    assert list(pickle.loads(pickle.dumps(records))) == list(records)


@pytest.mark.slow
def test_changed_bit_anywhere_raises(tmp_path):
    whole = written(tmp_path / "a.tfrecord", RECORDS[:3]).read_bytes()
    path = tmp_path / "changed.tfrecord"
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        with pytest.raises(FileError, match=r"changed\.tfrecord, byte \d+: "):
            list(TFRecord(path))


@pytest.mark.parametrize("check_crc", [True, False])
@pytest.mark.parametrize(
    "data", [b"x" * 100, struct.pack("<QI", 1 << 62, 0), b"\xff" * 12, b"\x1f\x8b\x08" + bytes(100)]
)
def test_file_that_is_not_tfrecord_raises(tmp_path, data, check_crc):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(FileError, match=r"a, byte 0: .*(not a TFRecord file|cannot be decompressed \(gzip\))"):
        TFRecord(tmp_path / "a", check_crc=check_crc)


def test_file_truncated_in_a_checksum_reports_more_bytes_than_follow(tmp_path):
    path = written(tmp_path / "cut.tfrecord", [b"x" * 1000])
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(FileError, match=r"a record and its checksum have 1,004 bytes, but only 1,001 bytes follow"):
        TFRecord(path)


KINDS = {
    "GZIP": lambda path: write_records(path, RECORDS, "GZIP"),
    "ZLIB": lambda path: write_records(path, RECORDS, "ZLIB"),
    "xz": lambda path: (written(path), path.write_bytes(lzma.compress(path.read_bytes())))[0],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("check_crc", [True, False])
def test_compressed_files_are_read_by_index(tmp_path, kind, check_crc):
    KINDS[kind](tmp_path / "a.tfrecord")
    written(tmp_path / "b.tfrecord", [b"plain"])
    records = TFRecord(tmp_path / "?.tfrecord", check_crc=check_crc, index=tmp_path / "kept")
    assert [records[at] for at in range(5, -1, -1)] == [b"plain", *RECORDS[::-1]]
    assert list(pickle.loads(pickle.dumps(records))) == list(records)


@pytest.mark.parametrize("kind", ["GZIP", "ZLIB"])
def test_compressed_file_truncated_anywhere_raises(tmp_path, kind):
    whole = write_records(tmp_path / "a.tfrecord", RECORDS[:3], kind).read_bytes()
    path = tmp_path / "cut.tfrecord"
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(FileError, match=r"cut\.tfrecord, byte [\d,]+: .*truncated"):
            TFRecord(path, index=tmp_path / "kept")


@pytest.mark.parametrize("at", [0, 12], ids=["length", "record"])
def test_error_in_the_content_of_a_compressed_file_has_no_offset_in_the_file(tmp_path, at):
    data = bytearray(written(tmp_path / "a.tfrecord", RECORDS[:3]).read_bytes())
    position = 16 + len(RECORDS[0]) + 16 + len(RECORDS[1]) + at  # in the third record
    data[position] ^= 1
    (tmp_path / "a.tfrecord.gz").write_bytes(gzip.compress(data))
    with pytest.raises(
        FileError, match=rf"a\.tfrecord\.gz: the .* \(at byte {position:,} of the decompressed"
    ) as caught:
        list(TFRecord(tmp_path / "a.tfrecord.gz", index=tmp_path / "kept"))
    assert caught.value.offset is None


@pytest.mark.sample(1)
@pytest.mark.parametrize("check_crc", [True, False])
def test_changed_bit_of_decompressed_content_is_repaired_anywhere_in_a_record(tmp_path, check_crc, caplog):
    path = written(tmp_path / "a.tfrecord", RECORDS[:3])
    path.write_bytes(gzip.compress(path.read_bytes()))
    kept = tmp_path / "kept"
    records = TFRecord(path, check_crc=check_crc, index=kept)
    (plain,) = kept.glob("*.unpacked")
    whole = plain.read_bytes()
    for position in range(0, len(whole), 9):
        changed = bytearray(whole)
        changed[position] ^= 1 << position % 8
        plain.write_bytes(changed)
        caplog.clear()
        assert list(pickle.loads(pickle.dumps(records))) == RECORDS[:3]
        assert len(caplog.records) == (plain.read_bytes() == whole)  # no sample contains the bytes of a header


@pytest.mark.parametrize("length", [0x9C78, 0x0178, 0x088B1F])
def test_length_that_looks_like_a_compression_magic_is_a_length(tmp_path, length):
    path = written(tmp_path / "a.tfrecord", [bytes(length), b"next"])
    for check_crc in (True, False):
        records = TFRecord(path, check_crc=check_crc)
        assert [len(record) for record in records] == [length, 4]


@pytest.fixture
def examples(tmp_path):
    return written(tmp_path / "a.tfrecord", [example(number) for number in range(50)])


def test_records_are_parsed_as_examples(examples):
    """One by one, a few (read one at a time), and many (read together)."""
    records = TFRecord(examples, features=FEATURES)
    assert len(records) == 50
    seventh = records[7]
    assert set(seventh) == set(FEATURES)
    assert described(seventh)["label"] == (np.dtype("int64"), (), 7)
    assert described(seventh)["weight"] == (np.dtype("float32"), (), 7.0)
    assert records[6]["weight"] == 0.5
    assert described(seventh)["image"] == (np.dtype("float32"), (2, 2), [[7, 1], [2, 3]])
    assert seventh["name"] == b"n7\0"
    assert seventh["words"].tolist() == [b"w"]
    assert described(seventh)["boxes"] == (np.dtype("int64"), (3, 2), [[7, 7]] * 3)
    singly = [described(records[number]) for number in range(50)]
    assert [described(sample) for sample in records.__getitems__(range(50))] == singly
    assert [described(sample) for sample in records.__getitems__([3, -1, 3])] == [singly[3], singly[49], singly[3]]
    assert records.__getitems__([]) == []
    assert described(pickle.loads(pickle.dumps(records))[7]) == singly[7]


def test_sample_has_separate_memory(examples):
    samples = TFRecord(examples, features=FEATURES).__getitems__(range(50))
    assert samples[3]["image"].base is None or samples[3]["image"].base.nbytes == 16
    samples[3]["image"][:] = 0
    assert samples[4]["image"].tolist() == [[4, 1], [2, 3]]


@pytest.mark.parametrize("many", [False, True])
def test_record_that_does_not_match_the_features_raises_with_its_position(tmp_path, many):
    good = [example(number) for number in range(30)]
    path = written(tmp_path / "a.tfrecord", [*good, b"\xff nothing", b""])
    records = TFRecord(path, features=FEATURES)
    broken_at = 12 + sum(len(record) + 16 for record in good)  # after a length and its checksum
    for index, offset, message in (
        (30, broken_at, "is not a serialized Example"),
        (31, broken_at + len(b"\xff nothing") + 16, "is missing, and its FixedLenFeature has no default"),
    ):
        indices = [*range(30), index] if many else [index]
        with pytest.raises(FileError, match=rf"a\.tfrecord, byte [\d,]+: .*{message}") as caught:
            records.__getitems__(indices)
        assert caught.value.offset == offset
    labels = mpqueue.Dataset(records).map(lambda sample: sample["label"]).batch(8)
    with mpqueue.Loader(labels, workers=0, on_error="skip", max_errors=2) as loader:
        assert [label for batch in loader for label in batch.tolist()] == list(range(30))


@pytest.mark.parametrize(
    ("features", "kind", "message"),
    [
        ({}, ValueError, "must not be empty"),
        (["a"], TypeError, r"features must be a mapping of keys to features, got \['a'\]"),
        ({"a": "int64"}, ValueError, "feature 'a' must be a VarLenFeature"),
        ({"a": files.FixedLenFeature([], "int32")}, TypeError, "dtype of feature 'a' must be float32.*, got int32"),
    ],
)
def test_wrong_features_raise_when_the_source_is_created(examples, features, kind, message):
    with pytest.raises(kind, match=message):
        TFRecord(examples, features=features)
