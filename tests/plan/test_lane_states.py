"""The lanes of a rank, and the contents of their states, without workers."""

import json
import pickle

import pytest
from helpers.saved_states import saved_with

import mpqueue
from mpqueue import Loader
from mpqueue.plan.position.cursors import ResumePoint
from mpqueue.plan.position.lanes import BEGINNING, LaneShare, LaneStart
from mpqueue.plan.position.ranks import Shard
from mpqueue.plan.sources.recognise import recognise
from mpqueue.plan.sources.stream_sources import Lanes as SourceOfLanes
from mpqueue.plan.states.lane_states import as_state, plain, starts_in
from mpqueue.plan.states.saved_states import sealed


class Lanes:
    """A source of lanes with a shape; it is not run here."""

    def __init__(self, *lines):
        self.lines = list(lines)

    def open_lane(self, run):
        raise AssertionError(run)

    def shape(self):
        return self.lines


def elements():
    return iter(())


def loader_of(*lines, shard=(0, 1), **options):
    return Loader(Lanes(*lines), workers=0, shard=shard, epoch_batches=100, **options)


def state_of(share, shard, counts, *, starts=None, ends=(), **more):
    point = ResumePoint(0, sum(counts), (), tuple(counts), starts or (), ends)
    of_stream = {"shard": list(shard), "lanes": share.total, "shape": [], "epoch_batches": 100}
    of_run = {"seed": 3, "step": 0, "world_size": shard[1], "began": 0}
    return sealed(plain(as_state(point) | of_run | of_stream | more))


