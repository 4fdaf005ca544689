"""A shuffle by blocks of neighbours, without a shuffle, and a full one: rates from files, and the quality of the order.

The rows of the Parquet file are eight times the cache of row groups: a full shuffle of data that fit into the cache
reads no group twice.
"""

import pathlib
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import mpqueue
from mpqueue.seeding.block_order import BlockOrder
from parts.benchmark.workload import Figures, Library, Workload

PARQUET, HDF5, ZARR, ORDER = "Parquet", "HDF5", "zarr", "order"
NONE, BUFFER, BLOCKS, FULL = "no shuffle", "buffer", "blocks", "full shuffle"
BATCH, SEED, OPEN = 256, 1, 16  # blocks in a group
GROUP, CHUNK = 10_000, 1000  # rows of a row group of Parquet, and of a chunk
CACHE_BYTES = 15_000_000
ROWS = {PARQUET: 10_000_000, HDF5: 2_000_000, ZARR: 2_000_000}
WARM, COUNTED = OPEN * GROUP // 2, 8 * OPEN * GROUP  # rows: whole groups, because a group is read at its beginning
LIMIT_S, FULL_S = 4.0, 1.0
NUM_SIMULATED = 1_000_000
DISTANCE = "distance of neighbours, "
Array = np.ndarray[Any, Any]


def block_figures(way: str, rows: int | None = None) -> Figures:
    """Return the rates by order, or the quality of each order.

    Args:
        way: A format, or "order".
        rows: The number of rows or places; None: as in `ROWS`, or of the simulation. The rates of a few groups are
            meaningless: they depend on the batches that are ready, and on the rows of a group after its read.
    """
    if way == ORDER:
        return qualities(rows or NUM_SIMULATED)
    rows = rows or ROWS[way]
    with tempfile.TemporaryDirectory() as folder:
        source = WRITERS[way](pathlib.Path(folder), rows)
        whole = mpqueue.Dataset(source)
        blocks = whole.shuffle(block="group" if way == PARQUET else CHUNK, blocks=OPEN)
        orders = {NONE: whole, BLOCKS: blocks, FULL: whole.shuffle()}
        return {name: [rate(order, is_slow=name == FULL)] for name, order in orders.items()}


def rate(dataset: mpqueue.Dataset[Any], *, is_slow: bool) -> float:
    """Return the rows per second of a loader with two workers."""
    warm, limit_s = (BATCH, FULL_S) if is_slow else (min(WARM, len(dataset) // 4), LIMIT_S)
    with mpqueue.Loader(dataset, batch_size=BATCH, seed=SEED, workers=2) as loader:
        batches, found, began = iter(loader), 0, 0.0
        for index, _ in enumerate(batches, 1):
            if index * BATCH <= warm:
                began = time.perf_counter()
                continue
            found += BATCH
            if found >= COUNTED or time.perf_counter() - began > limit_s:
                break
        return found / (time.perf_counter() - began)


def parquet(folder: pathlib.Path, rows: int) -> Any:
    """Write a Parquet file of two columns, and return its source."""
    import pyarrow as pa
    from pyarrow import parquet

    numbers = np.arange(rows)
    table = pa.table({"number": numbers, "value": numbers.astype(np.float32)})
    parquet.write_table(table, folder / "rows.parquet", row_group_size=GROUP)
    return mpqueue.files.Parquet(folder / "rows.parquet", cache_bytes=CACHE_BYTES, index=folder)


class ChunkedRows:
    """Rows of a chunked array. Sorted rows are read at once, and neighbours as a slice.

    Args:
        rows: Number of rows.
        path: The file or folder of the array.
        opened: Opens the array, in each process.
    """

    def __init__(self, rows: int, path: pathlib.Path, opened: Callable[[pathlib.Path], Any]) -> None:
        self._rows, self._path, self._opened = rows, path, opened
        self._array: Any = None

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return several rows."""
        numbers = np.asarray(indices)
        order = numbers.argsort()
        chosen = numbers[order]
        first, last = int(chosen[0]), int(chosen[-1]) + 1
        found = np.empty((len(numbers), 8), np.float32)
        array = self._of_process()
        found[order] = array[first:last] if last - first == len(numbers) else array[chosen]
        return list(found)

    def get_blocks(self, blocks: Sequence[range]) -> Array:
        """Return the rows of blocks of neighbours."""
        array = self._of_process()
        return np.concatenate([array[block.start : block.stop] for block in blocks])

    def _of_process(self) -> Any:
        if self._array is None:
            self._array = self._opened(self._path)
        return self._array


def _open_hdf5(path: pathlib.Path) -> Any:
    import h5py

    return h5py.File(path)["rows"]


def _open_zarr(path: pathlib.Path) -> Any:
    import zarr

    return zarr.open_array(path, mode="r")


def hdf5(folder: pathlib.Path, rows: int) -> ChunkedRows:
    """Write an HDF5 file, and return its source."""
    import h5py

    with h5py.File(folder / "rows", "w") as file:
        file.create_dataset("rows", data=_values(rows), chunks=(CHUNK, 8))
    return ChunkedRows(rows, folder / "rows", _open_hdf5)


def zarr_array(folder: pathlib.Path, rows: int) -> ChunkedRows:
    """Write a zarr array, and return its source."""
    import zarr

    zarr.create_array(folder / "rows", data=_values(rows), chunks=(CHUNK, 8))
    return ChunkedRows(rows, folder / "rows", _open_zarr)


def _values(rows: int) -> Array:
    return np.random.default_rng(SEED).random((rows, 8), np.float32)


MODULES = {PARQUET: "pyarrow", HDF5: "h5py", ZARR: "zarr", ORDER: ""}
WRITERS: dict[str, Callable[[pathlib.Path, int], Any]] = {PARQUET: parquet, HDF5: hdf5, ZARR: zarr_array}


def qualities(count: int) -> Figures:
    """Return the distance of neighbours by order."""
    places = np.arange(count)
    orders = {
        BUFFER: of_buffer(count, OPEN * CHUNK),
        BLOCKS: BlockOrder(SEED, CHUNK, OPEN).at(0, count, places),
        FULL: np.random.default_rng(SEED).permutation(count),
    }
    return {DISTANCE + name: [float(np.abs(np.diff(order)).mean() / count)] for name, order in orders.items()}


def of_buffer(count: int, size: int) -> Array:
    """Return the order of a shuffle buffer with refilled places."""
    size = min(size, count)
    draw = np.random.default_rng(SEED)
    buffer, found = list(range(size)), []
    for number, place in zip(range(size, count), draw.integers(0, size, count - size).tolist(), strict=True):
        found.append(buffer[place])
        buffer[place] = number
    return np.array(found + draw.permutation(buffer).tolist())


WORKLOADS = {
    "blocks": Workload(
        f"rows/s in batches of {BATCH}, by order, and the quality of the order",
        "",
        is_usual=False,
        measure=lambda way, _: block_figures(way),
        readers={name: Library(None, module) for name, module in MODULES.items()},
    )
}
