"""The state of a settled lane follows from the place: an exclusion there has the same result in each run."""

import itertools
import json
import pickle

import hypothesis
import pytest
from helpers import pipelines
from helpers.pipelines import DATASETS, digest, linked, outcomes_of
from hypothesis import strategies as st

import mpqueue
from mpqueue.dataset import batching, joining
from mpqueue.dataset.opening import DatasetLanes, keep_without
from mpqueue.dataset.outline import ShorteningLanes
from mpqueue.worker import context
from mpqueue.worker.lanes import LaneRun

MOST = 40  # elements of a lane after the place


class Some:
    """About a third of all samples, as a set."""

    def __init__(self, salt):
        self.salt = salt

    def __contains__(self, sample):
        return digest(sample, self.salt) % 3 == 0


def run_of(lane=0, num_lanes=1, seed=1, epoch=0, **options):
    context.enter_thread(context.WorkerInfo(0, 1, seed, lane, num_lanes), is_seed_given=True)
    return LaneRun(lane, num_lanes, seed, epoch, context.begin_batch, **options)


def by_json(state):
    return json.loads(json.dumps(pickle.loads(pickle.dumps(state))))


def run_to(source, run, place, chances):
    """Run a lane to a place as a worker does, and return its last snapshot with its number."""
    lane, start = source.open_lane(run), (0, None)
    for number in range(place):
        if outcomes_of(lane.next, 1) == []:
            break
        if next(chances) and lane.settle():
            start = number + 1, by_json(lane.save())
            if next(chances):  # the lane moves to another worker
                lane = source.open_lane(run._replace(state=start[1]))
    return start


def after_exclusion(dataset, run, place, start, excluded):
    """Return the elements of a lane after an exclusion at a place, computed from a snapshot before it."""
    number, state = start
    lanes = ShorteningLanes(dataset.root, None, {run.lane: place - number}, excluded, (), may_raise=True)
    lane = lanes.open_lane(run._replace(state=state))
    outcomes_of(lane.next, place - number)
    return rest_of(dataset, run, lane.next(), excluded)


def rest_of(dataset, run, state, excluded):
    lane = DatasetLanes(dataset.root, excluded).open_lane(run._replace(state=by_json(state)))
    return [repr(one) for one in outcomes_of(lane.next, MOST)]


ROOTS = st.builds(lambda n: mpqueue.Dataset.range(n), st.integers(60, 200))
LINKS = st.lists(st.one_of(*pipelines.LINKS), max_size=1)
# Stages that hold elements of others, and stages that read ahead, in any order.
BUFFERED = st.builds(
    lambda root, before, size, links: pipelines.all_linked(root, [*before, ("shuffle", size), *itertools.chain(*links)]),
    ROOTS, LINKS, st.integers(2, 7), st.tuples(LINKS, LINKS),
)  # fmt: skip
MIXED = st.builds(
    lambda first, second, weights, stop, links: pipelines.all_linked(
        mpqueue.Dataset.mix([first.filter(pipelines.Kept(1)), second], weights=weights, stop=stop), links
    ),
    BUFFERED, BUFFERED, st.sampled_from([[1, 1], [9, 1], [1, 30]]), st.sampled_from(["first", "all", "never"]), LINKS,
)  # fmt: skip
LAST = st.sampled_from(
    [
        ("batch", 3, False),
        ("batch", 2, True),
        ("shuffle", 4),
        ("enumerate",),
        ("pack", pipelines.Numbers(1), 5, "best_fit", 2, "cut"),
    ]
)
SETTLED = st.builds(linked, st.one_of(BUFFERED, MIXED), LAST)
RUNS = st.builds(
    lambda num, lane, seed, epoch: (lane % num, num, seed, epoch), *[st.integers(1, 3), st.integers(0, 2)] * 2
)


def check(dataset, run, place, chances, step_ns, salt):
    """Compare an exclusion in a lane that ran as in a worker with one in a lane that requests elements one by one."""
    excluded = Some(salt)
    lane = DatasetLanes(dataset.root).open_lane(run, keeps_tokens=True, is_single=True, reads_ahead=False)
    if len(outcomes_of(lane.next, place)) < place:
        return False
    expected = rest_of(dataset, run, lane.save_without(keep_without(excluded)), excluded)
    with pytest.MonkeyPatch.context() as patch:
        for module in (batching, joining):
            patch.setattr(module, "clock_ns", itertools.count(0, step_ns).__next__)
        start = run_to(DatasetLanes(dataset.root), run, place, itertools.cycle(chances))
        assert after_exclusion(dataset, run, place, start, excluded) == expected
    return True


@hypothesis.given(
    dataset=st.one_of(DATASETS, SETTLED, SETTLED), run=RUNS, place=st.integers(0, 30), step_ns=st.sampled_from([0, 10**9]),
    chances=st.lists(st.booleans(), min_size=1, max_size=12), salt=st.integers(0, 9), endless=st.booleans(),
)  # fmt: skip
@hypothesis.settings(max_examples=60, suppress_health_check=[hypothesis.HealthCheck.filter_too_much])
def test_exclusion_depends_on_the_place_only(dataset, run, place, step_ns, chances, salt, endless):
    hypothesis.assume(not any(stage.node.name == "zip" for stage in dataset.root.stages()))
    hypothesis.assume(check(dataset, run_of(*run, endless=endless), place, chances, step_ns, salt))


def seen(value):
    SEEN.append(value)
    return value


SEEN = []  # the elements before the buffers, in the order of their computation


