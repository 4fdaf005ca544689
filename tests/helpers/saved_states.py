"""Loaders of each kind. Their states are saved and loaded."""

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import mpqueue
from helpers.loader_runs import plain
from mpqueue import Dataset, Loader
from mpqueue.plan.states.saved_states import sealed

NUM_BEFORE = 3  # batches of each rank before its state is saved
NUM_AFTER = 20  # batches of each rank after that, from two or more epochs


class Case(NamedTuple):
    """A loader, and the position at which its state is saved.

    Attributes:
        make: Creates the loader of a rank, from the rank and the number of ranks.
        worlds: The numbers of ranks.
        num_before: Batches of each rank before the state is saved.
    """

    make: Callable[[int, int], Any]
    worlds: tuple[int, ...] = (1, 2, 3)
    num_before: int = NUM_BEFORE


class Batches:
    """A source of batches: each is its index and a random number."""

    def __len__(self):
        return 25

    def __getitem__(self, index):
        return [index, draw()]


class Changing(Batches):
    """A source that changes at the end of each epoch, and has a state."""

    def __init__(self):
        self.epochs = 0

    def __getitem__(self, index):
        return [index, self.epochs, draw()]

    def on_epoch_end(self):
        self.epochs += 1

    def state_dict(self):
        return {"epochs": self.epochs}

    def load_state_dict(self, state):
        self.epochs = state["epochs"]


class OwnGenerator:
    """A sampler with a generator."""

    length = 40

    def __init__(self, generator, length=40):
        self.generator, self.length = generator, length

    def __len__(self):
        return self.length

    def __iter__(self):
        order = list(range(self.length))
        self.generator.shuffle(order)
        return iter(order)


class OwnState(OwnGenerator):
    """A sampler with a state."""

    def __init__(self):
        self.passes = 0

    def __iter__(self):
        self.passes += 1
        order = list(range(40))
        random.Random(self.passes).shuffle(order)
        return iter(order)

    def state_dict(self):
        return {"passes": self.passes}

    def load_state_dict(self, state):
        self.passes = state["passes"]


class GlobalGenerator(OwnGenerator):
    """A sampler that draws from Python's global generator when an iteration starts."""

    def __init__(self):
        pass

    def __iter__(self):
        order = list(range(40))
        random.shuffle(order)
        return iter(order)


class Lists:
    """A sampler of batches."""

    def __init__(self):
        self.generator = random.Random(5)

    def __iter__(self):
        for size in (2, 3, 1, 4, 2, 2, 3, 3, 1, 2, 2, 1):
            yield [self.generator.randrange(40) for _ in range(size)]


class Lines:
    """An iterator with a state."""

    def __init__(self):
        info = mpqueue.worker_info()
        self.at, self.step = info.shard_id, info.num_shards

    def __iter__(self):
        return self

    def __next__(self):
        if self.at >= 150:
            raise StopIteration
        self.at += self.step
        return [self.at, draw()]

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


def lines():
    return Lines()


class Iterable:
    """An iterable dataset without a state."""

    def __iter__(self):
        info = mpqueue.worker_info()
        return iter(range(info.shard_id, 150, info.num_shards))


def function():
    """Yield the worker's share of a range, as a generator function does."""
    info = mpqueue.worker_info()
    for number in range(info.shard_id, 150, info.num_shards):
        yield [number, draw()]


def draw():
    """Return a random number of the sample. It is a raw word, which is the same in all versions of NumPy."""
    return int(mpqueue.rng().bit_generator.random_raw()) % 1000


def drawn(value):
    return [value, draw()]


def kept(value):
    return value % 4 != 0


def words(value):
    """Return a string of some length."""
    return np.arange(value % 7 + 1) + value


def failing(value):
    if value % 11 == 5:
        raise ValueError(f"no sample {value}")
    return value


def spread(value):
    return [value] * (value % 5)


def by_index(source, **options):
    """Return a factory of loaders. It calls a source that is a class, and samplers: each loader has its own."""

    def make(rank, world):
        own = {name: options[name]() for name in ("sampler", "batch_sampler") if name in options}
        made = source() if isinstance(source, type) else source
        return Loader(made, **{"workers": 0, "seed": 3, "shard": (rank, world)} | options | own)

    return make


