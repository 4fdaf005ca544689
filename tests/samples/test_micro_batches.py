"""Micro-batches of a limited cost: ``Balance(max_cost=...)``, whose places are steps."""

import asyncio
import json
from itertools import chain, islice, pairwise

import numpy as np
import pytest
from helpers.strikes import batches_despite, each_strike

import mpqueue
from mpqueue import Balance, Loader

LENGTH, STEP, MOST, WORLD = 203, 24, 2000, 3
COSTS = np.random.default_rng(0).lognormal(5, 1, LENGTH).astype(np.int64) + 1
BALANCE = Balance(COSTS, max_cost=MOST, tokens=lambda index: 2 * COSTS[index])


class Samples:
    """Samples that are their index and a random number of their place."""

    def __len__(self):
        return LENGTH

    def __getitem__(self, index):
        return index, mpqueue.rng().integers(1 << 40)


def loader(rank=0, world=WORLD, **options):
    options = {"batch_size": STEP, "workers": 0, "seed": 3, "shuffle": True, "balance": BALANCE} | options
    return Loader(options.pop("source", Samples()), shard=(rank, world), **options)


def plain(batch):
    return [column.tolist() for column in batch]


def taken(batches, stop=None):
    """Return micro-batches, each with its `BatchInfo`."""
    return [(plain(batch), batches.last) for batch in islice(batches, stop)]


@pytest.fixture(scope="module")
def whole():
    """The micro-batches of an epoch of each rank."""
    return [taken(loader(rank)) for rank in range(WORLD)]


