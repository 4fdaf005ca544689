"""Cells x genes: batches of sparse rows, next to dense batches and torch's DataLoader.

A cell is a row of a CSR matrix in memory. It is sent as a sparse row, as two ragged fields (values and genes), or as a
dense row. A sparse row is sliced by scipy, which takes most of the time of its batch.
"""

import functools
import os
import pathlib
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

import mpqueue
from parts.benchmark.library import Library
from parts.benchmark.workload import RATE, Figures, Setting, Workload

ROWS, RAGGED, DENSE = "CSR rows", "ragged", "dense rows"
CPU_MS, MB = "CPU ms per batch", "MB per batch"
NUM_CELLS, NUM_GENES, FILLED, BATCH = 4096, 60_000, 0.03, 256
WARM_S, COUNTED_S = 0.3, 1.0
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


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


def stacked_csr(rows: list[Any]) -> Any:
    """Stack rows to a CSR tensor."""
    import torch

    made = stacked_scipy(rows)
    return torch.sparse_csr_tensor(made.indptr, made.indices, made.data, size=made.shape, check_invariants=False)


def _ours(form: str, count: int, **options: Any) -> Any:
    return mpqueue.Loader(Cells(form, count), batch_size=BATCH, workers=1, **options)


def _ours_of_torch(form: str, count: int) -> Any:
    loader = mpqueue.torch.DataLoader
    return loader(Cells(form, count), BATCH, collate_fn="ragged", num_workers=1, persistent_workers=True)


def _torch(count: int, collate: Callable[[list[Any]], Any]) -> Any:
    from torch.utils.data import DataLoader

    cells: Any = Cells(ROWS, count)
    return DataLoader(cells, BATCH, collate_fn=collate, num_workers=1, persistent_workers=True)


class Sparse(Workload):
    """Loaders with one worker, from functions of the number of cells."""

    def figures(self, name: str, _setting: Setting) -> Figures:
        """Return the rate of a loader, its CPU time in all processes, and the size of its batches."""
        return self.of_loader(name, NUM_CELLS, COUNTED_S)

    def of_loader(self, name: str, count: int, seconds: float) -> Figures:
        """Measure a loader of a number of cells."""
        loader = self.readers[name].load()(count)
        rate, cpu_ms, megabytes = measured(loader, seconds)
        if isinstance(loader, mpqueue.Loader):
            loader.stop()
        return {RATE: [rate], CPU_MS: [cpu_ms], MB: [megabytes]}


def measured(loader: Iterable[Any], seconds: float) -> tuple[float, float, float]:
    """Return the rate of a loader over several epochs, the CPU time of a batch in ms, and its size in MB."""
    began = time.perf_counter()
    number, size, cpu_s, is_counted = 0, 0.0, 0.0, False
    while True:
        for batch in loader:
            now = time.perf_counter()
            number += 1
            if not is_counted and now - began > WARM_S:
                began, number, cpu_s, is_counted, size = now, 0, cpu_time(), True, megabytes_of(batch)
            elif is_counted and now - began > seconds:
                return number / (now - began), 1000 * (cpu_time() - cpu_s) / number, size


def megabytes_of(batch: Any) -> float:
    """Return the size of the arrays of a batch."""
    if isinstance(batch, dict | tuple):
        return sum(map(megabytes_of, batch.values() if isinstance(batch, dict) else batch))
    if "csr" in str(getattr(batch, "layout", "")):
        return megabytes_of((batch.crow_indices(), batch.col_indices(), batch.values()))
    parts = (batch.data, batch.indices, batch.indptr) if hasattr(batch, "indptr") else (batch,)
    return sum(part.nbytes for part in parts) / 1e6


def cpu_time() -> float:
    """Return the CPU time of this process and of its children, in seconds."""
    own = os.getpid()
    fields = [_stat(int(path.name)) for path in pathlib.Path("/proc").iterdir() if path.name.isdigit()]
    parents = {each[0]: each[1] for each in fields if each}
    used = {each[0]: each[2] for each in fields if each}

    def is_ours(process: int) -> bool:
        while process not in (0, own):
            process = parents.get(process, 0)
        return process == own

    return _TICK_S * sum(ticks for process, ticks in used.items() if is_ours(process))


def _stat(process: int) -> tuple[int, int, int] | None:
    try:
        fields = pathlib.Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()
    except OSError:  # it has exited
        return None
    return process, int(fields[1]), int(fields[11]) + int(fields[12])


WORKLOADS = {
    "sparse": Sparse(
        f"cells x genes in batches of {BATCH}, sparse and dense",
        is_usual=False,
        readers={
            "mpqueue, CSR rows": Library(functools.partial(_ours, ROWS), "scipy"),
            "mpqueue, ragged": Library(functools.partial(_ours, RAGGED, collate="ragged"), "scipy"),
            "mpqueue, dense rows": Library(functools.partial(_ours, DENSE), "scipy"),
            "mpqueue, CSR tensors": Library(functools.partial(_ours_of_torch, ROWS), "torch"),
            "mpqueue, ragged tensors": Library(functools.partial(_ours_of_torch, RAGGED), "torch"),
            "torch, scipy CSR": Library(functools.partial(_torch, collate=stacked_scipy), "torch"),
            "torch, CSR tensors": Library(functools.partial(_torch, collate=stacked_csr), "torch"),
        },
    )
}
