"""`mpqueue.torch.DataLoader(collate_fn="ragged")`: tensors of different lengths and sparse rows; its converters."""

import contextlib
from typing import NamedTuple

import numpy as np
import pytest
import torch
from helpers.numbered_batches import iter_after
from helpers.torch_batches import Stream, continued
from helpers.unpickled_batches import copies_nothing
from torch import ones
from torch.utils import data

import mpqueue.torch
from mpqueue import Ragged
from mpqueue.frameworks.torch.prefetching import moved_to

pytestmark = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state")


def batches_of(samples, size=4, collate_fn="ragged", **options):
    return list(mpqueue.torch.DataLoader(samples, size, collate_fn=collate_fn, **options))


def lists(batch):
    assert type(batch) is Ragged
    assert (type(batch.values), type(batch.offsets), batch.offsets.dtype) == (torch.Tensor, torch.Tensor, torch.int64)
    return [each.tolist() for each in batch.to_list()]


DTYPES = [torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.complex64,
          torch.uint16]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("workers", [0, 1])
def test_tensors_of_any_dtype_and_further_axes(dtype, workers):
    samples = [ones(length, 2).to(dtype) for length in (3, 0, 1, 1, 2)]
    batches = batches_of(samples, num_workers=workers)
    assert [batch.offsets.tolist() for batch in batches] == [[0, 3, 3, 4, 5], [0, 2]]
    assert [(batch.values.dtype, tuple(batch.values.shape)) for batch in batches] == [(dtype, (5, 2)), (dtype, (2, 2))]
    assert all((batch.values.to(torch.complex64) == 1).all() for batch in batches)


class Pair(NamedTuple):
    x: object
    y: object


@pytest.mark.parametrize("workers", [0, 1])
def test_structure_is_that_of_the_default_function(workers):
    samples = [
        {"a": torch.arange(n), "b": (np.ones(n), n), "c": [1.0] * n, "d": Pair("x" * n, 0.5), "e": torch.tensor(n)}
        for n in range(3)
    ]
    (batch,) = batches_of(samples, num_workers=workers)
    assert lists(batch["a"]) == [[], [0], [0, 1]]
    assert type(batch["b"]) is list  # as torch's own function returns it for tuples
    assert lists(batch["b"][0]) == [[], [1], [1, 1]]
    assert batch["b"][0].values.dtype == torch.float64
    assert torch.equal(batch["b"][1], torch.arange(3))
    assert lists(batch["c"]) == [[], [1], [1, 1]]
    assert type(batch["d"]) is Pair
    assert batch["d"].x == ["", "x", "xx"]
    assert batch["d"].y.dtype == torch.float64
    assert torch.equal(batch["e"], torch.arange(3))


@pytest.mark.parametrize("workers", [0, 1])
def test_chosen_fields_and_torchs_own_function_for_the_others(workers):
    samples = [{"a": torch.arange(n), "b": torch.full((2,), n), "c": n} for n in (2, 2, 3)]
    (batch,) = batches_of(samples, collate_fn={"a": "ragged"}, num_workers=workers)
    expected = data.default_collate([{"b": each["b"], "c": each["c"]} for each in samples])
    assert lists(batch["a"]) == [[0, 1], [0, 1], [0, 1, 2]]
    assert torch.equal(batch["b"], expected["b"])
    assert torch.equal(batch["c"], expected["c"])


@pytest.mark.parametrize("collate_fn", ["ragged", {"a": "ragged"}])
@pytest.mark.parametrize("workers", [0, 1])
def test_masked_values_are_refused_since_a_tensor_has_no_mask(collate_fn, workers):
    masked = np.ma.masked_less(np.arange(3), 1)
    for index, samples in ((0, [masked, masked]), (1, [np.arange(3), masked]), (1, [np.float64(1), np.ma.masked])):
        if collate_fn == "ragged" or np.ndim(samples[0]):
            with pytest.raises(ValueError, match=rf"sample\['a'\] of index {index}.* is masked.*call filled\(\)"):
                batches_of([{"a": each} for each in samples], collate_fn=collate_fn, num_workers=workers)


class Boxes(torch.Tensor):
    """A tensor of a subclass, as in torchvision."""


