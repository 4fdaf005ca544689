"""Functions about the mixture of a dataset: names of parts, finding the mix, changes, and counts."""

import math

import numpy as np
import pytest

from mpqueue import Dataset
from mpqueue.dataset.description.fingerprint import fingerprint_of
from mpqueue.dataset.description.nodes import order_of, shape_of
from mpqueue.dataset.mix.mixtures import length_in, mixture_of, samples_before, with_weights
from mpqueue.dataset.running.source import IndexedSource

A, B = Dataset.range(300), Dataset.range(1000, 1400)
PARTS, WEIGHTS = {"web": A, "code": B}, {"web": 0.7, "code": 0.3}
NAMED = Dataset.mix(PARTS, WEIGHTS)
LISTED = Dataset.mix([A, B], [0.7, 0.3])


def keep(_):
    return True


def test_mix_of_a_dict_equals_the_mix_of_a_list():
    assert list(NAMED) == list(LISTED)
    assert len(NAMED) == len(LISTED)
    assert list(Dataset.mix(PARTS)) == list(Dataset.mix([A, B]))
    # The order of the weights in the dict does not matter.
    assert list(Dataset.mix(PARTS, {"code": 0.3, "web": 0.7})) == list(NAMED)
    assert list(Dataset.mix([A, B], {0: 0.7, 1: 0.3})) == list(LISTED)


def test_schedule_with_one_entry_equals_fixed_weights():
    assert list(Dataset.mix([A, B], [(0, [0.7, 0.3])])) == list(LISTED)


def test_elements_before_a_seam_are_as_if_the_mix_ended_there():
    found = list(Dataset.mix([A, B], [[0, [0.7, 0.3]], [np.int64(100), np.array([0.0, 1.0])]]))
    # Complete blocks are the same as with fixed weights, and the last one before the seam has the exact shares.
    assert sum(element < 1000 for element in found[:100]) == 70
    assert [element for element in found if element >= 1000] == list(range(1000, 1400))
    assert len(found) == 100 + 370


@pytest.mark.sample(8)
@pytest.mark.parametrize(
    ("datasets", "weights", "error", "text"),
    [
        (PARTS, [0.7, 0.3], ValueError, r"must be a dict with these names, \['web', 'code'\], got the list"),
        (PARTS, {"web": 1}, ValueError, r"one weight for each dataset.*missing: \['code'\]"),
        (PARTS, {**WEIGHTS, "law": 1}, ValueError, r"unknown: \['law'\]"),
        ([A, B], WEIGHTS, ValueError, r"missing: \[0, 1\], unknown: \['web', 'code'\]"),
        (PARTS, {**WEIGHTS, "web": -1}, ValueError, r"must be 0 or more, and finite, got \[-1\.0, 0\.3\]"),
        (PARTS, {**WEIGHTS, "web": math.nan}, ValueError, "must be 0 or more, and finite"),
        (PARTS, {**WEIGHTS, "web": math.inf}, ValueError, "must be 0 or more, and finite"),
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
