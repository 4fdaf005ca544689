"""Balanced ranks: the division of each window, on any number of workers and ranks, and its effect on other features."""

import itertools
import json
import os
import signal
from functools import partial

import numpy as np
import pytest
from helpers.computed_source import Computed
from helpers.drawing_sources import pair
from helpers.injected_exceptions import batches_despite, each_strike
from helpers.loader_runs import plain

from mpqueue import Balance, Dataset, Loader
from mpqueue.errors import WorkerDied

pytestmark = pytest.mark.sample(1)

SIZE, LENGTH = 4, 203
COSTS = np.random.default_rng(0).lognormal(5, 1, LENGTH).astype(np.int64) + 1
SAMPLES = Computed(pair, LENGTH)


def loader(rank=0, world=1, **options):
    options = {"batch_size": SIZE, "workers": 0, "seed": 3, "shuffle": True, "shard": (rank, world)} | options
    return Loader(options.pop("source", SAMPLES), **options)


def taken(rank, world, states=(), stop=None, **options):
    """Return the batches of a rank, and its state after them."""
    with loader(rank, world, **options) as batches:
        if states:
            batches.load_state_dict(list(states))
        found = [plain(batch) for batch in itertools.islice(batches, stop)]
        return found, json.loads(json.dumps(batches.state_dict()))


def of_all(world, **options):
    """Return the batches of each rank, and the state of the first one."""
    found = [taken(rank, world, **options) for rank in range(world)]
    return [batches for batches, _ in found], found[0][1]


@pytest.mark.parametrize("balance", [{"steps": 3}, {"accumulate": 3}, {"group": 3}])
@pytest.mark.parametrize("others", [1, 3, 4])
def test_state_within_a_window_is_refused_by_other_ranks(others, balance):
    balance = Balance(COSTS, **balance)
    _, border = of_all(2, balance=balance, stop=3)
    for number in (1, 2, 4, 5):
        _, state = of_all(2, balance=balance, stop=number)
        begin = number // 3 * 3
        words = (
            rf"batches {begin} to {begin + 2} of each of the 2 ranks in epoch 0.* before batch {begin} or {begin + 3} "
        )
        with loader(0, others, balance=balance) as batches:
            batches.load_state_dict(border)
            point = batches.place
            with pytest.raises(ValueError, match=words):
                batches.load_state_dict(state)
            assert batches.place == point  # the place has not changed


def test_samples_of_ranks_that_parted_are_continued_only_by_the_same_ranks():
    def sample(index):
        if index == bad:
            raise ZeroDivisionError
        return pair(index)

    balance = Balance(COSTS, steps=3)
    whole, _ = of_all(2, balance=balance)
    source, bad, states = Computed(sample, LENGTH), whole[0][1][0][0], []
    for rank in range(2):
        with loader(rank, 2, balance=balance, source=source) as batches:
            epoch = iter(batches)
            next(epoch)
            if rank == 0:
                with pytest.raises(ZeroDivisionError):
                    next(epoch)
                next(epoch)
            states.append(batches.state_dict())
    bad = -1
    with loader(0, 3, balance=balance) as batches, pytest.raises(ValueError, match="into the same rank of 2"):
        batches.load_state_dict(states)
    for rank, start in ((0, 3), (1, 1)):
        for state in (states[rank], states):
            with loader(rank, 2, balance=balance, source=source) as batches:
                batches.load_state_dict(state)
                assert [plain(batch) for batch in batches] == whole[rank][start:]


@pytest.mark.parametrize(("world", "others"), [(1, 1), (2, 2), (2, 1), (1, 2)])
def test_longer_source_continues_after_full_windows(world, others):
    turns = 1 if world == others else 2  # other ranks continue at a border
    given = {"balance": Balance(lambda sample: sample * 37 % 11, steps=2), "batch_size": 2, "shuffle": False}
    first, state = of_all(world, source=Computed(pair, 11), stop=turns, **given)
    second, _ = of_all(others, source=Computed(pair, 24), states=[state], **given)
    assert {index for of_rank in first + second for batch in of_rank for index in batch[0]} == set(range(24))


def test_longer_source_is_refused_in_a_window_that_was_shorter():
    given = {"balance": Balance(lambda sample: sample, steps=8), "batch_size": 2, "shuffle": False}
    _, state = taken(0, 1, source=Computed(pair, 11), stop=1, **given)
    with pytest.raises(ValueError, match=r"saved with batch_size=2, length 11, .* and this loader has .* length 21"):
        taken(0, 1, source=Computed(pair, 21), states=[state], **given)


def test_planned_cost_includes_samples_that_raise():
    def sample(index):
        if index % 10 == 0:
            raise ValueError
        return pair(index)

    with loader(0, 2, balance=Balance(COSTS), source=Computed(sample, LENGTH), on_error="skip") as batches:
        for _ in batches:
            last = batches.last
            assert last.cost == COSTS[[*last.samples, *last.skipped]].sum()


DATASET = Dataset(SAMPLES)
ZIPPED = DATASET.zip(Dataset(SAMPLES))


