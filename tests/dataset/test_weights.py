"""Weights of a mix that change, in mixes of many samples: each element is compared with the model."""

import json
import pickle
from bisect import bisect_right

import pytest
from helpers.pipelines import Failed, made, rest_of
from helpers.sweeps import part_of
from hypothesis import given, settings
from hypothesis import strategies as st
from model.elements import Run
from model.functions import Kept, WithId
from model.pipelines import stage_of
from model.stages import Lane

from mpqueue import Dataset
from mpqueue.dataset.description.nodes import salted
from mpqueue.dataset.indexed.readers import IndexedRun
from mpqueue.dataset.mix.mixtures import length_in, with_weights
from mpqueue.dataset.running.build import DatasetLanes
from mpqueue.dataset.running.source import Readers
from mpqueue.plan.ids.history import Changes
from mpqueue.worker.runners.lanes import LaneRun

STOPS = ["first", "all", "never"]
MOST = 3000  # elements of an endless mix that are compared


@st.composite
def weights_of(draw, count):
    """Return integers with a power of two as their sum, as `model.mixtures` needs them."""
    weights = draw(st.lists(st.integers(0, 9), min_size=count, max_size=count))
    weights[draw(st.integers(0, count - 1))] += (1 << sum(weights).bit_length()) - sum(weights)
    return tuple(weights)


@st.composite
def mixes(draw, most_length=1500, most_at=1200):
    """Return the lengths of the parts, a schedule, changes in three epochs, and the end of a mix."""
    count = draw(st.integers(2, 5))
    lengths = draw(st.lists(st.integers(1, most_length), min_size=count, max_size=count))
    # Places near the borders of blocks, which have at most 512 elements.
    positions = st.one_of(st.integers(1, most_at), st.sampled_from([510, 511, 512, 1020, 1024]))
    seams = sorted(draw(st.sets(positions, max_size=3)))
    schedule = [(seam, draw(weights_of(count))) for seam in (0, *seams)]
    changes = []
    for epoch in range(draw(st.integers(0, 3))):
        changes += [(epoch, draw(st.one_of(st.just(0), positions)), draw(weights_of(count)))]
    if changes and draw(st.booleans()):
        changes.append((changes[-1][0], draw(positions), draw(weights_of(count))))
    return lengths, schedule, changes, draw(st.sampled_from(STOPS))


def mixed(lengths, schedule, stop, changes=(), make=lambda dataset: dataset):
    parts = [make(Dataset.range(100_000 * index, 100_000 * index + length)) for index, length in enumerate(lengths)]
    root = Dataset.mix(parts, schedule, stop=stop).root
    for epoch, at, weights in changes:
        root = with_weights(root, epoch, weights, at)
    return root


def modelled(lengths, schedule, stop, changes, *links):
    """Return a mix of elements that have their ids, and the same in the model, both with changed weights."""
    data = (
        ("mix", tuple((("range", length), *links) for length in lengths), tuple(schedule), stop, ()),
        ("map", WithId(1), 1, True),
    )
    root, stage = made(data).root, stage_of(data)
    for epoch, at, weights in changes:
        root = with_weights(root, epoch, weights, at)
        mix = stage.inputs[0]
        mix.changes[:] = [*(each for each in mix.changes if each[:2] < (epoch, at)), (epoch, at, tuple(weights))]
    return root, stage


def counts_of(mix, epoch, count, seed=0):
    """Return how many of the first samples of a mix each part has."""
    stage_seed = salted(seed, mix.stage_index)
    course = mix.course([each.length() for each in mix.inputs], stage_seed, epoch)
    return dict(enumerate(course.counts(count, stage_seed, epoch).tolist()))


@settings(max_examples=part_of(60, 4))
@given(mixes(), st.integers(0, 3), st.integers(0, 5), st.data())
def test_indexed_mix_equals_the_model(mix, epoch, seed, data):
    lengths, schedule, changes, stop = mix
    root, stage = modelled(lengths, schedule, stop, changes)
    run = Run(seed, epoch)
    length = stage.length(run)
    assert length_in(root, epoch, seed) == length
    length = MOST if length is None else length
    picks = stage.inputs[0].picks(run, length)[:length]
    readers, reads = Readers(root), IndexedRun(seed, epoch, lambda *_: None)
    positions = data.draw(st.lists(st.integers(0, length - 1), max_size=40)) if length else []
    expected = [stage.element(position, run).value() for position in positions]
    # Any access returns the same elements: singly, in blocks across seams, and all at once.
    assert readers.at(positions, reads) == expected
    assert [readers.at([position], reads)[0] for position in positions[:5]] == expected[:5]
    found = readers.at(range(length), reads)
    assert [sample_id[0] for _, sample_id in found] == picks
    assert [found[position] for position in positions] == expected
    count = data.draw(st.integers(0, length))
    assert counts_of(root.input, epoch, count, seed) == {at: picks[:count].count(at) for at in range(len(lengths))}