def sampled(make_sampler, **options):
    return by_index(list(range(40)), sampler=make_sampler, **options)


def stream(source, **options):
    """Return a factory of endless streams with epochs of 8 batches, so that all ranks have equal numbers of batches."""
    return by_index(source, **{"lanes": 6, "epoch_batches": 8} | options)


def cached(rank, world):
    # Created each time, because the dataset keeps its cache in memory.
    return stream(RANGE.map(drawn).filter(lambda pair: pair[1] > 300).cache().shuffle(buffer=4))(rank, world)


RANGE = Dataset.range(240)
FILTERED = RANGE.shuffle().map(drawn).filter(lambda pair: kept(pair[0]))
CASES = {
    "batches": Case(by_index(Batches, shuffle=True)),
    "batches_in_order": Case(by_index(Batches), worlds=(1,)),
    "batches_unordered": Case(by_index(Batches, shuffle=True, ordered=False)),
    "source_with_state": Case(by_index(Changing, shuffle=True)),
    "source_with_state_in_epoch_1": Case(by_index(Changing, shuffle=True), worlds=(1,), num_before=30),
    "samples": Case(by_index(RANGE.take(50).map(drawn), batch_size=4, shuffle=True)),
    "samples_of_a_list": Case(by_index(list(range(50)), batch_size=4, shuffle=True)),
    "samples_drop_last": Case(by_index(list(range(50)), batch_size=4, shuffle=True, drop_last=True)),
    "samples_in_epoch_1": Case(by_index(list(range(50)), batch_size=4, shuffle=True), worlds=(1,), num_before=16),
    "samples_at_the_end": Case(by_index(list(range(50)), batch_size=4, shuffle=True), worlds=(1,), num_before=13),
    "samples_not_begun": Case(by_index(list(range(50)), batch_size=4, shuffle=True), num_before=0),
    "dataset": Case(by_index(RANGE.take(50).shuffle().map(drawn).batch(4))),
    "dataset_of_samples": Case(by_index(RANGE.take(20).shuffle().map(drawn))),
    "dataset_mix": Case(by_index(Dataset.mix([RANGE.take(30), RANGE.skip(100)], [0.7, 0.3]).shuffle().batch(4))),
    "dataset_endless": Case(by_index(RANGE.take(7).shuffle().repeat().batch(4))),
    "sampler_with_state": Case(sampled(OwnState, batch_size=3)),
    "sampler_with_python_generator": Case(sampled(lambda: OwnGenerator(random.Random(5)), batch_size=3)),
    "sampler_with_numpy_generator": Case(sampled(lambda: OwnGenerator(np.random.default_rng(5)), batch_size=3)),
    "sampler_with_random_state": Case(sampled(lambda: OwnGenerator(np.random.RandomState(5)), batch_size=3), worlds=(1,)),
    "sampler_of_the_global_generator": Case(sampled(GlobalGenerator, batch_size=3)),
    "sampler_of_batches_of_the_source": Case(sampled(OwnState), worlds=(1, 2)),
    "batch_sampler": Case(by_index(list(range(40)), batch_sampler=Lists), worlds=(1, 2)),
    "stream_filter": Case(stream(FILTERED.batch(2))),
    "stream_buffer": Case(stream(FILTERED.shuffle(buffer=7).batch(2))),
    "stream_two_buffers": Case(stream(FILTERED.shuffle(buffer=7).batch(2).shuffle(buffer=3)), worlds=(1,)),
    "stream_open_batch": Case(stream(FILTERED.batch(3).batch(2, collate=list).flat_map(list)), worlds=(1, 2)),
    "stream_pack": Case(stream(RANGE.map(words).filter(lambda text: len(text) != 2).pack(12, bins=3))),
    "stream_concatenated_text": Case(stream(RANGE.map(words).pack(12, strategy="concatenate", long="cut")), worlds=(1, 2)),
    "stream_bucket": Case(stream(RANGE.map(words).bucket(len, [3, 6], [2, 3, 2]))),
    "stream_max_tokens": Case(stream(RANGE.map(words).bucket(len, [3, 6], max_tokens=24)), worlds=(1,)),
    "stream_flat_map": Case(stream(RANGE.flat_map(spread).shuffle(buffer=5).batch(2))),
    "stream_zip": Case(stream(Dataset.zip(RANGE.filter(kept), RANGE.map(drawn).filter(lambda pair: pair[1] > 300)))),
    "stream_concatenate": Case(stream(Dataset.concatenate(RANGE.take(20).filter(kept), RANGE.filter(kept)).batch(2))),
    "stream_mix": Case(
        stream(Dataset.mix([FILTERED, RANGE.skip(100).map(drawn).filter(lambda pair: pair[1] > 9)], [0.7, 0.3]).batch(2))
    ),
    "stream_mix_all": Case(stream(Dataset.mix([RANGE.take(30).filter(kept), RANGE.filter(kept)], stop="all").batch(2)), worlds=(1,)),
    "stream_take_skip_enumerate": Case(stream(RANGE.filter(kept).skip(2).take(100).enumerate()), worlds=(1, 2)),
    "stream_repeat": Case(stream(RANGE.take(50).filter(kept).repeat(3).shuffle(buffer=4)), worlds=(1, 2)),
    "stream_cache": Case(cached, worlds=(1, 2)),
    "stream_threads": Case(stream(RANGE.map(drawn, threads=2).filter(lambda pair: pair[1] > 300).batch(2)), worlds=(1,)),
    "stream_skipped_errors": Case(stream(RANGE.map(failing).filter(kept).shuffle(buffer=4).batch(2), on_error="skip"), worlds=(1, 2)),
    "stream_far_places": Case(stream(Dataset.range(1 << 40).skip(1 << 35).filter(kept).shuffle(buffer=6).batch(2)), worlds=(1,)),
    "stream_16_lanes": Case(stream(FILTERED.shuffle(buffer=3), lanes=None), worlds=(1, 2)),
    "stream_of_function": Case(stream(Dataset(function).shuffle(buffer=4).batch(2))),
    "stream_of_iterator_with_state": Case(stream(Dataset(lines).filter(lambda pair: kept(pair[0])).shuffle(buffer=4))),
    "stream_of_iterable": Case(stream(Dataset(Iterable()).batch(2)), worlds=(1, 2)),
    "stream_in_epoch_1": Case(stream(FILTERED.shuffle(buffer=7).batch(2)), num_before=11),
    "stream_not_begun": Case(stream(FILTERED.shuffle(buffer=7).batch(2)), num_before=0, worlds=(1, 2)),
    "stream_that_ends": Case(by_index(FILTERED.shuffle(buffer=7).batch(2)), worlds=(1,), num_before=40),
    "stream_at_its_end": Case(by_index(RANGE.take(30).filter(kept).batch(2), lanes=4), worlds=(1,), num_before=12),
    "lanes_of_function": Case(stream(function)),
    "lanes_of_iterator_with_state": Case(stream(lines), worlds=(1, 2)),
    "lanes_of_samples": Case(stream(function, batch_size=2), worlds=(1, 2)),
    "function": Case(by_index(function), worlds=(1,)),
    "function_of_samples": Case(by_index(function, batch_size=4), worlds=(1,)),
}  # fmt: skip


def take(loader, count, batches=None):
    """Return the next batches, over as many epochs as necessary, and the iterator of the last one."""
    taken, batches = [], iter(()) if batches is None else batches
    while len(taken) < count:
        batch = next(batches, None)
        if batch is None:
            batches = iter(loader)
        else:
            taken.append(plain(batch))
    return taken, batches


def play(case, world):
    """Return the states of all ranks after the first batches, and the batches that follow on each rank."""
    states, rests = [], []
    for rank in range(world):
        random.seed(7)
        loader = case.make(rank, world)
        with loader:
            _, batches = take(loader, case.num_before)
            states.append(loader.state_dict())
            rest, batches = take(loader, NUM_AFTER, batches)
            rests.append(rest)
            del batches
    return states, rests


def saved_with(state, **keys):
    """Return a state that was saved with other values of some keys."""
    return sealed({name: value for name, value in state.items() if name != "checksum"} | keys)