def test_statistics_show_what_a_division_gains():
    with loader(0, 4, balance=Balance(COSTS), batch_size=6) as batches:
        assert batches.statistics().balance is None
        list(batches)
        before, after = batches.statistics().balance
    assert 1 <= after < before


@pytest.mark.slow
@pytest.mark.parametrize("cost", [COSTS, lambda index: float(COSTS[index])], ids=["array", "function"])
def test_interrupt_anywhere_loses_and_repeats_nothing(cost):
    """Also while windows are divided, or while work is dealt."""
    balance = Balance(cost, steps=2)
    expected, _ = taken(1, 2, balance=balance)
    for _after, strike in each_strike(101):
        with loader(1, 2, balance=balance) as batches:
            found = batches_despite(strike, batches)
            assert [plain(batch) for batch in found] == expected


# Errors


balanced = partial(loader, balance=Balance(COSTS))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Balance([1, 2, -1.0]), "cost of sample 2 must be a finite number of 0 or more, got -1.0"),
        (lambda: Balance([1, float("nan")]), "sample 1 must be a finite number"),
        (lambda: Balance([float("inf")]), "sample 0 must be a finite number"),
        (lambda: Balance([[1]]), "one number for each sample"),
        (lambda: Balance(["a"]), "one number for each sample"),
        (lambda: Balance(None), "one number for each sample"),
        (lambda: Balance(COSTS, tokens=[-1]), "tokens of sample 0"),
        (lambda: Balance(COSTS, steps=0), "steps must be 1 or more"),
        (lambda: Balance(COSTS, accumulate=1.5), "accumulate must be an integer"),
        (lambda: Balance(COSTS, steps=2, group=3), "excludes steps=2"),
        (lambda: loader(balance=COSTS), "must be a mpqueue.Balance"),
        (lambda: loader(balance=Balance(COSTS[:-1])), "each of the 203 samples"),
        (lambda: loader(balance=Balance("length")), "has no columns"),
        (partial(balanced, batch_size=None), "pass batch_size"),
        (partial(balanced, shuffle=False, sampler=[1, 2]), "a sampler returns the order of one rank"),
        (partial(balanced, batch_size=None, shuffle=False, batch_sampler=[[1]]), "a batch_sampler returns"),
        (partial(balanced, ordered=False), "ordered=True"),
        (partial(balanced, source=lambda: iter([1]), shuffle=False), "Dataset.pack"),
        (partial(balanced, source=DATASET.batch(2), batch_size=None), "batch_size"),
        (partial(balanced, source=DATASET.batch(2).map(str)), "pass a function"),
        (partial(balanced, source=ZIPPED), "pass a function of the id"),
        (lambda: loader(balance=Balance("x"), source=ZIPPED), "has 2 sources: pass a function"),
    ],
)
def test_invalid_balance_is_refused(make, words):
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    assert words in str(caught.value)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("cost", "kind"), [(-1, ValueError), ("a", TypeError), (None, TypeError), (1 / 3j, TypeError)])
def test_invalid_cost_is_raised_in_place_of_its_window(cost, kind, workers):
    costs = Balance(lambda index: cost if index == 17 else 1)
    with loader(balance=costs, shuffle=False, workers=workers) as batches:
        epoch = iter(batches)
        assert [next(epoch)[0][0] for _ in range(4)] == [0, 4, 8, 12]
        for _ in range(2):
            with pytest.raises(kind, match="the cost of sample 17 must be"):
                next(epoch)


def test_error_of_the_function_is_raised():
    with loader(balance=Balance(lambda index: 1 // 0)) as batches, pytest.raises(ZeroDivisionError):
        next(iter(batches))


def test_mapped_costs_are_checked_by_window(tmp_path):
    np.save(tmp_path / "costs.npy", np.where(np.arange(LENGTH) == 40, -1.0, COSTS))
    mapped = np.load(tmp_path / "costs.npy", mmap_mode="r")
    with loader(balance=Balance(mapped), shuffle=False) as batches:
        epoch = iter(batches)
        assert len([next(epoch) for _ in range(10)]) == 10
        with pytest.raises(ValueError, match="the cost of sample 40"):
            next(epoch)


def test_state_of_another_balance_is_refused():
    _, state = taken(0, 2, balance=Balance(COSTS), stop=3)
    for balance in (None, Balance(COSTS, steps=2)):
        with loader(0, 2, balance=balance) as batches, pytest.raises(ValueError, match="balance"):
            batches.load_state_dict(state)


def test_worker_that_dies_fails_one_batch():
    def kills(index):
        if index == 9:
            os.kill(os.getpid(), signal.SIGKILL)
        return pair(index)

    expected, _ = taken(0, 2, balance=Balance(COSTS))
    with loader(0, 2, balance=Balance(COSTS), source=Computed(kills, LENGTH), workers=1, restarts=0) as batches:
        found, epoch = [], iter(batches)
        while len(found) < len(expected):
            try:
                found.append(plain(next(epoch)))
            except WorkerDied:
                found.append(None)
    assert [batch if 9 not in batch[0] else None for batch in expected] == found
