"""Weights of a mix that change: each element is compared with a slow implementation, which counts one by one."""

import itertools
import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpqueue import Dataset
from mpqueue.dataset.indexed import IndexedRun
from mpqueue.dataset.mixing import Shares, apportioned, shares_of, shuffled
from mpqueue.dataset.mixtures import lane_place, length_in, with_weights
from mpqueue.dataset.nodes import salted
from mpqueue.dataset.opening import DatasetLanes, open_stages
from mpqueue.dataset.source import Readers
from mpqueue.worker.lanes import LaneRun
from mpqueue.worker.runner import StreamEnd

STOPS = ["first", "all", "never"]
MOST = 3000  # elements of an endless mix that are compared

WEIGHT = st.one_of(st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0, 2.0]), st.floats(0.01, 1.0))


def weights_of(count):
    return st.lists(WEIGHT, min_size=count, max_size=count).filter(any)


@st.composite
def mixes(draw, most_length=1500, most_at=1200):
    """Return the lengths of the parts, a schedule, changes in three epochs, and the end of a mix."""
    count = draw(st.integers(2, 5))
    lengths = draw(st.lists(st.integers(1, most_length), min_size=count, max_size=count))
    # Places near the borders of blocks, whose sizes are at most 512.
    places = st.one_of(st.integers(1, most_at), st.sampled_from([510, 511, 512, 1020, 1024]))
    seams = sorted(draw(st.sets(places, max_size=3)))
    schedule = [(seam, draw(weights_of(count))) for seam in (0, *seams)]
    changes = []
    for epoch in range(draw(st.integers(0, 3))):
        changes += [(epoch, draw(st.one_of(st.just(0), places)), draw(weights_of(count)))]
    if changes and draw(st.booleans()):
        changes.append((changes[-1][0], draw(places), draw(weights_of(count))))
    return lengths, schedule, changes, draw(st.sampled_from(STOPS))


def mixed(lengths, schedule, stop, changes=(), make=lambda dataset: dataset):
    parts = [make(Dataset.range(100_000 * number, 100_000 * number + length)) for number, length in enumerate(lengths)]
    root = Dataset.mix(parts, schedule, stop=stop).root
    for epoch, at, weights in changes:
        root = with_weights(root, epoch, weights, at)
    return root


# -- The slow implementation of an indexed mix


def reference(lengths, schedule, changes, stop, seed, epoch):
    """Return the number of the part of each place, and whether the mix has ended."""
    begun, cuts = schedule, []
    for of, at, weights in changes:  # in the order of their creation
        if (of, at) <= (epoch, 0):
            begun, cuts = [(0, weights)], []
        elif of == epoch:
            cuts = [cut for cut in cuts if cut[0] < at] + [(at, weights)]
    picks, has_ended = planned(lengths, begun, stop, seed, epoch, [], 0)
    for at, weights in cuts:
        if has_ended and len(picks) < at:
            break
        picks, has_ended = planned(lengths, [(at, weights)], stop, seed, epoch, picks[:at], at)
    return picks, has_ended


def planned(lengths, schedule, stop, seed, epoch, picks, start):
    picks = list(picks)
    used = [[weight > 0 for weight in weights] for _, weights in schedule]
    for number, (begin, weights) in enumerate(schedule):
        end = schedule[number + 1][0] if number + 1 < len(schedule) else MOST + 1024
        needed = {at for flags in used[number:] for at, flag in enumerate(flags) if flag}
        taken = np.bincount(np.array(picks, int), minlength=len(lengths))
        if stop == "all" and begin and all(taken[at] >= lengths[at] for at in needed):
            return picks, True
        shares = Shares(weights)
        for block in itertools.count():
            first = begin + block * shares.size
            if first >= end:
                break
            quotas, places = shares.quotas(block), min(shares.size, end - first)
            taken = np.bincount(np.array(picks, int), minlength=len(lengths))
            ends_at = None
            may_end = stop == "first" or all(taken[at] + quotas[at] >= lengths[at] for at in needed)
            tried = {"first": range(places, -1, -1), "all": range(1, places + 1), "never": ()}[stop]
            for length in tried if may_end else ():
                after = taken + (quotas if length == shares.size else apportioned(quotas, length))
                if stop == "all" and all(after[at] >= lengths[at] for at in needed):
                    ends_at = length
                    break
                if stop == "first" and all(after[at] <= lengths[at] for at in np.flatnonzero(weights)):
                    ends_at = None if length == places else length
                    break
            places = places if ends_at is None else ends_at
            datasets = np.arange(len(lengths)).repeat(quotas if places == shares.size else apportioned(quotas, places))
            key = (begin,) if begin else ()
            picks += shuffled(datasets, seed, epoch, *key, block).tolist()
            if ends_at is not None:
                return picks, True
            if len(picks) >= MOST:
                return picks, False
    return picks, False


