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
    assert [found[name] for name in ("starts", "ends", "lanes", "shard", "seed")] == [
        [[2, [lane, 4]] for lane in range(4)], [-1, -1, -1, 99], 4, [0, 1], 3,
    ]  # fmt: skip
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


def test_missing_lanes_are_named_with_their_ranks():
    states = states_of(4, [6] * 8)
    loader = loader_of(lanes=8, shard=(0, 2))
    with pytest.raises(ValueError, match=r"lanes 2, 6 of 8 are missing.*Got: rank 0 of 4.*all 4 ranks.*of rank 2"):
        loader.load_state_dict(states[0])
    with pytest.raises(ValueError, match=r"lanes 1, 5 of 8 are missing. Got: rank 3, 0, 2 of 4.*that of rank 1"):
        loader.load_state_dict([states[3], states[0], states[2]])


def test_repeated_lanes_are_named():
    states = states_of(2, [6] * 8)
    with pytest.raises(ValueError, match=r"have lanes 0, 2, 4, 6 twice.*rank 0, 0 of 2"):
        loader_of(lanes=8).load_state_dict([states[0], states[0]])


@pytest.mark.parametrize(("name", "value"), [("seed", 4), ("epoch", 1)])
def test_states_of_other_moments_or_runs_are_rejected(name, value):
    first, second = states_of(2, [6] * 8)
    with pytest.raises(ValueError, match=f"not saved by one run at one moment: {name}"):
        loader_of(lanes=8).load_state_dict([first, saved_with(second, **{name: value})])


def test_state_with_another_number_of_lanes_is_rejected():
    with pytest.raises(ValueError, match=r"for a stream of lanes=8, and this loader has lanes=4"):
        loader_of(lanes=4).load_state_dict(states_of(1, [6] * 8))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["range(10)", "filter(odd)"], r"line 2:\n  in the state: map\(f\)\n  here:         filter\(odd\)"),
        (["range(10)"], r"line 2:\n  in the state: map\(f\)\n  here:         \(missing\)"),
        (["range(10)", "map(f)", "batch(2)"], r"line 3:\n  in the state: \(missing\)\n  here:         batch\(2\)"),
    ],
)
def test_state_of_another_dataset_is_rejected_with_first_difference(lines, message):
    states = states_of(1, [6] * 8, shape=["range(10)", "map(f)"])
    loader_of("range(10)", "map(f)", lanes=8).load_state_dict(states)
    with pytest.raises(ValueError, match=message):
        loader_of(*lines, lanes=8).load_state_dict(states)


def test_state_of_a_function_is_rejected_by_a_dataset_and_vice_versa():
    """Both have the same number of lanes, so the state could be applied by mistake."""
    of_function, of_dataset = (
        Loader(source, workers=0, lanes=4) for source in (elements, mpqueue.Dataset.range(9).filter(bool))
    )
    with pytest.raises(
        ValueError, match=r"for a function or iterable, and the source of this loader is a dataset with"
    ):
        of_dataset.load_state_dict(of_function.state_dict())
    with pytest.raises(ValueError, match=r"for a dataset with stages, and the source of this loader is a function or"):
        of_function.load_state_dict(of_dataset.state_dict())


def test_position_after_the_end_of_epoch_begins_the_next_epoch():
    """One of two ranks has returned 120 of 150 batches. For a single rank, the 240 batches exceed its epoch."""
    states = states_of(2, [30] * 8)
    loader = loader_of(lanes=8)
    loader.load_state_dict([saved_with(state, position=120) for state in states])
    assert (loader.epoch, loader.state_dict()["position"]) == (1, 0)


def test_object_that_is_not_a_state_is_rejected():
    with pytest.raises(ValueError, match="empty list"):
        loader_of().load_state_dict([])
    with pytest.raises(TypeError, match="returned, got 3"):
        loader_of().load_state_dict([3])


def test_state_with_lanes_is_rejected_by_generator_with_one_lane_per_worker():
    (state,) = states_of(1, [6] * 8, epoch_batches=None)
    with pytest.raises(ValueError, match=r"a state of a stream of lanes=8: pass lanes=8"):
        Loader(elements, workers=2).load_state_dict(state)


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
    with pytest.raises(
        ValueError, match=rf"epoch_batches must be {before[0]}, .*, got {after[0]}.*Pass epoch_batches="
    ):
        _endless(*after).load_state_dict([state, saved_with(state, shard=[1, 2])] if before[1][1] == 2 else state)


@pytest.mark.parametrize("epoch_batches", [8, 16])
def test_state_of_other_ranks_loads_if_epoch_length_per_rank_or_in_total_is_equal(epoch_batches):
    states = [_endless(8, (rank, 2)).state_dict() for rank in range(2)]
    _endless(epoch_batches).load_state_dict(states)
