"""Compositions of stages yield the elements of plain Python code, in each lane and after each saved state."""

import json
import os
import pickle
import signal

import hypothesis
import pytest
from helpers import pipelines
from helpers.pipelines import DATASETS, Failed, outcomes_of
from hypothesis import strategies as st

import mpqueue
from mpqueue.dataset.opening import DatasetLanes
from mpqueue.worker import context, lane_runner
from mpqueue.worker.lanes import LaneRun

# Some of the random streams are empty.
pytestmark = pytest.mark.filterwarnings("ignore:the stream of .* (is empty|returned no batches)")

MOST = 60  # elements of a lane that are compared, because a mix may be endless


def make_run(lane, num_lanes, seed, epoch, **options):
    context.enter_thread(context.WorkerInfo(0, 1, seed, lane, num_lanes), is_seed_given=True)
    return LaneRun(lane, num_lanes, seed, epoch, context.begin_batch, **options)


RUNS = st.builds(
    lambda num_lanes, lane, seed, epoch: (lane % num_lanes, num_lanes, seed, epoch),
    st.integers(1, 4), st.integers(0, 3), st.integers(0, 1 << 63), st.integers(0, 3),
)  # fmt: skip


@hypothesis.given(
    dataset=DATASETS, run=RUNS, saves=st.lists(st.integers(0, 15), max_size=4), by_json=st.booleans(),
    endless=st.booleans(),
)  # fmt: skip
@hypothesis.settings(max_examples=150)
def test_lane_equals_plain_python_across_saves(dataset, run, saves, by_json, endless):
    run = make_run(*run, endless=endless)
    wanted = pipelines.model_of(dataset, run, MOST)
    source = DatasetLanes(dataset.root)
    lane, found = source.open_lane(run), []
    for count in saves:
        found += outcomes_of(lane.next, min(count, MOST - len(found)))
        state = lane.save()
        state = pickle.loads(pickle.dumps(state))
        state = json.loads(json.dumps(state)) if by_json else state
        lane = source.open_lane(run._replace(state=state))
    found += outcomes_of(lane.next, MOST - len(found))
    assert found == wanted


@hypothesis.given(dataset=DATASETS, run=RUNS)
@hypothesis.settings(max_examples=40)
def test_each_stage_of_a_lane_has_one_row_of_counts(dataset, run):
    lane = DatasetLanes(dataset.root).open_lane(make_run(*run))
    outcomes = outcomes_of(lane.next, MOST)
    rows = lane.counts()
    names = [row[0] for row in rows]
    assert sorted(set(names)) == sorted(names)
    assert f"{dataset.root.number}: {dataset.root.line()}" in names
    of_last = next(row for row in rows if row[0] == f"{dataset.root.number}: {dataset.root.line()}")
    assert of_last[2] >= sum(not isinstance(one, Failed) for one in outcomes)


def plain(outcomes):
    """Convert to values that are equal wherever they were computed: a worker may send tuples as lists, and NumPy
    numbers.
    """
    return [repr(one) for one in outcomes]


@hypothesis.given(dataset=DATASETS, cut=st.integers(0, MOST))
@hypothesis.settings(max_examples=15, suppress_health_check=[hypothesis.HealthCheck.filter_too_much])
@pytest.mark.parametrize("kind", [{"workers": 0}, {"workers": 2, "backend": "thread"}])
def test_loader_alternates_between_lanes_and_resumes(dataset, cut, kind):
    hypothesis.assume(not dataset.root.is_indexed)
    wanted = plain(outcomes_of(iter(dataset).__next__, MOST))
    with mpqueue.Loader(dataset, seed=0, **kind) as loader:
        found = plain(outcomes_of(iter(loader).__next__, cut))
        state = pickle.loads(pickle.dumps(loader.state_dict()))
    if len(found) == cut:  # otherwise the lane is exhausted
        with mpqueue.Loader(dataset, seed=0, **kind) as loader:
            loader.load_state_dict(state)
            found += plain(outcomes_of(iter(loader).__next__, MOST - cut))
    assert found == wanted


