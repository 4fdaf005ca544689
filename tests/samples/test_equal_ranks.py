"""All ranks return equally many batches, and nothing is lost, whatever is excluded, skipped or returned out of order."""

import json
from collections import Counter

import pytest
from helpers.numbered import iter_after
from hypothesis import given, settings
from hypothesis import strategies as st

import mpqueue

FEW = settings(max_examples=40, deadline=None, derandomize=True)
SEED = 5


class Damaged:
    """Samples of which some raise."""

    def __init__(self, length, damaged=()):
        self.length, self.damaged = length, frozenset(damaged)

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if index in self.damaged:
            raise OSError(index)
        return index


class Sampler:
    """A sampler without a length."""

    def __init__(self, order):
        self.order = order

    def __iter__(self):
        return iter(self.order)


KINDS = {
    "samples": lambda length, size: {"batch_size": size},
    "shuffled samples": lambda length, size: {"batch_size": size, "shuffle": True},
    "batches": lambda length, size: {},
    "shuffled batches": lambda length, size: {"shuffle": True},
    "a sampler": lambda length, size: {"batch_size": size, "sampler": range(length)[::-1]},
    "a sampler without a length": lambda length, size: {"batch_size": size, "sampler": Sampler(range(length))},
    "a sampler of batches": lambda length, size: {"sampler": range(length)[::-1]},
    "a batch sampler": lambda length, size: {
        "batch_sampler": [list(range(first, min(first + size, length))) for first in range(0, length, size)]
    },
}


def loader_of(kind, length, size, rank, world, damaged=(), **options):
    options = {"workers": 0, "seed": SEED} | KINDS[kind](length, size) | options
    return mpqueue.Loader(Damaged(length, damaged), shard=(rank, world), **options)


def ids(batch):
    return batch.tolist() if hasattr(batch, "tolist") and batch.ndim else [int(batch)]


def own_steps(stream, count):
    """Return up to ``count`` batches; batches that raise are no steps."""
    taken = []
    while len(taken) < count:
        try:
            taken.append(ids(next(stream)))
        except OSError:
            continue
        except StopIteration:
            break
    return taken


@FEW
@given(
    st.sampled_from(sorted(KINDS)), st.integers(12, 30), st.sets(st.integers(0, 11), max_size=5),
    st.sampled_from(["skip", "raise"]), st.lists(st.integers(1, 4), min_size=3, max_size=3), st.integers(1, 4),
)  # fmt: skip
def test_list_of_all_states_resumes_exactly_where_ranks_skipped_batches(kind, length, damaged, on_error, worlds, count):
    options, states, found = {"damaged": damaged, "on_error": on_error}, None, []
    for world, limit in [*((world, count) for world in worlds), (1, length)]:
        of_ranks = [loader_of(kind, length, 1, rank, world, **options) for rank in range(world)]
        for loader in of_ranks if states else ():
            loader.load_state_dict(states)
        assert len({loader.epoch for loader in of_ranks}) == 1
        if of_ranks[0].epoch:
            break
        streams = [iter(loader) for loader in of_ranks]
        taken = [own_steps(stream, limit) for stream in streams]
        states = json.loads(json.dumps([loader.state_dict() for loader in of_ranks][::-1]))
        is_last = any(state["epoch"] for state in states)
        if is_last:
            taken += [own_steps(stream, length) for stream in streams]
        found += [one for batches in taken for batch in batches for one in batch]
        if is_last:
            break
    returned = Counter(found)
    assert set(returned) == set(range(length)) - damaged
    # The end is filled up, once for each number of ranks that reached it.
    assert sum(returned.values()) - len(returned) <= sum(worlds)


def test_state_of_a_rank_that_skipped_a_batch_is_only_for_that_rank():
    options = {"damaged": {2}, "on_error": "skip"}
    first = [loader_of("batches", 12, 1, rank, 2, **options) for rank in range(2)]
    taken = [own_steps(iter(loader), 2) for loader in first]
    assert taken == [[[0], [4]], [[1], [3]]]
    states = [loader.state_dict() for loader in first]
    for rank, world in ((1, 2), (0, 4), (0, 1)):
        with pytest.raises(ValueError, match=r"rank 0 of 2, .*left out or raised.* Pass a list of the states of all"):
            loader_of("batches", 12, 1, rank, world).load_state_dict(states[0])
    rests = []
    for rank, state in enumerate(states):
        loader = loader_of("batches", 12, 1, rank, 2, **options)
        loader.load_state_dict(state)
        assert loader.state_dict()["shard" if rank == 0 else "world_size"]  # the ranks are still apart
        rests.append(list(map(int, loader)))
    assert rests == [[6, 8, 10], [5, 7, 9, 11]]
    with pytest.raises(ValueError, match=r"all 2 ranks are needed, .* 3 states"):
        first[0].load_state_dict([*states, states[1]])
    with pytest.raises(ValueError, match="not saved at one moment"):
        first[0].load_state_dict([states[1], {**loader_of("batches", 12, 1, 0, 2).state_dict()}])


def test_exclusion_of_ranks_that_are_apart_is_resumed():
    """The ranks call `exclude` after the same step, at different places."""
    options = {"damaged": {0}, "on_error": "skip"}
    first = [loader_of("batches", 16, 1, rank, 2, **options) for rank in range(2)]
    streams = [iter(loader) for loader in first]
    found = []
    for count, excluded in ((1, [8, 9]), (2, [])):
        found += [int(next(stream)) for stream in streams for _ in range(count)]
        for loader in first:
            loader.exclude(excluded)
    states, rests = json.loads(json.dumps([loader.state_dict() for loader in first])), []
    for rank in range(3):
        loader = loader_of("batches", 16, 1, rank, 3)
        loader.load_state_dict(states)
        rests.append(list(map(int, loader)))
    assert len(set(map(len, rests))) == 1
    found += [one for rest in rests for one in rest]
    assert set(found) == {*range(1, 8), *range(10, 16)}


@pytest.mark.parametrize("kind", ["samples", "a sampler"])
def test_round_without_samples_is_left_out_without_an_order_only_if_nothing_fills_it(kind):
    """Another rank may have returned its batch before the exclusion."""
    found = []
    for rank in range(2):
        with loader_of(kind, 20, 2, rank, 2, ordered=False) as loader:
            stream = iter_after(loader, 1)
            loader.exclude(range(8, 12))
            found.append([ids(batch) for batch in stream])
    assert [len(batches) for batches in found] == [4, 4]
    assert not {8, 9, 10, 11} & {one for batches in found for batch in batches for one in batch}
