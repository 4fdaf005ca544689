"""The stream of samples depends only on (seed, epoch, place), for any batch size, workers, ranks, kills and resumes."""

import os
import random
import signal
from pathlib import Path

import numpy as np
from helpers.numbered import iter_after
from hypothesis import given, settings
from hypothesis import strategies as st

import mpqueue
from mpqueue.seeding.seeds import BatchSeed, generator

FEW = settings(max_examples=30, deadline=None, derandomize=True)
FEWER = settings(max_examples=6, deadline=None, derandomize=True)
SEED = 11


class Drawing:
    """A source with samples that draw from the sample's generator, and from both global ones."""

    def __init__(self, length, deadly=(), folder=None):
        self.length, self.deadly, self.folder = length, deadly, folder

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if index in self.deadly and not (mark := Path(self.folder, str(index))).exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return index, mpqueue.rng().random(), np.random.random(), random.random()


def places(source, epochs, *, shuffle):
    """Return index and global draws of each place, from batches of one."""
    with mpqueue.Loader(source, batch_size=1, workers=0, seed=SEED, shuffle=shuffle) as loader:
        return [[[leaf.item() for leaf in batch] for batch in loader] for _ in range(epochs)]


def expected(of_places, epoch, batch_size, world, *, drop_last):
    """Return the indices of the batches of all ranks, and their own draws."""
    length = len(of_places[epoch])
    group = batch_size * world
    if drop_last:
        count = length // group * group if world > 1 else length // batch_size * batch_size
    else:
        count = -(-length // group) * group if world > 1 else length
    order = [of_places[epoch][place % length][0] for place in range(count)]
    draws = [generator(BatchSeed(SEED, epoch, place)).random() for place in range(count)]
    return [
        (order[first : first + batch_size], draws[first : first + batch_size]) for first in range(0, count, batch_size)
    ]


def taken(batch):
    return batch[0].tolist(), batch[1].tolist()


def together(streams):
    """Return the batches of all ranks in the global order."""
    return [batch for group in zip(*streams, strict=True) for batch in group]


shapes = st.tuples(st.integers(4, 30), st.integers(1, 4), st.integers(1, 4), st.booleans(), st.booleans())


@FEW
@given(shapes)
def test_all_ranks_together_yield_samples_of_one(shape):
    length, batch_size, world, drop_last, shuffle = shape
    drop_last = drop_last and length >= batch_size * world
    source = Drawing(length)
    of_places = places(source, 2, shuffle=shuffle)
    assert all(sorted(index for index, *_ in epoch) == list(range(length)) for epoch in of_places)
    streams = []
    for rank in range(world):
        options = {"batch_size": batch_size, "shard": (rank, world), "drop_last": drop_last, "shuffle": shuffle}
        with mpqueue.Loader(source, workers=0, seed=SEED, **options) as loader:
            streams.append([[taken(batch) for batch in loader] for _ in range(2)])
            assert [len(epoch) for epoch in streams[-1]] == [len(loader)] * 2
    for epoch in range(2):
        whole = expected(of_places, epoch, batch_size, world, drop_last=drop_last)
        assert together(stream[epoch] for stream in streams) == whole


@FEW
@given(shapes, st.integers(1, 5), st.data())
def test_resume_with_other_number_of_ranks_continues(shape, other, data):
    length, batch_size, world, _, shuffle = shape
    source = Drawing(length)
    of_places = places(source, 1, shuffle=shuffle)
    groups = -(-length // (batch_size * world))
    stop = data.draw(st.integers(0, groups - 1))
    common = {"batch_size": batch_size, "shuffle": shuffle, "workers": 0}
    before, states = [], []
    for rank in range(world):
        with mpqueue.Loader(source, seed=SEED, shard=(rank, world), **common) as loader:
            stream = iter(loader)
            before.append([taken(next(stream)) for _ in range(stop)])
            states.append(loader.state_dict())
    assert all(state == states[0] for state in states)
    after = []
    for rank in range(other):
        with mpqueue.Loader(source, seed=99, shard=(rank, other), **common) as loader:
            loader.load_state_dict(states[0])
            after.append([taken(batch) for batch in loader])
            assert loader.epoch == 1
    seen = [index for indices, _ in together(before) + together(after) for index in indices]
    assert seen[:length] == [index for index, *_ in of_places[0]]
    draws = [draw for _, draws in together(before) + together(after) for draw in draws]
    assert draws[:length] == [draw for _, draw, *_ in of_places[0]]


@FEW
@given(st.integers(5, 20), st.integers(1, 4), st.integers(1, 3), st.integers(0, 3), st.booleans(), st.booleans())
def test_sampler_behaves_like_built_in_order(length, batch_size, world, stop, drop_last, by_batches):
    """Over ranks, padded or dropped, and resumed from a state."""
    order = list(range(length))[::-1]
    batches = [order[first : first + batch_size] for first in range(0, length, batch_size)]
    options = {"batch_sampler": batches} if by_batches else {"sampler": order, "batch_size": batch_size}
    drop_last = drop_last and not by_batches and length >= batch_size * world
    if drop_last:
        options["drop_last"] = True
    streams = []
    for rank in range(world):
        loader = mpqueue.Loader(Drawing(length), workers=0, seed=SEED, shard=(rank, world), **options)
        with loader:
            whole = [taken(batch) for batch in loader]
            stream = iter_after(loader, min(stop, len(whole) - 1))
            state = loader.state_dict()
            rest = [taken(batch) for batch in stream]
            loader.load_state_dict(state)
            assert [taken(batch) for batch in loader] == rest
        streams.append(whole)
    seen = [index for indices, _ in together(streams) for index in indices]
    assert len({len(stream) for stream in streams}) == 1
    kept = length // (batch_size * world) * batch_size * world if drop_last else length
    assert seen[:kept] == order[:kept]
    if not by_batches:
        filled = [order[place % length] for place in range(len(seen))]
        assert seen == (order[: len(seen)] if drop_last else filled)
    places_of = [draw for _, draws in together(streams) for draw in draws]
    assert places_of == [generator(BatchSeed(SEED, 0, place)).random() for place in range(len(seen))]


@FEWER
@given(
    st.integers(5, 20), st.integers(1, 4), st.integers(1, 3), st.sampled_from(["process", "thread"]),
    st.sets(st.integers(0, 4), max_size=2),
)  # fmt: skip
def test_workers_and_crashes_change_nothing(tmp_path_factory, length, batch_size, workers, backend, deadly):
    of_places = places(Drawing(length), 2, shuffle=True)
    deadly = deadly if backend == "process" else set()
    source = Drawing(length, frozenset(deadly), tmp_path_factory.mktemp("deaths"))
    options = {"batch_size": batch_size, "shuffle": True, "seed": SEED, "copy": True}
    with mpqueue.Loader(source, workers=workers, backend=backend, **options) as loader:
        epochs = [list(loader) for _ in range(2)]
        assert loader.statistics().deaths == len(deadly)
        loader.stop(60)  # a running thread would draw from the generators of the next example
    for epoch, batches in enumerate(epochs):
        assert [taken(batch) for batch in batches] == expected(of_places, epoch, batch_size, 1, drop_last=False)
        if backend == "process":  # threads share the global generators
            columns = (zip(*map(np.ndarray.tolist, batch), strict=True) for batch in batches)
            assert [list(sample) for batch in columns for sample in batch] == of_places[epoch]
