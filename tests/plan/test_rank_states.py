"""Ranks: which batches belong to each, their states, and the ranks that these are for."""

import itertools
import json
import sys
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
from helpers.computed_source import Computed
from helpers.sweeps import part_of
from hypothesis import given, settings
from hypothesis import strategies as st

import mpqueue
from mpqueue.plan.position.cursors import RankStart, ResumePoint
from mpqueue.plan.position.draws import Draws
from mpqueue.plan.position.ranks import Ranks, Shard, shard_of
from mpqueue.plan.states.checksums import checksum_of
from mpqueue.plan.states.index_states import of_rank
from mpqueue.plan.states.saved_states import sealed

pytestmark = pytest.mark.sample(2)

FEW = settings(max_examples=part_of(200, 4), deadline=None, derandomize=True)


def state_of(ranks, point):
    """Return the state of a rank that took its batches without an order."""
    found = ranks.to_global(point)
    state = found.as_dict() | {"seed": 1, "world_size": ranks.shard.world}
    if ranks.shard.world > 1 and (point.position or point.ahead):
        state["shard"] = list(ranks.shard)
    return json.loads(json.dumps(sealed(state)))


@FEW
@given(st.integers(0, 9), st.integers(0, 30), st.integers(1, 4))
def test_indices_after_a_base_follow_those_of_whole_rounds(number, index, world):
    base = RankStart(number, world)
    first = base.first * world
    assert 0 <= first - number < world
    assert base.nth(first + index) == number + index
    assert base.index_of(number + index) == first + index
    assert list(base.global_positions(range(first + 1, first + 20, 3))) == list(range(number + 1, number + 20, 3))


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("world", range(1, 5))
def test_same_ranks_keep_their_base_and_other_ranks_would_return_the_same_batches(world, drop_last):
    for total, rank in itertools.product(range(1, 15), range(world)):
        ranks = Ranks(Shard(rank, world), drop_last=drop_last)
        draws = Draws(range(total), None, ranks, None, are_lists=False)
        for began in range(total + 1):
            base = RankStart(began, world)
            for position in range(base.first, ranks.num_turns(total, base) + 1):
                point = ResumePoint(0, position, base=base)
                saved = ranks.to_global(point)
                assert ranks.to_local(saved, began) == point
                other = ranks.to_local(saved)
                assert other.position == position  # a batch has the same number
                left = ranks.global_positions(total, other.base)[position:]
                assert list(ranks.global_positions(total, base)[position:]) == list(left)
                for each in (base, other.base) if left else ():
                    drawn = draws.draw(0, each).take(total)[position - each.first :]
                    assert [batch.source_index for batch in drawn] == [number % total for number in left]


def test_same_ranks_within_a_round_begin_again():
    ranks = Ranks(Shard(1, 2))
    assert ranks.to_local(ResumePoint(3, 5, base=RankStart(5)), began=2) == ResumePoint(3, 3, base=RankStart(5, 2, 3))


def at(rank, world, count, epoch=0, **keys):
    """Return the state of a rank after this many of its batches, one of them skipped."""
    state = state_of(Ranks(Shard(rank, world)), ResumePoint(epoch, count))
    return sealed({key: value for key, value in state.items() if key != "checksum"} | keys)


def without_rank(state):
    """Return the same state of a rank that skipped no batch."""
    return sealed({key: value for key, value in state.items() if key not in {"checksum", "shard"}})


@pytest.mark.parametrize(
    ("states", "message"),
    [
        ([at(0, 3, 2), at(1, 3, 3)], r"belongs to rank 0 of 3, and this is rank 1 of 2"),
        ([at(0, 2, 2)], r"belongs to rank 0 of 2, and this is rank 1 of 2: .* into the same rank of 2"),
        ([at(0, 2, 2), at(1, 3, 3)], "belongs to rank 0 of 2, and this is rank 1 of 2"),
    ],
)
def test_states_that_do_not_belong_together_are_refused(states, message):
    with pytest.raises(ValueError, match=message):
        of_rank(states, Shard(1, 2))


class RaisesOnce:
    """A source that raises at the first request for its first sample."""

    has_raised = False

    def __len__(self):
        return 8

    def __getitem__(self, index):
        if not (index or self.has_raised):
            self.has_raised = True
            raise OSError
        return index


def test_batch_skipped_in_the_epoch_before_makes_no_state_of_one_rank():
    first, other = (mpqueue.Loader(RaisesOnce(), shard=(rank, 2), on_error="skip", workers=0) for rank in range(2))
    assert len(list(first)) == 3
    first.stop()  # the next loop begins from its place
    assert next(iter(first)) == 0
    other.load_state_dict(first.state_dict())
    assert list(other) == [3, 5, 7]


