"""Micro-batches of a limited cost: ``Balance(max_cost=...)`` makes batches that are steps."""

import asyncio
import itertools
import json
from itertools import chain, islice

import numpy as np
import pytest
from helpers.computed_source import Computed
from helpers.coroutines import Awaited
from helpers.drawing_sources import pair
from helpers.injected_exceptions import batches_despite, each_strike
from helpers.loader_runs import plain
from helpers.sweeps import part_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mpqueue import Balance, Loader, Server

pytestmark = pytest.mark.sample(1)

LENGTH, STEP, MOST, WORLD = 204, 24, 2000, 3
COSTS = np.random.default_rng(0).lognormal(5, 1, LENGTH).astype(np.int64) + 1
BALANCE = Balance(COSTS, max_cost=MOST, tokens=lambda index: 2 * COSTS[index])


SAMPLES = Computed(pair, LENGTH)


def loader(rank=0, world=WORLD, **options):
    options = {"batch_size": STEP, "workers": 0, "seed": 3, "shuffle": True, "balance": BALANCE} | options
    return Loader(options.pop("source", SAMPLES), shard=(rank, world), **options)


def taken(batches, stop=None):
    """Return steps, each with its `BatchInfo`."""
    found = []
    for step in islice(batches, stop):
        assert type(step) is list
        found.append((plain(step), batches.last))
    return found


def indices_of(step):
    return [index for indices, _ in step for index in indices]


@pytest.fixture(scope="module")
def whole():
    """The steps of an epoch of each rank."""
    return [taken(loader(rank)) for rank in range(WORLD)]


