"""Ids of samples: `Dataset.get`, `Dataset.locate` and ``map(function, with_id=True)``."""

import json
import pickle

import numpy as np
import pytest
from helpers.computed_source import Computed
from helpers.drawing_sources import pair
from helpers.pipelines import run_of

from mpqueue import Dataset
from mpqueue.dataset.running.build import DatasetLanes


class Located(Computed):
    """A source with locations."""

    def __init__(self, function="line {}".format):
        super().__init__(function, 5)

    def locate(self, index):
        return f"text.txt:{index}"


def numbers():
    yield from range(10)


def keep(_):
    return True


WEB, BOOKS = Dataset(["web 0", "web 1"]), Dataset(["book 0", "book 1", "book 2"])


NAMED = Dataset.mix({"books": BOOKS, "both": WEB.concatenate(BOOKS)}, weights={"both": 0.2, "books": 0.8})


@pytest.mark.parametrize(
    ("dataset", "sample_id", "sample"),
    [
        (Dataset(["a", "b", "c"]), 2, "c"),
        (Dataset(["a", "b", "c"]).shuffle().map(str.upper).batch(2).repeat(), 2, "c"),
        (Dataset(["a", "b", "c"]).filter(keep).shuffle(buffer=2).batch(2), np.int64(1), "b"),
        (Dataset.range(10, 20), 9, 19),
        (Dataset.mix([WEB, BOOKS]), (1, 2), "book 2"),
        (Dataset.zip(WEB, BOOKS.shuffle()), (1, 0), "book 0"),
        (WEB.concatenate(BOOKS.map(str.upper)).filter(keep), [0, 1], "web 1"),
        (Dataset.mix([Dataset.range(3), WEB.concatenate(BOOKS)]), (1, 0, 1), "web 1"),
        (Dataset.mix([WEB, Dataset(numbers)]), (0, 1), "web 1"),
        (NAMED, ("books", 2), "book 2"),
        (NAMED.filter(keep).batch(2), ["both", 0, 1], "web 1"),
    ],
)
def test_get_returns_the_sample_of_the_source(dataset, sample_id, sample):
    assert dataset.get(sample_id) == sample


UNNAMED = Dataset.mix([WEB.shuffle(), WEB.concatenate(BOOKS).filter(keep)], stop="all")


@pytest.mark.parametrize("dataset", [NAMED, NAMED.filter(keep), UNNAMED])
@pytest.mark.parametrize("by_json", [False, True])
def test_get_takes_the_ids_that_a_map_receives(by_json, dataset):
    for sample, sample_id in dataset.map(lambda sample, sample_id: (sample, sample_id), with_id=True):
        assert dataset.get(json.loads(json.dumps(sample_id)) if by_json else sample_id) == sample


def test_get_draws_the_random_numbers_of_the_first_epoch_and_restores_those_of_the_caller():
    np.random.seed(3)
    before = np.random.get_state()[1].tolist()
    dataset = Dataset.concatenate(Dataset.range(3), Dataset(Computed(pair, 5)))
    assert dataset.get((1, 2)) == dataset[5]
    assert np.random.get_state()[1].tolist() == before


def test_get_sees_a_source_that_has_grown():
    samples = ["a"]
    dataset = Dataset(samples)
    with pytest.raises(LookupError, match=r"the source \(list, 1\) has no sample 1: the ids of its samples are 0 to 0"):
        dataset.get(1)
    samples.append("b")
    assert dataset.get(1) == "b"


def test_get_and_locate_work_after_pickling():
    dataset = pickle.loads(pickle.dumps(Dataset.mix([Dataset(Located()), WEB])))
    assert dataset.get((1, 1)) == "web 1"
    assert dataset.locate((0, 3)) == "text.txt:3"


MIXED = Dataset.mix([Dataset(Located()), WEB.concatenate(Dataset(numbers))])


