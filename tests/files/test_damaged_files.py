"""Damaged files among others: left out, or read up to the damage, with ``on_error="skip"`` and with ``exclude``."""

import gzip
import os
import pickle
import shutil
from functools import partial

import pytest
from helpers.file_formats import comparable, rewritten, several, write_all, write_array_record, write_tar
from helpers.tfrecords import write_records

import mpqueue
from mpqueue import files
from mpqueue.errors import FileError

pytest.importorskip("pyarrow.parquet")

# The source of each format, and the names of three files: copies of one file of this format.
FORMATS = {
    "tar": (files.Tar, "{}.tar", "0.tar"),
    "tfrecord": (files.TFRecord, "{}.tfrecord", "0.tfrecord"),
    "tfrecord, compressed": (files.TFRecord, "{}.tfrecord.gz", "0.tfrecord.gz"),
    "json, compressed": (files.JSONLines, "{}.jsonl.gz", "0.jsonl.gz"),
    "parquet": (files.Parquet, "{}.parquet", "0.parquet"),
    "arrow": (files.Arrow, "{}.arrow", "0-plain.arrow"),
    "array record": (files.ArrayRecord, "{}.array_record", "0.array_record"),
    "mds": (lambda paths, **options: files.MDS(os.path.dirname(paths), **options), "shard.{}.mds", "mds/shard.0.mds"),
}
HAS_SAMPLES_BEFORE_DAMAGE = {"tar", "tfrecord"}


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = write_all(tmp_path_factory.mktemp("originals"))
    (folder / "0.tfrecord.gz").write_bytes(gzip.compress((folder / "0.tfrecord").read_bytes()))
    write_array_record(folder / "0.array_record", [b"%d" % number for number in range(100)])
    return folder


@pytest.fixture(params=FORMATS)
def three(request, originals, tmp_path):
    """Return a format, a function that creates its source of three files, and their paths."""
    make, name, original = FORMATS[request.param]
    folder = tmp_path / "data"
    folder.mkdir()
    paths = [folder / name.format(number) for number in range(3)]
    for path in paths:
        shutil.copy(originals / original, path)
    if request.param == "mds":
        text = (originals / "mds" / "index.json").read_text()
        shards = text[text.index("[{") + 1 : text.rindex("]")]
        second = shards[shards.index(', {"format') :]
        (folder / "index.json").write_text(text.replace(shards, shards + second.replace("shard.1", "shard.2")))
    return request.param, partial(make, str(folder / name.format("*"))), paths


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def read(source):
    return [comparable(sample) for sample in several(source, range(len(source)))]


def test_damaged_file_is_left_out_or_read_up_to_the_damage_until_its_repair(three, caplog):
    form, make, (first, second, third) = three
    wanted, whole = read(make(exclude=second.name)), second.read_bytes()
    assert len(wanted) % 2 == 0
    cut(second)
    with pytest.raises(FileError) as caught:
        make()
    assert caught.value.path == str(second) and "on_error='skip'" in caught.value.what
    caplog.clear()
    source = make(on_error="skip")
    samples, half = read(source), len(wanted) // 2
    assert samples[:half] == samples[-half:] == wanted[:half]
    before_damage = samples[half:-half]
    assert before_damage == wanted[: len(before_damage)]
    assert (len(before_damage) > 0) == (form in HAS_SAMPLES_BEFORE_DAMAGE)
    (error,) = source.file_errors
    assert str(second) in error and [error in record.getMessage() for record in caplog.records] == [True]
    for index, path in ((0, first), (len(source) - 1, third)):
        assert source.locate(index).path == str(path)
    again = pickle.loads(pickle.dumps(source))
    assert (read(again), again.file_errors) == (samples, [error])
    # From the stored index, with the same warning.
    caplog.clear()
    assert read(make(on_error="skip")) == samples
    assert [error in record.getMessage() for record in caplog.records] == [True]
    second.write_bytes(whole)
    repaired = make(on_error="skip")
    assert (read(repaired), repaired.file_errors) == (wanted[:half] * 3, [])


