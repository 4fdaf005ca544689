"""Promises of every format: copies, forks, threads, loaders, partial reads, and indices out of range."""

import contextlib
import gzip
import os
import pickle
import random
import sys
from functools import partial

import numpy as np
import pytest
from helpers.concurrent_calls import in_threads
from helpers.file_formats import SOURCES, comparable, rewritten, several, write_all, write_array_record, write_tar
from helpers.finalizers import calls_of_python_in
from helpers.injected_exceptions import Struck, each_strike
from helpers.table_files import answer_of_child

import mpqueue
from mpqueue import files
from mpqueue.errors import FileError
from mpqueue.files import tfrecord
from mpqueue.files.sources.groups import GroupedFiles

pytest.importorskip("pyarrow.parquet")


def array_records(root):
    return files.ArrayRecord(write_array_record(f"{root}/a.array_record", [b"%d" % number for number in range(100)]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("formats"))


@pytest.fixture(params=[*SOURCES, "array record"])
def make(request, folder):
    """Return a function that creates the source; it belongs to the test, which finally closes its files."""
    return lambda: SOURCES.get(request.param, array_records)(folder)


def read(source, indices):
    return [comparable(sample) for sample in several(source, indices)]


def test_pickle_is_small_and_its_copy_reads(make):
    source = make()
    wanted = read(source, [0, len(source) - 1])
    data = pickle.dumps(source)
    assert len(data) < 2000
    assert read(pickle.loads(data), [0, -1]) == wanted


def test_deallocation_closes_files_without_python_code(make):
    """A signal handler that raises in Python code of a deallocation would be ignored, and leak the descriptor."""
    before = os.listdir("/proc/self/fd")
    sources = [make()]
    several(sources[0], [0, len(sources[0]) - 1])
    assert calls_of_python_in(sources.clear) == []
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_file_rewritten_in_place_with_its_size_and_time_never_returns_new_bytes(make):
    """Rows and contents that a process keeps in memory, or in the folder of the index, remain the old ones."""
    source = make()
    wanted, path = read(source, [0, 1]), source.locate(0).path
    with open(path, "rb") as file:
        whole = file.read()
    start, stop = source.locate(0).start or 0, source.locate(0).stop or len(whole)
    rewritten(path, whole[:start] + bytes(stop - start) + whole[stop:])
    if isinstance(source, files.Images):  # it has no index of the bytes
        wanted = [{**wanted[0], "image": bytes(len(whole))}, wanted[1]]
    has_kept = isinstance(source, files.Images) or path.endswith(".gz")
    is_table = isinstance(source, files.Parquet | files.Arrow)
    for copy, may_return in ((source, has_kept or is_table), (pickle.loads(pickle.dumps(source)), has_kept)):
        if may_return:
            assert read(copy, [0, 1]) == wanted
        else:
            with pytest.raises(FileError, match=r"has changed since it was indexed.*its ctime differs"):
                read(copy, [0, 1])
    rewritten(path, whole)


@pytest.mark.parametrize("size", [1, 7, 40, "group"])
def test_blocks_have_the_samples_of_their_indices(make, size):
    source = make()
    if not hasattr(source, "get_blocks"):
        assert not isinstance(source, GroupedFiles)
        return
    sizes = source.group_sizes().tolist() if size == "group" else [size] * (len(source) // size)
    ends = np.cumsum(sizes).tolist()
    blocks = [range(end - size, end) for end, size in zip(ends, sizes, strict=True)][::-2]  # also of two groups
    rows = source.get_blocks(blocks)
    indices = [index for block in blocks for index in block]
    assert len(rows) == len(indices)
    positions = random.Random(1).choices(range(len(indices)), k=60)
    assert [*map(comparable, rows[positions])] == read(source, [indices[position] for position in positions])
    assert len(source.get_blocks([])) == 0
    if isinstance(source, files.Parquet | files.Arrow):
        with pytest.raises(LookupError):
            rows[[len(indices)]]


@pytest.mark.parametrize("name", ["0.tar", "0.tar.gz"])
def test_unfinished_stream_raises_if_its_file_is_rewritten_in_place(tmp_path, name):
    write_tar(tmp_path / name, [(f"{i}.txt", b"old") for i in range(3)], "w:gz" if "gz" in name else "w")
    samples = iter(files.TarStream(tmp_path / name))
    assert next(samples)["txt"] == b"old"
    rewritten(tmp_path / name, (tmp_path / name).read_bytes())
    with pytest.raises(FileError, match="its ctime differs"):
        next(samples)


@pytest.mark.parametrize("name", ["0.tar", "0.tar.gz"])
def test_deallocation_of_an_unfinished_stream_closes_its_file_without_python_code(folder, name):
    (folder / "0.tar.gz").write_bytes(gzip.compress((folder / "0.tar").read_bytes()))
    before = os.listdir("/proc/self/fd")
    samples = [iter(files.TarStream(folder / name))]
    next(samples[0])
    assert calls_of_python_in(samples.clear) == []
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_interrupted_read_leaks_no_descriptor(make):
    before = os.listdir("/proc/self/fd")
    wanted = read(make(), [0])
    for _, strike in each_strike(7, least=5):
        source = make()
        with contextlib.suppress(Struck), strike:
            read(source, [0])
        assert read(source, [0]) == wanted
        del source
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_child_forked_after_use_reads(make):
    source = make()
    wanted = read(source, [1, len(source) - 2])
    assert answer_of_child(lambda: read(source, [1, -2])) == repr(wanted)
    assert read(source, [1, -2]) == wanted


def test_threads_read_concurrently(make):
    source = make()
    wanted = read(source, range(len(source)))

    def read_blocks(seed):
        dice = random.Random(seed)
        for _ in range(10):
            chosen = [dice.randrange(len(wanted)) for _ in range(8)]
            assert read(source, chosen) == [wanted[index] for index in chosen]

    in_threads(*(partial(read_blocks, seed) for seed in range(4)))


def test_reads_that_return_fewer_bytes_are_continued(make, tmp_path, monkeypatch):
    """Linux returns at most 2 GB per read, also of an index that is created."""
    source = make()
    wanted, pread = read(source, range(len(source))), os.pread
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "pread", lambda fd, length, offset: pread(fd, min(length, 100), offset))
    assert read(make(), range(len(source))) == wanted


def test_index_out_of_range_raises_index_error(make):
    source = make()
    for index in (len(source), -len(source) - 1):
        with pytest.raises(IndexError, match=f"index {index} is out of range"):
            source[index]


def test_loader_with_a_worker_returns_each_sample_once_in_the_same_order(make):
    source = make()

    def samples(workers):
        with mpqueue.Loader(source, batch_size=16, shuffle=True, workers=workers, seed=1, collate=list) as loader:
            return [comparable(sample) for batch in loader for sample in batch]

    found, wanted = samples(1), read(source, range(len(source)))
    assert found == samples(0) != wanted
    assert sorted(map(repr, found)) == sorted(map(repr, wanted))


@pytest.mark.parametrize(
    ("library", "make"),
    [
        ("array_record", lambda root: files.ArrayRecord(f"{root}/0.tar")),
        ("pyarrow", lambda root: files.Parquet(f"{root}/0.parquet")),
        ("pyarrow", lambda root: files.Arrow(f"{root}/0-plain.arrow")),
        ("google_crc32c", lambda root: files.TFRecord(f"{root}/0.tfrecord")),
        ("zstandard", lambda _: files.MDS(f"{os.path.dirname(__file__)}/mosaicml/zstd")),
        ("PIL", lambda root: files.Images(f"{root}/photos", decode=True)),
    ],
)
def test_error_without_a_library_names_the_extra(folder, library, make, monkeypatch):
    monkeypatch.setattr(tfrecord, "crc32c", tfrecord.crc32c.__wrapped__)  # which stores the library's function
    for module in [library, *(name for name in sys.modules if name.startswith(f"{library}."))]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r'pip install "mpqueue\[files\]"'):
        make(folder)
