"""With `ordered=False`, a rank's state has its batches taken out of order, but not other ranks' batches."""

import warnings

import pytest

import mpqueue


def loader_of(rank, world, **options):
    return mpqueue.Loader(list(range(24)), batch_size=2, shard=(rank, world), seed=1, workers=0, **options)


def taken(rank, world, count, **options):
    """Take some batches; return them, and the state after them."""
    with loader_of(rank, world, **options) as loader:
        stream = iter(loader)
        return [next(stream).tolist() for _ in range(count)], loader.state_dict()


def test_each_rank_resumes_from_its_own_state():
    pieces = []
    for rank, count in ((0, 1), (1, 3)):
        found, state = taken(rank, 2, count, ordered=False)
        with loader_of(rank, 2, ordered=False) as loader, warnings.catch_warnings():
            warnings.simplefilter("error")
            loader.load_state_dict(state)
            pieces += found + [batch.tolist() for batch in loader]
    assert sorted(pieces) == [[number, number + 1] for number in range(0, 24, 2)]


def test_list_of_states_resumes_the_same_ranks():
    found, states = map(list, zip(*(taken(rank, 2, 3 - rank, ordered=False) for rank in range(2)), strict=True))
    pieces = [batch for batches in found for batch in batches]
    for rank in range(2):
        with loader_of(rank, 2, ordered=False) as loader:
            loader.load_state_dict(states)
            pieces += [batch.tolist() for batch in loader]
    assert sorted(pieces) == [[number, number + 1] for number in range(0, 24, 2)]
    for rank, world in ((0, 1), (0, 3)):
        with loader_of(rank, world) as loader, pytest.raises(ValueError, match="into the same rank of 2"):
            loader.load_state_dict(states)


def test_state_of_the_only_rank_loads_into_no_others():
    found, state = taken(0, 1, 2, ordered=False)
    with loader_of(1, 2) as loader, pytest.raises(ValueError, match=r"rank 0 of 1, .* into the same rank of 1"):
        loader.load_state_dict(state)
    with loader_of(0, 1) as loader:
        loader.load_state_dict(state)
        found += [batch.tolist() for batch in loader]
    assert found == [[number, number + 1] for number in range(0, 24, 2)]


@pytest.mark.parametrize("shard", [(1, 2), (0, 4), (0, 1)])
def test_state_of_other_rank_within_epoch_raises(shard):
    _, state = taken(0, 2, 2, ordered=False)
    with loader_of(*shard) as loader:
        with pytest.raises(ValueError, match=r"rank 0 of 2, .*ordered=False.* into the same rank of 2"):
            loader.load_state_dict(state)


def test_state_between_epochs_works_for_all_ranks():
    with loader_of(0, 2, ordered=False) as loader:
        list(loader)
        state = loader.state_dict()
    with loader_of(1, 4) as loader, warnings.catch_warnings():
        warnings.simplefilter("error")
        loader.load_state_dict(state)
        assert loader.epoch == 1