@pytest.mark.sample(10)
@pytest.mark.parametrize("method", ["get", "locate"])
@pytest.mark.parametrize(
    ("dataset", "sample_id", "kind", "message"),
    [
        (Dataset(Located()), 5, LookupError, "has no sample 5: the ids of its samples are 0 to 4"),
        (Dataset(Located()), -1, LookupError, "has no sample -1"),
        (Dataset([]), 0, LookupError, "the ids of its samples are none, because it is empty"),
        (Dataset(Located()), True, TypeError, "must be an integer, got True"),
        (Dataset(Located()), np.True_, TypeError, "must be an integer, got"),
        (Dataset(Located()), "1", TypeError, "must be an integer, got '1'"),
        (Dataset(Located()), (1,), TypeError, r"must be an integer, got \(1,\)"),
        (Dataset(numbers), (0, 1), LookupError, r"the source \(numbers\(\)\) is a stream, which has no samples by id"),
        (MIXED, (1, 1, 0, 1), LookupError, "is a stream"),
        (NAMED, ("web", 0), ValueError, "mix has no part 'web': its parts are 'books', 'both'"),
        (NAMED, (0, 0), ValueError, "mix has no part 0: its parts are 'books', 'both'"),
        (NAMED, ("both", 0, 9), LookupError, "has no sample 9"),
        (MIXED, (2, 0), ValueError, "mix has no part 2: its parts are 0, 1"),
        (MIXED, (-1, 0), ValueError, "mix has no part -1"),
        (MIXED, ("web", 0), ValueError, "mix has no part 'web': its parts are 0, 1"),
        (MIXED, (1, 2, 0), ValueError, "concatenate has no part 2"),
        (MIXED, (True, 0), TypeError, "the part in an id of mix must be an integer, got True"),
        (MIXED, (0, 1, 2), TypeError, r"must be an integer, got \(1, 2\)"),
        (MIXED, 1, TypeError, r"mix reads several datasets, so the id of a sample must be a tuple .*, got 1$"),
        (MIXED, "11", TypeError, "must be a tuple .*, got '11'"),
        (MIXED, (1,), TypeError, r"must be a tuple .*, got \(1,\)"),
        (MIXED, (1, 0), TypeError, "concatenate reads several datasets"),
    ],
)
def test_wrong_id_raises_an_error_that_names_the_expected_value(method, dataset, sample_id, kind, message):
    with pytest.raises(kind, match=message):
        getattr(dataset, method)(sample_id)


@pytest.mark.parametrize("source", [["a"], np.zeros(3), range(3)])
def test_locate_of_a_source_without_files_raises(source):
    with pytest.raises(LookupError, match=r"has no method locate\(index\): only samples of files have a location"):
        Dataset(source).shuffle().locate(0)


def test_error_of_the_source_is_raised_by_get():
    def broken(index):
        raise OSError(f"cannot read {index}")

    with pytest.raises(OSError, match="cannot read 3"):
        Dataset(Located(broken)).shuffle().get(3)


# -- Ids of samples


def pair_of(sample, sample_id):
    return sample, sample_id


def test_map_with_id_adds_no_state_and_no_row_of_statistics():
    numbers = Dataset.range(9).filter(keep)
    datasets = numbers.map(str), numbers.map(pair_of, with_id=True)
    lanes = [DatasetLanes(each.root).open_lane(run_of(0, 2), keeps_tokens=True) for each in datasets]
    for lane in lanes:
        lane.next()
    assert lanes[0].save() == lanes[1].save()
    assert [row[1:3] for row in lanes[0].counts()] == [row[1:3] for row in lanes[1].counts()]


def test_error_of_a_map_with_id_names_the_sample():
    def refuse(sample, sample_id):
        raise ValueError(f"{sample} {sample_id}")

    with pytest.raises(ValueError, match="5 5") as caught:
        Dataset.range(9).map(refuse, with_id=True)[5]
    assert "for sample 5 of range" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("dataset", "stage"),
    [
        (Dataset.range(9).batch(2), r"stage 1, batch\(2\),"),
        (Dataset.range(9).batch(2).flat_map(list), r"stage 1, batch\(2\),"),
        (Dataset.range(9).batch(2).batch(2, collate=list), r"stage 1, batch\(2\),"),
        (Dataset([[1], [2, 3]]).pack(4), r"stage 1, pack\(4\),"),
        (Dataset(["a", "bb"]).bucket(len, [2], [1, 1]), r"stage 1, bucket\(.*\),"),
        (Dataset.zip(Dataset.range(3), Dataset.range(3)), r"stage 2, zip\(\),"),
        (Dataset.range(3).concatenate(Dataset.range(9).batch(2)), r"stage 2, batch\(2\),"),
    ],
)
def test_map_with_id_after_a_stage_that_merges_samples_raises(dataset, stage):
    with pytest.raises(ValueError, match=f"map: with_id=True needs elements .* {stage} merges several"):
        dataset.map(pair_of, with_id=True)
