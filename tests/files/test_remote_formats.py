"""Each format behind URLs returns the same samples as from local files."""

import gc
import io
import json
import pickle
import struct
import tarfile

import fsspec
import fsspec.asyn
import pytest
from helpers.range_server import range_server
from helpers.tabular import plain, table
from helpers.tfrecords import write_records

import mpqueue
from mpqueue import files
from mpqueue.errors import FileError
from mpqueue.files import fetched, ranges, urls

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
fsspec.asyn.get_loop()  # its thread remains for the life of the process


pytestmark = pytest.mark.usefixtures("own_file_systems")


@pytest.fixture
def folder(tmp_path):
    """Create two files, or a folder, of each format."""
    content = table(300)
    for number in range(2):
        part = content.slice(number * 150, 150)
        with tarfile.open(tmp_path / f"{number}.tar", "w") as archive:
            for i in range(100):
                for suffix, data in (("txt", b"%d %d" % (number, i) * 300), ("cls", b"%d" % i)):
                    member = tarfile.TarInfo(f"{number}-{i:03d}.{suffix}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
        write_records(tmp_path / f"{number}.tfrecord", [b"%d" % i * 100 for i in range(100)])
        (tmp_path / f"{number}.jsonl").write_text(
            "".join(f'{{"n": {i}, "x": "{"é" * i}"}}\r\n\r\n' for i in range(100))
        )
        pq.write_table(part, str(tmp_path / f"{number}.parquet"), row_group_size=40)
        for name, compression in (("plain", None), ("zstd", "zstd")):
            with pa.ipc.new_file(
                str(tmp_path / f"{number}-{name}.arrow"),
                part.schema,
                options=pa.ipc.IpcWriteOptions(compression=compression),
            ) as file:
                file.write_table(part, max_chunksize=40)
        for i in range(3):
            image = tmp_path / "photos" / f"class{number}" / "deep" / f"{i}.jpg"
            image.parent.mkdir(parents=True, exist_ok=True)
            image.write_bytes(b"%d %d" % (number, i))
    write_mds(tmp_path / "mds")
    return tmp_path


def write_mds(folder):
    folder.mkdir()
    shards = []
    for number in range(2):
        samples = [struct.pack("<Iq", 3 + i, i) + b"x" * (3 + i) for i in range(20)]
        start = 4 + 4 * 21
        places = [start + sum(map(len, samples[:i])) for i in range(21)]
        data = struct.pack(f"<I{21}I", 20, *places) + b"".join(samples)
        (folder / f"shard.{number}.mds").write_bytes(data)
        shards.append(
            {"format": "mds", "column_names": ["b", "i"], "column_encodings": ["bytes", "int64"], "column_sizes": [None, 8],
             "raw_data": {"basename": f"shard.{number}.mds", "bytes": len(data)}, "zip_data": None, "samples": 20}
        )  # fmt: skip

    (folder / "index.json").write_text(json.dumps({"version": 2, "shards": shards}))


MAKERS = {
    "tar": lambda root: files.Tar(f"{root}/{{0..1}}.tar"),
    "tfrecord": lambda root: files.TFRecord(f"{root}/{{0..1}}.tfrecord"),
    "json": lambda root: files.JSONLines([f"{root}/0.jsonl", f"{root}/1.jsonl"]),
    "parquet": lambda root: files.Parquet(f"{root}/{{0,1}}.parquet", ["tokens", "struct", "int"]),
    "arrow": lambda root: files.Arrow(f"{root}/{{0..1}}-plain.arrow", ["text", "matrix", "int"]),
    "arrow, compressed": lambda root: files.Arrow(f"{root}/{{0..1}}-zstd.arrow"),
    "mds": lambda root: files.MDS(f"{root}/mds"),
    "images": lambda root: files.Images(f"{root}/photos"),
}


def without_paths(sample):
    return plain({k: v for k, v in sample.items() if k != "path"} if isinstance(sample, dict) else sample)


def several(source, indices):
    if hasattr(source, "__getitems__"):
        return source.__getitems__(indices)
    return [source[i] for i in indices]


@pytest.mark.parametrize("where", ["http", "memory"])
@pytest.mark.parametrize("format", MAKERS)
def test_samples_equal_those_of_local_files(folder, format, where):
    local = MAKERS[format](folder)
    names = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    indices = [*range(len(local) - 1, -1, -7), 0, 0, -1]
    wanted = [without_paths(sample) for sample in several(local, indices)]
    memory = fsspec.filesystem("memory")
    with range_server() as web:
        web.files = names
        memory.pipe({f"/d/{name}": data for name, data in names.items()})
        try:
            source = MAKERS[format]("memory://d" if where == "memory" else web.url("").rstrip("/"))
            assert len(source) == len(local)
            for copy in (source, pickle.loads(pickle.dumps(source))):
                web.faults += ["busy", None, "cut"]
                assert [without_paths(sample) for sample in several(copy, indices)] == wanted
        finally:
            memory.store.clear()
            memory.pseudo_dirs[:] = [""]
            urls._systems = urls._Systems()
            gc.collect()


def test_unselected_columns_are_not_requested(folder):
    with range_server() as web:
        web.files["0.parquet"] = (folder / "0.parquet").read_bytes()
        source = files.Parquet(web.url("0.parquet"), ["int"])
        source[0]
        web.requests.clear()
        source[50]
        assert len(web.requests) == 1
        first, last = map(int, web.requests[0][1].removeprefix("bytes=").split("-"))
        assert last - first < 1000
        urls._systems = urls._Systems()
        gc.collect()


def test_remote_file_that_changes_while_being_indexed_raises(folder):
    with range_server() as web:
        data = (folder / "0.tar").read_bytes()
        web.files["0.tar"] = data
        real = ranges.RangedFile.read

        def change(file, offset, length):
            found = real(file, offset, length)
            web.files["0.tar"] = data[:-1] + b"x"
            return found

        with pytest.MonkeyPatch.context() as patch, pytest.raises(FileError, match=r"0\.tar: it changed"):
            patch.setattr(ranges.RangedFile, "read", change)
            files.Tar(web.url("0.tar"))
        urls._systems = urls._Systems()
        gc.collect()


@pytest.mark.parametrize("threads", [1, 4])
def test_workers_use_separate_connections(folder, threads):
    with range_server() as web:
        web.files = {f"{i}.tar": (folder / f"{i}.tar").read_bytes() for i in range(2)}
        source = files.Tar(web.url("{0..1}.tar"))
        ports = {port for _, _, port in web.requests}
        web.requests.clear()
        with mpqueue.Loader(source, batch_size=16, shuffle=True, workers=2, threads=threads, seed=1) as loader:
            keys = [key for batch in loader for key in batch["__key__"]]
        assert sorted(keys) == [f"{number}-{i:03d}" for number in range(2) for i in range(100)]
        assert web.requests
        assert not ports & {port for _, _, port in web.requests}
        urls._systems = urls._Systems()
        gc.collect()


def test_file_for_a_library_that_needs_a_path_is_downloaded_once(tmp_path, monkeypatch):
    """In several requests, with retries; again if its copy was deleted, or if the file has changed."""
    module = pytest.importorskip("array_record.python.array_record_module")
    monkeypatch.setattr(fetched, "_REQUEST_BYTES", 5000)

    def data_of(numbers):
        writer = module.ArrayRecordWriter(str(tmp_path / "a.array_record"), "group_size:1")
        for number in numbers:
            writer.write(b"%d" % number)
        writer.close()
        return (tmp_path / "a.array_record").read_bytes()

    with range_server() as web:
        web.files["a.array_record"], web.faults = data_of(range(500)), [None, "busy", None, "cut"]
        url, kept = web.url("a.array_record"), tmp_path / "kept"
        source = files.ArrayRecord(url, index=kept)
        assert source.__getitems__([499, 7, -1]) == [b"499", b"7", b"499"]
        asked = len(web.requests)
        copy = pickle.loads(pickle.dumps(source))
        assert copy[3] == b"3" and len(web.requests) == asked

        (gone,) = kept.glob("*.fetched")
        gone.unlink()
        assert pickle.loads(pickle.dumps(source))[4] == b"4" and len(web.requests) > asked

        web.files["a.array_record"] = data_of(range(1000, 1700))
        urls._systems = urls._Systems()
        assert files.ArrayRecord(url, index=kept)[699] == b"1699"
        assert source[5] == b"5"

        gone.unlink()
        with pytest.raises(FileError, match=r"a\.array_record.*changed"):
            pickle.loads(pickle.dumps(source))[4]
        assert sorted(path.suffix for path in kept.iterdir()) == [".fetched", ".index", ".index"]
        urls._systems = urls._Systems()
        gc.collect()