def elements_of(picks, lengths, stop):
    """Return the elements of the parts in the order of the picks."""
    counts = [0] * len(lengths)
    elements = []
    for at in picks:
        index = counts[at] if stop == "first" else counts[at] % lengths[at]
        elements.append(100_000 * at + index)
        counts[at] += 1
    return elements


def counts_of(mix, epoch, count, seed=0):
    """Return how many of the first samples of a mix come from each part."""
    stage_seed = salted(seed, mix.number)
    course = mix.course([each.length() for each in mix.inputs], stage_seed, epoch)
    return dict(enumerate(course.counts(count, stage_seed, epoch).tolist()))


@settings(max_examples=60)
@given(mixes(), st.integers(0, 3), st.integers(0, 5), st.data())
def test_indexed_mix_equals_the_slow_implementation(mix, epoch, seed, data):
    lengths, schedule, changes, stop = mix
    root = mixed(lengths, schedule, stop, changes)
    stage_seed = salted(seed, root.number)
    picks, has_ended = reference(lengths, schedule, changes, stop, stage_seed, epoch)
    length = length_in(root, epoch, seed)
    if has_ended:
        assert length == len(picks)
    else:
        assert length is None or length >= MOST
        picks = picks[:MOST]
    expected = elements_of(picks, lengths, stop)
    readers, run = Readers(root), IndexedRun(seed, epoch, lambda *_: None)
    found = readers.at(range(len(picks)), run)
    assert found == expected
    # Any access returns the same elements: singly, and in blocks across seams.
    if picks:
        for place in data.draw(st.lists(st.integers(0, len(picks) - 1), max_size=5)):
            assert readers.at([place], run) == [expected[place]]
        some = data.draw(st.lists(st.integers(0, len(picks) - 1), min_size=9, max_size=40))
        assert readers.at(some, run) == [expected[place] for place in some]
    count = data.draw(st.integers(0, len(picks)))
    counts = counts_of(root, epoch, count, seed)
    assert counts == {at: picks[:count].count(at) for at in range(len(lengths))}
    if stop == "first":
        assert len(set(found)) == len(found)


# -- Lanes


def keep(_):
    return True


def stream(dataset):
    return dataset.filter(keep)


def open_lane(root, lane, num_lanes, *, epoch=0, seed=3, state=None):
    run = LaneRun(lane, num_lanes, seed, epoch, lambda *_: None, state=state)
    return DatasetLanes(root).open_lane(run)


def elements_in(lane, most):
    found = []
    for _ in range(most):
        try:
            found.append(lane.next())
        except StreamEnd:
            break
    return found


