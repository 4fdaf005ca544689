"""Ids of samples: what `map(function, with_id=True)` costs, and its errors."""

import pytest
from helpers.pipelines import run_of

from mpqueue import Dataset
from mpqueue.dataset.running.build import DatasetLanes


def pair_of(sample, sample_id):
    return sample, sample_id


def is_kept(_):
    return True


def test_map_with_id_adds_no_state_and_no_row_of_statistics():
    numbers = Dataset.range(9).filter(is_kept)
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
