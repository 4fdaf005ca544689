"""States of the ranks of a source with an index, joined: each batch that is left goes to exactly one rank."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mpqueue
from mpqueue.plan.cursors import Base, Place
from mpqueue.plan.draws import Draws
from mpqueue.plan.rank_states import place_in
from mpqueue.plan.ranks import Ranks, Shard
from mpqueue.plan.saved_states import sealed

FEW = settings(max_examples=200, deadline=None, derandomize=True)


def state_of(ranks, place):
    """Return the state of a rank that took its batches without an order."""
    found = ranks.to_global(place)
    state = found.as_dict() | {"seed": 1, "world_size": ranks.shard.world, "taken": list(found.base.ahead)}
    if ranks.shard.world > 1 and (place.position or place.ahead):
        state["shard"] = list(ranks.shard)
    return json.loads(json.dumps(sealed(state)))


@FEW
@given(st.integers(1, 40), st.lists(st.integers(1, 4), min_size=2, max_size=5), st.data())
def test_batches_that_no_rank_returned_are_dealt_once_and_equally(total, worlds, data):
    states, returned = [], set()
    for world in worlds:
        all_ranks = [Ranks(Shard(rank, world)) for rank in range(world)]
        places = [
            ranks.to_local(place_in(states, ranks.shard, lambda _: total)) if states else Place() for ranks in all_ranks
        ]
        orders = [ranks.numbers(total, place.base) for ranks, place in zip(all_ranks, places, strict=True)]
        kept = [
            [number for at, number in enumerate(order) if at >= place.position and at not in place.ahead]
            for order, place in zip(orders, places, strict=True)
        ]
        assert len({len(numbers) for numbers in kept}) == 1
        assert sorted(n for numbers in kept for n in numbers if n < total) == sorted(set(range(total)) - returned)
        if not kept[0]:
            return
        states = []
        for ranks, order, place in zip(all_ranks, orders, places, strict=True):
            # The last batch is left: a rank that has returned all is in the next epoch.
            left = [at for at in range(place.position, len(order) - 1) if at not in place.ahead]
            taken = data.draw(st.sets(st.sampled_from(left[:6]), max_size=4)) if left else set()
            returned |= {order[at] for at in taken if order[at] < total}
            taken |= {*range(place.position), *place.ahead}
            position = next(at for at in range(len(order)) if at not in taken)
            ahead = tuple(sorted(at for at in taken if at > position))
            states.append(state_of(ranks, place._replace(position=position, ahead=ahead)))
        data.draw(st.randoms(use_true_random=False)).shuffle(states)


@FEW
@given(st.integers(0, 9), st.sets(st.integers(0, 20)), st.integers(0, 30), st.integers(1, 4))
def test_numbers_after_a_base_leave_out_those_ahead(number, later, index, world):
    base = Base(number, tuple(sorted(number + 1 + each for each in later)), world)
    left = [each for each in range(number, 80) if each not in base.ahead]
    first = base.first * world
    assert 0 <= first - number < world
    assert base.nth(first + index) == left[index]
    assert base.index_of(left[index]) == first + index
    assert list(base.numbers(range(first + 1, first + 20, 3))[2:5]) == left[7:16:3]
    moved = base.moved(first + index)
    assert [moved.nth(moved.first * world + each) for each in range(9)] == left[index : index + 9]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("world", range(1, 5))
def test_same_ranks_keep_their_base_and_other_ranks_would_return_the_same_batches(world, drop_last):
    for total, rank in itertools.product(range(1, 15), range(world)):
        ranks = Ranks(Shard(rank, world), drop_last=drop_last)
        draws = Draws(range(total), None, ranks, None, are_lists=False)
        for began in range(total + 1):
            base = Base(began, (), world)
            for position in range(base.first, ranks.num_turns(total, base) + 1):
                place = Place(0, position, base=base)
                saved = ranks.to_global(place)
                assert ranks.to_local(saved, began) == place
                other = ranks.to_local(saved)
                assert other.position == position  # a batch has the same number
                left = ranks.numbers(total, other.base)[position:]
                assert list(ranks.numbers(total, base)[position:]) == list(left)
                for each in (base, other.base) if left else ():
                    drawn = draws.draw(0, each).take(total)[position - each.first :]
                    assert [batch.unit for batch in drawn] == [number % total for number in left]


def test_same_ranks_within_a_round_begin_again():
    ranks = Ranks(Shard(1, 2))
    assert ranks.to_local(Place(3, 5, base=Base(5)), began=2) == Place(3, 3, base=Base(5, (), 2, 3))
    assert ranks.to_local(Place(3, 6, base=Base(6, (8,))), began=2) == Place(3, 3, base=Base(6, (8,), 2, 3))


def at(rank, world, count, epoch=0, **keys):
    """Return the state of a rank after this many of its batches, of which it skipped one."""
    state = state_of(Ranks(Shard(rank, world)), Place(epoch, count))
    return sealed({key: value for key, value in state.items() if key != "checksum"} | keys)


def test_rank_that_has_finished_the_epoch_is_joined():
    states = [at(0, 2, 0, epoch=1, shard=[0, 2]), at(1, 2, 2)]
    assert place_in(states, Shard(0, 3), lambda _: 7)[1:3] == (5, ())
    assert place_in(states, Shard(0, 3), lambda _: 7).base == Base(5, (6,), 2)

    def unknown(_):
        raise TypeError

    with pytest.raises(ValueError, match="sampler has no length"):
        place_in(states, Shard(0, 3), unknown)


@pytest.mark.parametrize(
    ("states", "message"),
    [
        ([at(0, 3, 2), at(1, 3, 3)], r"all 3 ranks are needed, .* got 2 states, with those of ranks 0, 1"),
        ([at(0, 2, 2), at(0, 2, 3)], r"got 2 states, with those of ranks 0, 0"),
        ([at(0, 2, 2), at(1, 2, 3, seed=2)], "not saved by one run: the seed is 1 in one and 2"),
        ([at(0, 2, 2), at(1, 2, 3, epoch=1)], "not saved at one moment: rank 1 is at epoch 1, batch 6"),
        ([at(0, 2, 2), at(1, 2, 3, position=5)], "not saved at one moment: rank 1 is at epoch 0, batch 5"),
        ([at(0, 2, 2), at(1, 2, 3, taken=[9])], "not saved at one moment: rank 1"),
        ([at(0, 2, 2)], r"belongs to rank 0 of 2, and this is rank 1 of 2: .* load the state of each rank into the"),
    ],
)
def test_states_that_do_not_belong_together_are_refused(states, message):
    with pytest.raises(ValueError, match=message):
        place_in(states, Shard(1, 2), lambda _: 20)


class RaisesOnce:
    """A source whose first sample raises at the first request."""

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


def changed_states(source, change, num_taken, **options):
    """Return the states of two ranks in the loop after a change."""
    states = []
    for rank in range(2):
        with mpqueue.Loader(source(), shard=(rank, 2), seed=1, workers=0, **options) as loader:
            batches = iter(loader)
            for _ in range(num_taken[rank]):
                next(batches)
            change(loader)
            list(batches)
            next(iter(loader))
            states.append(loader.state_dict())
    return states


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("change", [lambda loader: loader.exclude([5]), lambda loader: loader.seek(0, 2)])
def test_ranks_that_were_apart_at_a_change_resume_together_in_the_next_loop(ordered, change):
    states = changed_states(RaisesOnce, change, (2, 2), on_error="skip", ordered=ordered)
    assert [state["history"][0]["batch"] for state in states] == [3, 2]
    with mpqueue.Loader(RaisesOnce(), workers=0) as loader:
        loader.load_state_dict(states)
        assert loader.epoch == states[0]["epoch"] == states[1]["epoch"]


def test_ranks_that_were_not_apart_must_make_a_change_after_the_same_step():
    states = changed_states(lambda: range(8), lambda loader: loader.exclude([5]), (1, 2))
    with mpqueue.Loader(range(8), workers=0) as loader, pytest.raises(ValueError, match="different histories"):
        loader.load_state_dict(states)