# -- Lanes


def keep(_):
    return True


def stream(dataset):
    return dataset.filter(keep)


def open_lane(root, lane, num_lanes, *, epoch=0, seed=3, state=None, number=0, weights=()):
    run = LaneRun(lane, num_lanes, seed, epoch, lambda *_: None, state=state, first_index=number)
    return DatasetLanes(root, Changes((), tuple(weights))).open_lane(run)


@pytest.mark.slow
@settings(max_examples=part_of(60, 4))
@given(mixes(most_length=400, most_at=600), st.integers(0, 2), st.sampled_from([1, 3]), st.booleans(), st.data())
def test_lane_equals_the_model_and_resumes_anywhere(mix, epoch, num_lanes, is_indexed, data):
    """Here, a change is made before an element of the lane."""
    lengths, schedule, changes, stop = mix
    root, stage = modelled(lengths, schedule, stop, (), *([] if is_indexed else [("filter", Kept(1), 1)]))
    lane = data.draw(st.integers(0, num_lanes - 1))
    numbers, weights = sorted(at for _, at, _ in changes), [each for *_, each in changes]
    held, expected = [], []
    of_model = Lane(stage, Run(3, epoch, None, lane, num_lanes), weights=held)
    while len(expected) < 900:
        held[:] = weights[: bisect_right(numbers, len(expected))]
        one = next(iter(of_model), None)
        if one is None:
            break
        expected.append(one.value())
    opened = open_lane(root, lane, num_lanes, epoch=epoch, state={"weights": numbers}, weights=weights)
    stop_at = data.draw(st.integers(0, len(expected)))
    assert rest_of(opened, stop_at) == expected[:stop_at]
    state = json.loads(json.dumps(pickle.loads(pickle.dumps(opened.save()))))
    again = open_lane(root, lane, num_lanes, epoch=epoch, state=state, number=stop_at, weights=weights)
    assert rest_of(again, 900 - stop_at) == expected[stop_at:]
    assert rest_of(opened, 900 - stop_at) == expected[stop_at:]


def raise_first(number):
    """Two elements of each pass raise."""
    if number % 100_000 < 2:
        raise ValueError(number)
    return number


@pytest.mark.sample(1)
@pytest.mark.parametrize("stop", STOPS)
def test_lane_resumes_after_an_element_that_raised(stop):
    """A part may begin again, and be the last one to do so, with elements that raise."""
    root = mixed([4, 3], [(0, [1, 1])], stop, (), lambda dataset: stream(dataset).map(raise_first))
    for lane, num_lanes in ((0, 1), (0, 2), (1, 2)):
        whole = rest_of(open_lane(root, lane, num_lanes), 40)
        opened = open_lane(root, lane, num_lanes)
        for position in range(len(whole)):
            again = open_lane(root, lane, num_lanes, state=pickle.loads(pickle.dumps(opened.save())))
            assert rest_of(again, 40 - position) == whole[position:]
            assert rest_of(opened, 1) == whole[position : position + 1]


def test_sample_that_raised_is_picked_again_with_the_new_weights():
    root = mixed([6, 4], [(0, [1, 0])], "never", (), lambda dataset: stream(dataset).map(raise_first))
    opened = open_lane(root, 0, 1, state={"weights": [1]}, weights=[(0, 1)])
    raised = [Failed("ValueError", str(number)) for number in (0, 100_000, 100_001)]
    assert rest_of(opened, 4) == [*raised, 100_002]


def test_far_place_of_a_mix_with_a_late_seam_is_computed_directly():
    far = 10**15
    root = mixed([1000, 10], [(0, [1, 3]), (far, [1, 0.2345])], "never", [(1, far + 77, [0, 1])])
    readers, run = Readers(root), IndexedRun(0, 1, lambda *_: None)
    assert len(readers.at(range(far - 600, far + 600), run)) == 1200
    assert {element // 100_000 for element in readers.at(range(far + 77, far + 600), run)} == {1}
    counts = counts_of(root, 0, far + 512)
    assert counts[0] + counts[1] == far + 512
    assert abs(counts[0] - far // 4 - 512 / 1.2345) < 2
    assert counts_of(root, 0, far) == {0: far // 4, 1: far // 4 * 3}
