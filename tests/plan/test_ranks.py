"""Shards: which batches of an epoch belong to a rank, and where it continues."""

import itertools
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from mpqueue.plan.batching import Batching
from mpqueue.plan.cursors import Place
from mpqueue.plan.ranks import AllRanks, Ranks, Shard, shard_of


def ranks_of(rank, world, *, drop_last=False):
    return Ranks(Shard(rank, world), drop_last=drop_last)


@pytest.mark.parametrize(
    ("total", "filled_up", "dropped"),
    [
        (0, [[], [], []], [[], [], []]),
        (1, [[0], [1], [2]], [[], [], []]),
        (3, [[0], [1], [2]], [[0], [1], [2]]),
        (7, [[0, 3, 6], [1, 4, 7], [2, 5, 8]], [[0, 3], [1, 4], [2, 5]]),
    ],
)
def test_each_of_three_ranks_takes_every_third_batch_and_equally_many(total, filled_up, dropped):
    for drop_last, expected in ((False, filled_up), (True, dropped)):
        shares = [ranks_of(rank, 3, drop_last=drop_last) for rank in range(3)]
        assert [list(share.numbers(total)) for share in shares] == expected
        assert [share.drops for share in shares] == [drop_last] * 3


def test_end_is_filled_up_unless_it_is_dropped():
    assert not Ranks(Shard(0, 2)).drops


