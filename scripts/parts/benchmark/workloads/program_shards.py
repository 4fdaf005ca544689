"""Hugging Face's streaming in a training: rows of tokens in 16 Parquet shards, shuffled, batched, read by workers.

The rows are shuffled in a buffer of 1,000. A batch has 64 rows of 512 tokens as an array. The rate counts the rows of
an epoch with its start.
"""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

import mpqueue
from mpqueue import files
from parts.benchmark.library import Library
from parts.machine import CACHE

SHARDS, ROWS, LENGTH, GROUP, BUFFER, BATCH = 16, 1024, 512, 256, 1000, 64


def shards() -> list[str]:
    """Return the files, which are written on first use."""
    import pyarrow as pa
    from pyarrow import parquet

    folder = CACHE / "token shards"
    if not folder.is_dir():
        part = folder.with_name(f"{folder.name}.{os.getpid()}")
        part.mkdir(parents=True)
        draw = np.random.default_rng(0)
        for number in range(SHARDS):
            tokens = pa.array(draw.integers(0, 50_257, ROWS * LENGTH, np.int32))
            rows = pa.ListArray.from_arrays(np.arange(0, ROWS * LENGTH + 1, LENGTH, np.int32), tokens)
            parquet.write_table(pa.table({"tokens": rows}), part / f"{number:03d}.parquet", row_group_size=GROUP)
        part.rename(folder)
    return [str(path) for path in sorted(folder.iterdir())]


def tokens_of(row: dict[str, Any]) -> np.ndarray:
    """Return a row as an array."""
    return np.asarray(row["tokens"], np.int32)


def ours(num_workers: int) -> AbstractContextManager[Any]:
    """Use shuffled row groups and a buffer."""
    groups = files.Parquet(shards()).row_groups()
    rows = mpqueue.Dataset(groups).shuffle().flat_map(list).shuffle(buffer=BUFFER).map(tokens_of).batch(BATCH)
    return mpqueue.Loader(rows, workers=num_workers, seed=1)


def theirs(num_workers: int) -> AbstractContextManager[Any]:
    """Use a streaming data set with NumPy's format in torch's loader."""
    import datasets
    from torch.utils.data import DataLoader

    datasets.disable_progress_bars()
    rows = datasets.load_dataset("parquet", data_files=shards(), split="train", streaming=True)
    rows = rows.shuffle(1, buffer_size=BUFFER).with_format("numpy")
    return nullcontext(DataLoader(rows, BATCH, num_workers=num_workers, collate_fn=_stacked))


def _stacked(rows: list[dict[str, Any]]) -> np.ndarray:
    return np.stack([row["tokens"] for row in rows])


READERS = {"mpqueue": Library(ours, "pyarrow"), "datasets": Library(theirs, "datasets")}