def test_ranks_have_equally_many_micro_batches_that_fit(whole):
    assert len(loader()) == -(-LENGTH // STEP)
    for parts in zip(*whole, strict=True):
        assert len({(last.batch, last.micro) for _, last in parts}) == 1
        for batch, last in parts:
            assert list(last.samples) == batch[0]
            assert last.cost == COSTS[batch[0]].sum() <= MOST
            assert (last.tokens, last.step_tokens) == (2 * last.cost, 2 * last.step_cost)
    assert [last.step for _, last in whole[0]] == [last.batch for _, last in whole[0]]
    numbers = [last.micro for _, last in whole[0]]
    assert max(of_step for _, of_step in numbers) > 1
    for (number, of_step), later in pairwise(numbers):
        assert later == (number + 1, of_step) or (number + 1 == of_step and later[0] == 0)


def test_a_step_has_the_samples_of_the_plain_order(whole):
    with loader(0, 1, balance=None) as batches:
        expected = [plain(batch) for batch in batches]
    for step, batch in enumerate(expected):
        parts = [part for of_rank in whole for part, last in of_rank if last.batch == step]
        found = {pair for part in parts for pair in zip(*part, strict=True)}
        assert found >= set(zip(*batch, strict=True))  # with the random numbers of their places
        assert sum(len(part[0]) for part in parts) == STEP  # the last step is filled up


def test_number_of_micro_batches_is_the_smallest_that_fits(whole):
    for step in range(len(loader())):
        parts = [last for of_rank in whole for _, last in of_rank if last.batch == step]
        least = -(-parts[0].step_cost // (WORLD * MOST))
        assert parts[0].micro[1] <= least + 1


@pytest.mark.parametrize(
    "options", [{"workers": 2}, {"workers": 2, "backend": "thread"}, {"workers": 1, "threads": 4}], ids=str
)
def test_micro_batches_do_not_depend_on_the_workers(options, whole):
    with loader(1, **options) as batches:
        assert taken(batches) == [(part, last) for part, last in whole[1]]


def test_coroutines_and_asynchronous_loops_return_the_same(whole):
    class Awaited(Samples):
        async def __getitem__(self, index):
            await asyncio.sleep(0)
            return super().__getitem__(index)

    async def main():
        with loader(1, source=Awaited(), workers=1, concurrency=9) as batches:
            return [plain(batch) async for batch in batches]

    assert asyncio.run(main()) == [part for part, _ in whole[1]]


def test_answers_return_one_item_per_micro_batch(whole):
    with loader(1) as batches:
        for step in range(len(batches)):
            expected = [(part, last) for part, last in whole[1] if last.batch == step]
            infos, computed = batches.explain(0, step), batches.compute(0, step)
            assert [plain(part) for part in computed] == [part for part, _ in expected]
            assert [(info.samples, info.micro, info.cost) for info in infos] == [
                (last.samples, last.micro, last.cost) for _, last in expected
            ]
        others = batches.explain(0, 2, rank=2)
        assert [info.samples for info in others] == [last.samples for _, last in whole[2] if last.batch == 2]
        batches.seek(0, 4)
        assert [part for part, _ in taken(batches)] == [part for part, last in whole[1] if last.batch >= 4]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", range(0, 9, 2))
def test_state_continues_at_the_beginning_of_the_open_step(stop, workers, whole):
    with loader(1, workers=workers) as batches:
        found = taken(batches, stop)
        assert batches.place == (0, state_place := batches.state_dict()["position"])
        state = json.loads(json.dumps(batches.state_dict()))
    assert [part for part, _ in found] == [part for part, _ in whole[1][:stop]]
    is_open = bool(stop) and found[-1][1].micro[0] + 1 < found[-1][1].micro[1]
    assert state_place == (found[-1][1].batch + (not is_open) if stop else 0)
    with loader(1, workers=workers) as batches:
        batches.load_state_dict(state)
        assert [plain(batch) for batch in batches] == [part for part, last in whole[1] if last.batch >= state_place]


def test_other_ranks_continue_with_the_next_step(whole):
    with loader(1) as batches:
        taken(batches, 5)
        state = batches.state_dict()
    samples = []
    for rank in range(2):
        with loader(rank, 2) as batches:
            batches.load_state_dict(state)
            samples += chain(*(batch[0].tolist() for batch in batches))
    expected = {
        index for of_rank in whole for part, last in of_rank if last.batch >= state["position"] for index in part[0]
    }
    assert set(samples) == expected


def test_excluded_samples_are_left_out_before_the_division():
    excluded = range(0, LENGTH, 2)
    ranks = [taken(loader(rank, exclude=excluded)) for rank in range(WORLD)]
    assert len({len(of_rank) for of_rank in ranks}) == 1
    for part, last in chain(*ranks):
        assert not set(part[0]) & set(excluded)
        assert last.cost == COSTS[part[0]].sum() <= MOST
    assert {index for part, _ in chain(*ranks) for index in part[0]} == set(range(1, LENGTH, 2))


def test_change_within_a_step_is_refused(whole):
    number = next(at for at, (_, last) in enumerate(whole[1]) if last.micro[1] > 1)
    with loader(1) as batches:
        epoch = iter(batches)
        for _ in range(number + 1):
            next(epoch)
        with pytest.raises(RuntimeError, match="within a step"):
            batches.exclude([5])
        for _ in range(whole[1][number][1].micro[1] - 1):
            next(epoch)
        batches.exclude([5])
        assert 5 not in chain(*(batch[0].tolist() for batch in epoch))


def test_step_with_fewer_samples_than_ranks_repeats_some():
    left = 5  # of all samples
    ranks = [taken(loader(rank, shuffle=False, exclude=range(LENGTH - left))) for rank in range(WORLD)]
    assert [len(of_rank) for of_rank in ranks] == [1] * WORLD
    ranks = [taken(loader(rank, shuffle=False, exclude=range(1, LENGTH))) for rank in range(WORLD)]
    # Sample 0 is also what fills up the last step.
    assert [[part[0] for part, _ in of_rank] for of_rank in ranks] == [[[0], [0]]] * WORLD


def test_samples_that_raise_are_left_out():
    class Raising(Samples):
        def __getitem__(self, index):
            if index % 3 == 0:
                raise ValueError
            return super().__getitem__(index)

    with loader(1, source=Raising(), on_error="skip") as batches:
        for part, last in taken(batches):
            assert list(last.samples) == part[0]
            assert not any(index % 3 == 0 for index in part[0])
            assert last.cost == COSTS[[*last.samples, *last.skipped]].sum()


def test_long_samples_are_an_error_or_alone():
    most = int(np.sort(COSTS)[-3]) - 1
    with loader(balance=Balance(COSTS, max_cost=most)) as batches, pytest.raises(ValueError, match="at most max_cost"):
        list(batches)
    for rank in range(WORLD):
        for part, last in taken(loader(rank, balance=Balance(COSTS, max_cost=most, long="alone"))):
            assert last.cost <= most or len(part[0]) == 1


def test_error_replaces_a_step():
    class Raising(Samples):
        def __getitem__(self, index):
            if index == self.bad:
                raise ZeroDivisionError
            return super().__getitem__(index)

    source = Raising()
    source.bad = loader().explain(0, 1)[0].samples[0]
    with loader(source=source) as batches:
        epoch, found, num_raised = iter(batches), [], 0
        while True:
            try:
                next(epoch)
            except ZeroDivisionError:
                num_raised += 1
            except StopIteration:
                break
            else:
                found.append(batches.last.batch)
    assert num_raised == 1
    assert set(found) == set(range(len(loader()))) - {1}


def test_interrupt_anywhere_loses_and_repeats_nothing(whole):
    expected = [part for part, _ in whole[1]]
    for _after, strike in each_strike(37):
        with loader(1) as batches:
            found = batches_despite(strike, batches)
            assert [plain(part) for part in found] == expected


def test_later_loop_leaves_an_open_step(whole):
    with loader(1) as batches:
        first = iter(batches)
        next(first)
        assert [plain(batch) for batch in batches] != [part for part, _ in whole[1]]  # the next epoch
        with pytest.raises(RuntimeError, match="invalidated by a later iterator"):
            next(first)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Balance(COSTS, max_cost=0), "max_cost must be a number above 0"),
        (lambda: Balance(COSTS, max_cost=5, steps=2), "excludes steps"),
        (lambda: Balance(COSTS, max_cost=5, group=2), "excludes steps"),
        (lambda: Balance(COSTS, max_cost=5, accumulate=2), "excludes steps"),
        (lambda: Balance(COSTS, long="alone"), "pass both, or neither"),
        (lambda: Balance(COSTS, max_cost=5, long="cut"), 'long must be "alone"'),
    ],
)
def test_invalid_options_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_state_of_another_limit_is_refused():
    state = loader().state_dict()
    with pytest.raises(ValueError, match="max_cost"):
        loader(balance=Balance(COSTS, max_cost=MOST + 1)).load_state_dict(state)