def lane_reference(lengths, schedule, changes, stop, seed, epoch, lane, num_lanes, most):
    """Return the elements of a lane of a mix of streams, pick by pick."""
    spans = [(begin, weights, schedule[number:]) for number, (begin, weights) in enumerate(schedule)]
    for of, at, weights in changes:
        if (of, at) <= (epoch, 0):
            spans = [(0, weights, [(0, weights)])]
        elif of == epoch:
            spans = [span for span in spans if span[0] < at] + [(at, weights, [(at, weights)])]
    spans = [
        (begin, weights, {at for _, each in rest for at, w in enumerate(each) if w}) for begin, weights, rest in spans
    ]
    parts = [list(range(100_000 * at + lane, 100_000 * at + length, num_lanes)) for at, length in enumerate(lengths)]
    given, passes, orders, elements = [0] * len(parts), [0] * len(parts), {}, []
    for pick in itertools.count():
        if len(elements) >= most:
            break
        place = pick * num_lanes + lane
        begin, weights, needed = [span for span in spans if span[0] <= place][-1]
        if stop != "first" and all(passes[at] for at in needed):
            break
        shares = shares_of(tuple(weights))
        first = -(-max(0, begin - lane) // num_lanes)
        block, inside = divmod(pick - first, shares.size)
        if (begin, block) not in orders:
            key = (begin,) if begin else ()
            orders[begin, block] = shuffled(shares.datasets(block), seed, epoch, lane, *key, block).tolist()
        at = orders[begin, block][inside]
        if given[at] == len(parts[at]):
            if stop == "first":
                break
            if stop == "all" or not parts[at]:  # with "never", only parts without elements in this lane matter
                passes[at] += 1
                if all(passes[each] for each in needed):
                    break
            if not parts[at]:
                continue
            given[at] = 0
        elements.append(parts[at][given[at]])
        given[at] += 1
    return elements


@settings(max_examples=60)
@given(mixes(most_length=400, most_at=600), st.integers(0, 2), st.sampled_from([1, 3]), st.data())
def test_lane_of_streams_equals_the_slow_implementation_and_resumes_anywhere(mix, epoch, num_lanes, data):
    lengths, schedule, changes, stop = mix
    root = mixed(lengths, schedule, stop, changes, stream)
    lane = data.draw(st.integers(0, num_lanes - 1))
    expected = lane_reference(
        lengths, schedule, changes, stop, salted(3, root.number), epoch, lane, num_lanes, most=900
    )
    opened = open_lane(root, lane, num_lanes, epoch=epoch)
    stop_at = data.draw(st.integers(0, len(expected)))
    assert elements_in(opened, stop_at) == expected[:stop_at]
    state = json.loads(json.dumps(pickle.loads(pickle.dumps(opened.save()))))
    again = open_lane(root, lane, num_lanes, epoch=epoch, state=state)
    assert elements_in(again, 900 - stop_at) == expected[stop_at:]
    assert elements_in(opened, 900 - stop_at) == expected[stop_at:]


@pytest.mark.parametrize("stop", STOPS)
def test_lane_resumes_with_weights_that_were_changed_after_its_snapshot(stop):
    lengths, schedule = [60, 45, 40], [(0, [2, 1, 1]), (48, [1, 1, 0])]
    before = mixed(lengths, schedule, stop, (), stream)
    for at in (0, 1, 25, 48, 70):
        after = with_weights(before, 0, [0, 1, 3], at)
        for lane in range(2):
            own = -(-(at - lane) // 2)  # samples of the lane before the change
            whole = elements_in(open_lane(after, lane, 2), 200)
            opened = open_lane(before, lane, 2)
            for place in range(own + 1):
                again = open_lane(after, lane, 2, state=pickle.loads(pickle.dumps(opened.save())))
                assert elements_in(again, 200 - place) == whole[place:]
                if place < own:
                    assert elements_in(opened, 1) == whole[place : place + 1]


def test_mix_that_ended_at_the_sample_of_a_change_continues_with_the_new_weights():
    """A later stage may still hold elements when the mix ends, so the lane has not ended yet."""
    run = LaneRun(0, 1, 3, 0, lambda *_: None)
    before = mixed([4, 20], [1, 0], "first", (), stream)
    stage = open_stages(before, run)
    assert [stage.pull(4)[0], stage.pull(4)[0]] == [[0, 1, 2, 3], []]
    for at, expected in ((4, [100_000]), (5, [])):  # the end remains if the change is later
        again = open_stages(with_weights(before, 0, [0, 1], at), run)
        again.load(stage.save())
        assert again.pull(3)[0][:1] == expected


@pytest.mark.parametrize("stop", STOPS)
def test_lane_without_elements_of_some_parts_skips_their_picks(stop):
    # Lane 3 of 4 has no element of the first part.
    root = mixed([2, 40], [(0, [1, 1]), (30, [1, 0]), (60, [1, 3])], stop, (), stream)
    lane = open_lane(root, 3, 4)
    found = elements_in(lane, 30)
    assert set(found) <= set(range(100_003, 100_040, 4))


@pytest.mark.parametrize("changes", [[], [(0, 300, [1, 4])]])
def test_lanes_of_an_indexed_mix_follow_the_schedule(changes):
    num_lanes = 3
    root = mixed([700, 800], [(0, [3, 1]), (200, [1, 1])], "first", changes)
    elements = Readers(root).at(range(length_in(root, 0, 3)), IndexedRun(3, 0, lambda *_: None))
    after = Dataset._of(root).filter(keep).root
    lanes = [open_lane(after, lane, num_lanes) for lane in range(num_lanes)]
    for number, lane in enumerate(lanes):
        assert elements_in(lane, 50 + number) == elements[number::num_lanes][: 50 + number]
    states = [lane.save() for lane in lanes]
    for number, state in enumerate(states):
        assert lane_place(after, state, number, num_lanes) == (0, 50 + number)
        again = open_lane(after, number, num_lanes, state=json.loads(json.dumps(state)))
        assert elements_in(again, 2000) == elements[number::num_lanes][50 + number :]


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
