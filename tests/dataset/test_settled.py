"""The state of a settled lane follows from the place: an exclusion there has the result of the model in each run."""

import itertools
import json
import pickle
import random

import pytest
from helpers.pipelines import Failed, drawn, expected, lane_of, made, outcomes_of, run_of
from model.functions import Collating, digest
from model.program import plain

from mpqueue.dataset import batching, joining
from mpqueue.dataset.opening import DatasetLanes
from mpqueue.dataset.outline import ShorteningLanes

MOST = 40  # elements of a lane after the place


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
    lane = DatasetLanes(dataset.root, excluded).open_lane(run._replace(state=by_json(lane.next())))
    return plain(outcomes_of(lane.next, MOST))


@pytest.mark.usefixtures("only_exceptions")
@pytest.mark.parametrize("step_ns", [0, 10**9], ids=["blocks", "slow"])
@pytest.mark.parametrize("first", range(0, 400, 100))
def test_exclusion_depends_on_the_place_only(first, step_ns, monkeypatch):
    """With snapshots after some elements, some of them with another lane that continues, and without snapshots."""
    num_changed = 0
    for number in range(first, first + 100):
        chosen = random.Random(number)
        data = (
            *drawn(chosen, 4),
            ("buffer", chosen.randint(2, 7)),
            *[("batch", 2, False, Collating())] * chosen.randrange(2),
        )
        if "'zip'" in repr(data):
            continue
        run = chosen.randrange(3), 3, number, chosen.randrange(4)
        place, chances = chosen.randrange(12), chosen.choices([True, False], k=7)
        lane, ids = lane_of(data, *run), []
        if len(expected(lane, place)) < place:
            continue
        every = lane_of(data, *run)
        for one in itertools.islice(iter(every.next, None), place + MOST):
            ids += [] if isinstance(one, Failed) else one.ids()
        # An endless lane without any sample would search forever.
        excluded = frozenset(each for each in ids if digest(each, number) % 3 == 0 and each != ids[0])
        whole = expected(lane_of(data, *run), place + 4 * MOST)
        lane.drop(excluded)
        wanted = expected(lane, 4 * MOST)
        # An element that is held, and that raises only without its excluded samples, fails its lane.
        if not {each.text for each in wanted if isinstance(each, Failed)} <= {
            each.text for each in whole if isinstance(each, Failed)
        }:
            continue
        del wanted[MOST:]
        num_changed += wanted != whole[place : place + MOST]
        for module in (batching, joining):
            monkeypatch.setattr(module, "clock_ns", itertools.count(0, step_ns).__next__)
        dataset, of_run = made(data), run_of(*run)
        start = run_to(DatasetLanes(dataset.root), of_run, place, itertools.cycle(chances))
        assert (number, after_exclusion(dataset, of_run, place, start, excluded)) == (number, wanted)
    assert num_changed > 15