def test_first_and_last_file_may_be_damaged_but_not_all(three):
    form, make, paths = three
    wanted = read(make(exclude=[path.name for path in paths[1:]]))
    cut(paths[0])
    cut(paths[2])
    source = make(on_error="skip")
    at = [number for number in range(len(source)) if source.locate(number).path == str(paths[1])]
    assert [comparable(sample) for sample in several(source, at)] == wanted
    assert len(source.file_errors) == 2
    for path in paths:
        path.write_bytes(b"not of this format" * (form not in HAS_SAMPLES_BEFORE_DAMAGE))
    if form in ("tfrecord", "json, compressed", "tfrecord, compressed"):
        for path in paths:
            path.write_bytes(gzip.compress(b"1\n" * 1000)[:-9])
    with pytest.raises(FileError) as caught:
        make(on_error="skip")
    assert caught.value.path == str(paths[0])


def test_left_out_file_repaired_with_its_size_and_time_is_read(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.jsonl.gz").write_bytes(gzip.compress(b"1\n"))
    whole = (tmp_path / "b.jsonl.gz").read_bytes()
    (tmp_path / "b.jsonl.gz").write_bytes(whole[:-8] + bytes(8))
    make = partial(files.JSONLines, tmp_path / "*.gz", on_error="skip")
    assert len(make()) == 1
    rewritten(tmp_path / "b.jsonl.gz", whole)
    assert len(make()) == 2


def test_copy_of_a_source_is_valid_after_a_left_out_file_gets_another_mode(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.jsonl.gz").write_bytes(gzip.compress(b"1\n"))
    cut(tmp_path / "a.jsonl.gz")
    make = partial(files.JSONLines, tmp_path / "*.gz", on_error="skip")
    copy = pickle.dumps(make())
    (tmp_path / "a.jsonl.gz").chmod(0o600)
    make()  # creates the index again
    assert list(pickle.loads(copy)) == [1]


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_resumes_after_a_left_out_file_with_another_number_of_workers(three, workers):
    _, make, (_, second, _) = three
    cut(second)

    def loader(workers):
        source = make(on_error="skip")
        return mpqueue.Loader(source, batch_size=16, shuffle=True, seed=1, workers=workers, collate=list)

    with loader(1) as whole:
        wanted = [list(map(comparable, batch)) for batch in whole]
        assert len(whole) == len(wanted)
    with loader(2 - workers) as begun:
        batches = iter(begun)
        found = [list(map(comparable, next(batches))) for _ in range(2)]
        state = begun.state_dict()
    with loader(workers) as resumed:
        resumed.load_state_dict(state)
        found += [list(map(comparable, batch)) for batch in resumed]
    assert found == wanted


def test_state_of_shuffled_samples_with_a_left_out_file_is_refused_after_its_repair(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.jsonl.gz").write_bytes(gzip.compress(b"1\n" * 50))
    whole = (tmp_path / "a.jsonl.gz").read_bytes()
    cut(tmp_path / "a.jsonl.gz")

    def loader():
        lines = files.JSONLines(tmp_path / "*.gz", on_error="skip")
        return mpqueue.Loader(lines, batch_size=8, workers=0, shuffle=True)

    state = loader().state_dict()
    (tmp_path / "a.jsonl.gz").write_bytes(whole)
    with pytest.raises(ValueError, match=r"length 50.*length 100"):
        loader().load_state_dict(state)


def test_record_damaged_inside_a_compressed_file_is_located_in_its_content(tmp_path):
    write_records(tmp_path / "a", [b"one" * 100, b"two" * 100])
    (tmp_path / "a.gz").write_bytes(gzip.compress((tmp_path / "a").read_bytes()[:-10]))
    source = files.TFRecord(tmp_path / "a.gz", on_error="skip")
    assert read(source) == [b"one" * 100]
    (error,) = source.file_errors
    assert error.startswith(f"{tmp_path}/a.gz: ") and "at byte 316 of the decompressed content" in error


@pytest.mark.parametrize("make", [files.Tar, files.TarStream, files.JSONLines, files.TFRecord, files.Parquet])
def test_unknown_on_error_raises(tmp_path, make):
    write_tar(tmp_path / "a", [("a.txt", b"")])
    with pytest.raises(ValueError, match=r"on_error must be 'raise' or 'skip', got 'ignore'"):
        make(tmp_path / "a", on_error="ignore")


# Exclusion


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        (None, "abc"), ([], "abc"), ("b.tar", "ac"), ("[ab].tar", "c"), ("{a,c}.tar", "b"), (["a*", b"b.tar"], "c"),
        ("data/b.tar", "ac"), ("ata/b.tar", "abc"), ("/data/*", "abc"), ("?.TAR", "abc"),
    ],
)  # fmt: skip
def test_files_that_match_a_pattern_are_left_out(tmp_path, exclude, left):
    (tmp_path / "data").mkdir()
    for name in "abc":
        write_tar(tmp_path / "data" / f"{name}.tar", [(f"{name}.txt", b"")])
    options = {} if exclude is None else {"exclude": exclude}
    for source in (files.Tar, files.TarStream):
        samples = source(tmp_path / "data" / "*.tar", **options)
        assert "".join(sample["__key__"] for sample in samples) == left


def test_path_of_a_file_with_special_characters_is_left_out(tmp_path):
    for name in ("a[1].tar", "a1.tar"):
        write_tar(tmp_path / name, [(name, b"")])
    for path in (tmp_path / "a[1].tar", "a[1].tar"):
        (sample,) = files.Tar(tmp_path / "*.tar", exclude=["*.gz", path])
        assert sample["__key__"] == "a1"


def test_images_and_shards_are_left_out(originals):
    images = files.Images(originals / "photos", exclude="1.jpg")
    assert [image["path"][-5:] for image in map(images.__getitem__, range(len(images)))] == ["0.jpg", "2.jpg"] * 2
    assert files.Images(originals / "photos", exclude="class0/*").classes == ["class1"]
    assert len(files.MDS(originals / "mds", exclude="shard.1.mds")) == 20


@pytest.mark.parametrize(
    ("exclude", "kind", "words"),
    [
        ("*", FileNotFoundError, r"leaves out all 2 files, such as .*0\.tar"),
        (1, TypeError, "exclude must be a pattern or a list of patterns, got int"),
        ([1], TypeError, "a pattern of exclude must be a str or an os.PathLike, got int"),
        ("", ValueError, "a pattern of exclude must not be empty or contain a null byte, got ''"),
        ("{a", ValueError, "braces must match"),
    ],
)
def test_invalid_exclusion_raises(originals, exclude, kind, words):
    for make in (partial(files.Tar, originals / "*.tar"), partial(files.TarStream, originals / "*.tar")):
        with pytest.raises(kind, match=words):
            make(exclude=exclude)


def test_truncated_file_is_named_whatever_its_length(three, tmp_path, caplog):
    """Also an empty file, which is valid as JSON lines and TFRecord. Lines and records before a truncation may be read."""
    name, make, paths = three
    whole = len(make(index=tmp_path / "index"))
    for length in (3, 1, 0):
        os.truncate(paths[1], length)
        caplog.clear()
        source = make(index=tmp_path / "index", on_error="skip")
        assert whole * 2 // 3 <= len(source) < whole
        if name == "json, compressed" and length == 1:  # text: the error is the error of the line
            with pytest.raises(FileError, match=paths[1].name):
                list(source)
            continue
        assert len(source.file_errors) == 1 and str(paths[1]) in source.file_errors[0]
        assert [str(paths[1]) in record.getMessage() for record in caplog.records] == [True]
