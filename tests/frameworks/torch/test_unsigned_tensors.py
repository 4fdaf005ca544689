"""Tensors with dtypes that NumPy or torch's own pickles lack, in a `mpqueue.Loader` and its sources."""

import pytest
import torch
from helpers.computed_source import Computed

import mpqueue

_unsigned = pytest.mark.skipif(not hasattr(torch, "accelerator"), reason="torch 2.4 cannot pickle them")
DTYPES = [
    *(pytest.param(dtype, marks=_unsigned) for dtype in (torch.uint16, torch.uint32, torch.uint64)),
    *(torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16),
]


class Holding:
    """A source that holds tensors, also shared and empty ones, and returns parts of them."""

    def __init__(self, dtype):
        self.shared = torch.arange(3).to(dtype).share_memory_()
        self.parts = torch.arange(3).to(dtype).split(1), torch.empty(0, dtype=dtype)

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return self.shared[index : index + 1], *self.parts[0][index], torch.nn.Parameter(self.parts[1], False)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("method", ["forkserver", "fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_tensors_of_any_dtype_arrive_from_processes(dtype, method):
    with mpqueue.Loader(Holding(dtype), workers=1, start_method=method) as loader:
        for index, batch in enumerate(loader):
            assert [tensor.dtype for tensor in batch] == [dtype] * 3
            assert [tensor.float().tolist() for tensor in batch] == [[index], index, []]
            assert type(batch[2]) is torch.nn.Parameter


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tensors_of_any_dtype_can_be_cached(dtype, tmp_path):
    def tensor(number):
        return {"x": torch.full((3,), number).to(dtype)}

    with mpqueue.Loader(mpqueue.Dataset.range(3).map(tensor).cache(str(tmp_path)), workers=1) as loader:
        for _ in range(2):
            assert [batch["x"].float().tolist() for batch in loader] == [[number] * 3 for number in range(3)]
            assert [batch["x"].dtype for batch in loader] == [dtype] * 3


def test_batch_of_a_dtype_that_numpy_lacks_is_refused_by_name():
    source = Computed(lambda index: torch.full((3,), index).to(torch.float8_e5m2), 4)
    with (
        mpqueue.Loader(source, batch_size=2, workers=1) as loader,
        pytest.raises(TypeError, match=r"torch\.float8_e5m2"),
    ):
        next(iter(loader))
