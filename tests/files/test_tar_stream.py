"""Compressed tar archives: read sequentially by virtual shards, rejected by index."""

import gzip
import io
import itertools
import json
import os
import shutil
import subprocess
import tarfile

import pytest
from helpers.file_formats import write_tar
from helpers.loader_runs import batches_of

import mpqueue
from mpqueue.errors import FileError
from mpqueue.files import Tar, TarStream

ENDINGS = {".tar.gz": "gz", ".tgz": "gz", ".tar.bz2": "bz2", ".tar.xz": "xz", ".tar.zst": "zst", ".tar": ""}


def archive(path, number=6, first=0, size=1500):
    """Write an archive of samples with two members each; the suffix determines the compression."""
    kind = next(kind for ending, kind in ENDINGS.items() if path.name.endswith(ending))
    members = []
    for at in range(first, first + number):
        members += [(f"s/{at:03d}.BIN", os.urandom(size)), (f"s/{at:03d}.cls", b"%d" % at)]
    write_tar(path, [*members, ("README", b"")], f"w:{'' if kind == 'zst' else kind}")
    if kind == "zst":
        path.write_bytes(pytest.importorskip("zstandard").ZstdCompressor().compress(path.read_bytes()))
    return path


@pytest.fixture
def shards(tmp_path):
    """Create five archives with 30 samples in total."""
    for number in range(5):
        archive(tmp_path / f"a-{number}.tar.gz", 6, 6 * number)
    return str(tmp_path / "a-{0..4}.tar.gz")


def labels(samples):
    return [int(sample["cls"]) for sample in samples]


@pytest.mark.parametrize("ending", ENDINGS)
def test_samples_of_a_compressed_archive_equal_those_of_the_decompressed_one(tmp_path, ending):
    path = archive(tmp_path / f"a{ending}")
    with tarfile.open(path) if ending != ".tar.zst" else opened_zst(path) as file:
        expected = {info.name: file.extractfile(info).read() for info in file}
    samples = list(TarStream(path))
    assert [sample["__key__"] for sample in samples] == [f"s/{at:03d}" for at in range(6)]
    for sample in samples:
        assert sample["bin"] == expected[f"{sample['__key__']}.BIN"]
        assert sample["cls"] == expected[f"{sample['__key__']}.cls"]


def opened_zst(path):
    zstandard = pytest.importorskip("zstandard")
    return tarfile.open(fileobj=io.BytesIO(zstandard.ZstdDecompressor().decompress(path.read_bytes())))


@pytest.mark.parametrize("size", [0, 1500], ids=["small", "large"])
@pytest.mark.parametrize(
    ("ending", "kind", "command"),
    [
        (".tar.gz", "gzip", "gunzip -k"),
        (".tgz", "gzip", "gunzip -k"),
        (".tar.bz2", "bzip2", "bunzip2 -k"),
        (".tar.xz", "xz", "unxz -k"),
        (".tar.zst", "zstd", "unzstd"),
    ],
)
def test_index_access_names_the_compression_and_the_command(tmp_path, ending, kind, command, size):
    path = archive(tmp_path / f"a b{ending}", 1, size=size)
    for on_error in ("raise", "skip"):
        with pytest.raises(FileError, match=rf"compressed \({kind}\).*`{command} 'a b{ending}'`.*TarStream"):
            Tar(path, on_error=on_error)
    if shutil.which(command.split()[0]):
        subprocess.run(f"{command} 'a b{ending}'", shell=True, check=True, cwd=tmp_path)
        assert labels(Tar(tmp_path / "a b.tar")) == [0]


def test_each_virtual_shard_reads_whole_archives(shards):
    stream = mpqueue.Dataset(TarStream(shards)).map(lambda sample: int(sample["cls"])).batch(6)
    found = batches_of(stream, workers=2, lanes=4, seed=1)
    # Shard 0 has the archives 0 and 4, and each of the others has one.
    assert found == [list(range(6 * at, 6 * at + 6)) for at in range(5)]
    assert batches_of(stream, workers=0, lanes=4) == found


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_loader_accepts_the_stream_itself(shards, workers):
    """With the same batches as a dataset of the stream, for any number of workers."""
    stream = TarStream(shards)
    with mpqueue.Loader(mpqueue.Dataset(stream), batch_size=4, workers=0) as loader:
        expected = [batch["cls"] for batch in loader]
    with mpqueue.Loader(stream, batch_size=4, workers=workers) as loader:
        assert [batch["cls"] for batch in loader] == expected