def changed_states(source, change, num_taken, num_rest=9, **options):
    """Return the states of two ranks after a change and some more batches, by default in the next loop."""
    states = []
    for rank in range(2):
        with mpqueue.Loader(source(), shard=(rank, 2), seed=1, workers=0, **options) as loader:
            batches = iter(loader)
            for _ in range(num_taken[rank]):
                next(batches)
            change(loader)
            for _ in zip(range(num_rest), batches, strict=False):
                pass
            if loader.epoch:
                next(iter(loader))
            states.append(loader.state_dict())
    return states


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize(
    ("change", "rest"),
    [(lambda loader: loader.exclude([5]), {2, 3, 4, 6, 7}), (lambda loader: loader.seek(0, 1), {*range(2, 8)})],
    ids=["exclude", "seek"],
)
def test_ranks_that_were_apart_at_a_change_resume_together_in_the_next_loop(change, rest, world):
    states = changed_states(RaisesOnce, change, (2, 2), on_error="skip")
    assert [state["history"][0]["batch"] for state in states] == [3, 2]
    found = []
    for rank in range(world):
        with mpqueue.Loader(range(8), workers=0, shard=(rank, world)) as loader:
            loader.load_state_dict(states)
            found += list(loader)
    assert {*found} - {0, 1} == rest  # 0 and 1 fill up the end


def test_exclusion_that_ranks_made_after_other_steps_is_that_of_the_first():
    states = changed_states(lambda: range(12), lambda loader: loader.exclude([5]), (1, 2), num_rest=0)
    states[0] = changed_states(lambda: range(12), lambda loader: loader.exclude([5]), (1, 2), num_rest=1)[0]
    assert states[0]["position"] == states[1]["position"]
    with mpqueue.Loader(range(12), workers=0) as loader:
        loader.load_state_dict(states)
        assert loader.state_dict()["history"] == states[0]["history"]
        assert list(loader) == [4, *range(6, 12)]


def test_ranks_that_excluded_different_samples_are_refused():
    ours, others = (
        changed_states(lambda: range(12), lambda loader, bad=bad: loader.exclude([bad]), (1, 1), num_rest=0)
        for bad in (5, 6)
    )
    with mpqueue.Loader(range(12), workers=0) as loader, pytest.raises(ValueError, match="different histories"):
        loader.load_state_dict([ours[0], others[1]])


@pytest.mark.parametrize("order", [1, -1])
def test_list_of_ranks_in_two_epochs_is_refused(order):
    states = [without_rank(at(0, 2, 0, epoch=1)), without_rank(at(1, 2, 2))]
    with pytest.raises(ValueError, match="load the state of each rank into the same rank"):
        of_rank(states[::order], Shard(0, 2))
    assert [of_rank([state], Shard(rank, 2)) for rank, state in enumerate(states)] == [[each] for each in states]


def test_state_of_another_rank_stands_for_one_only_in_a_list_of_all():
    plain = without_rank(at(0, 3, 2))
    assert of_rank([at(0, 3, 3), plain, plain], Shard(2, 3)) == [plain]
    with pytest.raises(ValueError, match="belongs to rank 0 of 3, and this is rank 2 of 3"):
        of_rank([at(0, 3, 3), plain], Shard(2, 3))


# -- Shards


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
    [{"RANK": "0"}, {"WORLD_SIZE": "2"}, *({"RANK": rank, "WORLD_SIZE": "2"} for rank in ("2", "-1", "one"))],
)
def test_invalid_environment_variables_are_shown(launched, variables):
    launched(**variables)
    with pytest.raises(ValueError, match=r"both, or pass shard=\(rank, world\)$") as caught:
        shard_of("auto")
    assert str(variables) in str(caught.value)


def torch_of(*, is_available=True, is_initialized=True):
    """Return a fake torch in the second of three processes."""
    says = {"is_available": is_available, "is_initialized": is_initialized, "get_rank": 1, "get_world_size": 3}
    return SimpleNamespace(distributed=Mock(**{f"{name}.return_value": value for name, value in says.items()}))


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


@pytest.mark.parametrize("count", [2**62, 2**62 - 1])  # the second one is filled up
def test_order_of_ranks_uses_no_memory(count):
    source = Computed(int, count)
    with mpqueue.Loader(source, workers=0, shard=(1, 2)) as loader:
        batches = iter(loader)
        assert [next(batches) for _ in range(3)] == [1, 3, 5]
    with mpqueue.Loader(source, workers=0, shard=(1, 2)) as loader:
        loader.seek(0, 2**61 - 2)
        batches = [batch for batch in loader]  # noqa: C416 - `list` would reserve memory for the length
        assert batches == [2**62 - 3, (2**62 - 1) % count]


# -- The checksum of a saved state


VALUES = [None, True, False, 0, 1, 1.5, "", "1", b"", b"1", [], [1], [1, None], {}, {"a": 1}, {"a": None}]


def test_values_of_any_type_have_different_checksums():
    assert len({checksum_of(value) for value in VALUES}) == len(VALUES)
