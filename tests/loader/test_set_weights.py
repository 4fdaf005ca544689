"""The weights of a mixture are changed while it is read."""

import numpy as np
import pytest

import mpqueue
from mpqueue import Dataset
from mpqueue.plan.ids.history import At, History
from mpqueue.plan.states.saved_states import sealed

BEFORE, AFTER, THEN = {"web": 3, "code": 1}, {"web": 1, "code": 3}, {"web": 1, "code": 1}


def mixed():
    parts = {"web": Dataset.range(1000), "code": Dataset.range(1000)}
    return Dataset.mix(parts, weights=BEFORE, stop="never")


KINDS = {
    "by index": (lambda: mixed().batch(8), {}),
    "a stream": (lambda: mixed().shuffle(buffer=10).batch(4), {"lanes": 4}),
}


def loader_of(kind, **options):
    make, needed = KINDS[kind]
    return mpqueue.Loader(make(), **({"seed": 1, "workers": 0} | needed | options))


# `dataset/test_mixtures.py` has all invalid weights and all datasets without one mixture.
@pytest.mark.parametrize(("weights", "error"), [({"web": 1}, ValueError), ({"web": "1", "code": 1}, TypeError)])
def test_weights_must_be_possible(weights, error):
    loader = loader_of("by index")
    with pytest.raises(error):
        loader.set_weights(weights)
    assert "history" not in loader.state_dict()


@pytest.mark.parametrize(
    ("dataset", "message"), [(range(10), "has no mixture"), (mixed().take(100).shuffle().batch(2), "in their order")]
)
def test_mixture_must_exist_and_be_in_order(dataset, message):
    with pytest.raises(ValueError, match=message):
        mpqueue.Loader(dataset).set_weights([1, 1])


def test_weights_begin_after_what_was_returned():
    with loader_of("by index") as loader:
        batches = iter(loader)
        next(batches)
        with pytest.raises(ValueError, match="at must be at least 8"):
            loader.set_weights(THEN, 7)
        assert loader.set_weights(AFTER) is None
        assert loader.state_dict()["history"][0]["at"] == 8


def test_stream_has_no_number_of_a_sample():
    loader = loader_of("a stream")
    with pytest.raises(ValueError, match=r"at=900 names a sample of a mixture with an index.*leave out at"):
        loader.set_weights(AFTER, at=900)
    assert "history" not in loader.state_dict()


@pytest.mark.parametrize("weights", [{"web": 1, "books": 1}, {"web": 1, "code": "many"}, [1, 2, 3]], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_state_with_weights_of_other_parts_does_not_change_a_running_loop(kind, weights):
    with loader_of(kind) as loader, loader_of(kind) as other:
        batches, expected = iter(loader), iter(other)
        assert repr(next(batches)) == repr(next(expected))
        state = loader.state_dict()
        for each in (loader, other):
            each.set_weights(AFTER)
        change = History().with_weights(At(0, 2, 1), weights, 900 if kind == "by index" else None)
        with pytest.raises((TypeError, ValueError), match="mix: "):
            loader.load_state_dict(sealed({**state, "history": change.plain()}))
        for _ in range(12):
            assert repr(next(batches)) == repr(next(expected))
        assert loader.last == other.last
        # Not the whole states: the workers of a stream take snapshots once per second.
        assert loader.state_dict()["history"] == other.state_dict()["history"]


def test_state_with_weights_does_not_change_a_loop_without_a_mixture():
    with mpqueue.Loader(range(8), workers=0) as loader:
        batches = iter(loader)
        next(batches)
        change = History().with_weights(At(0, 1, 1), AFTER, 4)
        with pytest.raises(ValueError, match="has no mixture"):
            loader.load_state_dict(sealed({**loader.state_dict(), "history": change.plain()}))
        assert list(batches) == list(range(1, 8))


SHORT = Dataset.mix({"a": Dataset.range(20), "b": Dataset.range(8)}, weights={"a": 1, "b": 1})


def test_length_is_that_of_the_current_epoch():
    loader = mpqueue.Loader(SHORT, workers=0, seed=1)
    first = len(loader), len(list(loader))
    loader.set_weights({"a": 7, "b": 1})
    assert first == (17, 17)
    assert len(loader) == len(list(loader)) == 23


def test_parts_of_last_batch_are_counted_in_an_epoch_of_another_length():
    loader = mpqueue.Loader(SHORT.batch(5).map(np.copy), workers=0, seed=1)
    batches = iter(loader)
    next(batches)
    loader.set_weights({"a": 7, "b": 1})
    assert [len(batch) for batch in batches] == [5, 5, 5, 5, 1]
    assert loader.state_dict()["parts"] == {"a": 20, "b": 6}