@pytest.mark.parametrize("collate_fn", ["ragged", {"a": "ragged"}])
@pytest.mark.parametrize("lengths", [(2, 2), (0, 3)])
@pytest.mark.parametrize("workers", [0, 1])
def test_tensors_of_subclasses_become_plain_ones(collate_fn, lengths, workers):
    for make in (
        lambda n: torch.arange(float(n)).as_subclass(Boxes),
        lambda n: torch.nn.Parameter(torch.arange(float(n))),
    ):
        samples = [{"a": make(n)} for n in lengths] + [{"a": ones(1)}]
        (batch,) = batches_of(samples, collate_fn=collate_fn, num_workers=workers)
        assert lists(batch["a"]) == [[*range(n)] for n in lengths] + [[1]]
        assert not batch["a"].values.requires_grad


@pytest.mark.parametrize(
    "field",
    [1, 1.5, "text", torch.tensor(1), (1, 2), [ones(2)], ones(2, device="meta")],
    ids=str,
)
def test_other_values_in_a_field_that_is_chosen_by_name_raise(field):
    with pytest.raises(ValueError, match=r"chooses sample\['a'\] of index 0"):
        batches_of([{"a": field}] * 2, collate_fn={"a": "ragged"})


MATRIX = torch.tensor(np.where(np.random.default_rng(2).random((9, 20)) < 0.2, np.arange(20.0) - 9, 0))
FORMS = {
    "coo of one axis": lambda row: row[0].to_sparse(),
    "coo": lambda row: row.to_sparse(),
    "csr": lambda row: row.to_sparse_csr(),
    "csc": lambda row: row.to_sparse_csc(),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int16, torch.float64], ids=str)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("workers", [0, 1])
def test_sparse_rows_become_a_csr_tensor(form, dtype, workers):
    rows = [FORMS[form](MATRIX[row : row + 1].to(dtype)) for row in range(9)]
    batches = batches_of(rows, num_workers=workers)
    assert [(batch.layout, batch.dtype, tuple(batch.shape)) for batch in batches] == [
        (torch.sparse_csr, dtype, (size, 20)) for size in (4, 4, 1)
    ]
    assert torch.equal(torch.cat([batch.to_dense() for batch in batches]), MATRIX.to(dtype))


def test_dtype_of_indices_is_kept():
    offsets, columns = torch.tensor([0, 1], dtype=torch.int32), torch.tensor([2], dtype=torch.int32)
    row = torch.sparse_csr_tensor(offsets, columns, ones(1), (1, 4), check_invariants=True)
    (batch,) = batches_of([row, row], num_workers=1)
    assert {batch.crow_indices().dtype, batch.col_indices().dtype} == {torch.int32}


@pytest.mark.parametrize("workers", [0, 1])
def test_rows_of_scipy_become_a_csr_tensor(workers):
    sparse = pytest.importorskip("scipy.sparse")
    matrix = sparse.csr_matrix(MATRIX.numpy().astype(np.float32))
    batches = batches_of([(matrix[row], row) for row in range(9)], num_workers=workers)
    assert {(batch.layout, batch.dtype) for batch, _ in batches} == {(torch.sparse_csr, torch.float32)}
    assert torch.equal(torch.cat([batch.to_dense() for batch, _ in batches]), MATRIX.float())


def test_ragged_and_sparse_batches_are_written_into_the_slot_and_nothing_is_pickled(monkeypatch):
    copies_nothing(monkeypatch)
    long = [torch.full((3000 + n,), n, dtype=torch.bfloat16) for n in range(8)]
    samples = [{"long": long[n], "row": MATRIX[n : n + 1].to_sparse(), "tokens": [n] * n} for n in range(8)]
    loader = mpqueue.torch.DataLoader(samples, 4, collate_fn="ragged", num_workers=1, multiprocessing_context="fork")
    batches = list(loader)
    assert loader.statistics().copies == 0
    assert [tokens for batch in batches for tokens in lists(batch["tokens"])] == [[n] * n for n in range(8)]
    assert torch.equal(torch.cat([batch["row"].to_dense() for batch in batches]), MATRIX[:8])
    assert all(map(torch.equal, [each for batch in batches for each in batch["long"].to_list()], long))


