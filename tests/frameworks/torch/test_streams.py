"""Streams in torch's loader: a `mpqueue.Dataset` after a filter, and iterable-style datasets with a state."""

import itertools
import pickle
import random

import numpy as np
import pytest
import torch
from helpers.gates import Gate, pass_gate
from helpers.numbered_batches import iter_after
from helpers.torch_batches import HasPosition, Stream, continued
from torch.utils import data

import mpqueue.torch
from mpqueue.frameworks.torch.iterator import PassIterator
from mpqueue.torch import DataLoader

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


@pytest.mark.parametrize("workers", [0, 2])
def test_elements_equal_those_of_torchs_own_loaders(workers):
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
def test_state_resumes_with_any_workers_from_its_snapshots(before, after):
    whole = plain(made(batch_size=4))
    loader = made(batch_size=4, num_workers=before)
    batches = iter(loader)
    seen = plain(next(batches) for _ in range(50))
    state = loader.state_dict()
    assert any(start is not None for start in state["place"]["starts"])
    other = continued(DataLoader(STREAM, batch_size=4, num_workers=after), state)
    assert seen + plain(other) == whole
    assert plain(other) != whole  # the next pass


def made_by_a_library(seed=3, **options):
    """Return a loader of torch's own class, with the same dataset."""
    return data.DataLoader(made().dataset, batch_size=8, generator=torch.Generator().manual_seed(seed), **options)


@pytest.mark.parametrize(("before", "after"), [(0, 2), (1, 0), (2, 1)])
def test_stream_in_torchs_loader_has_one_lane_per_worker_and_resumes_under_install(before, after):
    """Each pass yields the batches of mpqueue's loader with the same number of lanes, also without workers."""
    ours = made(batch_size=8, lanes=max(1, before))
    expected = [plain(ours), plain(ours)]
    assert expected[0] != expected[1]
    with mpqueue.torch.install():
        loader = made_by_a_library(num_workers=before)
        iterator = iter(loader)
        assert type(iterator) is PassIterator
        assert [plain(iterator), plain(loader)] == expected
        loader = made_by_a_library(num_workers=before)
        batches = iter(loader)
        taken = plain(itertools.islice(batches, 3))
        state = pickle.loads(pickle.dumps(loader.state_dict()))
        del batches
        other = continued(made_by_a_library(9, num_workers=after), state)
        assert [taken + plain(other), plain(other)] == expected


def test_state_of_another_dataset_or_batch_size_is_rejected():
    loader = made(batch_size=4)
    next(iter(loader))
    for other in (DataLoader(STREAM, batch_size=8), DataLoader(STREAM.take(80), batch_size=4)):
        with pytest.raises(ValueError, match="the state was saved for another dataset"):
            other.load_state_dict(loader.state_dict())


def test_bad_input_is_rejected_with_a_message():
    with pytest.raises(ValueError, match="shuffle"):
        made(batch_size=4, shuffle=True)
    with pytest.raises(TypeError, match=r"stage 3, filter.*mpqueue\.torch\.DataLoader"):
        next(iter(data.DataLoader(STREAM, batch_size=4)))


def ranked(rank, world, **options):
    return made(batch_size=4, shard=(rank, world), **options)


def taken(loader, count):
    """Return the first batches of a pass, and the state after them."""
    batches = iter(loader)
    return plain(next(batches) for _ in range(count)), loader.state_dict()


def in_turn(ranks):
    return [batch for step in zip(*ranks, strict=True) for batch in step]


@pytest.mark.filterwarnings("ignore:2 ranks share a stream")
def test_ranks_share_the_lanes_of_one_stream():
    whole = [plain(ranked(rank, 2, num_workers=rank)) for rank in range(2)]
    alone = plain(made(batch_size=4))
    count = min(map(len, whole)) // 2
    assert in_turn([rank[:count] for rank in whole]) == alone[: 2 * count]
    assert sorted(x for rank in whole for batch in rank for x in batch["x"]) == [x for x in range(400) if x % 10]
    with pytest.warns(UserWarning, match="epoch_batches=n"):
        ranked(0, 2)


