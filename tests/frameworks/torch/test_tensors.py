"""Tensors sent from a worker to the trainer."""

import collections
import types

import numpy as np
import pytest
import torch
from helpers.torch_batches import Stream, loader_of, through
from helpers.wrapped_functions import wrap

import mpqueue.torch
from mpqueue.memory.writer import SlotWriter

DTYPES = [
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32,
    torch.uint64, torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128,
    torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz,
]  # fmt: skip
Point = collections.namedtuple("Point", ["x", "y"])  # noqa: PYI024


def _bytes_of(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).tolist()


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3, 4)], ids=str)
def test_a_tensor_of_any_dtype_and_shape_arrives_byte_for_byte(shape):
    numbers = torch.arange(24, dtype=torch.float32)[: int(np.prod(shape))].reshape(shape)
    loader = mpqueue.torch.DataLoader(
        range(len(DTYPES)), batch_size=None, num_workers=1, collate_fn=lambda number: numbers.to(DTYPES[number])
    )
    for dtype, got in zip(DTYPES, loader, strict=True):
        made = numbers.to(dtype)
        assert (type(got), got.dtype, got.shape) == (torch.Tensor, dtype, made.shape)
        assert _bytes_of(got) == _bytes_of(made)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_channels_last_keeps_its_memory_order(dtype):
    made = torch.arange(120.0).reshape(2, 3, 4, 5).to(dtype).contiguous(memory_format=torch.channels_last)
    got = through(made.clone)
    assert torch.equal(got, made)
    assert got.stride() == made.stride()


def test_a_tensor_with_gaps_arrives_packed():
    base = torch.arange(20).reshape(4, 5)
    got = through(lambda: (base[::2, ::2], base.t(), base[1, 2:3].expand(3)))
    assert [part.tolist() for part in got] == [[[0, 2, 4], [10, 12, 14]], base.t().tolist(), [7, 7, 7]]


def test_conjugates_and_negatives_arrive_resolved():
    made = torch.tensor([1 + 2j, 3 - 4j])
    got = through(lambda: (made.conj(), made.conj().imag))
    assert torch.equal(got[0], made.conj().resolve_conj())
    assert got[1].tolist() == [-2.0, 4.0]


def test_tensor_is_writable_and_private():
    """Also if the worker's code continues to use the returned tensor."""
    kept = torch.zeros(100_000)
    batches = list(loader_of(lambda: kept.add_(1), 3))
    batches[1] += 100
    assert [float(batch[0]) for batch in batches] == [1, 102, 3]


def test_tensor_and_its_views_hold_the_slot():
    loader = loader_of(lambda: torch.ones(50_000), 12)
    row = next(iter(loader))[7:9]
    assert all(bool((batch == 1).all()) for batch in loader)
    assert row.tolist() == [1, 1]


def test_parts_of_a_batch_keep_their_kinds():
    def make():
        return {
            "named": Point(torch.ones(2), [torch.zeros(1), "text", None]),
            "array": np.arange(3),
            "ordered": collections.OrderedDict(a=torch.ones(1)),
            "object": types.SimpleNamespace(value=torch.arange(5000), inner=[torch.ones(2, dtype=torch.bfloat16)]),
            "numbers": (1, 2.5, True, b"bytes"),
        }

    got = through(make)
    assert type(got["named"]) is Point
    assert torch.equal(got["named"].x, torch.ones(2))
    assert got["named"].y[1:] == ["text", None]
    assert type(got["array"]) is np.ndarray
    assert type(got["ordered"]) is collections.OrderedDict
    assert got["ordered"]["a"].tolist() == [1.0]
    assert torch.equal(got["object"].value, torch.arange(5000))
    assert got["object"].inner[0].dtype is torch.bfloat16
    assert got["numbers"] == (1, 2.5, True, b"bytes")
    got["object"].value += 1
    got["object"].inner[0] += 1


class Tagged(torch.Tensor):
    """A subclass."""


SPECIAL = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "sparse csr": lambda: torch.eye(3).to_sparse_csr(),
    "quantised": lambda: torch.quantize_per_tensor(torch.arange(4.0), 0.5, 1, torch.qint8),
    "subclass": lambda: torch.ones(3).as_subclass(Tagged),
    "parameter": lambda: torch.nn.Parameter(torch.ones(3)),
}


@pytest.mark.filterwarnings("ignore:.*[Ss]parse:UserWarning")
@pytest.mark.filterwarnings("ignore:.*[Qq]uant:UserWarning")
@pytest.mark.filterwarnings("ignore:TypedStorage:UserWarning")
@pytest.mark.parametrize("name", SPECIAL)
def test_tensors_of_other_kinds_are_pickled(name):
    made, got = SPECIAL[name](), through(SPECIAL[name])
    assert (type(got), got.requires_grad) == (type(made), made.requires_grad)
    assert (got.layout, got.is_quantized) == (made.layout, made.is_quantized)
    plain = torch.Tensor.dequantize if made.is_quantized else torch.Tensor.to_dense
    assert torch.equal(plain(made), plain(got))


def test_leaf_that_requires_grad_still_requires_grad():
    got = through(lambda: torch.ones(2, requires_grad=True))
    assert got.requires_grad
    assert got.is_leaf


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: types.SimpleNamespace(t=t)], ids=["bare", "in an object"])
def test_result_of_differentiable_operations_is_rejected_as_in_torch(wrap):
    with pytest.raises(RuntimeError, match="non-leaf tensor which requires_grad"):
        through(lambda: wrap(torch.ones(2, requires_grad=True) * 2))