def test_csr_batches_of_a_users_function_are_not_pickled_either(monkeypatch):
    placed = []
    monkeypatch.setattr("mpqueue.frameworks.torch.tensors.tensors.Carried.__reduce__", lambda self: placed.append(self))
    whole = MATRIX.to_sparse_csr()
    loader = mpqueue.torch.DataLoader(
        range(1), batch_size=None, collate_fn=lambda _: whole, num_workers=1, multiprocessing_context="fork"
    )
    (batch,) = loader
    assert batch.layout is torch.sparse_csr
    assert torch.equal(batch.to_dense(), MATRIX)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([ones(1), ones(2).int()], r"index 0 has dtype torch.float32, but index 1 has dtype torch.int32"),
        ([ones(1).bfloat16(), ones(1).short()], r"index 0 has dtype torch.bfloat16, but"),
        ([ones(1, 2), ones(1, 3)], r"index 0 has shape \('n', 2\), but index 1 has shape \('n', 3\)"),
        ([ones(4).to_sparse(), ones(4)], r"index 0 is sparse, but index 1 is dense"),
        ([ones(4).to_sparse(), ones(5).to_sparse()], r"index 0 has 4 columns, but index 1 has 5 columns"),
        ([ones(4).to_sparse(), ones(4).int().to_sparse()], r"index 0 has dtype torch.float32, but index 1"),
        ([ones(2, 2).to_sparse()], r"index 0 has shape \(2, 2\), and a sparse sample is joined as one row"),
        ([{"a": ones(1)}, {"b": ones(1)}], r"index 0 has the keys \['a'\], but index 1 has the keys \['b'\]"),
        ([{"a": ones(1)}, {"a": "x"}], r"sample\['a'\] of index 0 is of type Tensor, but index 1 is of type str"),
    ],
    ids=str,
)
@pytest.mark.parametrize("workers", [0, 1])
def test_samples_that_cannot_be_joined_raise_and_name_both(samples, message, workers):
    with pytest.raises(ValueError, match=message):
        batches_of(samples, num_workers=workers)


def test_a_stream_names_the_number_in_the_batch():
    loader = mpqueue.torch.DataLoader(Stream([ones(1), ones(1).int()]), 2, collate_fn="ragged")
    words = r"sample of index 0 of the batch has dtype torch.float32, but index 1 of the batch"
    with pytest.raises(ValueError, match=words):
        next(iter(loader))