@pytest.mark.parametrize("lanes", [None, 4, 6])
def test_order_depends_on_the_number_of_lanes(lanes):
    options = {} if lanes is None else {"lanes": lanes}
    dataset = STREAM.batch(4)
    base_seed = torch.empty((), dtype=torch.int64).random_(generator=torch.Generator().manual_seed(3))  # as torch does
    with mpqueue.Loader(dataset, workers=0, seed=int(base_seed), **options) as loader:
        whole = [{name: column.tolist() for name, column in batch.items()} for batch in loader]
    assert plain(made(batch_size=4, num_workers=1, **options)) == whole


@pytest.mark.parametrize(("workers", "is_persistent"), [(0, False), (1, False), (1, True)])
def test_epochs_of_an_endless_stream_are_consecutive(workers, is_persistent):
    options = {"num_workers": workers, "lanes": 4, "persistent_workers": is_persistent}
    one = plain(made(batch_size=4, lanes=4, epoch_batches=140))
    loader = made(batch_size=4, epoch_batches=40, **options)
    assert len(loader) == 40
    assert plain(loader) == one[:40]
    assert taken(loader, 15)[0] == one[40:55]  # an unfinished pass
    assert plain(loader) == one[55:95]
    between = loader.state_dict()
    _, midway = taken(loader, 5)
    for state, rest in ((between, one[95:]), (midway, one[100:])):
        other = continued(DataLoader(STREAM, batch_size=4, lanes=4, epoch_batches=40, num_workers=1 - workers), state)
        assert plain(other) == rest[: 40 if state is between else 35]


