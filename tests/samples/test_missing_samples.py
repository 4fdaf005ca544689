"""A sample that is None, as after a forgotten `return`, raises an error that names the source."""

import numpy as np
import pytest
from helpers.computed_source import AtOnce, Computed
from helpers.loader_runs import batches_of

import mpqueue
from mpqueue import Dataset

BACKENDS = {
    "processes": {"workers": 1},
    "threads": {"workers": 1, "backend": "thread"},
    "caller": {"workers": 0},
    "helper threads": {"workers": 0, "threads": 2},
}
SAMPLES = [
    int, float, str, lambda index: np.full(3, index), lambda index: np.full(3000, index), lambda index: {"x": index},
    lambda index: (index, np.full(3, index)),
]  # fmt: skip


def photos(missing, make=int, kind=Computed):
    """Return a source of six samples; some are None."""
    source = kind(lambda index: None if index in missing else make(index), 6)
    source.thread_safe = True
    return source


@pytest.mark.parametrize(
    ("kind", "missing", "options"),
    [
        *((Computed, {4}, options) for options in BACKENDS.values()),
        *((AtOnce, {4}, BACKENDS[name]) for name in ("caller", "helper threads")),
        (Computed, range(6), BACKENDS["caller"]),
        (Computed, {4}, {"workers": 0, "collate": "ragged"}),
    ],
)
def test_none_sample_is_type_error_with_source_and_index(missing, kind, options):
    method = "__getitems__" if kind is AtOnce else "__getitem__"
    text = rf"index {min(missing)} of {kind.__name__} is None: did `{method}` forget to return\?"
    with pytest.raises(TypeError, match=text):
        batches_of(photos(missing, kind=kind), batch_size=3, **options)


@pytest.mark.sample(4)
@pytest.mark.parametrize("missing", [0, 2])
@pytest.mark.parametrize("make", SAMPLES)
def test_none_sample_raises_among_samples_of_any_type(make, missing):
    with pytest.raises(TypeError, match=rf"index {missing} of Computed is None: did `__getitem__` forget to return\?"):
        batches_of(photos({missing}, make), batch_size=3, workers=0)


@pytest.mark.parametrize("options", BACKENDS.values(), ids=BACKENDS)
def test_only_none_sample_is_skipped_with_on_error_skip(options):
    with mpqueue.Loader(photos({1, 4}), batch_size=3, on_error="skip", **options) as loader:
        assert [batch.tolist() for batch in loader] == [[0, 2], [3, 5]]
        assert loader.statistics().skipped == 2


def test_only_none_element_is_skipped_with_on_error_skip():
    def numbers():
        yield from [0, None, 2, 3, 4, None]

    assert batches_of(numbers, batch_size=3, workers=0, on_error="skip") == [[0, 2], [3, 4]]


@pytest.mark.parametrize("value", [{"x": None, "y": 1}, (None, 1), [None, 1]], ids=["dict", "tuple", "list"])
def test_none_in_field_is_kept(value):
    (batch,) = batches_of([value] * 3, batch_size=3, workers=0)
    assert (batch["x"] if isinstance(value, dict) else batch[0]) is None


def test_collate_function_receives_none_samples():
    assert batches_of(photos({1}), batch_size=3, workers=0, collate=list)[0] == [0, None, 2]


@pytest.mark.parametrize(
    ("dataset", "text"),
    [
        (Dataset(photos({4})), "sample 4 of Computed is None: did `__getitem__` forget to return"),
        (Dataset.range(2).concatenate(Dataset(photos({4}))), "sample 4 of Computed is None"),
        (Dataset(photos({4})).take(5).shuffle(), "sample 4 of Computed is None"),
        (Dataset(photos({4})).shuffle(buffer=1), r"stage 1, shuffle\(buffer=1\), is None: did its function forget"),
        (Dataset.range(6).flat_map(lambda _: [None]), r"of stage 1, flat_map\(.*, is None: did its function forget"),
    ],
)
def test_none_element_of_dataset_names_source_or_stage(dataset, text):
    with pytest.raises(TypeError, match=text):
        batches_of(dataset, batch_size=3, workers=0)
    with pytest.raises(TypeError, match=text):
        list(dataset.batch(3))


def test_none_element_of_bucket_names_stage():
    dataset = Dataset.range(6).flat_map(lambda _: [None]).bucket(lambda _: 1, [2], [3, 3])
    with pytest.raises(TypeError, match=r"of stage 1, flat_map\("):
        list(dataset)


def test_none_element_of_generator_names_function():
    def numbers():
        yield from [0, None, 2]

    with pytest.raises(TypeError, match=r"element 1 of .*numbers is None: did the code that creates it forget to "):
        batches_of(numbers, batch_size=3, workers=0)
