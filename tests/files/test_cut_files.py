"""Files truncated at any byte, before they are indexed and while they are read: an error, or complete samples."""

import os
import shutil
import tarfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers.file_formats import write_array_record, write_tar
from helpers.file_parts import JSON_SCAN, TFRECORD_SCAN
from helpers.sweeps import step_of
from helpers.table_files import plain, write_arrow, write_parquet
from helpers.tfrecords import write_records

from mpqueue import files
from mpqueue.errors import FileError
from mpqueue.files import array_record, mds
from mpqueue.files.arrow import arrow, parquet
from mpqueue.files.tar import tar

pytestmark = pytest.mark.sample(2)

NUMBERS = range(12)
TEXTS = [f"t{i}" * (i % 3) for i in NUMBERS]


def a_tar(form):
    def write(path):
        names = [f"{number}{'x' * 120}.{suffix}" for number in NUMBERS[:2] for suffix in ("txt", "cls")]
        write_tar(path, [(name, name[:1].encode() * 600) for name in names], format=form)
        os.truncate(path, len(path.read_bytes().rstrip(b"\0")) + 1024)  # the following zeros are tape padding

    return write


def a_tfrecord(path):
    write_records(path, [text.encode() for text in TEXTS])


def lines(path):
    path.write_text("".join(f'{{"text": "{text}"}}\n' for text in TEXTS))


def a_table():
    pa = pytest.importorskip("pyarrow")
    tokens = pa.array([list(range(i)) for i in NUMBERS], pa.list_(pa.int32()))
    return pa.table({"number": NUMBERS, "text": TEXTS, "tokens": tokens})


def an_arrow(form, compression=None):
    return lambda path: write_arrow(path, a_table(), form=form, compression=compression, rows=5)


def a_parquet(path):
    write_parquet(path, a_table(), rows=5)


def a_shard(path):
    shutil.copytree(Path(__file__).parent / "mosaicml" / "plain", path.parent, dirs_exist_ok=True)


def an_array_record(path):
    write_array_record(path, [text.encode() for text in TEXTS])


# By format: a function that writes a file; its name; a scan; a function that creates a source.
FORMS = {
    "tar gnu": (a_tar(tarfile.GNU_FORMAT), "a.tar", tar.scan, files.Tar),
    "tar pax": (a_tar(tarfile.PAX_FORMAT), "a.tar", tar.scan, files.Tar),
    "tfrecord": (a_tfrecord, "a.tfrecord", TFRECORD_SCAN, files.TFRecord),
    "json lines": (lines, "a.jsonl", JSON_SCAN, files.JSONLines),
    "arrow file": (an_arrow("file"), "a.arrow", arrow.scan, files.Arrow),
    "arrow stream": (an_arrow("stream"), "a.arrow", arrow.scan, files.Arrow),
    "arrow compressed": (an_arrow("stream", "zstd"), "a.arrow", arrow.scan, files.Arrow),
    "parquet": (a_parquet, "a.parquet", parquet.scan, files.Parquet),
    "mds": (a_shard, "shard.00000.mds", mds.scan, lambda path, index: files.MDS(path.parent, index=index)),
    "array record": (an_array_record, "a.array_record", partial(array_record.scan, folder=""), files.ArrayRecord),
}


@pytest.fixture
def index(tmp_path):
    return tmp_path / "index"


def as_text(samples):
    return [repr(plain(sample)) for sample in samples]


def lengths_of(form, size):
    """Return every length; for a file that is padded to 128 kB, every length near the end, and some others."""
    return [*range(size - 1, size - 3000, -1), *range(0, size, 97)] if form == "array record" else range(size)[::-1]


def names(error, path, size):
    """Return whether an error names a file and a position in it."""
    assert error.path == str(path)
    assert error.offset is None or 0 <= error.offset <= size
    return True


@pytest.mark.sample(3)
@pytest.mark.parametrize("form", FORMS)
def test_file_truncated_at_any_byte_raises_or_has_complete_samples(tmp_path, index, form):
    """If the file ends after a record, its truncation is not detectable, and the remaining records are read."""
    write, name, scan, source = FORMS[form]
    path = tmp_path / name
    write(path)
    wanted = as_text(source(path, index=index))
    whole = path.read_bytes()
    num_errors, num_late, read, seen = 0, 0, set(), set()
    for length in lengths_of(form, len(whole))[:: step_of(1)]:
        path.write_bytes(whole[:length]) if path.stat().st_size < length else os.truncate(path, length)
        try:
            found = scan(str(path))
        except FileError as error:
            num_errors += names(error, path, len(whole))
            continue
        positions = tuple(array.tobytes() for array in found.values())
        if positions in seen:
            continue
        seen.add(positions)
        samples = source(path, index=index)
        try:
            assert as_text(samples) == wanted[: len(samples)]
            read.add(len(samples))
        except FileError as error:  # the last line is parsed when it is read
            num_late += names(error, path, len(whole))
    assert (num_errors > 0) == (form != "json lines")
    assert (num_late > 0) == (form == "json lines")
    prefixes = set(range(13))
    assert read <= {
        "tar gnu": {2}, "tar pax": {2}, "tfrecord": prefixes, "json lines": prefixes, "arrow stream": {0, 5, 10, 12},
        "arrow compressed": {0, 5, 10, 12},
    }.get(form, set())  # fmt: skip


def test_index_of_shards_truncated_at_any_byte_raises(tmp_path, index):
    a_shard(tmp_path / "shard.00000.mds")
    path = tmp_path / "index.json"
    for length in range(len(path.read_bytes().rstrip()) - 1, -1, -1):
        os.truncate(path, length)
        with pytest.raises(FileError, match=r"index\.json"):
            files.MDS(tmp_path, index=index)


def test_image_truncated_at_any_byte_raises_an_error_with_its_name(tmp_path, index):
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "photos" / "a" / "1.jpg"
    path.parent.mkdir(parents=True)
    image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(path)
    images = files.Images(tmp_path / "photos", decode=True, index=index)
    assert images[0]["image"].shape == (8, 8, 3)
    for length in range(path.stat().st_size - 3, -1, -1):  # an image without the end marker is complete
        os.truncate(path, length)
        with pytest.raises(FileError, match=r"1\.jpg: it cannot be decoded"):
            images[0]


@pytest.mark.parametrize("form", [form for form in FORMS if form != "array record"])
@pytest.mark.parametrize("left", [0, 0.5], ids=["empty", "half"])
def test_file_that_shrinks_during_a_read_raises(tmp_path, index, form, left, monkeypatch):
    """With a memory-mapped file, SIGBUS would kill the process."""
    write, name, _, source = FORMS[form]
    path = tmp_path / name
    write(path)
    samples = source(path, index=index)
    size, read = path.stat().st_size, os.pread

    def shrink_and_read(fd, *rest):
        os.truncate(path, int(size * left))
        return read(fd, *rest)

    monkeypatch.setattr(os, "pread", shrink_and_read)
    with pytest.raises(FileError, match="has changed since it was indexed"):
        samples[0]


def test_array_record_that_shrinks_raises(tmp_path, index):
    """The library for this format does not map the file, either."""
    path = tmp_path / "a.array_record"
    an_array_record(path)
    samples = files.ArrayRecord(path, index=index)
    assert samples[3] == TEXTS[3].encode()
    os.truncate(path, 100)
    for number in range(len(samples)):
        with pytest.raises(FileError, match="has changed since it was indexed"):
            samples[number]
