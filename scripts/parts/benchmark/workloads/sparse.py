"""Cells x genes: batches of sparse rows, next to dense batches and torch's DataLoader.

A cell is a row of a CSR matrix in memory. It is sent as a sparse row, as two ragged fields (values and genes), or as a
dense row. A sparse row is sliced by scipy, which takes most of the time of its batch.
"""

import functools
from typing import Any

import numpy as np

import mpqueue
from parts.benchmark import consuming
from parts.benchmark.in_flight import epochs
from parts.benchmark.library import Library
from parts.benchmark.workload import RATE, Figures, Setting, Workload

ROWS, RAGGED, DENSE = "CSR rows", "ragged", "dense rows"
MB = "MB per batch"
NUM_CELLS, NUM_GENES, FILLED, BATCH = 4096, 60_000, 0.03, 256
COUNTED_S = 1.0


class Cells:
    """The rows of a generated matrix, in one of the forms.

    Args:
        form: `ROWS`, `RAGGED` or `DENSE`.
        count: Number of cells.
    """

    def __init__(self, form: str, count: int) -> None:
        from scipy import sparse

        per_cell = int(NUM_GENES * FILLED)
        step = NUM_GENES // per_cell  # one gene in each range of this length
        draw = np.random.default_rng(1)
        genes = draw.integers(0, step, (count, per_cell)) + np.arange(per_cell) * step
        values, ends = draw.random(count * per_cell, np.float32), np.arange(0, count * per_cell + 1, per_cell)
        self._matrix = sparse.csr_matrix((values, genes.ravel().astype(np.int32), ends), (count, NUM_GENES))
        self._form = form

    def __len__(self) -> int:
        return int(self._matrix.shape[0])

    def __getitem__(self, index: int) -> Any:
        matrix = self._matrix
        if self._form == RAGGED:
            start, stop = matrix.indptr[index], matrix.indptr[index + 1]
            return {"values": matrix.data[start:stop], "genes": matrix.indices[start:stop]}
        row = matrix[index]
        return row if self._form == ROWS else row.toarray()[0]


def stacked_scipy(rows: list[Any]) -> Any:
    """Stack rows to a CSR matrix, which torch's loader sends by pickle."""
    from scipy import sparse

    return sparse.vstack(rows, format="csr")


def _ours(form: str, count: int, **options: Any) -> Any:
    return mpqueue.Loader(Cells(form, count), batch_size=BATCH, workers=1, **options)


def _torch(count: int) -> Any:
    from torch.utils.data import DataLoader

    cells: Any = Cells(ROWS, count)
    return DataLoader(cells, BATCH, collate_fn=stacked_scipy, num_workers=1, persistent_workers=True)


class Sparse(Workload):
    """Loaders with one worker, from functions of the number of cells."""

    def figures(self, name: str, _setting: Setting) -> Figures:
        """Return the rate of a loader, and the size of its batches."""
        return self.of_loader(name, NUM_CELLS, COUNTED_S)

    def of_loader(self, name: str, count: int, seconds: float) -> Figures:
        """Measure a loader of a number of cells over several epochs."""
        loader = self.readers[name].load()(count)
        with epochs(loader) as batches:
            consuming.warm_up(batches, 1)
            rate, size = consuming.count(batches, seconds)[RATE], megabytes_of(next(batches))
        if isinstance(loader, mpqueue.Loader):
            loader.stop()
        return {RATE: [rate], MB: [size]}


def megabytes_of(batch: Any) -> float:
    """Return the size of the arrays of a batch."""
    if isinstance(batch, dict | tuple):
        return sum(map(megabytes_of, batch.values() if isinstance(batch, dict) else batch))
    parts = (batch.data, batch.indices, batch.indptr) if hasattr(batch, "indptr") else (batch,)
    return sum(part.nbytes for part in parts) / 1e6


WORKLOADS = {
    "sparse": Sparse(
        f"cells x genes in batches of {BATCH}, sparse and dense",
        is_usual=False,
        readers={
            "mpqueue, CSR rows": Library(functools.partial(_ours, ROWS), "scipy"),
            "mpqueue, ragged": Library(functools.partial(_ours, RAGGED, collate="ragged"), "scipy"),
            "mpqueue, dense rows": Library(functools.partial(_ours, DENSE), "scipy"),
            "torch, scipy CSR": Library(_torch, "torch"),
        },
    )
}