class Samples:
    """Samples of all kinds that the default collation supports."""

    def __len__(self):
        return 32

    def __getitem__(self, index):
        image = np.full((64, 64, 3), index, np.uint8)
        return {"image": image, "tensor": torch.full((5000,), index, dtype=torch.bfloat16), "label": index}


def test_the_default_collation_stacks_into_the_slot(monkeypatch):
    """Arrays that are in the slot already are not copied when the batch is written."""
    copied = [0]

    def placed(place, self):
        copied.append(sum(array.nbytes for array in self._arrays))
        return place(self)

    def with_copied(getitem, self, index):
        return {**getitem(self, index), "copied": copied[-1]}

    # Inherited by the forked worker, which reports by an item of the batch.
    wrap(monkeypatch, SlotWriter, "place", placed)
    wrap(monkeypatch, Samples, "__getitem__", with_copied)
    for number, batch in enumerate(mpqueue.torch.DataLoader(Samples(), batch_size=8, num_workers=1)):
        assert batch["image"].shape == (8, 64, 64, 3)
        assert batch["image"][:, 0, 0, 0].tolist() == batch["label"].tolist() == list(range(8 * number, 8 * number + 8))
        assert batch["tensor"].dtype is torch.bfloat16
        assert batch["copied"].max() <= 8 * 8 * 2  # only the labels, and these numbers themselves


def _stock_collation(samples):
    """Return the result of torch's own collation in the trainer, or its error."""
    try:
        return torch.utils.data.default_collate(samples)
    except Exception as error:
        return type(error)


COLLATED = [  # in addition to the golden cases of torch
    [np.zeros((2, 3)), np.zeros((2, 3), np.float32)],
    [np.arange(6)[::2], np.arange(6)[::2]],
    [np.arange(3)[::-1], np.arange(3)[::-1]],
    [np.array(["a"]), np.array(["b"])],
    [1, True],
    [1.5, None],
    [np.array([1], ">i4"), np.array([2], ">i4")],
    [np.zeros((0, 2)), np.zeros((0, 2))],
]


@pytest.mark.filterwarnings("ignore:TypedStorage:UserWarning")
def test_collation_equals_torchs():
    """One loader collates all cases, a batch each, and continues after cases that torch rejects."""
    collate = torch.utils.data.default_collate
    loader = mpqueue.torch.DataLoader(
        range(len(COLLATED)), batch_size=1, num_workers=1, collate_fn=lambda numbers: collate(COLLATED[numbers[0]])
    )
    batches = iter(loader)
    for samples in COLLATED:
        expected = _stock_collation(samples)
        if isinstance(expected, type):
            with pytest.raises(expected):
                next(batches)
            continue
        got = next(batches)
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape), samples
        assert torch.equal(got, expected), samples


def test_tensors_of_unlike_dtypes_follow_the_first_as_in_the_workers_of_torch():
    got = through(
        lambda: [torch.zeros(2), torch.ones(2, dtype=torch.float64)], collate_fn=torch.utils.data.default_collate
    )
    assert got.dtype is torch.float32
    assert got.tolist() == [[0, 0], [1, 1]]


FORGOTTEN = "is None: did the code of the dataset forget to return"


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("dataset", "text"),
    [
        ([0, 1, 2, 3, 4, None], f"the sample of index 5 of list {FORGOTTEN}"),
        ([0, 1, None, 3], f"the sample of index 2 of list {FORGOTTEN}"),
        ([torch.ones(2), None], f"the sample of index 1 of list {FORGOTTEN}"),
        ([(0, {"x": 1}), (1, {"x": None})], "the sample of index 1 of list has None at sample[1]['x']: torch cannot"),
        (Stream([0, 1, 2, None]), f"element 1 of a batch of Stream {FORGOTTEN}"),
    ],
)
def test_error_of_torchs_collation_names_the_sample_that_is_none(dataset, text, workers):
    loader = mpqueue.torch.DataLoader(dataset, batch_size=2, num_workers=workers)
    with pytest.raises((TypeError, RuntimeError)) as caught:
        list(loader)
    assert any(note.startswith(text) for note in caught.value.__notes__), caught.value.__notes__


class Shortening(list):
    """A dataset that returns fewer samples than requested."""

    def __getitems__(self, indices):
        return [self[index] for index in indices][1:]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("dataset", "indices", "place"),
    [
        (list, (1, 0, 2), "the sample of index 2"),
        (list, {0, 2}, "the sample of index 2"),
        (list, dict.fromkeys([0, 2]), "the sample of index 2"),
        (list, torch.tensor([1, 2]), "the sample of index tensor(2)"),
        (Shortening, [0, 1, 2], "element 1 of a batch"),
    ],
)
def test_sample_that_is_none_is_named_for_each_kind_of_indices(dataset, indices, place, workers):
    loader = mpqueue.torch.DataLoader(dataset([0, 1, None]), batch_sampler=[indices], num_workers=workers)
    with pytest.raises((TypeError, RuntimeError), match="NoneType") as caught:
        list(loader)
    assert any(note.startswith(f"{place} of {dataset.__name__} {FORGOTTEN}") for note in caught.value.__notes__)


def _counted(samples):
    return len(samples)


def _refusing(samples):
    raise TypeError("of the function")


@pytest.mark.parametrize("workers", [0, 1])
def test_function_of_a_user_may_collate_none_and_its_error_gets_no_hint(workers):
    assert [*mpqueue.torch.DataLoader([None] * 3, batch_size=2, num_workers=workers, collate_fn=_counted)] == [2, 1]
    with pytest.raises(TypeError, match="of the function") as caught:
        list(mpqueue.torch.DataLoader([None] * 3, batch_size=2, num_workers=workers, collate_fn=_refusing))
    assert not any("None" in note for note in getattr(caught.value, "__notes__", ()))