def states_of(world, counts, **more):
    """Return the states of all ranks: this number of elements of each lane was delivered, and each has a snapshot."""
    found = []
    for rank in range(world):
        share = LaneShare(len(counts) // world, len(counts), first=rank, step=world)
        mine = [counts[lane] for lane in share.lanes()]
        starts = tuple(LaneStart(counts[lane] // 2, pickle.dumps([lane, counts[lane]])) for lane in share.lanes())
        ends = tuple(99 if lane == 3 else -1 for lane in share.lanes())
        found.append(state_of(share, (rank, world), mine, starts=starts, ends=ends, **more))
    return found


@pytest.mark.parametrize(("world", "lanes"), [(1, 16), (2, 16), (3, 18), (5, 20), (16, 16), (17, 17), (40, 40)])
def test_a_source_of_lanes_has_16_or_the_smallest_multiple_of_the_world_above(world, lanes):
    assert SourceOfLanes(Lanes()).check_lanes(None, world) == lanes


def test_the_lanes_of_all_ranks_are_all_lanes():
    shares = [SourceOfLanes(Lanes()).share(12, Shard(rank, 4), 5, "process") for rank in range(4)]
    assert [list(share.lanes()) for share in shares] == [[rank, rank + 4, rank + 8] for rank in range(4)]
    assert {share.total for share in shares} == {12}


@pytest.mark.parametrize(
    ("workers", "backend", "source", "count"),
    [(3, "process", elements, 3), (3, "thread", elements, 3), (0, "process", elements, 1), (3, "thread", iter(()), 1)],
)
def test_a_generator_function_has_a_lane_for_each_worker(workers, backend, source, count):
    """Lanes of rank 0 have the first numbers, as its workers do."""
    assert recognise(source)(source).check_lanes(None, 2) is None
    share = recognise(source)(source).share(None, Shard(1, 2), workers, backend)
    assert (share.num_lanes, share.total, list(share.lanes())) == (count, 2 * count, list(range(count, 2 * count)))


@pytest.mark.parametrize(
    ("source", "options", "error", "text"),
    [
        (elements, {"lanes": 10, "shard": (1, 4)}, ValueError, r"got 10 for 4 ranks: pass a multiple of 4"),
        (Lanes(), {"lanes": 3, "shard": (1, 4)}, ValueError, r"got 3 for 4 ranks: pass a multiple of 4"),
        (iter([1]), {"lanes": 2}, ValueError, "lanes=2 needs a source that can be run once for each lane.*list_iterator"),
        ([1], {"lanes": 4}, ValueError, r"lanes=4 applies to streams.* and list has __getitem__"),
        ([1], {"epoch_batches": 4}, ValueError, r"epoch_batches=4 applies to streams.* and list has __getitem__"),
        *(
            (elements, {name: value}, error, rf"{name} must be .* got {value}")
            for name in ("lanes", "epoch_batches")
            for value, error in ((0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError))
        ),
    ],
)  # fmt: skip
def test_invalid_options_of_lanes_are_rejected_with_the_valid_ones(source, options, error, text):
    with pytest.raises(error, match=text):
        Loader(source, workers=0, **options)


def test_rank_0_warns_that_ranks_may_have_unequal_numbers_of_batches(recwarn):
    with pytest.warns(UserWarning, match=r"2 ranks share a stream.*Pass epoch_batches=n"):
        Loader(Lanes(), workers=0, shard=(0, 2))
    Loader(Lanes(), workers=0, shard=(1, 2))
    Loader(Lanes(), workers=0, shard=(0, 2), epoch_batches=3)
    Loader(Lanes(), workers=0)
    assert not recwarn.list


def test_a_stream_of_epochs_of_n_batches_has_that_length():
    assert len(loader_of()) == 100
    with pytest.raises(TypeError, match="no length"):
        len(Loader(Lanes(), workers=0))


def test_state_is_plain_data_and_survives_json():
    """Unless the snapshots contain objects that JSON lacks."""
    (state,) = states_of(1, [4] * 4)
    assert state["starts"] == [[2, [lane, 4]] for lane in range(4)]
    again = json.loads(json.dumps(state))
    loader = loader_of(lanes=4)
    loader.load_state_dict(again)
    found = loader.state_dict()
    assert found["starts"] == state["starts"]
    assert [found[name] for name in ("ends", "lanes", "shard", "seed")] == [[-1, -1, -1, 99], 4, [0, 1], 3]
    assert (found["counts"], found["position"]) == ((4,) * 4, 16)


def test_a_state_without_snapshots_has_none():
    share = LaneShare(2, 2)
    state = state_of(share, (0, 1), [3, 3])
    assert "starts" not in state
    assert starts_in(state) == ()
    mixed = state_of(share, (0, 1), [3, 3], starts=(BEGINNING, LaneStart(1, pickle.dumps("one"))))
    assert mixed["starts"] == [None, [1, "one"]]
    assert starts_in(mixed) == (BEGINNING, LaneStart(1, pickle.dumps("one", 5)))


@pytest.mark.parametrize(("before", "after", "rank"), [(2, 2, 1), (1, 4, 2), (2, 4, 3)])
def test_one_state_is_enough_if_it_has_all_lanes_of_the_rank(before, after, rank):
    states = states_of(before, [6] * 8)
    loader = loader_of(lanes=8, shard=(rank, after))
    loader.load_state_dict(states[rank % before])
    assert loader.state_dict()["counts"] == (6,) * (8 // after)
    assert loader.state_dict()["position"] == 48 // after


OF_FOUR, OF_TWO, OF_ONE = (states_of(world, [6] * 8) for world in (4, 2, 1))
OF_LINES = states_of(1, [6] * 8, shape=["range(10)", "map(f)"])


def of_function(**options):
    return Loader(elements, workers=0, **options)


def of_dataset():
    """Return a loader with as many lanes as one of a function, whose state could be applied by mistake."""
    return Loader(mpqueue.Dataset.range(9).filter(bool), workers=0, lanes=4)


def of_two_ranks():
    return loader_of(lanes=8, shard=(0, 2))


def of_lines(*lines):
    return lambda: loader_of(*lines, lanes=8)


@pytest.mark.parametrize(
    ("make", "states", "text"),
    [
        (of_two_ranks, OF_FOUR[0], "lanes 2, 6 of 8 are missing.*Got: rank 0 of 4.*all 4 ranks.*of rank 2"),
        (
            of_two_ranks,
            [OF_FOUR[3], OF_FOUR[0], OF_FOUR[2]],
            "lanes 1, 5 of 8 .* Got: rank 3, 0, 2 of 4.*that of rank 1",
        ),
        (of_lines(), OF_TWO[:1] * 2, r"have lanes 0, 2, 4, 6 twice.*rank 0, 0 of 2"),
        (of_lines(), [OF_TWO[0], saved_with(OF_TWO[1], seed=4)], "not saved by one run at one moment: seed"),
        (of_lines(), [OF_TWO[0], saved_with(OF_TWO[1], epoch=1)], "not saved by one run at one moment: epoch"),
        (lambda: loader_of(lanes=4), OF_ONE, r"for a stream of lanes=8, and this loader has lanes=4"),
        (of_lines("range(10)", "odd"), OF_LINES, r"line 2:\n  in the state: map\(f\)\n  here:         odd"),
        (of_lines("range(10)"), OF_LINES, r"line 2:\n  in the state: map\(f\)\n  here:         \(missing\)"),
        (of_lines("range(10)", "map(f)", "x"), OF_LINES, r"line 3:\n  in the state: \(missing\)\n  here:         x"),
        (of_dataset, of_function(lanes=4).state_dict(), "for a function or iterable, and .* is a dataset with"),
        (lambda: of_function(lanes=4), of_dataset().state_dict(), "for a dataset with stages, and .* is a function or"),
        (of_function, saved_with(OF_ONE[0], epoch_batches=None), "a state of a stream of lanes=8: pass lanes=8"),
        (loader_of, [], "empty list"),
        (loader_of, [3], "returned, got 3"),
    ],
)
def test_states_that_do_not_fit_are_rejected_with_what_differs(make, states, text):
    with pytest.raises((ValueError, TypeError), match=text):
        make().load_state_dict(states)


def test_state_of_the_same_dataset_is_accepted():
    of_lines("range(10)", "map(f)")().load_state_dict(OF_LINES)


def test_position_after_the_end_of_epoch_begins_the_next_epoch():
    """One of two ranks has returned 120 of 150 batches. For a single rank, the 240 batches exceed its epoch."""
    states = states_of(2, [30] * 8)
    loader = loader_of(lanes=8)
    loader.load_state_dict([saved_with(state, position=120) for state in states])
    assert (loader.epoch, loader.state_dict()["position"]) == (1, 0)


def test_state_of_a_generator_needs_the_same_number_of_workers():
    saved = saved_with(Loader(elements, workers=2).state_dict(), epoch=2, counts=(4, 3))
    loader = Loader(elements, workers=0, lanes=2)
    loader.load_state_dict(saved)
    assert (loader.epoch, loader.state_dict()["counts"]) == (2, (4, 3))
    with pytest.raises(ValueError, match=r"2 workers, each with its own stream|lanes=2"):
        Loader(elements, workers=0, lanes=4).load_state_dict(saved)


def test_equal_states_of_all_ranks_of_a_sequence_are_accepted():
    states = [Loader(list(range(9)), workers=0, shard=(rank, 3), seed=1).state_dict() for rank in range(3)]
    loader = Loader(list(range(9)), workers=0)
    loader.load_state_dict(states)
    assert list(loader) == list(range(9))
    with pytest.raises(ValueError, match="not saved at one moment"):
        loader.load_state_dict([states[0], saved_with(states[1], position=3)])


def _endless(epoch_batches, shard=(0, 1)):
    return Loader(elements, workers=0, lanes=4, shard=shard, epoch_batches=epoch_batches, seed=3)


@pytest.mark.filterwarnings("ignore:2 ranks share a stream")
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((8, (0, 1)), (5, (0, 1))),
        ((8, (0, 1)), (None, (0, 1))),
        ((None, (0, 1)), (8, (0, 1))),
        ((8, (0, 2)), (5, (0, 1))),
    ],
)
def test_state_with_another_epoch_batches_is_rejected(before, after):
    state = _endless(*before).state_dict()
    problem = f"epoch_batches must be {before[0]}, .*, got {after[0]}.*Pass epoch_batches="
    with pytest.raises(ValueError, match=problem):
        _endless(*after).load_state_dict([state, saved_with(state, shard=[1, 2])] if before[1][1] == 2 else state)


@pytest.mark.parametrize("epoch_batches", [8, 16])
def test_state_of_other_ranks_loads_if_epoch_length_per_rank_or_in_total_is_equal(epoch_batches):
    states = [_endless(8, (rank, 2)).state_dict() for rank in range(2)]
    _endless(epoch_batches).load_state_dict(states)
