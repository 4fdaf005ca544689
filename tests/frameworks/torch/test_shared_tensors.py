"""Tensors in sources: those in shared memory remain shared with workers, and those of any dtype arrive."""

import os
import pickle

import pytest
import torch
from helpers.computed_source import Computed
from helpers.engine_parts import work_items_of

import mpqueue.torch
from mpqueue.backends.sending import shared_tensors
from mpqueue.backends.sending.source_send import take_image


class Follows:
    """Returns the present values of tensors that the trainer writes to."""

    def __init__(self):
        self.epoch = torch.tensor(0).share_memory_()
        self.table = torch.arange(6.0, dtype=torch.float64).share_memory_()
        self.view = self.table[2:4]

    def __len__(self):
        return 4

    def __getitem__(self, index):
        self.table[4] = 100 + index
        return torch.tensor([index, int(self.epoch), self.table[2], self.view[0]])

    def write(self, epoch):
        self.epoch.fill_(epoch)
        self.table[2] = 10 * epoch


def seen(loader, epoch):
    return [(index, epoch, 10 * epoch, 10 * epoch) for index in range(4)] == [tuple(row.tolist()) for row in loader]


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_persistent_workers_see_what_the_trainer_writes(method):
    source = Follows()
    loader = mpqueue.torch.DataLoader(
        source, batch_size=None, num_workers=1, persistent_workers=True, multiprocessing_context=method
    )
    for epoch in range(3):
        source.write(epoch)
        assert seen(loader, epoch)
        assert source.table[4] == 103  # the trainer sees the values that workers write


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("options", [{}, {"backend": "thread"}])
def test_loader_computes_no_epoch_before_the_trainer_writes(workers, options):
    source = Follows()
    with mpqueue.Loader(source, workers=workers, **options) as loader:
        for epoch in range(4):
            source.write(epoch)
            assert seen(loader, epoch)
            assert not work_items_of(loader)


def test_images_keep_no_descriptor_and_differ_by_no_write():
    source = Follows()
    first = take_image(source)
    num_open = len(os.listdir("/proc/self/fd"))
    source.write(7)
    assert take_image(source).data == first.data
    assert len(os.listdir("/proc/self/fd")) == num_open


def test_tensor_without_description_is_sent_by_value(monkeypatch):
    source = Follows()
    monkeypatch.setattr(shared_tensors, "_is_readable", lambda: False)
    assert b"/proc/" not in take_image(source).data
    monkeypatch.undo()
    assert b"/proc/" in take_image(source).data
    assert b"/proc/" not in take_image(source, is_local=False).data  # for another machine
    assert b"/proc/" not in take_image(torch.arange(6)).data


@pytest.mark.parametrize("is_shared", [True, False])
def test_tensor_of_a_file_is_sent_by_value(tmp_path, is_shared):
    path = tmp_path / "table"
    path.write_bytes(torch.arange(6, dtype=torch.uint8).numpy().tobytes())
    table = torch.from_file(str(path), shared=is_shared, size=6, dtype=torch.uint8)
    image = take_image(table)
    assert pickle.loads(image.data, buffers=image.buffers).tolist() == [0, 1, 2, 3, 4, 5]
    assert b"/proc/" not in image.data


def test_released_memory_of_the_trainer_is_not_mistaken_for_other_memory():
    source = Follows()
    open_storage, (path, inode, nbytes, dtype) = shared_tensors.reduced(source.table.untyped_storage())
    with pytest.raises(OSError, match="released a shared tensor"):
        open_storage(path, inode + 1, nbytes, dtype)
    view = torch.empty(0, dtype=torch.float64).set_(open_storage(path, inode, nbytes, dtype))
    source.table[5] = 55
    assert view[5] == 55


class Large:
    """Returns parts of large tensors, and where their memory is."""

    def __init__(self):
        self.table = torch.arange(1 << 17, dtype=torch.float32)
        self.transposed = self.table.view(2, -1).T
        self.same = self.table
        self.kinds = [torch.arange(1 << 17).to(kind) for kind in (torch.bfloat16, torch.uint16, torch.bool)]
        self.parameter = torch.nn.Parameter(torch.zeros(1 << 16))

    def __len__(self):
        return 4

    def __getitem__(self, index):
        self.table[index] += 100  # only in this worker
        positions = [*self.kinds, self.transposed, self.parameter.data, self.table]
        lines = open("/proc/self/maps").read().splitlines()
        return {
            "values": [float(self.transposed[index + 10, 1]), *(float(kind[index + 10]) for kind in self.kinds)],
            "kinds": [str(kind.dtype) for kind in self.kinds],
            "strides": self.transposed.stride(),
            "trains": self.parameter.requires_grad and type(self.parameter) is torch.nn.Parameter,
            "same": self.same is self.table,
            "mapped": [any(holds(line, each.data_ptr()) for line in lines) for each in positions],
        }


def holds(line, address):
    start, end = (int(number, 16) for number in line.split()[0].split("-"))
    return start <= address < end and "memfd" in line


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_large_tensors_are_mapped_by_the_workers(method):
    source = Large()
    with mpqueue.Loader(source, workers=2, start_method=method) as loader:
        for index, found in enumerate(loader):
            assert found == {
                "values": [float((1 << 16) + index + 10), index + 10, index + 10, 1.0],
                "kinds": ["torch.bfloat16", "torch.uint16", "torch.bool"],
                "strides": (1, 1 << 16),
                "trains": True,
                "same": True,
                "mapped": [True] * 6,
            }
        source.table[:] = 7
        assert [found["values"][0] for found in loader] == [7] * 4
    assert source.table[0] == 7


# -- Dtypes that NumPy or torch's own pickles lack

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
