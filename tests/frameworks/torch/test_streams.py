"""Streams in torch's loader: a `mpqueue.Dataset` behind a filter, and iterable-style datasets that say where they are."""

import pickle

import pytest
import torch
from torch.utils import data

import mpqueue.torch
from mpqueue.torch import DataLoader
from mpqueue.worker import lane_runner

STREAM = (
    mpqueue.Dataset.range(400)
    .shuffle()
    .map(lambda x: {"x": x, "drawn": mpqueue.rng().random()})
    .filter(lambda sample: sample["x"] % 10 != 0)
    .shuffle(buffer=8)
)


def plain(batches):
    return [{name: column.tolist() for name, column in batch.items()} for batch in batches]


def made(**options):
    return DataLoader(STREAM, generator=torch.Generator().manual_seed(3), **options)


@pytest.fixture
def many_snapshots(monkeypatch):
    monkeypatch.setattr(lane_runner, "_BETWEEN_NS", 0)
    monkeypatch.setattr(lane_runner, "_WORK_PER_SAVE", 0)


def test_a_stream_is_the_same_for_any_workers_and_another_in_each_epoch():
    alone = made(batch_size=8)
    epochs = [plain(alone), plain(alone)]
    assert epochs[0] != epochs[1]
    for epoch in epochs:
        assert sorted(x for batch in epoch for x in batch["x"]) == [x for x in range(400) if x % 10]
    for options in ({"num_workers": 1}, {"num_workers": 3, "persistent_workers": True}):
        loader = made(batch_size=8, **options)
        assert plain(loader) == epochs[0]
        if not options.get("persistent_workers"):  # or the workers keep their seed, and only the epoch is another
            assert plain(loader) == epochs[1]


@pytest.mark.parametrize("workers", [0, 2])
def test_elements_are_those_of_torchs_own_loaders(workers):
    (one, *_) = made(batch_size=None, num_workers=workers)
    assert isinstance(one["x"], int)
    assert isinstance(one["drawn"], float)
    (first, *_) = made(batch_size=8, num_workers=workers)
    assert first["x"].dtype == torch.int64
    assert first["drawn"].dtype == torch.float64
    batches = list(DataLoader(STREAM.map(lambda x: x["x"]).batch(8), batch_size=None, num_workers=workers))
    assert all(isinstance(batch, torch.Tensor) for batch in batches)
    assert sum(len(batch) for batch in batches) == 360
    joined = list(DataLoader(STREAM, batch_size=4, collate_fn=len, drop_last=True, num_workers=workers))
    assert set(joined) == {4}


@pytest.mark.parametrize(("before", "after"), [(0, 2), (2, 0), (2, 3)])
@pytest.mark.usefixtures("many_snapshots")
def test_a_state_goes_on_with_any_workers_from_its_snapshots(before, after):
    whole = plain(made(batch_size=4))
    loader = made(batch_size=4, num_workers=before)
    batches = iter(loader)
    seen = plain(next(batches) for _ in range(50))
    state = loader.state_dict()
    assert any(start is not None for start in state["place"]["starts"])
    other = DataLoader(STREAM, batch_size=4, num_workers=after)
    other.load_state_dict(pickle.loads(pickle.dumps(state)))
    assert seen + plain(other) == whole
    assert plain(other) != whole  # the next pass


def test_a_state_goes_into_a_loader_whose_workers_live_on():
    loader = made(batch_size=4, num_workers=1, persistent_workers=True)
    first, second = plain(loader), plain(loader)
    batches = iter(loader)
    for _ in range(10):
        next(batches)
    state = loader.state_dict()
    rest = plain(batches)
    other = made(batch_size=4, num_workers=2, persistent_workers=True)
    assert [plain(other) for _ in range(2)] == [first, second]
    plain(other), plain(other)
    other.load_state_dict(state)
    assert plain(other) == rest


def test_a_state_of_another_dataset_or_batch_size_is_refused():
    loader = made(batch_size=4)
    next(iter(loader))
    for other in (DataLoader(STREAM, batch_size=8), DataLoader(STREAM.take(80), batch_size=4)):
        other.load_state_dict(loader.state_dict())
        with pytest.raises(ValueError, match="the state is of another dataset"):
            next(iter(other))


def test_bad_input_is_refused_with_words():
    with pytest.raises(ValueError, match="shuffle"):
        made(batch_size=4, shuffle=True)
    with pytest.raises(TypeError, match=r"stage 3, filter.*mpqueue\.torch\.DataLoader"):
        next(iter(data.DataLoader(STREAM, batch_size=4)))


class Counted(data.IterableDataset):
    """Numbers that are listed where they are read."""

    def __init__(self, num):
        self.num, self.at, self.begins_at, self.read = num, 0, 0, []

    def __iter__(self):
        for number in range(self.begins_at, self.num):
            self.read.append(number)
            self.at = number + 1
            yield number, len(self.read)

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.begins_at = state["at"]


@pytest.mark.parametrize(("before", "after"), [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.usefixtures("many_snapshots")
def test_an_iterable_dataset_with_a_state_is_not_read_from_its_beginning(before, after):
    loader = DataLoader(Counted(40), batch_size=2, num_workers=before)
    batches = iter(loader)
    seen = [number for _ in range(15) for number in next(batches)[0].tolist()]
    other = DataLoader(Counted(40), batch_size=2, num_workers=after)
    other.load_state_dict(loader.state_dict())
    rest = [pair for numbers, read in other for pair in zip(numbers.tolist(), read.tolist(), strict=True)]
    assert seen + [number for number, _ in rest] == list(range(40))
    assert rest[0][1] <= 4  # of one batch, computed again, at most
    assert [number for numbers, _ in other for number in numbers.tolist()] == list(range(40))


@pytest.mark.usefixtures("many_snapshots")
def test_an_iterator_with_a_state_is_not_read_from_its_beginning_in_two_workers():
    class Numbers:
        def __init__(self, first, step):
            self.at, self.step, self.num_read = first, step, 0

        def __iter__(self):
            return self

        def __next__(self):
            if self.at >= 80:
                raise StopIteration
            number, self.at, self.num_read = self.at, self.at + self.step, self.num_read + 1
            return number, self.num_read

        def state_dict(self):
            return {"at": self.at}

        def load_state_dict(self, state):
            self.at = state["at"]

    class Stream(data.IterableDataset):
        def __iter__(self):
            worker = data.get_worker_info()
            return Numbers(worker.id, worker.num_workers)

    loader = DataLoader(Stream(), batch_size=2, num_workers=2)
    batches = iter(loader)
    seen = [number for _ in range(30) for number in next(batches)[0].tolist()]
    other = DataLoader(Stream(), batch_size=2, num_workers=2)
    other.load_state_dict(loader.state_dict())
    rest = [pair for numbers, read in other for pair in zip(numbers.tolist(), read.tolist(), strict=True)]
    assert sorted(seen + [number for number, _ in rest]) == list(range(80))
    assert max(read for _, read in rest[:4]) <= 4
