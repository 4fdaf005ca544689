"""The stages `rename_columns`, `select_columns` and `remove_columns`."""

import pytest

import mpqueue
from mpqueue import Dataset

SAMPLES = [{"text": f"text {number}", "label": number, "extra": None} for number in range(6)]
DATASET = Dataset(SAMPLES)
SWAPPED = {"text": "label", "label": "text"}


def keep(_):
    return True


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(
    ("change", "first"),
    [
        (lambda dataset: dataset.select_columns("label"), {"label": 0}),
        (lambda dataset: dataset.select_columns(["label", "text"]), {"label": 0, "text": "text 0"}),
        (lambda dataset: dataset.remove_columns("extra"), {"text": "text 0", "label": 0}),
        (lambda dataset: dataset.remove_columns(("text", "extra")), {"label": 0}),
        (lambda dataset: dataset.remove_columns(["text", "extra", "label"]), {}),
        (lambda dataset: dataset.rename_columns({"text": "x"}), {"x": "text 0", "label": 0, "extra": None}),
        (lambda dataset: dataset.rename_columns(SWAPPED), {"label": "text 0", "text": 0, "extra": None}),
    ],
)
def test_columns_of_samples_change_in_order_and_the_source_does_not(change, first, is_stream):
    changed = change(DATASET.filter(keep) if is_stream else DATASET)
    found = next(iter(changed))
    assert list(found.items()) == list(first.items())
    assert SAMPLES[0] == {"text": "text 0", "label": 0, "extra": None}
    if not is_stream:
        assert changed[0] == first
        assert len(changed) == 6


def test_columns_of_batches_change_and_they_remain_batches():
    batches = DATASET.batch(3).select_columns(["label", "text"]).rename_columns({"label": "y"})
    assert batches[1]["y"].tolist() == [3, 4, 5]
    with pytest.raises(ValueError, match="already makes batches"):
        batches.batch(2)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("method", ["select_columns", "remove_columns"])
def test_missing_column_raises_a_key_error_that_names_the_columns(method, workers):
    changed = getattr(DATASET, method)(["label", "image"])
    with mpqueue.Loader(changed, workers=workers) as loader, pytest.raises(KeyError) as caught:
        next(iter(loader))
    assert str(caught.value) == f"{method}: a sample has no column 'image': its columns are 'text', 'label', 'extra'"
    assert f"stage 1, {method}(['label', 'image'])" in caught.value.__notes__[0]


def test_missing_or_taken_column_of_rename_columns_raises():
    with pytest.raises(KeyError, match="rename_columns: a sample has no column 'image'"):
        DATASET.rename_columns({"image": "x"})[0]
    with pytest.raises(ValueError, match="rename_columns: a sample already has a column 'label'"):
        DATASET.rename_columns({"text": "label"})[0]