def test_iterator_saves_and_restores_its_position(shards):
    iterator = iter(TarStream(shards))
    seen = labels(itertools.islice(iterator, 8))
    again = iter(TarStream(shards))
    again.load_state_dict(json.loads(json.dumps(iterator.state_dict())))
    assert seen + labels(again) == list(range(30))
    assert labels(iterator) == list(range(8, 30))


@pytest.mark.parametrize("ending", [".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar"])
def test_truncated_archive_raises_after_complete_samples(tmp_path, ending, caplog):
    path, other = archive(tmp_path / f"a{ending}"), archive(tmp_path / f"b{ending}", 2, 6)
    whole = path.read_bytes()
    data = len(whole.rstrip(b"\0")) if ending == ".tar" else len(whole)
    numbers = set()
    for length in range(1, data, data // 40):
        path.write_bytes(whole[:length])
        found = []
        with pytest.raises(FileError) as caught:
            found.extend(iter(TarStream([path, other])))
        assert caught.value.path == str(path)
        expected = labels(found)
        assert expected == list(range(len(expected)))
        numbers.add(len(expected))
        caplog.clear()
        assert labels(TarStream([path, other], on_error="skip")) == [*expected, 6, 7]
        assert [str(path) in record.getMessage() for record in caplog.records] == [True]
    assert numbers >= {0, 1, 2, 3, 4, 5} or ending not in (".tar.gz", ".tar")


def test_after_an_error_the_next_archive_is_read(shards, tmp_path):
    (tmp_path / "a-1.tar.gz").write_bytes(gzip.compress(b"no archive" * 200))
    os.unlink(tmp_path / "a-3.tar.gz")
    stream = TarStream(str(tmp_path / "a-*.tar.gz"))
    dataset = mpqueue.Dataset(stream).map(lambda sample: int(sample["cls"])).batch(2)
    with mpqueue.Loader(dataset, workers=0, lanes=2, on_error="skip", max_errors=5) as loader:
        found = [label for batch in loader for label in batch.tolist()]
    assert sorted(found) == [*range(6), *range(12, 18), *range(24, 30)]


def test_wrong_checksum_of_the_content_raises(tmp_path):
    path = archive(tmp_path / "a.tar.gz")
    data = bytearray(path.read_bytes())
    data[-8] ^= 1
    path.write_bytes(data)
    with pytest.raises(FileError, match=r"a\.tar\.gz, byte .*incorrect data check"):
        list(TarStream(path))


@pytest.mark.parametrize("is_remote", [False, True])
def test_local_or_remote_archive_is_read_until_it_changes(tmp_path, memory, is_remote):
    def written(number):
        path = archive(tmp_path / "a.tar.gz", number)
        memory.pipe("/stream/a.tar.gz", path.read_bytes())
        return "memory://stream/a.tar.gz" if is_remote else path

    stream = TarStream(written(6))
    assert labels(stream) == list(range(6))
    written(7)
    with pytest.raises(FileError, match="it has changed since it was indexed"):
        next(iter(stream))


def test_duplicate_member_of_a_sample_raises(tmp_path):
    write_tar(tmp_path / "a.tar.gz", [("a.x", b""), ("a.X", b"")], "w:gz")
    with pytest.raises(FileError, match=r"a sample has two members 'a\.X'.*byte 1,024 of the decompressed content"):
        list(TarStream(tmp_path / "a.tar.gz"))


def test_cache_has_a_new_key_when_an_archive_changes(tmp_path):
    path = archive(tmp_path / "a.tar.gz")
    before = TarStream(path).fingerprint()
    assert TarStream(path).fingerprint() == before
    archive(path, 7)
    assert TarStream(path).fingerprint() != before


def test_reads_that_return_fewer_bytes_are_continued(tmp_path, monkeypatch):
    """As of a member of more than 2 GB."""
    path, pread = archive(tmp_path / "a.tar"), os.pread
    monkeypatch.setattr(os, "pread", lambda fd, length, offset: pread(fd, min(length, 1000), offset))
    assert labels(TarStream(path)) == list(range(6))