def shuffled():
    return mpqueue.Dataset.range(400).filter(pipelines.Kept(1)).map(seen).shuffle(buffer=6)


def mixed(stop, schedule=None):
    weights = schedule or {"a": 5, "b": 1}
    return mpqueue.Dataset.mix({"a": shuffled(), "b": shuffled().batch(2, collate=tuple)}, weights=weights, stop=stop)


HOLDING = {
    "batch": lambda: shuffled().batch(3, collate=tuple),
    "errors in a batch": lambda: shuffled().map(pipelines.Raising(2)).batch(4, collate=tuple),
    "flat_map": lambda: shuffled().flat_map(pipelines.Copies(1)).batch(2, collate=tuple),
    "pack": lambda: shuffled().map(pipelines.Numbers(1)).pack(5, bins=2).map(pipelines.rows_plain),
    "batches of packed rows": lambda: linked(shuffled(), ("pack", pipelines.Numbers(1), 9, "best_fit", 3, "cut")).batch(2, collate=tuple),
    "a filter": lambda: shuffled().filter(pipelines.Kept(2)).batch(3, collate=tuple),
    "bucket": lambda: linked(shuffled(), ("bucket", pipelines.Sized(1), "tokens", False)),
    "threads": lambda: shuffled().map(pipelines.Mixed(1), threads=2),
    "errors in threads": lambda: shuffled().map(pipelines.Raising(2), threads=2).batch(3, collate=tuple),
    "a filter with threads": lambda: shuffled().filter(pipelines.Kept(4), threads=2).batch(3, collate=tuple),
    "a mix": lambda: mixed("first").shuffle(buffer=3).batch(3, collate=tuple),
    "a mix that repeats": lambda: mixed("all").map(pipelines.Raising(2)).batch(3, collate=tuple),
    "a mix with a schedule": lambda: mixed("never", [(0, {"a": 1, "b": 1}), (40, {"a": 0, "b": 1}), (80, {"a": 1, "b": 3})]).batch(2, collate=tuple),
    "repeated and cached": lambda: shuffled().repeat(2).cache().shuffle(buffer=5).batch(2, collate=tuple),
    "concatenated": lambda: mpqueue.Dataset.concatenate(shuffled().take(30), shuffled()).batch(3, collate=tuple),
}  # fmt: skip


@pytest.mark.parametrize("name", HOLDING)
def test_state_of_a_settled_lane_follows_from_the_place(name):
    """With snapshots after some elements, some of them with another lane that continues, and without snapshots."""
    for place, chances in itertools.product((1, 2, 3, 4, 7, 12), [[True, False], [True, True, False], [False]]):
        assert check(HOLDING[name](), run_of(1, 2), place, chances, 0, place % 3)


def numbers_seen(lane, count, chances):
    """Return the number of elements that the buffers have read at each place where a lane is settled."""
    SEEN.clear()
    found = {}
    for number in range(count):
        outcomes_of(lane.next, 1)
        if next(chances) and lane.settle():
            found[number + 1] = len(SEEN)
            lane.save()  # the stages may read ahead again
    return found


@pytest.mark.parametrize("name", [name for name in HOLDING if "threads" not in name and "cached" not in name])
def test_settled_lane_has_read_what_its_elements_require(name, monkeypatch):
    for module in (batching, joining):
        monkeypatch.setattr(module, "clock_ns", lambda: 0)
    lanes, run = DatasetLanes(HOLDING[name]().root), run_of()
    required = numbers_seen(lanes.open_lane(run, is_single=True, reads_ahead=False), 40, itertools.repeat(True))
    for step in (1, 2, 3, 5):
        found = numbers_seen(lanes.open_lane(run), 40, itertools.cycle([False] * (step - 1) + [True]))
        assert len(found) > 1
        assert found.items() <= required.items()


STAGES = [
    ("map", pipelines.Mixed(1), 2), ("filter", pipelines.Kept(2), 1), ("flat_map", pipelines.Copies(3)), ("shuffle", 4),
    ("batch", 2, False), ("repeat", 2), ("take", 20), ("skip", 2), ("enumerate",), ("cache",),
    ("bucket", pipelines.Sized(1), "sizes", False), ("pack", pipelines.Numbers(1), 5, "best_fit", 2, "cut"),
]  # fmt: skip


@pytest.mark.parametrize("first", STAGES, ids=[stage[0] for stage in STAGES])
def test_each_walk_over_a_snapshot_takes_the_items_that_were_saved(first):
    """At the beginning, in the middle, while buffers are emptied, and at the end; also if a cache has all elements."""
    mix = mpqueue.Dataset.mix(
        [mpqueue.Dataset.range(9).filter(pipelines.Kept(1)), mpqueue.Dataset.range(20)], stop="all"
    )
    for second, is_filled in itertools.product(STAGES, [False, True]):
        dataset = pipelines.all_linked(mix, [first, second, ("shuffle", 3)])
        lanes, run = DatasetLanes(dataset.root), run_of()
        if is_filled:
            outcomes_of(lanes.open_lane(run).next)
        for place in (0, 1, 5, 12, 100):
            lane = lanes.open_lane(run, keeps_tokens=True)
            outcomes_of(lane.next, place)
            stages = by_json(lane.save_without(keep_without(Some(1))))["stages"]
            for walk in (
                lambda items, lane=lane: lane._stage.drop_from(items, keep_without(Some(2))),
                opened_from(lanes, run),
            ):
                items = iter(stages)
                walk(items)
                assert list(items) == []


def opened_from(lanes, run):
    return lambda items: lanes.open_lane(run)._stage.load_from(items)
