"""Tables with columns of many types, files of these tables, and their rows as samples."""

import datetime as dt
import os

import numpy as np

from helpers.forked_calls import begun_in_fork


def table(num_rows):
    """Return a pyarrow table with columns of common types, with missing values."""
    import pyarrow as pa

    def some(every, value):
        return [value(i) if i % every else None for i in range(num_rows)]

    matrices = [[[1.0, 2.0], [3.0, float(i)]] for i in range(num_rows)]
    return pa.table(
        {
            "int": pa.array(range(num_rows), pa.int64()),
            "small": pa.array([i % 100 for i in range(num_rows)], pa.int8()),
            "text": some(7, lambda i: f"täxt {i}"),
            "bytes": [bytes([i % 256]) * (i % 300) for i in range(num_rows)],
            "tokens": pa.array(some(11, lambda i: list(range(i % 9))), pa.list_(pa.int32())),
            "holes": [[i, None] for i in range(num_rows)],
            "matrix": pa.array(matrices, pa.list_(pa.list_(pa.float32(), 2), 2)),
            "flag": some(5, lambda i: i % 3 == 0),
            "struct": some(13, lambda i: {"a": i, "b": [f"x{i}"], "c": [i] * 2}),
            "date": [dt.date(2020, 1, 1) + dt.timedelta(i % 100) for i in range(num_rows)],
            "null": pa.nulls(num_rows),
            "map": pa.array([[("k", i)] for i in range(num_rows)], pa.map_(pa.string(), pa.int32())),
            "dicts": [[{"q": i}] * (i % 3) for i in range(num_rows)],
            "decimal": pa.array(range(num_rows), pa.decimal128(20, 2)),
            "large": pa.array([f"l{i}" for i in range(num_rows)], pa.large_string()),
            "fixed": pa.array([i.to_bytes(4, "big") for i in range(num_rows)], pa.binary(4)),
        }
    )


def write_parquet(path, content, rows=170, **options):
    """Write a table in row groups of ``rows`` rows; return the path."""
    import pyarrow.parquet as pq

    pq.write_table(content, str(path), row_group_size=rows, **options)
    return str(path)


def write_arrow(path, content, *, form="file", compression=None, rows=170):
    """Write a table in record batches of ``rows`` rows; return the path."""
    import pyarrow as pa

    new = pa.ipc.new_file if form == "file" else pa.ipc.new_stream
    with new(str(path), content.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(content, max_chunksize=rows)
    return str(path)


def plain(value):
    """Return a sample with NumPy arrays converted to lists."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list) else value


def rewrite(path, data):
    """Rewrite a file, with a modification time that differs even if the file system's clock is coarse."""
    with open(path, "wb") as file:
        file.write(data)
    os.utime(path, ns=(10**18, 10**18))


def answer_of_child(compute):
    """Return the `repr` of a result that a forked child computes."""
    return begun_in_fork(compute)()
