"""With `ordered=False`, a rank's state has its batches taken out of order, but not other ranks' batches."""

import pytest
from helpers.loader_runs import batches_of, begun

import mpqueue

SOURCE = list(range(24))
PAIRS = [[number, number + 1] for number in range(0, 24, 2)]


def options_of(rank, world):
    return {"batch_size": 2, "shard": (rank, world), "seed": 1, "workers": 0}


def loader_of(rank, world, **options):
    return mpqueue.Loader(SOURCE, **options_of(rank, world), **options)


def taken(rank, world, count):
    """Take some batches; return them, and the state after them."""
    return begun(SOURCE, count, ordered=False, **options_of(rank, world))


def rest_of(rank, world, state):
    return batches_of(SOURCE, state=state, ordered=False, **options_of(rank, world))


def test_each_rank_resumes_from_its_own_state():
    pieces = []
    for rank, count in ((0, 1), (1, 3)):
        found, state = taken(rank, 2, count)
        pieces += found + rest_of(rank, 2, state)  # a warning would be an error
    assert sorted(pieces) == PAIRS


def test_list_of_states_resumes_the_same_ranks():
    found, states = map(list, zip(*(taken(rank, 2, 3 - rank) for rank in range(2)), strict=True))
    pieces = [batch for batches in found for batch in batches]
    for rank in range(2):
        pieces += rest_of(rank, 2, states)
    assert sorted(pieces) == PAIRS
    for rank, world in ((0, 1), (0, 3)):
        with loader_of(rank, world) as loader, pytest.raises(ValueError, match="into the same rank of 2"):
            loader.load_state_dict(states)


def test_state_of_the_only_rank_loads_into_no_others():
    found, state = taken(0, 1, 2)
    with loader_of(1, 2) as loader, pytest.raises(ValueError, match=r"rank 0 of 1, .* into the same rank of 1"):
        loader.load_state_dict(state)
    assert found + batches_of(SOURCE, state=state, **options_of(0, 1)) == PAIRS


@pytest.mark.parametrize("shard", [(1, 2), (0, 4), (0, 1)])
def test_state_of_other_rank_within_epoch_raises(shard):
    _, state = taken(0, 2, 2)
    with loader_of(*shard) as loader:
        with pytest.raises(ValueError, match=r"rank 0 of 2, .*ordered=False.* into the same rank of 2"):
            loader.load_state_dict(state)


def test_state_between_epochs_works_for_all_ranks():
    with loader_of(0, 2, ordered=False) as loader:
        list(loader)
        state = loader.state_dict()
    with loader_of(1, 4) as loader:
        loader.load_state_dict(state)  # a warning would be an error
        assert loader.epoch == 1