@pytest.mark.usefixtures("many_snapshots")
@pytest.mark.parametrize(("before", "after"), [(2, 4), (4, 1), (2, 2)])
def test_states_of_all_ranks_resume_with_any_number_of_ranks(before, after):
    whole = plain(made(batch_size=4, epoch_batches=80))
    ranks = [ranked(rank, before, epoch_batches=80 // before, num_workers=rank % 2) for rank in range(before)]
    seen, states = zip(*(taken(loader, 40 // before) for loader in ranks), strict=True)
    assert in_turn(seen) == whole[:40]
    others = [ranked(rank, after, epoch_batches=80 // after, num_workers=rank % 2) for rank in range(after)]
    for loader in others:
        loader.load_state_dict(pickle.loads(pickle.dumps(states[::-1])))
    assert in_turn([plain(loader) for loader in others]) == whole[40:]


def test_one_state_resumes_its_rank_and_missing_states_are_named():
    options = {"epoch_batches": 30}
    _, state = taken(ranked(1, 2, **options), 10)
    ranked(1, 2, **options).load_state_dict(state)
    with pytest.raises(ValueError, match=r"lanes 0, 2, .* are missing.*Got: rank 1 of 2.*rank 0$"):
        ranked(0, 2, **options).load_state_dict(state)
    with pytest.raises(ValueError, match="1 of 2 states were saved within or after a pass"):
        ranked(0, 2, **options).load_state_dict([state, DataLoader(STREAM).state_dict()])
    of_numbers = DataLoader(range(4))
    with pytest.raises(ValueError, match="only a stream with ranks"):
        of_numbers.load_state_dict([of_numbers.state_dict()] * 2)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("epoch_batches", [None, 5])
def test_state_with_another_epoch_batches_is_rejected_when_loaded(workers, epoch_batches):
    _, state = taken(made(batch_size=4, epoch_batches=40, num_workers=workers), 3)
    other = made(batch_size=4, epoch_batches=epoch_batches)
    with pytest.raises(ValueError, match=f"epoch_batches must be 40, .* got {epoch_batches}"):
        other.load_state_dict(state)
    made(batch_size=4, epoch_batches=40).load_state_dict(state)


@pytest.mark.parametrize("workers", [0, 1])
def test_state_of_another_kind_of_dataset_is_rejected_when_loaded(workers):
    loaders = {
        "map-style": lambda: DataLoader(range(9), batch_size=2, num_workers=workers),
        "iterable-style": lambda: DataLoader(Stream(range(9)), batch_size=2, num_workers=workers),
        "iterable-style stages": lambda: made(batch_size=4, num_workers=workers),
    }
    states = {}
    for kind, make in loaders.items():
        loader = make()
        next(iter(loader))
        states[kind] = loader.state_dict()
    for kind, make in loaders.items():
        for other, state in states.items():
            loader = make()
            if kind == other:
                loader.load_state_dict(state)
                continue
            words = r"the state was saved for (a map-style|an iterable-style|a function|a dataset with stages)"
            with pytest.raises(ValueError, match=words):
                loader.load_state_dict(state)
            assert len(list(loader)) > 4  # from the beginning: the rejected state has not changed the loader


def test_stream_without_elements_raises_instead_of_an_epoch():
    empty = mpqueue.Dataset.range(4).filter(lambda x: x > 9)
    for workers in (0, 1):
        with pytest.raises(RuntimeError, match="of 3 batches is impossible: the stream of Dataset is empty"):
            next(iter(DataLoader(empty, batch_size=2, epoch_batches=3, num_workers=workers)))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"shard": (2, 2)}, ValueError, "0 <= rank"),
        ({"shard": (0, 3), "lanes": 16}, ValueError, "multiple of 3"),
        ({"lanes": 0}, ValueError, "lanes must be 1"),
        ({"epoch_batches": 1.5}, TypeError, "epoch_batches"),
        ({"shard": (0, 2), "generator": None}, ValueError, "same n on all ranks"),
    ],
)
def test_invalid_ranks_and_lanes_are_rejected(options, error, words):
    with pytest.raises(error, match=words):
        DataLoader(STREAM, batch_size=4, **({"generator": torch.Generator()} | options))


@pytest.mark.parametrize("option", [{"shard": (0, 2)}, {"lanes": 4}, {"epoch_batches": 3}])
@pytest.mark.parametrize("make", [lambda: range(8), lambda: mpqueue.Dataset.range(8), lambda: Counted(8)])
def test_options_of_streams_are_rejected_for_other_datasets(option, make):
    with pytest.raises(ValueError, match=f"{next(iter(option))}=.* applies to streams.*DistributedSampler"):
        DataLoader(make(), **option)


class Counted(HasPosition, data.IterableDataset):
    """Numbers that are recorded when they are read."""

    def __init__(self, num):
        self.num, self.begins_at, self.read = num, 0, []

    def __iter__(self):
        for number in range(self.begins_at, self.num):
            self.read.append(number)
            self.at = number + 1
            yield number, len(self.read)

    def load_state_dict(self, state):
        self.begins_at = state["at"]


class Steps(HasPosition):
    """An iterator over pairs as in `Counted`, with a state."""

    def __init__(self, first, step):
        self.at, self.step, self.num_read = first, step, 0

    def __iter__(self):
        return self

    def __next__(self):
        if self.at >= 40:
            raise StopIteration
        number, self.at, self.num_read = self.at, self.at + self.step, self.num_read + 1
        return number, self.num_read


class InSteps(data.IterableDataset):
    def __iter__(self):
        worker = data.get_worker_info()
        return Steps(worker.id, worker.num_workers)


@pytest.mark.parametrize(
    ("make", "before", "after"),
    [*((lambda: Counted(40), before, after) for before in (0, 1) for after in (0, 1)), (InSteps, 2, 2)],
)
@pytest.mark.usefixtures("many_snapshots")
def test_iterable_dataset_or_iterator_with_a_state_is_not_read_from_its_beginning(make, before, after):
    loader = DataLoader(make(), batch_size=2, num_workers=before)
    batches = iter(loader)
    seen = [number for _ in range(15) for number in next(batches)[0].tolist()]
    other = continued(DataLoader(make(), batch_size=2, num_workers=after), loader.state_dict())
    rest = [pair for numbers, read in other for pair in zip(numbers.tolist(), read.tolist(), strict=True)]
    assert sorted(seen + [number for number, _ in rest]) == list(range(40))
    assert max(read for _, read in rest[:4]) <= 6  # each worker computes at most one batch again
    assert sorted(number for numbers, _ in other for number in numbers.tolist()) == list(range(40))


class OwnIterator(data.IterableDataset):
    """A dataset that is its own iterator. It draws from torch's default generator, which is part of its state."""

    def __init__(self):
        self.at = 0

    def __iter__(self):
        return self

    def __next__(self):
        if self.at == 9:
            self.at = 0
            raise StopIteration
        self.at += 1
        return self.at, torch.rand(()).item()

    def state_dict(self):
        return {"at": self.at, "generator": torch.get_rng_state()}

    def load_state_dict(self, state):
        self.at = state["at"]
        torch.set_rng_state(state["generator"])


class FreshIterators(data.IterableDataset):
    """A dataset that returns a new iterator each time."""

    def __iter__(self):
        return OwnIterator()


@pytest.mark.parametrize("taken", [0, 1, 3])
@pytest.mark.parametrize("make", [OwnIterator, FreshIterators])
def test_iterator_without_workers_resumes_with_its_own_random_numbers(make, taken):
    dataset = make()
    loader = DataLoader(dataset, batch_size=2)
    batches = iter_after(loader, taken)
    state = loader.state_dict()
    rest = [pairs(batches), pairs(loader)]
    other = continued(DataLoader(dataset, batch_size=2), state)
    assert [pairs(other), pairs(other)] == rest
    assert [len(epoch) for epoch in rest] == [5 - taken, 5]


def test_random_numbers_of_the_trainer_do_not_change_without_a_generator_state():
    loader = DataLoader(Counted(8), batch_size=2)
    next(iter(loader))
    torch.manual_seed(1)
    other = continued(DataLoader(Counted(8), batch_size=2), loader.state_dict())
    next(iter(other))
    assert torch.initial_seed() == 1
    drawn = torch.rand(())
    assert drawn == torch.rand((), generator=torch.Generator().manual_seed(1))


class Draws(data.IterableDataset):
    """Draws from all generators in its ``__iter__``, and for each element."""

    def __iter__(self):
        return (self.drawn() for _ in [self.drawn()] * 6)

    def drawn(self):
        return random.random(), np.random.random(), torch.rand(()).item()


class DrawsWithState(HasPosition, Draws):
    def __iter__(self):
        self.drawn()
        return self.rest()

    def rest(self):
        while self.at < 6:
            self.at += 1
            yield self.drawn()


@pytest.mark.parametrize("generator", [None, torch.Generator()])
@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("make", [Draws, DrawsWithState])
def test_resume_without_workers_draws_no_numbers_of_the_trainer(make, workers, generator):
    """The elements that are computed again have drawn them before the state was saved."""
    loader = DataLoader(make(), batch_size=None, num_workers=workers, generator=generator)
    _unfinished = iter_after(loader, 3)
    other = continued(DataLoader(make(), batch_size=None, generator=generator), loader.state_dict())
    before = numbers_of_trainer()
    rest = iter(other)
    assert numbers_of_trainer() == before
    assert len(list(rest)) == 6 * max(1, workers) - 3


def numbers_of_trainer():
    _, keys, *position = np.random.get_state()
    return random.getstate(), keys.tolist(), position, torch.get_rng_state().tolist()


class Shared(data.IterableDataset):
    """Numbers that are divided among workers, with random draws. The dataset has the state, as in many programs."""

    def __init__(self):
        self.at = None

    def __iter__(self):
        info = data.get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        self.at = first if self.at is None else self.at
        while self.at < 60:
            self.at += step
            yield self.at - step, torch.rand(()).item()
        self.at = None


class BufferShuffledExamplesIterable:
    """A stage of a stream of Hugging Face, by its name."""

    def __init__(self, stage):
        self.ex_iterable = stage


class MixedStages:
    def __init__(self, *stages):
        self.ex_iterables = stages


class ShuffledByBuffer(HasPosition, Shared):
    """A stream like Hugging Face's: the state has the read position, but not the content of the buffer."""

    def __init__(self):
        super().__init__()
        self._ex_iterable = MixedStages(None, BufferShuffledExamplesIterable(MixedStages()))

    def __iter__(self):
        buffer = []
        for each in super().__iter__():
            buffer.append(each)
            if len(buffer) == 10:
                yield from reversed(buffer)
                buffer.clear()
        yield from reversed(buffer)


def pairs(batches):
    return [(numbers.tolist(), drawn.tolist()) for numbers, drawn in batches]


@pytest.mark.parametrize(
    ("make", "before", "after"), [(Shared, 2, 0), (Shared, 3, 2), (ShuffledByBuffer, 2, 1), (ShuffledByBuffer, 2, 0)]
)
@pytest.mark.usefixtures("many_snapshots")
def test_iterable_dataset_resumes_with_another_number_of_workers(make, before, after):
    """Bit for bit, also in later epochs: the stream remains divided among the original number of workers."""

    def loader(workers):
        return DataLoader(make(), batch_size=4, num_workers=workers, generator=torch.Generator().manual_seed(3))

    undisturbed = loader(before)
    whole = [*pairs(undisturbed), *pairs(undisturbed)]
    first = loader(before)
    batches = iter(first)
    seen = pairs(next(batches) for _ in range(7))
    other = continued(loader(after), first.state_dict())
    assert seen + pairs(other) + pairs(other) == whole


class Gated(data.IterableDataset):
    """Numbers of each worker; the first worker waits at a gate."""

    def __init__(self, address):
        self.address = address

    def __iter__(self):
        info = data.get_worker_info()
        if info.id == 0:
            pass_gate(self.address)
        yield from range(info.id, 40, info.num_workers)


@pytest.mark.skipif(not hasattr(data.DataLoader([]), "in_order"), reason="torch has in_order from 2.6 on")
@pytest.mark.parametrize("persistent", [False, True])
def test_slow_worker_does_not_block_others_with_in_order_false(persistent):
    with Gate() as gate:
        options = {"in_order": False, "persistent_workers": persistent, "multiprocessing_context": "fork"}
        loader = DataLoader(Gated(gate.address), batch_size=2, num_workers=2, **options)
        for _ in range(2):
            batches = iter(loader)
            arrival = gate.arrival()
            found = [next(batches) for _ in range(10)]
            assert torch.cat(found).tolist() == list(range(1, 40, 2))
            arrival.let_go()
            assert torch.cat(list(batches)).tolist() == list(range(0, 40, 2))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("dataset", "options", "words"),
    [
        (Stream(range(3)), {"batch_size": 4, "drop_last": True}, "stream of Stream returned no batches: drop_last=True"),
        (Stream([]), {"batch_size": 4}, "the stream of Stream is empty"),
        (Stream([]), {"batch_size": None}, "the stream of Stream is empty"),
        (STREAM, {"batch_size": 32, "drop_last": True}, r"of Dataset returned no batches: stage 5, batch\(32, drop_.*16 v"),
    ],
)  # fmt: skip
def test_pass_over_a_stream_without_batches_is_a_warning(dataset, options, words, workers):
    with pytest.warns(UserWarning, match=words):
        assert list(DataLoader(dataset, num_workers=workers, **options)) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_pass_that_is_resumed_at_its_end_is_empty_without_a_warning(workers):
    loader = DataLoader(Stream(range(8)), batch_size=4, num_workers=workers, drop_last=True)
    batches = iter(loader)
    state = [loader.state_dict() for _ in batches][-1]
    resumed = continued(DataLoader(Stream(range(8)), batch_size=4, num_workers=workers, drop_last=True), state)
    assert list(resumed) == []
