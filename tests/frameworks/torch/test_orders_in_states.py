"""States of map-style datasets describe their order: another order is an error, and no pass after a load is empty."""

import contextlib
import json
import random

import pytest
import torch
from helpers.torch_batches import Noisy, continued
from torch.utils import data

import mpqueue.torch
from mpqueue.frameworks.torch.order import order

stateful = pytest.importorskip("torchdata.stateful_dataloader")

pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
CLASSES = {
    "mpqueue": lambda: mpqueue.torch.DataLoader,
    "installed": lambda: data.DataLoader,
    "torchdata": lambda: stateful.StatefulDataLoader,
}


@pytest.fixture(params=CLASSES)
def loader_class(request):
    with contextlib.nullcontext() if request.param == "mpqueue" else mpqueue.torch.install():
        yield CLASSES[request.param]()


class Shuffled(data.Sampler):
    """A sampler without a state: an order that follows from a seed, or from Python's generator."""

    def __init__(self, length=24, seed=1):
        self.length, self.seed = length, seed

    def __iter__(self):
        order = list(range(self.length))
        (random if self.seed is None else random.Random(self.seed)).shuffle(order)
        return iter(order)

    def __len__(self):
        return self.length


class InBatches(Shuffled):
    """A custom batch sampler."""

    size = 4

    def __iter__(self):
        order = list(super().__iter__())
        return (order[first : first + self.size] for first in range(0, self.length, self.size))

    def __len__(self):
        return (self.length + self.size - 1) // self.size


class WithoutLength:
    """An order without a length."""

    def __init__(self, *args):
        self.order = Shuffled(*args)

    def __iter__(self):
        return iter(self.order)


class Share(Shuffled):
    """A rank's share of an order, without padding."""

    def __init__(self, rank, world):
        super().__init__(101)
        self.rank, self.world = rank, world

    def __iter__(self):
        return iter(list(super().__iter__())[self.rank :: self.world])

    def __len__(self):
        return len(range(self.rank, self.length, self.world))


def of_ranks(world):
    return {"sampler": data.DistributedSampler(range(48), world, 0, seed=3)}


def after(loader, count):
    batches = iter(loader)
    seen = [next(batches).tolist() for _ in range(count)]
    return batches, seen, json.loads(json.dumps(loader.state_dict()))


OTHERS = {
    "shorter": ({}, {}, 20),
    "shorter, shuffled": ({"shuffle": True}, {"shuffle": True}, 20),
    "longer, shuffled": ({"shuffle": True}, {"shuffle": True}, 28),
    "shuffled": ({}, {"shuffle": True}, 24),
    "in order": ({"shuffle": True}, {}, 24),
    "batch size": ({}, {"batch_size": 3}, 24),
    "another seed": ({"sampler": Shuffled()}, {"sampler": Shuffled(seed=2)}, 24),
    "another length": ({"sampler": Shuffled()}, {"sampler": Shuffled(23)}, 24),
    "another class": ({"sampler": Shuffled()}, {"sampler": WithoutLength()}, 24),
    "without a length": ({"sampler": WithoutLength(24)}, {"sampler": WithoutLength(12)}, 24),
    "batch sampler, seed": ({"batch_sampler": InBatches()}, {"batch_sampler": InBatches(seed=2)}, 24),
    "batch sampler, length": ({"batch_sampler": InBatches()}, {"batch_sampler": InBatches(20)}, 24),
    "torch's batch sampler": (
        {"batch_sampler": data.BatchSampler(Shuffled(), 4, False)},
        {"batch_sampler": data.BatchSampler(Shuffled(), 3, False)}, 24,
    ),
    "ranks": (of_ranks(2), of_ranks(3), 24),
    "shares of ranks": ({"sampler": Share(0, 3)}, {"sampler": Share(0, 2)}, 101),
}  # fmt: skip


def make(loader_class, options, length, workers):
    sizes = {} if "batch_sampler" in options else {"batch_size": 4}
    return loader_class(range(length), num_workers=workers, **sizes | options)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", OTHERS)