@pytest.mark.parametrize(
    ("samples", "chosen"),
    [
        *(([ones(1), ones(2)], None), ([np.ones(1), np.ones(2)], None), ([[1], [1, 2]], None)),
        ([ones(2).to_sparse()] * 2, None),
        ([{"x": ones(n), "y": ones(n)} for n in (1, 2)], {"x": "ragged"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("workers", [0, 1])
def test_error_of_values_that_are_not_chosen_names_the_remedy(samples, chosen, workers):
    with pytest.raises(RuntimeError) as caught:
        batches_of(samples, collate_fn=chosen, num_workers=workers)
    assert any('collate_fn="ragged"' in note for note in caught.value.__notes__)


def test_bad_choices_raise():
    with pytest.raises(ValueError, match='collate_fn must be "ragged", or a mapping'):
        mpqueue.torch.DataLoader(range(2), collate_fn="padded")
    with pytest.raises(ValueError, match=r"collate_fn\['a'\] must be"):
        mpqueue.torch.DataLoader(range(2), collate_fn={"a": "padded"})
    with pytest.raises(ValueError, match="collate_fn='ragged' joins the samples of a batch: pass batch_size"):
        mpqueue.torch.DataLoader(range(2), batch_size=None, collate_fn="ragged")


TEXTS = [torch.arange(n % 5) for n in range(13)]


@pytest.mark.parametrize("kind", ["map", "iterable", "mpqueue", "stream"])
@pytest.mark.parametrize("workers", [0, 1])
def test_every_kind_of_dataset_has_ragged_batches_and_resumes(kind, workers):
    dataset = {
        "map": lambda: TEXTS, "iterable": lambda: Stream(TEXTS), "mpqueue": lambda: mpqueue.Dataset(TEXTS),
        "stream": lambda: mpqueue.Dataset(TEXTS).filter(lambda text: len(text) != 2),
    }[kind]  # fmt: skip
    options = {"lanes": 1} if kind == "stream" else {}

    def loader():
        return mpqueue.torch.DataLoader(dataset(), 4, collate_fn="ragged", num_workers=workers, **options)

    whole = [lists(batch) for batch in loader()]
    assert [text for batch in whole for text in batch] == [
        text.tolist() for text in TEXTS if kind != "stream" or len(text) != 2
    ]
    first = loader()
    batches = iter_after(first, 1)
    second = continued(loader(), first.state_dict())
    assert [lists(batch) for batch in second] == whole[1:]
    del batches


def test_excluded_samples_leave_ragged_batches():
    loader = mpqueue.torch.DataLoader(TEXTS, 4, collate_fn="ragged", num_workers=1)
    loader.exclude([1, 3, 4])
    assert [lists(batch) for batch in loader][:2] == [[[], [0, 1]], [[], [0], [0, 1]]]


def test_packed_rows_have_whole_fields_in_a_batch():
    documents = [{"tokens": np.arange(1 + n % 3), "image": np.full((n % 2, 4), n), "name": f"{n}"} for n in range(9)]
    rows = mpqueue.Dataset(documents).pack(5, whole=("image", "name"))
    choice = {"image": "ragged", "name": "ragged"}
    loader = mpqueue.torch.DataLoader(rows, 2, collate_fn=choice, num_workers=1, lanes=1)
    names = []
    for batch in loader:
        assert len(batch["name"]) == len(batch["image"].offsets) - 1 == batch["segment_ids"].max(1).values.sum()
        for name, image in zip(batch["name"], batch["image"].to_list(), strict=True):
            assert image.tolist() == [[int(name)] * 4] * (int(name) % 2)
        names += batch["name"]
    assert sorted(names) == [f"{n}" for n in range(9)]


def test_pinned_memory_and_persistent_workers():
    pin = torch.cuda.is_available()
    loader = mpqueue.torch.DataLoader(
        TEXTS, 4, collate_fn="ragged", num_workers=1, persistent_workers=True, pin_memory=pin
    )
    assert [[lists(batch) for batch in loader] for _ in range(2)][1] == [
        [text.tolist() for text in TEXTS[first : first + 4]] for first in range(0, 13, 4)
    ]


# -- Converters


def ragged(*lengths, inner=(), dtype=torch.float32):
    values = torch.arange(sum(lengths) * int(np.prod(inner)), dtype=dtype).reshape(sum(lengths), *inner)
    return Ragged(values, torch.tensor([0, *np.cumsum(lengths)]))


@pytest.mark.parametrize("inner", [(), (3,)], ids=str)
def test_nested_tensor_has_the_samples_and_the_memory_of_the_batch(inner):
    batch = ragged(2, 0, 3, inner=inner)
    nested = mpqueue.torch.to_nested(batch)
    assert (nested.layout, nested.is_nested) == (torch.jagged, True)
    assert nested.values().data_ptr() == batch.values.data_ptr()
    for part, sample in zip(nested.unbind(), batch.to_list(), strict=True):
        assert torch.equal(part, sample)
    with contextlib.suppress(NotImplementedError):  # torch 2.4 does not pad this layout
        assert torch.equal(nested.to_padded_tensor(-1), mpqueue.torch.to_padded(batch, padding=-1))


@pytest.mark.parametrize("inner", [(), (3,)], ids=str)
@pytest.mark.parametrize("lengths", [(2, 0, 3), (0, 0), (4,), ()], ids=str)
@pytest.mark.parametrize("length", [None, 1, 6])
def test_padded_tensor_has_the_samples_and_the_padding(inner, lengths, length):
    batch = ragged(*lengths, inner=inner)
    padded = mpqueue.torch.to_padded(batch, length, padding=-1)
    size = max(lengths, default=0) if length is None else length
    assert (padded.shape, padded.dtype) == ((len(lengths), size, *inner), torch.float32)
    for row, sample in zip(padded, batch.to_list(), strict=True):
        assert torch.equal(row[: len(sample)], sample[:size])
        assert (row[len(sample) :] == -1).all()


@pytest.mark.parametrize("dtype", [*DTYPES, torch.uint32, torch.uint64, torch.float8_e5m2], ids=str)
def test_batches_of_any_dtype_are_padded(dtype):
    samples = [ones(length, 2).to(dtype) for length in (3, 0, 1)]
    loader = mpqueue.torch.DataLoader(samples, batch_size=3, collate_fn="ragged")
    (batch,) = loader
    (dense,) = mpqueue.torch.prefetch(loader, "cpu", dense=True)
    filled = mpqueue.torch.to_padded(batch, 2, padding=1)
    empty = mpqueue.torch.to_padded(Ragged(batch.values[:0], torch.tensor([0, 0])), 1, padding=1)
    assert {dense.dtype, filled.dtype, empty.dtype} == {dtype}
    is_one = (dense.to(torch.complex64) == 1)[..., 0]
    assert is_one.tolist() == [[True] * 3, [False] * 3, [True, False, False]]
    assert (filled.to(torch.complex64) == 1).all() and (empty.to(torch.complex64) == 1).all()
    assert moved_to(torch.device("cpu"), Ragged(batch.values[:0], torch.tensor([0])), dense=True).shape == (0, 0, 2)


@pytest.mark.parametrize("workers", [0, 1])
def test_batch_of_empty_lists_only_is_of_integers(workers):
    loader = mpqueue.torch.DataLoader([[], [], [1], []], batch_size=2, collate_fn="ragged", num_workers=workers)
    assert [batch.values.dtype for batch in loader] == [torch.int64] * 2


def test_padding_of_unsigned_integers_may_be_the_largest_one():
    batch = Ragged(ones(1, dtype=torch.uint64), torch.tensor([0, 0, 1]))
    assert mpqueue.torch.to_padded(batch, padding=2**64 - 1).tolist() == [[2**64 - 1], [1]]


def test_converters_take_arrays():
    batch = Ragged(np.arange(3), np.array([0, 1, 3]))
    assert mpqueue.torch.to_padded(batch).tolist() == [[0, 0], [1, 2]]
    assert [each.tolist() for each in mpqueue.torch.to_nested(batch).unbind()] == [[0], [1, 2]]


# -- prefetch


def test_prefetch_makes_dense_batches_and_counts_the_returned_ones():
    samples = [(MATRIX[n : n + 1].to_sparse(), torch.arange(n % 3), n) for n in range(9)]
    loader = mpqueue.torch.DataLoader(samples, 4, collate_fn="ragged", num_workers=1)
    batches = mpqueue.torch.prefetch(loader, "cpu", dense=True)
    for _ in range(2):
        rows, texts, numbers = zip(*batches, strict=True)
        assert torch.equal(torch.cat(rows), MATRIX)
        assert texts[0].tolist() == [[0, 0], [0, 0], [0, 1], [0, 0]]
        assert torch.equal(torch.cat(numbers), torch.arange(9))
    started = iter_after(batches, 1)
    state = batches.state_dict()
    del started
    again = mpqueue.torch.prefetch(mpqueue.torch.DataLoader(samples, 4, collate_fn="ragged"), "cpu", dense=True)
    again.load_state_dict(state)
    assert torch.equal(torch.cat([batch[0] for batch in again]), MATRIX[4:])


def test_without_dense_the_batches_are_unchanged():
    (batch,) = mpqueue.torch.prefetch(mpqueue.torch.DataLoader(TEXTS[:4], 4, collate_fn="ragged"), "cpu")
    assert lists(batch) == [text.tolist() for text in TEXTS[:4]]
    with pytest.raises(TypeError, match="dense must be True or False"):
        mpqueue.torch.prefetch([], "cpu", dense="yes")


def test_moved_batches_are_dense_in_any_structure():
    batch = {"a": [ragged(1, 2)], "b": (MATRIX.to_sparse_csr(), MATRIX.to_sparse()), "c": "x", "d": ones(1)}
    moved = moved_to(torch.device("cpu"), batch, dense=True)
    assert moved["a"][0].tolist() == [[0, 0], [1, 2]]
    assert all(torch.equal(each, MATRIX) for each in moved["b"])
    assert (moved["c"], moved["d"].tolist()) == ("x", [1])
    kept = moved_to(torch.device("cpu"), batch, dense=False)
    assert type(kept["a"][0]) is Ragged
    assert kept["b"][0].layout is torch.sparse_csr