def test_one_rank_takes_all():
    assert list(Ranks().numbers(5)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("rank", [0, 2])
def test_endless_source_has_practically_unlimited_batches_per_rank(rank):
    numbers = ranks_of(rank, 3).numbers(None)
    assert numbers[:3] == range(rank, rank + 9, 3)
    assert len(numbers) > 10**18
    assert numbers[-1] <= sys.maxsize  # so that it can be an index


def test_other_ranks_finish_the_epoch_and_begin_the_next_one_together():
    shares = [ranks_of(rank, 2) for rank in range(2)]
    places = [share.to_local(Place(4, 5)) for share in shares]
    assert places == [Place(4, 0, base=5)] * 2
    assert [list(share.numbers(9, 5)) for share in shares] == [[5, 7], [6, 8]]
    assert [list(share.numbers(9)) for share in shares] == [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]


def test_epoch_left_at_its_end_has_no_batches():
    assert list(ranks_of(0, 2).numbers(9, 9)) == []
    assert list(ranks_of(0, 2).numbers(9, 10)) == []  # the end was filled up


def test_a_state_counts_the_batches_of_all_ranks():
    place = Place(1, 2, (4, 6))
    assert ranks_of(1, 3).to_global(place) == Place(1, 6, (13, 19))
    assert ranks_of(1, 3).to_global(place._replace(base=5)) == Place(1, 11, (18, 24))


def test_rank_skips_its_own_batches_that_were_taken_out_of_order():
    place = Place(1, 5, (7, 8, 9, 10, 14))
    shares = [ranks_of(rank, 3) for rank in range(3)]
    assert [share.to_local(place).ahead for share in shares] == [(1, 3), (1,), (0, 1)]
    left_out = [share.to_global(share.to_local(place)).ahead for share in shares]
    assert sorted(itertools.chain(*left_out)) == list(place.ahead)


def test_rank_picks_its_own_batch_of_each_group():
    assert ranks_of(1, 3).pick(["a", "b", "c"]) == ["b"]


def test_all_ranks_has_the_batches_of_each_rank():
    for total in (0, 1, 6, 7, 8):
        for drop_last in (False, True):
            numbers = [ranks_of(rank, 3, drop_last=drop_last).numbers(total) for rank in range(3)]
            assert list(AllRanks(3, drop_last=drop_last).numbers(total)) == sorted(itertools.chain(*numbers))
    assert list(AllRanks(3).numbers(7)) == list(range(9))
    assert AllRanks(3).pick(["a", "b", "c"]) == ["a", "b", "c"]


def test_places_of_all_ranks_are_global():
    place = Place(1, 5, (7, 8))
    everybody = AllRanks(3)
    assert everybody.shard == Shard(0, 3)
    assert everybody.to_global(place) == place
    assert everybody.to_local(place) == place


def test_one_rank_continues_in_the_global_order():
    share, place = Ranks(), Place(1, 5, (7, 8))
    assert share.to_local(place) == place
    assert share.to_global(place) == place
    assert list(share.numbers(7)) == list(range(7))


def test_without_the_option_there_is_one_rank():
    assert shard_of(None) == Shard(0, 1)


def test_rank_may_be_any_integer_type():
    shard = shard_of([np.int8(1), np.uint64(3)])
    assert shard == Shard(1, 3)
    assert [type(number) for number in shard] == [int, int]


@pytest.fixture
def launched(monkeypatch):
    """Sets the variables of a launcher; no library reports a rank unless the test adds it."""
    for name in ("torch", "jax"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    def launch(**variables):
        for name in ("RANK", "WORLD_SIZE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    launch()
    return launch


def test_rank_is_read_from_environment_variables(launched):
    assert shard_of("auto") == Shard(0, 1)
    for rank in range(2):
        launched(RANK=str(rank), WORLD_SIZE="2")
        assert shard_of("auto") == Shard(rank, 2)


@pytest.mark.parametrize(
    "variables",
    [
        {"RANK": "0"},
        {"WORLD_SIZE": "2"},
        {"RANK": "2", "WORLD_SIZE": "2"},
        {"RANK": "-1", "WORLD_SIZE": "2"},
        {"RANK": "one", "WORLD_SIZE": "2"},
    ],
    ids=str,
)
def test_invalid_environment_variables_are_shown(launched, variables):
    launched(**variables)
    with pytest.raises(ValueError, match=r"both, or pass shard=\(rank, world\)$") as caught:
        shard_of("auto")
    assert str(variables) in str(caught.value)


def torch_of(*, is_available=True, is_initialized=True):
    """Return a fake torch in the second of three processes."""
    return SimpleNamespace(
        distributed=SimpleNamespace(
            is_available=lambda: is_available,
            is_initialized=lambda: is_initialized,
            get_rank=lambda: 1,
            get_world_size=lambda: 3,
        )
    )


def refuses():
    raise AssertionError("to ask starts the backend")


def jax_of(*, is_initialized):
    """Return a fake jax in the third of four processes, if it is one of several."""
    return SimpleNamespace(
        distributed=SimpleNamespace(is_initialized=lambda: is_initialized),
        process_index=(lambda: 2) if is_initialized else refuses,
        process_count=(lambda: 4) if is_initialized else refuses,
    )


@pytest.mark.parametrize(
    ("module", "found", "expected"),
    [
        ("torch", torch_of(), Shard(1, 3)),
        ("torch", torch_of(is_initialized=False), Shard(5, 6)),
        ("torch", torch_of(is_available=False), Shard(5, 6)),
        ("torch", SimpleNamespace(), Shard(5, 6)),
        ("jax", jax_of(is_initialized=True), Shard(2, 4)),
        ("jax", jax_of(is_initialized=False), Shard(5, 6)),
        ("jax", SimpleNamespace(distributed=SimpleNamespace()), Shard(5, 6)),
        ("jax", SimpleNamespace(), Shard(5, 6)),
    ],
)
def test_rank_of_a_library_takes_precedence_over_environment_variables(launched, monkeypatch, module, found, expected):
    launched(RANK="5", WORLD_SIZE="6")
    monkeypatch.setitem(sys.modules, module, found)
    assert shard_of("auto") == expected


def test_the_batches_of_all_ranks_are_counted_with_the_short_one_unless_it_is_dropped():
    assert [Batching(4).num_batches(number) for number in (0, 1, 4, 9)] == [0, 1, 1, 3]
    assert [Batching(4, drops=True).num_batches(number) for number in (0, 1, 4, 9)] == [0, 0, 1, 2]


def test_plan_has_defaults_for_options_that_were_not_passed():
    assert Batching(4) == (4, False, None, False, False, False, 1)
