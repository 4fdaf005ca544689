"""All ranks return equally many batches, and lose no sample, whatever is excluded, skipped or returned out of order."""

import itertools
import json

import pytest
from helpers.computed_source import Computed
from helpers.numbered_batches import iter_after

import mpqueue


def loader_of(length, rank, world, damaged=(), **options):
    def sample(index):
        if index in damaged:
            raise OSError(index)
        return index

    options = {"workers": 0, "seed": 5} | options
    return mpqueue.Loader(Computed(sample, length), shard=(rank, world), **options)


def test_exclusion_of_ranks_that_are_apart_is_resumed():
    """The ranks call `exclude` after the same step, at different places."""
    options = {"damaged": {0}, "on_error": "skip"}
    for rank in range(2):
        loader = loader_of(16, rank, 2, **options)
        stream = iter(loader)
        taken = int(next(stream))
        loader.exclude([8, 9])
        state = json.loads(json.dumps(loader.state_dict()))
        rest = list(map(int, stream))
        assert not {8, 9, taken} & set(rest)
        loader = loader_of(16, rank, 2, **options)
        loader.load_state_dict(state)
        assert list(map(int, loader)) == rest


def test_state_of_a_rank_that_skipped_a_batch_is_only_for_that_rank():
    options = {"damaged": {2}, "on_error": "skip"}
    first = [loader_of(12, rank, 2, **options) for rank in range(2)]
    assert [[*itertools.islice(loader, 2)] for loader in first] == [[0, 4], [1, 3]]
    states = [loader.state_dict() for loader in first]
    for rank, world in ((1, 2), (0, 4), (0, 1)):
        with pytest.raises(ValueError, match=r"rank 0 of 2, .*left out or raised.* into the same rank of 2"):
            loader_of(12, rank, world).load_state_dict(states[0])
    rests = []
    for rank, state in enumerate(states):
        loader = loader_of(12, rank, 2, **options)
        loader.load_state_dict(state)
        assert loader.state_dict()["shard" if rank == 0 else "world_size"]  # the ranks are still apart
        rests.append(list(map(int, loader)))
    assert rests == [[6, 8, 10], [5, 7, 9, 11]]
    for rank, rest in enumerate(rests):
        loader = loader_of(12, rank, 2, **options)
        loader.load_state_dict(states[::-1])  # which include the state of this rank
        assert list(map(int, loader)) == rest
    with pytest.raises(ValueError, match="into the same rank of 2"):
        loader_of(12, 0, 3).load_state_dict(states)
    with pytest.raises(ValueError, match="not saved at one moment"):
        first[0].load_state_dict([states[1], {**loader_of(12, 0, 2).state_dict()}])


@pytest.mark.parametrize("order", [{}, {"sampler": range(20)[::-1]}])
def test_round_without_samples_is_left_out_without_an_order_only_if_nothing_fills_it(order):
    """Another rank may have returned its batch before the exclusion."""
    found = []
    for rank in range(2):
        with loader_of(20, rank, 2, batch_size=2, ordered=False, **order) as loader:
            stream = iter_after(loader, 1)
            loader.exclude(range(8, 12))
            found.append([batch.tolist() for batch in stream])
    assert [len(batches) for batches in found] == [4, 4]
    assert not {8, 9, 10, 11} & {one for batches in found for batch in batches for one in batch}
