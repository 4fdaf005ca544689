"""States of the ranks of a source with an index, and the ranks that they are for."""

import itertools
import json

import pytest
from helpers.sweeps import part_of
from hypothesis import given, settings
from hypothesis import strategies as st

import mpqueue
from mpqueue.plan.position.cursors import RankStart, ResumePoint
from mpqueue.plan.position.draws import Draws
from mpqueue.plan.position.ranks import Ranks, Shard
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