def test_ranks_have_equally_many_micro_batches_that_fit(whole):
    assert len(loader()) == -(-LENGTH // STEP)
    counts = set()
    for index, ranks in enumerate(zip(*whole, strict=True)):
        (count,) = {len(step) for step, _ in ranks}
        counts.add(count)
        for step, last in ranks:
            assert all(0 < len(indices) and COSTS[indices].sum() <= MOST for indices, _ in step)
            assert (last.batch, last.step, list(last.samples)) == (index, index, indices_of(step))
            assert last.cost == COSTS[indices_of(step)].sum()
            assert (last.tokens, last.step_tokens) == (2 * last.cost, 2 * last.step_cost)
        assert {last.step_cost for _, last in ranks} == {sum(last.cost for _, last in ranks)}
    assert len(counts) > 1


def test_a_step_has_the_samples_of_the_plain_order(whole):
    with loader(0, 1, balance=None) as batches:
        expected = [plain(batch) for batch in batches]
    for (indices, numbers), *ranks in zip(expected, *whole, strict=True):
        found = [sample for step, _ in ranks for part in step for sample in zip(*part, strict=True)]
        assert sorted(found) == sorted(zip(indices, numbers, strict=True))  # with the random numbers of their places


def test_number_of_micro_batches_is_the_smallest_that_fits(whole):
    for step, last in whole[0]:
        assert len(step) <= -(-last.step_cost // (WORLD * MOST)) + 1


@pytest.mark.parametrize(
    "options", [{"workers": 2}, {"workers": 2, "backend": "thread"}, {"workers": 1, "threads": 4}], ids=str
)
def test_steps_do_not_depend_on_the_workers(options, whole):
    with loader(1, **options) as batches:
        assert taken(batches) == whole[1]


def test_coroutines_and_asynchronous_loops_return_the_same(whole):
    async def main():
        with loader(1, source=Awaited(pair, LENGTH), workers=1, concurrency=9) as batches:
            return [plain(step) async for step in batches]

    assert asyncio.run(main()) == [step for step, _ in whole[1]]


def test_answers_are_about_steps(whole):
    with loader(1) as batches:
        for index, (step, last) in enumerate(whole[1]):
            explained = batches.explain(0, index)
            assert plain(batches.compute(0, index)) == step
            assert (explained.samples, explained.cost) == (last.samples, last.cost)
            assert explained.step_cost == last.step_cost
        assert batches.explain(0, 2, rank=2).samples == whole[2][2][1].samples
        batches.seek(0, 4)
        assert [step for step, _ in taken(batches)] == [step for step, _ in whole[1][4:]]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [0, 1, 4])
@pytest.mark.parametrize("world", [1, 2, WORLD])
def test_state_continues_with_the_next_step_on_any_ranks(stop, workers, world, whole):
    with loader(1, workers=workers) as batches:
        found = taken(batches, stop)
        state = json.loads(json.dumps(batches.state_dict()))
        assert batches.place == (0, stop) == (0, state["position"])
    assert found == whole[1][:stop]
    ranks = []
    for rank in range(world):
        with loader(rank, world, workers=workers) as batches:
            batches.load_state_dict(state)
            ranks.append(taken(batches))
    for number, steps in enumerate(zip(*ranks, strict=True), stop):
        samples = sorted(index for step, _ in steps for index in indices_of(step))
        assert samples == sorted(index for of_rank in whole for index in indices_of(of_rank[number][0]))


@pytest.mark.parametrize("begun", [1, 2])
def test_loop_that_is_left_is_followed_by_the_next_epoch(begun):
    with loader() as batches:
        epochs = [taken(batches) for _ in range(2)]
    for keeps in (False, True):
        with loader() as batches:
            kept = iter(batches)
            for _ in range(begun):
                next(kept)
            if not keeps:
                del kept
            assert [step for step, _ in taken(batches)] == [step for step, _ in epochs[1]]


def test_samples_are_excluded_from_the_next_step_on(whole):
    with loader(1) as batches:
        first = taken(batches, 2)
        batches.exclude([whole[1][0][1].samples[0], whole[1][3][1].samples[0]])
        assert first == whole[1][:2]
        rest = [index for step in batches for index in indices_of(plain(step))]
    assert whole[1][3][1].samples[0] not in rest


def test_step_whose_samples_are_all_excluded_is_left_out_on_all_ranks():
    ranks = [taken(loader(rank, shuffle=False, exclude=range(STEP))) for rank in range(WORLD)]
    assert [[last.batch for _, last in of_rank] for of_rank in ranks] == [list(range(1, -(-LENGTH // STEP)))] * WORLD


def errors(world, **options):
    """Return the error of each rank, at the construction or in the loop, and the number of steps before it."""
    found = []
    for rank in range(world):
        count = 0
        try:
            with loader(rank, world, **options) as batches:
                for _ in batches:
                    count += 1
        except ValueError as error:
            found.append((count, str(error)))
    return found


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 2}, "batch_size=2 is fewer samples than the 3 ranks: .* such as batch_size=3$"),
        ({"batch_size": 29}, "the last step has 1 sample, fewer samples than .* batch_size=30, and drop_last=True$"),
        ({"batch_size": 24, "exclude": range(30, 47)}, "a step has 7 samples, such as 24, and needs 3 micro-batches"),
        ({"batch_size": 24, "exclude": range(25, 48)}, "a step has 1 sample, such as 24, and needs 1 micro-batches"),
        ({"on_error": "skip"}, "leave out the samples that raise by exclude=ids"),
    ],
    ids=str,
)
def test_step_that_does_not_fit_is_one_error_on_all_ranks(options, words, workers):
    balance = Balance(np.full(LENGTH, 60), max_cost=100)
    found = errors(WORLD, balance=balance, shuffle=False, workers=workers, **options)
    assert len(found) == WORLD
    (((count, _), _),) = {(each, None) for each in found}
    assert count == (1 if "exclude" in options else 0)
    with pytest.raises(ValueError, match=words):
        raise ValueError(found[0][1])


def test_long_sample_is_an_error_on_all_ranks():
    most = int(np.sort(COSTS)[-3]) - 1
    found = errors(WORLD, balance=Balance(COSTS, max_cost=most))
    assert len(found) == WORLD
    assert len(set(found)) == 1
    assert f"a micro-batch at most max_cost={most}" in found[0][1]


@st.composite
def cases(draw):
    """Return small cases: costs near and above the limit, and batch sizes that no number of ranks divides."""
    count, most = draw(st.integers(1, 30)), 10
    kind = draw(st.sampled_from([st.integers(0, 10), st.integers(4, 6), st.integers(9, 11), st.floats(0, 10.5)]))
    return {
        "costs": draw(st.lists(kind, min_size=count, max_size=count)), "most": most, "batch_size": draw(st.integers(1, 20)),
        "drop_last": draw(st.booleans()), "shuffle": draw(st.booleans()), "exclude": draw(st.lists(st.integers(0, count - 1), max_size=9)),
        "later": draw(st.lists(st.integers(0, count - 1), max_size=4)), "worlds": draw(st.lists(st.integers(1, 8), min_size=2, max_size=2)),
        "stop": draw(st.integers(0, 3)),
    }  # fmt: skip


@pytest.mark.slow
@settings(max_examples=part_of(150, 4), deadline=None)
@given(cases())
def test_each_sample_comes_once_or_all_ranks_raise_the_same_error(case):
    """Also if other ranks continue: numbers of micro-batches are equal, and no rank continues where another raises."""
    costs, names = case["costs"], ("batch_size", "drop_last", "shuffle", "exclude")
    options = {name: case[name] for name in names} | {"collate": list, "workers": 0, "seed": 5}
    found, states, excluded = [], None, set(case["exclude"])
    for world, stop in zip(case["worlds"], (case["stop"], None), strict=True):
        ranks = []
        for rank in range(world):
            steps, error, state = [], None, None
            try:
                balance = Balance(np.array(costs), max_cost=case["most"])
                with Loader(range(len(costs)), shard=(rank, world), balance=balance, **options) as batches:
                    if states is not None:
                        batches.load_state_dict(states)
                        batches.exclude(case["later"])
                    steps += itertools.islice(batches, stop)
                    state = batches.state_dict()
            except ValueError as raised:
                error = str(raised)
            ranks.append((steps, error, state))
        (_,) = {(tuple(map(len, steps)), error, str(state)) for steps, error, state in ranks}
        for step in chain(*(steps for steps, _, _ in ranks)):
            assert all(part and sum(costs[index] for index in part) <= case["most"] for part in step)
        found += [index for steps, _, _ in ranks for step in steps for part in step for index in part]
        assert len(found) == len(set(found))
        (_, error, states), *_ = ranks
        if error is not None:
            return
        if states["epoch"]:
            break
        excluded |= set(case["later"])
    size, last = case["batch_size"], len(costs) // case["batch_size"] * case["batch_size"]
    assert not set(found) & set(case["exclude"])
    kept = len(costs) if not case["drop_last"] else last
    if not excluded and size:
        assert len(found) == kept
    if not case["drop_last"]:
        assert set(found) >= set(range(len(costs))) - excluded


def test_error_replaces_a_step():
    def sample(index):
        if index == bad:
            raise ZeroDivisionError
        return pair(index)

    bad = loader().explain(0, 1).samples[0]
    with loader(source=Computed(sample, LENGTH)) as batches:
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


@pytest.mark.slow
def test_interrupt_anywhere_loses_and_repeats_nothing(whole):
    expected = [step for step, _ in whole[1]]
    for _after, strike in each_strike(37):
        with loader(1) as batches:
            assert [plain(step) for step in batches_despite(strike, batches)] == expected


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Balance(COSTS, max_cost=0), "max_cost must be a number above 0"),
        (lambda: Balance(COSTS, max_cost=5, steps=2), "excludes steps"),
        (lambda: Balance(COSTS, max_cost=5, group=2), "excludes steps"),
        (lambda: Balance(COSTS, max_cost=5, accumulate=2), "excludes steps"),
        (
            lambda: Server("s", SAMPLES, mode="split", world=2, batch_size=4, balance=BALANCE),
            "a server has no micro-batches",
        ),
    ],
)
def test_invalid_options_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_state_of_another_limit_is_refused():
    state = loader().state_dict()
    with pytest.raises(ValueError, match="max_cost"):
        loader(balance=Balance(COSTS, max_cost=MOST + 1)).load_state_dict(state)
