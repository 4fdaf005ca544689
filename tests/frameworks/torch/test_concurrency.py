"""A worker of `mpqueue.torch.DataLoader` computes several samples of a map-style dataset at once: threads, coroutines."""

import threading

import pytest
import torch
from helpers.computed_source import Computed
from helpers.coroutines import end_out_of_order
from helpers.footprint import DEADLOCK_S
from helpers.torch_batches import Numbers, Stream, continued, lists
from torch.utils import data

import mpqueue
from mpqueue.torch import DataLoader


class Meeting(data.Dataset):
    """Samples that are ready when four of them are computed at the same time."""

    def __init__(self):
        self.barriers = {}

    def __len__(self):
        return 16

    def meet(self, number):
        self.barriers.setdefault(number, threading.Barrier(4)).wait(DEADLOCK_S)

    def __getitem__(self, index):
        self.meet(index // 4)
        info = data.get_worker_info()
        return index, mpqueue.rng().random(), torch.full((3,), index), info.id


class Parts(Meeting):
    thread_safe = True

    def __getitems__(self, indices):
        self.meet(indices[0] // 8)
        return indices


class Plain(Meeting):
    def meet(self, number):
        pass


def test_samples_are_computed_concurrently_and_equal_those_of_one_thread():
    def taken(dataset, threads):
        torch.manual_seed(3)
        loader = DataLoader(dataset, batch_size=8, num_workers=2, threads=threads)
        return [[leaf.tolist() for leaf in batch] for _ in range(2) for batch in loader]

    batches = taken(Meeting(), 4)
    assert [batch[0] for batch in batches] == [list(range(8)), list(range(8, 16))] * 2
    assert batches == taken(Plain(), 1)
    drawn = mpqueue.Dataset(Plain()).map(lambda sample: (sample[0], mpqueue.rng().random()))
    assert taken(drawn, 3) == taken(drawn, 1)


class WaitsForTheNext(Plain):
    """A sample of batch 1 is ready when one of batch 2 has started."""

    def __init__(self):
        self.events = {}  # created in the worker: an event cannot be sent there

    def __getitem__(self, index):
        is_begun = self.events.setdefault("is begun", threading.Event())
        if index == 8:
            is_begun.set()
        if index == 4:
            assert is_begun.wait(DEADLOCK_S)
        return index


@pytest.mark.skipif(not hasattr(torch, "accelerator"), reason="torch before 2.6 has no in_order")
@pytest.mark.parametrize("in_order", [True, False])
def test_samples_of_the_next_batch_start_while_one_waits(in_order):
    options = {"num_workers": 1, "threads": 2, "prefetch_factor": 4, "in_order": in_order}
    loader = DataLoader(WaitsForTheNext(), batch_size=4, **options)
    for _ in range(2):
        assert [batch.tolist() for batch in loader] == [list(range(first, first + 4)) for first in range(0, 16, 4)]


def test_parts_of_a_batch_are_requested_concurrently():
    loader = DataLoader(Parts(), batch_size=8, num_workers=1, threads=4)
    assert [batch.tolist() for batch in loader] == [list(range(8)), list(range(8, 16))]


class Awaited(Numbers):
    """Samples that end in another order than they begin."""

    async def __getitem__(self, index):
        await end_out_of_order(index)
        return torch.tensor([index, 2 * index])


class AwaitedAtOnce(Awaited):
    async def __getitems__(self, indices):
        return [await self[index] for index in indices]


PAIRS = Computed(lambda index: torch.tensor([index, 2 * index]), 21)


@pytest.mark.parametrize("kind", [Awaited, AwaitedAtOnce])
@pytest.mark.parametrize(
    "options",
    [{"batch_size": 4, "shuffle": True}, {"batch_size": None}, {"batch_sampler": [[3, 1], [0], [7, 5, 6]]}],
)
@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_of_coroutines_equal_those_of_a_plain_dataset(kind, options, num_workers):
    def taken(dataset, **more):
        generator = torch.Generator().manual_seed(5)
        loader = DataLoader(dataset, num_workers=num_workers, generator=generator, **options, **more)
        return lists(loader), lists(loader)

    assert taken(kind(21)) == taken(kind(21), concurrency=3) == taken(PAIRS)


def test_state_of_coroutines_resumes_in_the_middle():
    loader = DataLoader(Awaited(21), 4, num_workers=2)
    batches = iter(loader)
    taken = [next(batches).tolist() for _ in range(2)]
    again = continued(DataLoader(Awaited(21), 4, num_workers=1), loader.state_dict())
    assert taken + lists(again) == lists(DataLoader(PAIRS, 4))


@pytest.mark.parametrize(
    ("dataset", "options", "kind", "text"),
    [
        (Awaited(), {}, ValueError, "concurrency=n"),
        (PAIRS, {"threads": 1, "concurrency": 2}, ValueError, "async def __getitem__"),
        (Awaited(), {"threads": 1, "concurrency": 0}, ValueError, "1 or more"),
        (Plain(), {"num_workers": 0}, ValueError, "threads=2 .*num_workers=0"),
        (Stream(range(3)), {}, ValueError, "needs a map-style dataset.*got Stream"),
        (Plain(), {"batch_size": None}, ValueError, "batch_size=None"),
        (data.Subset(Plain(), [1, 2]), {}, ValueError, "Subset has __getitems__.*thread_safe = True"),
        (Plain(), {"threads": "2"}, TypeError, "threads must be an integer, got '2'"),
    ],
)
def test_options_without_effect_are_rejected(dataset, options, kind, text):
    with pytest.raises(kind, match=text):
        DataLoader(dataset, **{"num_workers": 1, "threads": 2, **options})


def test_subset_may_be_declared_thread_safe():
    subset = data.Subset(Plain(), [3, 2, 1])
    subset.thread_safe = True
    (batch,) = DataLoader(subset, batch_size=3, num_workers=1, threads=2)
    assert batch[0].tolist() == [3, 2, 1]