@hypothesis.given(dataset=DATASETS)
@hypothesis.settings(max_examples=15)
def test_samples_of_each_element_are_known_and_it_is_computed_again(dataset):
    hypothesis.assume(dataset.root.is_indexed is False or len(dataset) > 0)
    with mpqueue.Loader(dataset, seed=0, workers=0) as loader:
        elements, known = iter(loader), []
        for outcome in outcomes_of(lambda: (next(elements), loader.last), MOST // 2):
            if not isinstance(outcome, Failed):
                known.append((outcome[1], plain(outcome[:1])))
        for info, element in known:
            assert loader.explain(info.epoch, info.batch, run=True).samples == info.samples
            assert plain([loader.compute(info.epoch, info.batch)]) == element


def killed_now_and_then(loader, count, kills):
    """Return the outcomes of a loader while some of its workers are killed, and the number of killed workers."""
    elements, found = iter(loader), []
    for at in sorted(kill for kill in kills if kill < count):
        found += outcomes_of(elements.__next__, at - len(found))
        pids = [worker.pid for worker in loader.statistics().workers if worker.pid]
        os.kill(pids[at % len(pids)], signal.SIGKILL)
    return plain(found + outcomes_of(elements.__next__, count - len(found)))


@pytest.fixture(scope="module")
def _always_saved():
    """Take a snapshot after each element, here and in workers that are forked from here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lane_runner, "_BETWEEN_NS", 0)
        patch.setattr(lane_runner, "_WORK_PER_SAVE", 0)
        yield


PARTS = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, MOST), st.lists(st.integers(0, MOST), max_size=2)),
    min_size=1,
    max_size=3,
)


@pytest.mark.usefixtures("_always_saved")
@hypothesis.given(dataset=DATASETS, parts=PARTS)
@hypothesis.settings(max_examples=5, suppress_health_check=[hypothesis.HealthCheck.filter_too_much])
def test_worker_crashes_and_resumes_do_not_change_the_elements(dataset, parts):
    hypothesis.assume(not dataset.root.is_indexed)
    wanted = plain(outcomes_of(iter(dataset).__next__, MOST))
    found, state = [], None
    for workers, count, kills in [*parts, (2, MOST, [])]:
        with mpqueue.Loader(dataset, seed=0, workers=workers, start_method="fork", restarts=100) as loader:
            if state is not None:
                loader.load_state_dict(state)
            count = min(count, MOST - len(found))
            got = killed_now_and_then(loader, count, kills)
            state = pickle.loads(pickle.dumps(loader.state_dict()))
        found += got
        if len(got) < count or len(found) == MOST:
            break
    assert found == wanted


@pytest.mark.usefixtures("_always_saved")
@hypothesis.given(
    dataset=DATASETS, worlds=st.tuples(*[st.sampled_from([1, 2, 4, 8])] * 2), cut=st.integers(0, 8), data=st.data()
)
@hypothesis.settings(max_examples=4, suppress_health_check=[hypothesis.HealthCheck.filter_too_much])
@pytest.mark.filterwarnings("ignore:.*ranks share a stream")
def test_ranks_of_any_world_size_yield_all_elements_together(dataset, worlds, cut, data):
    hypothesis.assume(not dataset.root.is_indexed)
    whole = plain(outcomes_of(iter(dataset).__next__, 10 * MOST))
    hypothesis.assume(len(whole) < 10 * MOST)
    found, states = on_ranks(dataset, worlds[0], None, cut)
    hypothesis.assume({state["epoch"] for state in states} == {0})  # all ranks are exhausted at the same time
    rest, _ = on_ranks(dataset, worlds[1], data.draw(st.permutations(states)), 10 * MOST)
    assert sorted(found + rest) == sorted(whole)


def on_ranks(dataset, world, states, count):
    """Return the next ``count`` elements on each rank, and the states after them."""
    found, after = [], []
    for rank in range(world):
        with mpqueue.Loader(dataset, seed=0, workers=0, shard=(rank, world)) as loader:
            if states is not None:
                loader.load_state_dict(states)
            found += plain(outcomes_of(iter(loader).__next__, count))
            after.append(loader.state_dict())
    return found, after
