"""Small files of each format of `mpqueue.files`, with many samples in at least two files or groups."""

import gzip
import io
import json
import os
import struct
import tarfile

import pytest

from helpers.table_files import plain, table, write_arrow, write_parquet
from helpers.tfrecords import write_records
from mpqueue import files

# The source of each format in a folder that `write_all` has filled; also at a URL.
SOURCES = {
    "tar": lambda root: files.Tar(f"{root}/{{0..1}}.tar"),
    "tfrecord": lambda root: files.TFRecord(f"{root}/{{0..1}}.tfrecord"),
    "json": lambda root: files.JSONLines([f"{root}/0.jsonl", f"{root}/1.jsonl"]),
    "json, compressed": lambda root: files.JSONLines(f"{root}/0.jsonl.gz"),
    "parquet": lambda root: files.Parquet(f"{root}/{{0,1}}.parquet", ["tokens", "struct", "int"]),
    "arrow": lambda root: files.Arrow(f"{root}/{{0..1}}-plain.arrow", ["text", "matrix", "int"]),
    "arrow, compressed": lambda root: files.Arrow(f"{root}/{{0..1}}-zstd.arrow"),
    "mds": lambda root: files.MDS(f"{root}/mds"),
    "images": lambda root: files.Images(f"{root}/photos"),
}


def write_tar(path, contents, mode="w", *, mtime=0, **options):
    """Write an archive of pairs of a name, or a `TarInfo`, and data; return its path."""
    with tarfile.open(path, mode, **options) as archive:
        for name, data in contents:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size, info.mtime = len(data) if info.isreg() else info.size, mtime
            archive.addfile(info, io.BytesIO(data))
    return path


def rewritten(path, data, *, replace=False):
    """Write a file again with the same size and modification time."""
    before = os.stat(path)
    assert len(data) == before.st_size
    target = f"{path}.new" if replace else path
    while True:
        with open(target, "wb") as file:
            file.write(data)
        os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
        os.replace(target, path)
        if os.stat(path).st_ctime_ns != before.st_ctime_ns:  # the clock of the file system has advanced
            return


def write_array_record(path, records):
    """Write an ArrayRecord file; return its path. Skips the test if the library is missing."""
    writer = pytest.importorskip("array_record.python.array_record_module").ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()
    return path


def write_all(folder):
    """Write two files, or a folder, of each format."""
    content = table(300)
    for number in range(2):
        part = content.slice(number * 150, 150)
        pairs = [(f"{number}-{i:03d}", (b"%d %d" % (number, i) * 300, b"%d" % i)) for i in range(100)]
        members = [
            (f"{stem}.{end}", data) for stem, both in pairs for end, data in zip(("txt", "cls"), both, strict=True)
        ]
        write_tar(folder / f"{number}.tar", members)
        write_records(folder / f"{number}.tfrecord", [b"%d" % i * 100 for i in range(100)])
        lines = "".join(f'{{"n": {i}, "x": "{"é" * i}"}}\r\n\r\n' for i in range(100))
        (folder / f"{number}.jsonl").write_text(lines)
        (folder / f"{number}.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
        write_parquet(folder / f"{number}.parquet", part, rows=40)
        for name, compression in (("plain", None), ("zstd", "zstd")):
            write_arrow(folder / f"{number}-{name}.arrow", part, compression=compression, rows=40)
        for i in range(3):
            image = folder / "photos" / f"class{number}" / "deep" / f"{i}.jpg"
            image.parent.mkdir(parents=True, exist_ok=True)
            image.write_bytes(b"%d %d" % (number, i))
    _write_mds(folder / "mds")
    return folder


def _write_mds(folder):
    folder.mkdir()
    shards = []
    for number in range(2):
        samples = [struct.pack("<Iq", 3 + i, i) + b"x" * (3 + i) for i in range(20)]
        start = 4 + 4 * 21
        positions = [start + sum(map(len, samples[:i])) for i in range(21)]
        data = struct.pack(f"<I{21}I", 20, *positions) + b"".join(samples)
        (folder / f"shard.{number}.mds").write_bytes(data)
        shards.append(
            {"format": "mds", "column_names": ["b", "i"], "column_encodings": ["bytes", "int64"], "column_sizes": [None, 8],
             "raw_data": {"basename": f"shard.{number}.mds", "bytes": len(data)}, "zip_data": None, "samples": 20}
        )  # fmt: skip
    (folder / "index.json").write_text(json.dumps({"version": 2, "shards": shards}))


def several(source, indices):
    """Return samples as a loader reads them: together, if the source can."""
    if hasattr(source, "__getitems__"):
        return source.__getitems__(indices)
    return [source[i] for i in indices]


def comparable(sample):
    """Return a sample with lists instead of arrays, and without the path, which differs for a URL."""
    return plain({k: v for k, v in sample.items() if k != "path"} if isinstance(sample, dict) else sample)
