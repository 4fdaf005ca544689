"""Random pipelines equal the model where the player does not look: lanes, direct access, and iteration without a loader."""

import functools
import itertools
import json
import pickle
import random

import pytest
from helpers.pipelines import Failed, drawn, expected, lane_of, made, opened, outcomes_of, rest_of
from helpers.sweeps import part_of
from model.elements import Run
from model.orders import Setup, batches
from model.pipelines import stage_of
from model.program import plain

# Some of the random streams are empty.
pytestmark = [
    pytest.mark.filterwarnings("ignore:the stream of .* (is empty|returned no batches)"),
    pytest.mark.usefixtures("only_exceptions"),
]

MOST = 60  # elements that are compared, because a dataset may be endless


@pytest.mark.sample(1)
@pytest.mark.parametrize("first", range(0, 400, 50))
def test_lane_equals_the_model_across_saves(first):
    """In blocks, as a later stage reads them, and element by element; also in pipelines of many stages."""
    for number in range(first, first + part_of(50)):
        chosen = random.Random(number)
        data, run = drawn(chosen, 8), (chosen.randrange(4), 4, chosen.randrange(1 << 63), chosen.randrange(4))
        endless, dataset, found = {"endless": chosen.random() < 0.3}, made(data), []
        lane = opened(dataset, *run, **endless)
        for _ in range(chosen.randrange(4)):
            found += rest_of(lane, min(chosen.randrange(15), MOST - len(found)))
            state = pickle.loads(pickle.dumps(lane.save()))
            state = json.loads(json.dumps(state)) if chosen.random() < 0.5 else state
            lane = opened(dataset, *run, state=state, **endless)
        found += rest_of(lane, MOST - len(found))
        assert (number, plain(found)) == (number, expected(lane_of(data, *run, **endless), MOST))


def test_each_stage_of_a_lane_has_one_row_of_counts():
    for number in range(part_of(100)):
        dataset = made(drawn(random.Random(number), 5))
        lane = opened(dataset, 1, 2)
        outcomes = rest_of(lane, MOST)
        rows = lane.counts()
        names = [row[0] for row in rows]
        assert sorted(set(names)) == sorted(names)
        of_last = next(row for row in rows if row[0] == f"{dataset.root.stage_index}: {dataset.root.line()}")
        assert of_last[2] >= sum(not isinstance(one, Failed) for one in outcomes)


@pytest.mark.sample(1)
@pytest.mark.parametrize("first", range(0, 200, 50))
def test_iteration_without_a_loader_equals_the_model(first):
    """A stream alternates between 16 lanes."""
    for number in range(first, first + part_of(50)):
        data = drawn(random.Random(number), 5)
        wanted = [each.value for each in itertools.islice(batches(Setup(stage_of(data), lanes=16), 0, 0), MOST)]
        assert (number, plain(outcomes_of(iter(made(data)).__next__, MOST))) == (number, plain(wanted))


def test_direct_access_equals_the_model():
    for number in range(part_of(200)):
        chosen = random.Random(number)
        data = drawn(chosen, 5, streams=False)
        dataset, stage = made(data), stage_of(data)
        length = stage.length(Run(0, 0))
        if length is not None:
            assert len(dataset) == length
        positions = [chosen.randrange(MOST if length is None else length) for _ in range(9 if length != 0 else 0)]
        wanted = [one for at in positions for one in outcomes_of(stage.element(at, Run(0, 0)).value, 1)]
        found = [one for at in positions for one in outcomes_of(functools.partial(dataset.__getitem__, at), 1)]
        assert (number, plain(found)) == (number, plain(wanted))
        if not any(isinstance(one, Failed) for one in wanted):
            assert plain(dataset.__getitems__(positions)) == plain(wanted)
