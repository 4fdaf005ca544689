"""Windows of balanced ranks: no sample is lost or repeated, whichever ranks continue an epoch."""

import contextlib
import itertools
from collections import Counter

import pytest

import mpqueue


def cost(sample):
    return sample * 37 % 11


@contextlib.contextmanager
def opened(world, states=None, source=None, **options):
    """Open the loaders of all ranks."""
    given = {"seed": 3, "batch_size": 2, "workers": 0, "collate": list} | options
    source = range(11) if source is None else source
    loaders = [mpqueue.Loader(source, shard=(rank, world), **given) for rank in range(world)]
    if states is not None:
        for each in loaders:
            each.load_state_dict(states)
    try:
        yield loaders
    finally:
        for each in loaders:
            each.stop()


@pytest.mark.sample(2)
@pytest.mark.parametrize("length", [8, 21, 50, 99])
@pytest.mark.parametrize("worlds", [(1, 2), (2, 1), (2, 4), (4, 1), (4, 2), (1, 4), (4, 2, 1), (2, 1, 4)])
@pytest.mark.parametrize("balance", [{"steps": 4}, {"group": 4}, {"accumulate": 3}])
def test_other_ranks_continue_an_epoch_without_loss(length, worlds, balance):
    found, states, options = Counter(), None, {"source": range(length), "balance": mpqueue.Balance(cost, **balance)}
    for world in worlds[:-1]:
        with opened(world, states, **options) as ranks:
            for batches in [iter(each) for each in ranks]:  # a window, or to the end of the epoch
                for batch in itertools.islice(batches, options["balance"].window):
                    found.update(batch)
            states = [each.state_dict() for each in ranks]
            if ranks[0].epoch:
                break
    else:
        with opened(worlds[-1], states, **options) as ranks:
            for batch in itertools.chain(*ranks):
                found.update(batch)
    assert set(found) == set(range(length))
    # What fills up the end is the beginning of the order.
    assert all(sample < found.total() - length for sample in found if found[sample] > 1)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_cost_of_a_step_is_that_of_its_batches(world):
    options = {"batch_size": 1, "balance": mpqueue.Balance(cost, accumulate=3), "source": range(30), "exclude": [4, 9]}
    with opened(world, **options) as ranks:
        last = -(-30 // world)
        order = [iter(each) for each in ranks]
        for turn in range(last - 2):
            if turn == 4:  # in the middle of a step: the emptied batches are filled
                excluded = [sample for each in ranks[:-1] for sample in each.explain(0, 4).samples]
                for each in ranks:
                    each.exclude([*excluded, 0])
            for batch in order:
                next(batch)
            (number,) = {each.last.batch for each in ranks}
            step = range(number // 3 * 3, min(number // 3 * 3 + 3, last))
            found = [each.explain(0, number) for number in step for each in ranks]
            total = sum(sum(map(cost, each.samples)) for each in found)
            assert {each.step_cost for each in found} == {total}
            assert {each.last.step_cost for each in ranks} == {total}


@pytest.mark.parametrize("worlds", [(1, 1), (2, 2), (4, 4)])
def test_new_weights_begin_after_the_windows_that_were_begun(worlds):
    parts = {"a": mpqueue.Dataset.range(60), "b": mpqueue.Dataset.range(60)}
    source = mpqueue.Dataset.mix(parts, weights={"a": 1, "b": 1}, stop="first")
    balance, (before, world) = mpqueue.Balance(lambda sample: sample[1], steps=4), worlds
    with opened(before, source=source, balance=balance) as ranks:
        found = [sample for each in ranks for sample in next(iter(each))]
        states = [each.state_dict() for each in ranks]
    with opened(world, states, source=source, balance=balance) as ranks:
        window = 4 * before * 2
        for each in ranks:
            each.set_weights({"a": 3, "b": 1})
        found += [sample for each in ranks for batch in each for sample in batch]
    with opened(1, source=source) as (plain,):
        plain.set_weights({"a": 3, "b": 1}, at=window)
        assert set(found) == {sample for batch in plain for sample in batch}


@pytest.mark.parametrize("worlds", [(1, 1), (2, 2), (2, 1), (1, 2)])
def test_longer_source_continues_after_full_windows(worlds):
    options = {"balance": mpqueue.Balance(cost, steps=2)}
    with opened(worlds[0], source=range(11), **options) as ranks:
        turns = 1 if worlds[0] == worlds[1] else 2  # other ranks continue at a border
        found = Counter(sample for each in ranks for batch in itertools.islice(each, turns) for sample in batch)
        states = [each.state_dict() for each in ranks]
    with opened(worlds[1], states, source=range(24), **options) as ranks:
        for each in ranks:
            for batch in each:
                found.update(batch)
    assert set(found) == set(range(24))


def test_longer_source_is_refused_in_a_window_that_was_shorter():
    options = {"balance": mpqueue.Balance(cost, steps=8)}
    with opened(1, source=range(11), **options) as (rank,):
        next(iter(rank))
        state = rank.state_dict()
    with pytest.raises(ValueError, match=r"saved with batch_size=2, length 11, .* and this loader has .* length 21"):
        opened(1, [state], source=range(21), **options).__enter__()
