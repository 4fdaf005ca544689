"""Mixtures: their parts and weights, the arithmetic of shares, and changes of weights in many samples."""

import json
import math
import pickle
from bisect import bisect_right
from collections import Counter
from fractions import Fraction

import pytest
from helpers.pipelines import Failed, made, rest_of
from helpers.sweeps import part_of
from hypothesis import given, settings
from hypothesis import strategies as st
from model.elements import Run
from model.functions import Kept, WithId
from model.pipelines import stage_of
from model.stages import Lane

import mpqueue
from mpqueue import Dataset
from mpqueue.dataset.description.fingerprint import fingerprint_of
from mpqueue.dataset.description.nodes import order_of, salted, shape_of
from mpqueue.dataset.indexed.readers import IndexedRun
from mpqueue.dataset.mix.arithmetic import Shares
from mpqueue.dataset.mix.mixtures import length_in, mixture_of, samples_before, with_weights
from mpqueue.dataset.running.build import DatasetLanes
from mpqueue.dataset.running.source import IndexedSource, Readers
from mpqueue.plan.ids.history import Changes
from mpqueue.worker.runners.lanes import LaneRun

A, B = Dataset.range(300), Dataset.range(1000, 1400)
PARTS, WEIGHTS = {"web": A, "code": B}, {"web": 0.7, "code": 0.3}
NAMED = Dataset.mix(PARTS, WEIGHTS)
LISTED = Dataset.mix([A, B], [0.7, 0.3])


def keep(_):
    return True


def test_mix_of_a_dict_equals_the_mix_of_a_list():
    """The order of the weights in the dict does not matter."""
    assert list(Dataset.mix(PARTS)) == list(Dataset.mix([A, B]))
    assert list(NAMED) == list(Dataset.mix(PARTS, {"code": 0.3, "web": 0.7})) == list(LISTED)
    assert list(Dataset.mix([A, B], {0: 0.7, 1: 0.3})) == list(LISTED)


@pytest.mark.sample(8)
@pytest.mark.parametrize(
    ("datasets", "weights", "error", "text"),
    [
        (PARTS, [0.7, 0.3], ValueError, r"must be a dict with these names, \['web', 'code'\], got the list"),
        (PARTS, {"web": 1}, ValueError, r"one weight for each dataset.*missing: \['code'\]"),
        (PARTS, {**WEIGHTS, "law": 1}, ValueError, r"unknown: \['law'\]"),
        ([A, B], WEIGHTS, ValueError, r"missing: \[0, 1\], unknown: \['web', 'code'\]"),
        (PARTS, {**WEIGHTS, "web": -1}, ValueError, r"must be 0 or more, and finite, got \[-1\.0, 0\.3\]"),
        (PARTS, {**WEIGHTS, "web": math.inf}, ValueError, "must be 0 or more, and finite"),
        (PARTS, {**WEIGHTS, "web": math.nan}, ValueError, "must be 0 or more, and finite"),
        (PARTS, {"web": 0, "code": 0}, ValueError, "must not all be zero"),
        (PARTS, {"web": "1", "code": 1}, TypeError, "weights must be numbers"),
        (PARTS, {"web": True, "code": 1}, TypeError, "weights must be numbers"),
        ([A, B], [(0, [1, 1]), (10, [1])], ValueError, r"one weight per dataset \(2\), got 1 weights"),
        ([A, B], [(0, [1, 1]), (10, [0, 0])], ValueError, "must not all be zero"),
        ([A, B], [(1, [1, 1])], ValueError, r"must begin at sample 0, got 1"),
        ([A, B], [(0, [1, 1]), (5, [1, 2]), (5, [1, 3])], ValueError, r"must ascend, got \[0, 5, 5\]"),
        ([A, B], [(0, [1, 1]), (-5, [1, 2])], ValueError, "must be 0 or more, got -5"),
        ([A, B], [(0, [1, 1]), (1 << 62, [1, 2])], ValueError, r"must be below 2\*\*62"),
        ([A, B], [(0, [1, 1]), (5.0, [1, 2])], TypeError, r"the sample of a schedule must be an integer, got 5\.0"),
        ([A, B], [(False, [1, 1])], TypeError, "the sample of a schedule must be an integer, got False"),
        ([A, B], [(0, [1, 1]), 3], ValueError, r"list of pairs \(sample, weights\), got 3"),
        ([A, B], [[1, 1, 1]], ValueError, r"list of pairs \(sample, weights\), got \[1, 1, 1\]"),
        ({"web": A, "": B}, None, ValueError, "must not be empty"),
        ({"web": A, 3: B}, None, TypeError, "names of datasets must be strings, got 3"),
        ({"web": A, "code": [1]}, None, TypeError, "mix takes datasets, got list"),
        ({}, None, ValueError, "at least one dataset, got none"),
        ({"web": A, "none": Dataset.range(0)}, None, ValueError, "dataset 'none' is empty"),
        ([A, Dataset.range(0)], [(0, [1, 0]), (9, [1, 1])], ValueError, "dataset 1 is empty"),
    ],
)
def test_invalid_weights_raise_an_error_with_a_remedy(datasets, weights, error, text):
    with pytest.raises(error, match=text):
        Dataset.mix(datasets, weights)


