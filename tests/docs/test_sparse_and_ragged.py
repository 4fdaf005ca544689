"""Batches of sparse and ragged data, and the table of docs/guides/lengths.md, against torch's own DataLoader."""

import re

import numpy as np
import pytest
from helpers.computed_source import Computed
from helpers.doc_pages import DOCS
from helpers.torch_batches import as_it_is

import mpqueue
from mpqueue import Ragged

sparse, torch = pytest.importorskip("scipy.sparse"), pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore:Sparse", "ignore:The PyTorch API of nested tensors", "ignore:.*nested")

PAGE = DOCS / "guides" / "lengths.md"
MATRIX = sparse.csr_matrix(np.where(np.random.default_rng(1).random((4, 9)) < 0.4, np.arange(9.0), 0))
DENSE = torch.tensor(MATRIX.toarray())
PARTS = [torch.ones(2), torch.ones(3)]


def table(header):
    """Return the rows of the table with this first column, by the text of the first cell."""
    text = PAGE.read_text("utf-8").partition(f"| {header} |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines()[2:]]
    return {row[0]: row[1:] for row in rows}


BATCHES = {
    "`csr_matrix`, `csc_matrix`, `coo_matrix`": lambda: [MATRIX, MATRIX.tocsc(), MATRIX.tocoo()],
    "`csr_array`, `csc_array`, `coo_array`": lambda: [kind(MATRIX) for kind in (sparse.csr_array, sparse.csc_array, sparse.coo_array)],
    "torch CSR tensor": lambda: [DENSE.to_sparse_csr()],
    "torch CSC tensor": lambda: [DENSE.to_sparse_csc()],
    "torch COO tensor": lambda: [DENSE.to_sparse().coalesce()],
    "nested tensor": lambda: [torch.nested.nested_tensor(PARTS)],
    "jagged tensor": lambda: [torch.nested.nested_tensor(PARTS, layout=torch.jagged)],
    "list of arrays": lambda: [[np.ones(2), np.ones(3)]],
    "list of tensors": lambda: [PARTS],
    "`Ragged`": lambda: [Ragged(np.arange(3), np.array([0, 1, 3])), Ragged(torch.arange(3), torch.tensor([0, 1, 3]))],
}  # fmt: skip


def form(value):
    """Return a value's types, dtypes and numbers as plain data."""
    if isinstance(value, torch.Tensor):
        if value.is_nested:
            return value.layout, [form(each) for each in value.unbind()]
        dense = value if value.layout is torch.strided else value.to_dense()
        return type(value), value.layout, value.dtype, dense.tolist()
    if sparse.issparse(value):
        return type(value), value.dtype, value.toarray().tolist()
    if isinstance(value, np.ndarray):
        return value.dtype, value.tolist()
    return value if isinstance(value, str) else (type(value), list(map(form, value)))


@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_arrives_as_from_the_stock_loader(name):
    values = BATCHES[name]()
    source = Computed(values.__getitem__, len(values))
    options = {"batch_size": None, "collate_fn": as_it_is, "num_workers": 1}
    stock = list(map(form, torch.utils.data.DataLoader(source, **options)))
    assert stock == list(map(form, values))
    assert list(map(form, mpqueue.torch.DataLoader(source, **options))) == stock
    with mpqueue.Loader(source, workers=1) as loader:
        assert list(map(form, loader)) == stock


SAMPLES = {
    "arrays of one length": lambda: [np.ones(2), np.zeros(2)],
    "arrays of different lengths": lambda: [np.ones(2), np.ones(3)],
    "lists of numbers of different lengths": lambda: [[1, 2], [1, 2, 3]],
    "tensors of different lengths": lambda: PARTS,
    "numbers": lambda: [1, 2],
    "strings": lambda: ["a", "bc"],
    "rows of `csr_matrix`": lambda: [MATRIX[0], MATRIX[1]],
    "rows of `coo_array`": lambda: [sparse.coo_array(MATRIX[0]), sparse.coo_array(MATRIX[1])],
    "`csr_matrix` of several rows": lambda: [MATRIX, MATRIX],
    "sparse tensors of one row": lambda: [DENSE[0].to_sparse(), DENSE[1].to_sparse()],
}


def described(make):
    """Return the words of the table for the batch of a loader."""
    try:
        batch = next(iter(make()))
    except (RuntimeError, TypeError, ValueError):
        return "error"
    if isinstance(batch, Ragged):
        return "`Ragged` of " + ("tensors" if isinstance(batch.values, torch.Tensor) else "arrays")
    if sparse.issparse(batch):
        return f"`{type(batch).__name__}`"
    if isinstance(batch, torch.Tensor) and batch.layout is torch.sparse_csr:
        return "CSR tensor"
    return "list" if isinstance(batch, list) else "stacked"


def test_the_table_has_a_row_for_each_kind_of_samples():
    assert table("Samples").keys() == SAMPLES.keys()


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_become_what_the_table_says(name):
    samples = SAMPLES[name]()
    source, stock = Computed(samples.__getitem__, 2), torch.utils.data.DataLoader
    options = {"batch_size": 2, "workers": 0}
    found = [
        described(lambda: stock(source, 2)),
        described(lambda: mpqueue.Loader(source, **options)),
        described(lambda: mpqueue.Loader(source, collate="ragged", **options)),
        described(lambda: mpqueue.torch.DataLoader(source, 2, collate_fn="ragged")),
    ]
    assert found == table("Samples")[name]
    assert described(lambda: mpqueue.torch.DataLoader(source, 2)) == found[0]
    if found[0] != "error":
        assert form(next(iter(mpqueue.torch.DataLoader(source, 2)))) == form(next(iter(stock(source, 2))))


def test_the_sizes_of_batches_of_cells_follow_from_the_numbers():
    text = re.sub(r"\s+", " ", PAGE.read_text("utf-8"))
    cells, genes, per_cell = 256, 60_000, 1800
    assert f"{cells * genes * 4 / 1e6:.1f} MB, a sparse one {cells * per_cell * 8 / 1e6:.1f} MB" in text
