"""Rows of scipy's sparse matrices and arrays, stacked to CSR in the slot."""

import subprocess
import sys

import numpy as np
import pytest
from helpers.unpickled_batches import copies_nothing

import mpqueue
from mpqueue.samples.collate import Collation

sparse = pytest.importorskip("scipy.sparse")

DENSE = np.where(np.random.default_rng(3).random((17, 30)) < 0.2, np.arange(30) - 12, 0)
DENSE[[0, 5, 16]] = 0  # rows without elements
FORMATS = ["csr", "csc", "coo", "lil", "dok", "dia", "bsr"]


def rows_of(kind, dtype=np.float32):
    return [kind(DENSE[row : row + 1].astype(dtype)) for row in range(len(DENSE))]


def join(*samples, collate=None):
    collation = Collation(len(samples), np.empty, ragged=collate)
    collation.add_all(samples)
    return collation.finish([10 + number for number in range(len(samples))])


@pytest.mark.parametrize("collate", [None, "ragged"])
@pytest.mark.parametrize("family", ["matrix", "array"])
@pytest.mark.parametrize("kind", FORMATS)
def test_rows_of_any_format_become_csr_of_the_same_family(kind, family, collate):
    rows = rows_of(getattr(sparse, f"{kind}_{family}"))
    batch = join(*rows, collate=collate)
    assert type(batch) is getattr(sparse, f"csr_{family}")
    assert (batch.dtype, batch.shape) == (np.float32, DENSE.shape)
    assert np.array_equal(batch.toarray(), DENSE)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint16, np.int64, np.float64, np.complex64], ids=str)
@pytest.mark.parametrize("index", [np.int32, np.int64], ids=str)
def test_dtypes_of_values_and_indices_are_kept(dtype, index, monkeypatch):
    rows = rows_of(sparse.csr_matrix, dtype)
    for row in rows:  # the constructor would choose the dtype of the indices
        row.indices, row.indptr = row.indices.astype(index), row.indptr.astype(index)
    with mpqueue.Loader(rows, batch_size=5, **copies_nothing(monkeypatch)) as loader:
        batches = list(loader)
        assert loader.statistics().copies == 0
    assert [batch.shape for batch in batches] == [(5, 30), (5, 30), (5, 30), (2, 30)]
    assert {each.dtype for batch in batches for each in (batch.indices, batch.indptr)} == {np.dtype(index)}
    assert {batch.dtype for batch in batches} == {np.dtype(dtype)}
    assert np.array_equal(sparse.vstack(batches).toarray(), DENSE.astype(dtype))


def test_rows_without_an_axis_become_csr():
    matrix = sparse.csr_array(DENSE)
    rows = [matrix[row] for row in range(len(DENSE))]
    if rows[0].ndim != 1:
        pytest.skip("this scipy has no sparse arrays of one axis")
    batch = join(*rows)
    assert type(batch) is sparse.csr_array
    assert np.array_equal(batch.toarray(), DENSE)


def test_formats_of_one_family_are_mixed():
    batch = join(sparse.csr_matrix(DENSE[1:2]), sparse.coo_matrix(DENSE[2:3]), sparse.csc_matrix(DENSE[3:4]))
    assert np.array_equal(batch.toarray(), DENSE[1:4])


def test_a_row_with_room_after_its_elements_and_repeated_elements_is_summed():
    row = sparse.csr_matrix(DENSE[1:2])
    row.data, row.indices = np.append(row.data, 99), np.append(row.indices, 3).astype(row.indices.dtype)
    twice = sparse.coo_matrix((np.array([1, 2]), (np.array([0, 0]), np.array([4, 4]))), shape=(1, 30))
    batch = join(row, twice)
    assert np.array_equal(batch.toarray()[0], DENSE[1])
    assert batch.toarray()[1].tolist() == [0] * 4 + [3] + [0] * 25


EMPTY = sparse.csr_matrix((1, 4))


def test_rows_without_elements_alone_are_a_batch():
    batch = join(EMPTY, EMPTY)
    assert (batch.shape, batch.nnz) == ((2, 4), 0)


def test_matrices_of_several_rows_stay_a_list():
    whole = sparse.csr_matrix(DENSE)
    batch = join(whole, whole)
    assert type(batch) is list
    assert all(np.array_equal(each.toarray(), DENSE) for each in batch)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ((EMPTY, sparse.csr_matrix((1, 5))), "index 10 has 4 columns, but index 11 has 5 columns"),
        ((EMPTY.astype("f4"), EMPTY), "index 10 has dtype float32, but index 11 has"),
        ((EMPTY, sparse.csr_array((1, 4))), "index 10 is of .*csr_matrix.*, but index 11 is of .*csr_arr"),
        ((EMPTY, np.zeros((1, 4))), "index 10 is of .*csr_matrix.*, but index 11 is of .*ndarray"),
        ((np.zeros((1, 4)), EMPTY), "index 10 is of .*ndarray.*, but index 11 is of .*csr_matrix"),
        (({"x": EMPTY}, {"x": None}), r"sample\['x'\] of index 10 is of .*, but index 11 is of .*None"),
    ],
    ids=str,
)
@pytest.mark.parametrize("collate", [None, "ragged"])
def test_rows_that_cannot_be_joined_raise_and_name_both(samples, message, collate):
    with pytest.raises(ValueError, match=message):
        join(*samples, collate=collate)


CELLS = [{"genes": row, "cell": index} for index, row in enumerate(rows_of(sparse.csr_array))]


def dense_of(batches):
    return [(batch["genes"].toarray().tolist(), batch["cell"].tolist()) for batch in batches]


EXPECTED = [(DENSE[first : first + 4].tolist(), list(range(first, min(first + 4, 17)))) for first in range(0, 17, 4)]


def test_batches_outlive_their_loader():
    with mpqueue.Loader(CELLS, batch_size=4, workers=1) as loader:
        batches = list(loader)
    assert dense_of(batches) == EXPECTED
    batches[0]["genes"].data[:] = 1  # the batch is the user's


def test_scipy_is_not_imported_for_other_samples():
    code = "import sys, mpqueue; assert len(list(mpqueue.Loader([[1], [2]], batch_size=1, workers=0))) == 2; assert 'scipy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