@pytest.mark.parametrize(
    ("dataset", "text"),
    [
        (A.batch(2), "the dataset has no mixture"),
        (Dataset.mix([NAMED, A]), "the dataset has 2 mixtures"),
        (NAMED.concatenate(NAMED), "the dataset has 2 mixtures"),
        (NAMED.batch(2).shuffle().take(3), r"not used in their order: stage 4, shuffle\(\), comes after it"),
        (NAMED.repeat(2), r"stage 3, repeat\(times=2\), comes after it"),
        (A.zip(NAMED), r"stage 4, zip\(\), comes after it"),
        (A.concatenate(NAMED.cache().map(str)), r"stage 4, cache\(\), comes after it"),
        (NAMED.map(str).take(9).batch(2).filter(keep), r"stage 4, take\(9\), reads them by index"),
        (A.concatenate(NAMED).filter(keep), r"stage 4, concatenate\(\), reads them by index"),
    ],
)
def test_dataset_without_one_mixture_in_order_is_refused(dataset, text):
    with pytest.raises(ValueError, match=text):
        with_weights(dataset.root, 0, [1, 2], 0)


def test_mixture_is_found_behind_stages_that_keep_the_order():
    parts = {"web": A.shuffle().repeat(2), "code": B.cache().zip(B)}
    dataset = A.concatenate(Dataset.mix(parts).map(str).filter(keep).enumerate()).take(500).shuffle(buffer=9).batch(2)
    mixture = mixture_of(dataset.root)
    assert mixture.names == ("web", "code")
    assert mixture.stage_index == dataset.root.stage_index - 7
    assert mixture_of(LISTED.root).names == (0, 1)


@pytest.mark.parametrize(
    ("weights", "epoch", "at", "error", "text"),
    [
        ([1, 2], 0, 0, ValueError, "must be a dict with these names"),
        ({"web": 1}, 0, 0, ValueError, "missing"),
        ({"web": 0, "code": 0}, 0, 0, ValueError, "must not all be zero"),
        (None, 0, 0, TypeError, "got None"),
        ([(0, {"web": 1, "code": 1})], 0, 0, ValueError, "got the schedule"),
        (WEIGHTS, -1, 0, ValueError, "epoch must be 0 or more, got -1"),
        (WEIGHTS, 0, -1, ValueError, "at must be 0 or more, got -1"),
        (WEIGHTS, True, 0, TypeError, "epoch must be an integer, got True"),
        (WEIGHTS, 0, 1.5, TypeError, r"at must be an integer, got 1\.5"),
    ],
)
def test_invalid_changes_raise_an_error(weights, epoch, at, error, text):
    with pytest.raises(error, match=text):
        with_weights(NAMED.root, epoch, weights, at)


def test_state_checks_ignore_changes_and_names_but_not_the_first_weights():
    for make in (lambda mixed: mixed.batch(2), lambda mixed: mixed.filter(keep).batch(2)):
        root = make(LISTED).root
        named = make(NAMED).root
        changed = with_weights(root, 0, [1, 5], 9)
        other = make(Dataset.mix([A, B], [0.6, 0.4])).root
        scheduled = make(Dataset.mix([A, B], [(0, [0.7, 0.3]), (9, [1, 1])])).root
        for description in (shape_of, order_of):
            assert description(root) == description(named) == description(changed)
            assert len({str(description(each)) for each in (root, other, scheduled)}) == 3
        assert fingerprint_of(root) == fingerprint_of(changed) == fingerprint_of(named)
        assert len({fingerprint_of(each) for each in (root, other, scheduled)}) == 3


def test_samples_before_an_index_follow_the_stages():
    root = A.concatenate(NAMED.skip(10).map(str).batch(4).enumerate()).take(900).root
    assert [samples_before(root, position) for position in (0, 300, 301, 310)] == [10, 10, 14, 50]
    assert samples_before(NAMED.root, 17) == 17


def test_length_differs_between_the_epochs_of_a_change():
    changed = with_weights(NAMED.batch(10).root, 1, {"web": 0, "code": 1}, 100)
    source = IndexedSource(changed)
    assert [source.length_in(epoch, 7) for epoch in range(3)] == [length_in(changed, epoch, 7) for epoch in range(3)]
    assert length_in(changed, 0, 7) == len(NAMED.batch(10)) == len(source)
    assert 46 <= length_in(changed, 1, 7) <= 48  # 60 to 80 samples before the change, and all 400 of the other part
    assert length_in(changed, 2, 7) == 40


# -- The arithmetic of a mix


WEIGHT = st.one_of(st.integers(1, 50).map(float), st.floats(0.001, 1.0), st.sampled_from([0.1, 0.2, 0.3, 1 / 3]))
WEIGHTS = st.lists(WEIGHT, min_size=1, max_size=6)


@given(WEIGHTS, st.integers(0, 5000))
def test_blocks_follow_the_weights_without_drift(weights, block):
    shares = Shares(weights)
    total = sum(map(Fraction, weights))
    before, size = shares.before(block), shares.size
    assert before.sum() == block * size
    assert (shares.before(block) + shares.quotas(block) == shares.before(block + 1)).all()
    assert (shares.quotas(block) >= 0).all()
    for weight, count in zip(weights, before, strict=True):
        # Within one or two places per dataset, and rounding after 25 binary digits.
        assert abs(float(Fraction(weight) / total * block * size) - count) < 2 * len(weights) + 1e-6 * block * size


def test_endless_mix_has_its_shares_at_any_index():
    mixed = mpqueue.Dataset.mix([mpqueue.Dataset.range(10), mpqueue.Dataset.range(10, 17)], [3, 1], stop="never")
    with pytest.raises(TypeError, match="has no length"):
        len(mixed)
    far = [mixed[10**12 + position] for position in range(2048)]
    assert Counter(value < 10 for value in far)[True] == pytest.approx(1536, abs=512)
    assert mixed.take(8)[7] == mixed[7]


def test_dataset_with_weight_zero_is_never_read():
    mixed = mpqueue.Dataset.mix([mpqueue.Dataset.range(5), mpqueue.Dataset.range(0)], [1, 0], stop="all")
    assert list(mixed) == list(range(5))


# -- Weights of a mix that change, in mixes of many samples


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
