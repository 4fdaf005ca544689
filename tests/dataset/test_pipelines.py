"""Any composition of stages gives what plain Python gives, in any lane, wherever its state is saved and loaded."""

import json
import pickle

import hypothesis
import pytest
from helpers import pipelines
from helpers.pipelines import DATASETS, Failed
from hypothesis import strategies as st

import mpqueue
from mpqueue.dataset.opening import DatasetLanes
from mpqueue.worker import context
from mpqueue.worker.lanes import LaneRun
from mpqueue.worker.runner import StreamEnd

MOST = 60  # elements of a lane: a mix may have no end


@pytest.fixture(autouse=True)
def thread():
    before = context.of_thread()
    yield
    context.go_back(before)


def make_run(lane, num_lanes, seed, epoch, **options):
    context.enter_thread(context.WorkerInfo(0, 1, seed, lane, num_lanes), is_seed_given=True)
    return LaneRun(lane, num_lanes, seed, epoch, context.begin_batch, **options)


def outcome_of(lane):
    try:
        return lane.next()
    except StreamEnd:
        raise
    except Exception as error:
        return Failed(type(error).__name__, str(error))


def given_by(lane, count):
    found = []
    while len(found) < count:
        try:
            found.append(outcome_of(lane))
        except StreamEnd:
            break
    return found


RUNS = st.builds(
    lambda num_lanes, lane, seed, epoch: (lane % num_lanes, num_lanes, seed, epoch),
    st.integers(1, 4), st.integers(0, 3), st.integers(0, 1 << 63), st.integers(0, 3),
)  # fmt: skip


@hypothesis.given(dataset=DATASETS, run=RUNS, saves=st.lists(st.integers(0, 15), max_size=4), by_json=st.booleans())
@hypothesis.settings(max_examples=150)
def test_a_lane_gives_what_plain_python_gives_across_saves(dataset, run, saves, by_json):
    run = make_run(*run)
    wanted = pipelines.model_of(dataset, run, MOST)
    source = DatasetLanes(dataset.root)
    lane, found = source.open_lane(run), []
    for count in saves:
        found += given_by(lane, min(count, MOST - len(found)))
        state = lane.save()
        state = json.loads(json.dumps(state)) if by_json else pickle.loads(pickle.dumps(state))
        lane = source.open_lane(run._replace(state=state))
    found += given_by(lane, MOST - len(found))
    assert found == wanted


def outcomes_of(elements, count):
    """Return the next elements of an iterator, errors in their places."""
    found = []
    while len(found) < count:
        try:
            found.append(next(elements))
        except StopIteration:
            break
        except Exception as error:
            found.append(Failed(type(error).__name__, str(error)))
    return found


def plain(outcomes):
    """Return what is equal wherever it was computed: a worker may send a tuple as a list, and numbers of NumPy."""
    return [repr(one) for one in outcomes]


@hypothesis.given(dataset=DATASETS, cut=st.integers(0, MOST))
@hypothesis.settings(max_examples=15, suppress_health_check=[hypothesis.HealthCheck.filter_too_much])
@pytest.mark.parametrize("kind", [{"workers": 0}, {"workers": 2, "backend": "thread"}])
def test_a_loader_gives_it_in_rounds_and_goes_on_where_it_was(dataset, cut, kind):
    hypothesis.assume(not dataset.root.is_indexed)
    wanted = plain(outcomes_of(iter(dataset), MOST))
    with mpqueue.Loader(dataset, seed=0, **kind) as loader:
        found = plain(outcomes_of(iter(loader), cut))
        state = pickle.loads(pickle.dumps(loader.state_dict()))
    if len(found) == cut:  # else the epoch has ended
        with mpqueue.Loader(dataset, seed=0, **kind) as loader:
            loader.load_state_dict(state)
            found += plain(outcomes_of(iter(loader), MOST - cut))
    assert found == wanted