def test_state_of_another_order_is_a_value_error(loader_class, kind, workers):
    options, changed, length = OTHERS[kind]
    size = 101 if "shares" in kind else 48 if kind == "ranks" else 24
    batches, _, state = after(make(loader_class, options, size, workers), 5)
    del batches
    other = make(loader_class, changed, max(length, size) if "ampler" in str(changed) else length, workers)
    with pytest.raises(ValueError, match=r"samples of this epoch would be repeated or missing") as raised:
        other.load_state_dict(state)
        next(iter(other))
    assert "state was saved" in str(raised.value)
    assert "this loader" in str(raised.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_dataset_in_order_may_have_grown_after_whole_batches(workers):
    _, _, state = after(make(mpqueue.torch.DataLoader, {}, 22, workers), 4)
    longer = continued(make(mpqueue.torch.DataLoader, {}, 25, workers), state)
    assert [batch.tolist() for batch in longer] == [[16, 17, 18, 19], [20, 21, 22, 23], [24]]
    _, _, state = after(make(mpqueue.torch.DataLoader, {}, 22, workers), 6)
    longer.load_state_dict(state)
    with pytest.raises(ValueError, match="fingerprint"):  # the last batch had two samples
        next(iter(longer))


@pytest.mark.parametrize("workers", [0, 1])
def test_state_at_the_last_batch_is_the_end_and_others_are_not(workers):
    _, seen, state = after(make(mpqueue.torch.DataLoader, {"sampler": Shuffled()}, 24, workers), 6)
    loader = continued(make(mpqueue.torch.DataLoader, {"sampler": Shuffled()}, 24, workers), state)
    assert [batch.tolist() for batch in loader] == []
    assert [batch.tolist() for batch in loader] == seen
    del state["drawn"]
    state["order"] = "Shuffled"
    loader = continued(make(mpqueue.torch.DataLoader, {"sampler": Shuffled(8)}, 24, workers), state)
    with pytest.raises(ValueError, match="only 2 batches"):
        next(iter(loader))


@pytest.mark.parametrize("changes", [{"version": 1}, {"version": 3, "place": 0}])
def test_state_of_another_version_raises(changes):
    _, _, state = after(make(mpqueue.torch.DataLoader, {}, 24, 0), 3)
    with pytest.raises(ValueError, match=f"has version {changes['version']}, and this release reads version 2"):
        make(mpqueue.torch.DataLoader, {}, 24, 0).load_state_dict(state | changes)


@pytest.mark.parametrize("workers", [0, 1])
def test_other_rank_may_have_another_share(monkeypatch, workers):
    """All ranks load the state of the first one, and the sampler of each rank selects its share."""
    _, _, state = after(make(mpqueue.torch.DataLoader, {"sampler": Share(0, 3)}, 101, workers), 5)
    monkeypatch.setattr(order, "rank_and_world", lambda: (2, 3))
    loader = continued(make(mpqueue.torch.DataLoader, {"sampler": Share(2, 3)}, 101, workers), state)
    batches, seen, own = after(loader, 1)
    assert own["rank"] == 2
    assert seen == [list(Share(2, 3))[20:24]]
    loader.load_state_dict(own)
    assert [batch.tolist() for batch in loader] == [batch.tolist() for batch in batches]
    loader = make(mpqueue.torch.DataLoader, {"sampler": Share(1, 3)}, 101, workers)
    with pytest.raises(ValueError, match="repeated or missing"):
        loader.load_state_dict(own)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("taken", [0, 2, 6])
def test_sampler_whose_state_is_its_place_resumes_in_its_second_epoch(workers, taken):
    def make():
        numbers = Noisy(24)
        sampler = stateful.sampler.StatefulDistributedSampler(numbers, 2, 1, seed=3)
        return stateful.StatefulDataLoader(numbers, 2, sampler=sampler, num_workers=workers)

    def indices(batches):
        return [batch.tolist() for batch, _ in batches]

    with mpqueue.torch.install():
        loader, other = make(), make()
        whole = indices(loader)
        loader.sampler.set_epoch(1)
        batches = iter(loader)
        seen = indices(next(batches) for _ in range(taken))
        other.load_state_dict(loader.state_dict())
        rest = indices(other)
        assert [*seen, *rest] == indices(make_second(make)) != whole


def make_second(make):
    loader = make()
    loader.sampler.set_epoch(1)
    return loader


class HasNoLength:
    """An unknown number of batches, as in torch_geometric's `DynamicBatchSampler`."""

    def __iter__(self):
        return iter([[0, 1], [2, 3], [4, 5], [6, 7]])

    def __len__(self):
        raise ValueError("the length is undefined")


@pytest.mark.parametrize("workers", [0, 1])
def test_length_of_a_batch_sampler_may_raise_any_exception(workers):
    def make():
        return mpqueue.torch.DataLoader(torch.arange(8), batch_sampler=HasNoLength(), num_workers=workers)

    loader = make()
    batches = iter(loader)
    first = next(batches).tolist()
    resumed = continued(make(), loader.state_dict())
    assert [first, *(batch.tolist() for batch in resumed)] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    with pytest.raises(ValueError, match="undefined"):
        len(loader)
